//! The scripts in `deploy/azure` that write the file of `[fleet.file]`, against a server that responds as
//! Microsoft documents its APIs.

use std::{
    net::SocketAddr,
    path::Path,
    process::Output,
    sync::{Arc, Mutex},
};

use serde_json::{Value, json};
use tokio::{
    io::{AsyncWriteExt, BufReader},
    net::TcpListener,
    process::Command,
    task::JoinSet,
};

use crate::support::{
    Gateway, Issuer, Settings, every,
    gateway::{BINARY, CONFIG, write_configuration},
    http::{Kind, Message},
    soon, until,
};

/// A server whose responses a test chooses by the target of a request.
struct Server {
    address: SocketAddr,
    requests: Arc<Mutex<Vec<Message>>>,
    _task: JoinSet<()>,
}

impl Server {
    async fn start(respond: impl Fn(&str) -> Option<Value> + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let requests = Arc::new(Mutex::new(Vec::new()));
        let (seen, respond) = (Arc::clone(&requests), Arc::new(respond));
        let mut task = JoinSet::new();
        task.spawn(async move {
            loop {
                let Ok((stream, _)) = listener.accept().await else { continue };
                let mut stream = BufReader::new(stream);
                let Ok(Some(request)) = Message::read(&mut stream, Kind::Request).await else { continue };
                let (status, body) = match respond(request.target()) {
                    Some(body) => ("200 OK", body.to_string()),
                    None => ("404 Not Found", "{}".to_owned()),
                };
                seen.lock().unwrap().push(request);
                let head =
                    format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n", body.len());
                let _ = stream.write_all(format!("{head}\r\n{body}").as_bytes()).await;
                let _ = stream.shutdown().await;
            }
        });
        Self { address, requests, _task: task }
    }

    fn origin(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The values of a field, by the start of the target.
    fn seen(&self, target: &str, field: &str) -> Vec<String> {
        let requests = self.requests.lock().unwrap();
        let fits = requests.iter().filter(|request| request.target().starts_with(target));
        fits.map(|request| request.field(field).unwrap_or_default().to_owned()).collect()
    }
}

/// Runs a script. Without Python the test is skipped; with `CI=true` that is a failure.
async fn run(script: &str, arguments: &[&str]) -> Option<Output> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/azure").join(script);
    let mut command = Command::new("python3");
    command.arg("-B").arg(path).args(arguments).kill_on_drop(true);
    output(command).await
}

async fn output(mut command: Command) -> Option<Output> {
    match soon("a script", command.output()).await {
        Ok(output) => Some(output),
        Err(error) => {
            let is_ci = std::env::var_os("CI").is_some_and(|ci| ci == "true");
            assert!(!is_ci, "python3 does not run: {error}; run ./install-packages");
            None
        }
    }
}

#[track_caller]
fn stderr(output: &Output, code: i32) -> String {
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(code), "{text}");
    text
}

fn fleet(folder: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(folder.join("fleet.json")).unwrap()).unwrap()
}

/// The gateway accepts the file.
async fn check_file(folder: &Path) {
    let issuer = Issuer::down();
    let settings = Settings::new(&issuer, &[]).table("[fleet.file]\npath = \"fleet.json\"\n");
    write_configuration(folder, &settings);
    let mut check = Command::new(BINARY);
    check.args(["check", "--config"]).arg(folder.join(CONFIG));
    let output = soon("check", check.output()).await.unwrap();
    assert_eq!(stderr(&output, 0), "");
}

const SCALE_SET: &str = "/subscriptions/s-1/resourceGroups/bots%20emea/providers/Microsoft.Compute/\
                         virtualMachineScaleSets/bots";
const ID: &str = "/subscriptions/s-1/resourceGroups/BOTS%20EMEA/providers/Microsoft.Compute/\
                  virtualMachineScaleSets/bots/virtualMachines";

fn vm(index: u32, state: &str, power: &str) -> Value {
    json!({
        "name": format!("bots_{index}"), "id": format!("{ID}/{index}"), "instanceId": index.to_string(),
        "type": "Microsoft.Compute/virtualMachineScaleSets/virtualMachines",
        "properties": {
            "provisioningState": state, "vmId": "42af9fdf-b906-4ad7-9905-8316209ff619",
            "instanceView": {"statuses": [
                {"code": "ProvisioningState/succeeded", "level": "Info"},
                {"code": format!("PowerState/{power}"), "level": "Info"},
            ]},
        },
    })
}

fn nic(index: u32, primary: bool, address: &str) -> Value {
    json!({
        "name": "nic", "properties": {
            "primary": primary,
            // The case of ids differs between the APIs.
            "virtualMachine": {"id": format!("{ID}/{index}").to_lowercase()},
            "ipConfigurations": [
                {"name": "second", "properties": {"primary": false, "privateIPAddress": "10.9.9.9"}},
                {"name": "first", "properties": {"primary": true, "privateIPAddress": address}},
            ],
        },
    })
}

fn azure(origin: &str, target: &str, events: &Value) -> Option<Value> {
    let vms = |page: &[Value], next: Option<String>| Some(json!({"value": page, "nextLink": next}));
    if target.starts_with("/metadata/identity/oauth2/token?") {
        return Some(json!({"access_token": "t-1", "expires_on": "4102444800", "token_type": "Bearer"}));
    }
    if target == "/metadata/scheduledevents?api-version=2020-07-01" {
        return Some(events.clone());
    }
    if target == format!("{SCALE_SET}/virtualMachines?api-version=2024-07-01&$expand=instanceView") {
        let page =
            [vm(0, "Succeeded", "running"), vm(1, "Succeeded", "running"), vm(2, "Deleting", "running")];
        return vms(&page, Some(format!("{origin}{SCALE_SET}/next")));
    }
    if target == format!("{SCALE_SET}/next") {
        return vms(&[vm(3, "Succeeded", "deallocated"), vm(4, "Creating", "starting")], None);
    }
    (target == format!("{SCALE_SET}/networkInterfaces?api-version=2018-10-01")).then(|| {
        json!({"value": [
            nic(0, true, "10.0.0.4"), nic(0, false, "10.1.0.4"), nic(1, true, "10.0.0.5"),
            nic(2, true, "10.0.0.6"), nic(3, true, "10.0.0.7"),
        ]})
    })
}

fn event(kind: &str, resources: &[&str]) -> Value {
    json!({
        "EventId": "f020ba2e-3bc0-4c40-a10b-86575a9eabd5", "EventType": kind,
        "ResourceType": "VirtualMachine",
        "Resources": resources, "EventStatus": "Scheduled", "NotBefore": "Mon, 19 Sep 2016 18:29:47 GMT",
        "Description": "", "EventSource": "User", "DurationInSeconds": -1,
    })
}

#[tokio::test]
async fn a_scale_set_is_the_fleet_and_a_machine_that_terminates_drains() {
    let events = json!({"DocumentIncarnation": 2, "Events": [
        event("Terminate", &["bots_1"]), event("Freeze", &["bots_0"]),
    ]});
    let origin = Arc::new(Mutex::new(String::new()));
    let own = Arc::clone(&origin);
    let server = Server::start(move |target| azure(&own.lock().unwrap(), target, &events)).await;
    *origin.lock().unwrap() = server.origin();
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("fleet.json");
    let of_server = server.origin();
    let arguments = [
        "--subscription",
        "s-1",
        "--resource-group",
        "bots emea",
        "--scale-set",
        "bots",
        "--once",
        "--url",
        "http://{address}:3978/api/calls",
        "--output",
        output.to_str().unwrap(),
        "--arm",
        &of_server,
        "--imds",
        &of_server,
    ];
    let Some(done) = run("vmss_fleet.py", &arguments).await else { return };
    assert_eq!(stderr(&done, 0), "");
    assert_eq!(
        fleet(folder.path()),
        json!([
            {"name": "bots_0", "url": "http://10.0.0.4:3978/api/calls"},
            {"name": "bots_1", "url": "http://10.0.0.5:3978/api/calls", "draining": true},
            {"name": "bots_2", "url": "http://10.0.0.6:3978/api/calls", "draining": true},
        ])
    );
    assert_eq!(server.seen("/metadata/identity", "metadata"), ["true"]);
    assert_eq!(server.seen("/metadata/scheduledevents", "metadata"), ["true"]);
    assert_eq!(server.seen(SCALE_SET, "authorization"), ["Bearer t-1"; 3]);
    check_file(folder.path()).await;
    let left: Vec<_> =
        std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(left.iter().all(|name| !name.to_str().unwrap().starts_with(".fleet")), "{left:?}");
}

#[tokio::test]
async fn the_token_is_sent_to_no_other_host_and_an_error_keeps_the_file() {
    let other = Server::start(|_| Some(json!({"value": []}))).await;
    let elsewhere = other.origin();
    let server = Server::start(move |target| {
        let events = json!({"DocumentIncarnation": 1, "Events": []});
        let next = |_: &str| azure(&elsewhere, target, &events);
        next(target)
    })
    .await;
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("fleet.json");
    std::fs::write(&output, "[]").unwrap();
    let of_server = server.origin();
    let arguments = [
        "--subscription",
        "s-1",
        "--resource-group",
        "bots emea",
        "--scale-set",
        "bots",
        "--once",
        "--url",
        "http://{address}:3978/api/calls",
        "--output",
        output.to_str().unwrap(),
        "--arm",
        &of_server,
        "--imds",
        &of_server,
    ];
    let Some(done) = run("vmss_fleet.py", &arguments).await else { return };
    assert_eq!(stderr(&done, 1), "keeping the old file: a response names a next page on another host\n");
    assert_eq!(std::fs::read(&output).unwrap(), b"[]");
    assert!(other.requests.lock().unwrap().is_empty());
}

#[tokio::test]
async fn the_output_of_az_is_the_fleet() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, content: &Value| {
        let path = folder.path().join(name);
        std::fs::write(&path, format!("\u{feff}{content}")).unwrap();
        path.to_str().unwrap().to_owned()
    };
    // `az` writes the properties of a resource beside its name.
    let vms = write(
        "vms.json",
        &json!([
            {"name": "bots_0", "id": format!("{ID}/0"), "provisioningState": "Succeeded",
             "instanceView": null},
            {"name": "bots_1", "id": format!("{ID}/1"), "provisioningState": "Succeeded",
             "instanceView": {"statuses": [{"code": "PowerState/stopped"}]}},
        ]),
    );
    let nics = write(
        "nics.json",
        &json!([
            {"primary": true, "virtualMachine": {"id": format!("{ID}/0")},
             "ipConfigurations": [{"primary": true, "privateIPAddress": "2001:db8::4"}]},
            {"primary": true, "virtualMachine": {"id": format!("{ID}/1")},
             "ipConfigurations": [{"primary": true, "privateIpAddress": "10.0.0.5"}]},
        ]),
    );
    let output = folder.path().join("fleet.json");
    let arguments = [
        "--vms",
        &vms,
        "--nics",
        &nics,
        "--no-events",
        "--once",
        "--url",
        "https://{address}:3978/api/calls",
        "--output",
        output.to_str().unwrap(),
    ];
    let Some(done) = run("vmss_fleet.py", &arguments).await else { return };
    assert_eq!(stderr(&done, 0), "");
    assert_eq!(
        fleet(folder.path()),
        json!([{"name": "bots_0", "url": "https://[2001:db8::4]:3978/api/calls"}])
    );
}

fn service_fabric(target: &str, nodes: &Value) -> Option<Value> {
    let instance = |id: &str, node: &str, status: &str, address: &str| {
        json!({
            "ServiceKind": "Stateless", "InstanceId": id, "ReplicaStatus": status, "HealthState": "Ok",
            "Address": address, "NodeName": node, "LastInBuildDurationInSeconds": "3",
        })
    };
    let address = |ip: &str| {
        json!({"Endpoints": {"calls": format!("http://{ip}:8081/"), "media": format!("tcp://{ip}:9000")}})
            .to_string()
    };
    match target {
        "/Nodes?api-version=6.0" => Some(nodes.clone()),
        "/Services/Bots~Calls/$/GetPartitions?api-version=6.4" => Some(json!({
            "ContinuationToken": "", "Items": [{
                "ServiceKind": "Stateless", "HealthState": "Ok", "PartitionStatus": "Ready",
                "InstanceCount": 3,
                "PartitionInformation":
                    {"ServicePartitionKind": "Singleton", "Id": "824091ba-fa32-4e9c-9e9c-71738e018312"},
            }],
        })),
        "/Partitions/824091ba-fa32-4e9c-9e9c-71738e018312/$/GetReplicas?api-version=6.0" => Some(json!({
            "ContinuationToken": "131497042182378182",
            "Items": [instance("131497042182378182", "_Node_0", "Ready", &address("10.0.0.4"))],
        })),
        "/Partitions/824091ba-fa32-4e9c-9e9c-71738e018312/$/GetReplicas?api-version=6.0\
         &ContinuationToken=131497042182378182" => Some(json!({
            "ContinuationToken": "", "Items": [
                instance("131497042182378183", "_Node_1", "Ready", &address("10.0.0.5")),
                instance("131497042182378184", "_Node_2", "InBuild", ""),
                instance("131497042182378185", "_Node_3", "Down", &address("10.0.0.7")),
            ],
        })),
        _ => None,
    }
}

fn nodes() -> Value {
    json!({"ContinuationToken": "", "Items": [
        {"Name": "_Node_0", "IpAddressOrFQDN": "10.0.0.4", "NodeStatus": "Up"},
        {"Name": "_Node_1", "IpAddressOrFQDN": "10.0.0.5", "NodeStatus": "Disabling"},
    ]})
}

#[tokio::test]
async fn a_stateless_service_is_the_fleet_and_an_instance_on_a_node_that_is_disabled_drains() {
    let server = Server::start(|target| service_fabric(target, &nodes())).await;
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("fleet.json");
    let cluster = server.origin();
    let mut arguments = vec![
        "--service",
        "fabric:/Bots/Calls",
        "--cluster",
        &cluster,
        "--path",
        "/api/calls",
        "--once",
        "--output",
        output.to_str().unwrap(),
    ];
    let Some(done) = run("service_fabric_fleet.py", &arguments).await else { return };
    let text = stderr(&done, 1);
    assert_eq!(text, "keeping the old file: choose one of the listeners with --endpoint: calls, media\n");
    assert!(!output.exists());
    arguments.extend(["--endpoint", "calls"]);
    let Some(done) = run("service_fabric_fleet.py", &arguments).await else { return };
    assert_eq!(stderr(&done, 0), "");
    let fleet = fleet(folder.path());
    let incarnation = |at: usize| fleet[at]["incarnation"].as_str().unwrap().to_owned();
    assert_eq!(
        fleet,
        json!([
            {"name": "_Node_0", "incarnation": incarnation(0), "url": "http://10.0.0.4:8081/api/calls"},
            {"name": "_Node_1", "incarnation": incarnation(1), "url": "http://10.0.0.5:8081/api/calls",
             "draining": true},
        ])
    );
    assert_eq!(u64::from_str_radix(&incarnation(0), 36), Ok(131_497_042_182_378_182));
    assert_eq!(u64::from_str_radix(&incarnation(1), 36), Ok(131_497_042_182_378_183));
    check_file(folder.path()).await;
}

/// Each read gets a byte in time, so only the limit of the whole response ends it.
#[tokio::test]
async fn a_response_that_never_ends_does_not_stop_a_script() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let mut task = JoinSet::new();
    task.spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut written = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 99999\r\n\r\n").await;
            let mut ticks = every(20);
            while written.is_ok() {
                ticks.tick().await;
                written = stream.write_all(b" ").await;
            }
        }
    });
    let script = format!(
        "import fleet_file\n\
         fleet_file.SECONDS_MAX = 0.5\n\
         try:\n    fleet_file.get_json('http://{address}/list?key=secret')\n\
         except fleet_file.SourceError as error:\n    print(error)"
    );
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/azure");
    let mut command = Command::new("python3");
    command.args(["-B", "-c", &script]).current_dir(folder).kill_on_drop(true);
    let Some(output) = output(command).await else { return };
    assert_eq!(stderr(&output, 0), "");
    let expected = format!("http://{address}/list: no complete response in 0.5 s\n");
    assert_eq!(String::from_utf8_lossy(&output.stdout), expected);
}

#[tokio::test]
async fn a_gateway_follows_the_file_that_a_script_keeps_writing() {
    let disabled = Arc::new(Mutex::new(json!({"Items": []})));
    let nodes = Arc::clone(&disabled);
    let server = Server::start(move |target| service_fabric(target, &nodes.lock().unwrap())).await;
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("fleet.json");
    let (cluster, output) = (server.origin(), output.to_str().unwrap());
    let arguments = [
        "--service",
        "fabric:/Bots/Calls",
        "--cluster",
        &cluster,
        "--endpoint",
        "calls",
        "--output",
        output,
        "--interval",
        "0.2",
    ];
    if run("service_fabric_fleet.py", &[&arguments[..], &["--once"]].concat()).await.is_none() {
        return;
    }
    let issuer = Issuer::start();
    let settings = Settings::new(&issuer, &[]).table(&format!("[fleet.file]\npath = \"{output}\"\n"));
    let gateway = Gateway::start(&settings).await;
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/azure/service_fabric_fleet.py");
    let mut script =
        Command::new("python3").arg("-B").arg(path).args(arguments).kill_on_drop(true).spawn().unwrap();
    let states = async || {
        let fleet = gateway.admin("/fleet").await.json();
        let all = fleet.as_array().unwrap().iter();
        all.map(|one| one["state"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    until("both are ready", async || (states().await == ["ready", "ready"]).then_some(())).await;
    *disabled.lock().unwrap() = self::nodes();
    until("one drains", async || (states().await == ["ready", "draining"]).then_some(())).await;
    // An outage of the cluster's gateway changes nothing.
    *disabled.lock().unwrap() = json!({"Items": "none"});
    until("it is asked", async || {
        let before = server.requests.lock().unwrap().len();
        until("again", async || (server.requests.lock().unwrap().len() > before + 2).then_some(())).await;
        Some(())
    })
    .await;
    assert_eq!(states().await, ["ready", "draining"]);
    script.kill().await.unwrap();
}
