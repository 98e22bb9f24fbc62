//! The scripts in `deploy/scaling`, and `switchboard fleet list` with its filters: a fleet shrinks without
//! the end of a call. Kubernetes and Azure are stubs that respond as their documents say.

use std::{
    net::SocketAddr,
    path::Path,
    process::{Output, Stdio},
    sync::{Arc, Mutex},
};

use serde_json::{Value, json};
use tokio::{io::AsyncWriteExt, io::BufReader, net::TcpListener, process::Command, task::JoinSet};

use crate::support::{
    Gateway, Instance, Issuer, Reply, Settings,
    gateway::BINARY,
    http::{Kind, Message},
    soon, until,
};

/// A server that responds as a function says, and keeps the requests.
struct Stub {
    address: SocketAddr,
    requests: Arc<Mutex<Vec<Message>>>,
    _server: JoinSet<()>,
}

/// A status, header fields and a body.
type Responded = (u16, Vec<(&'static str, String)>, Value);

impl Stub {
    async fn start(respond: impl Fn(&Message, SocketAddr) -> Responded + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (requests, mut server) = (Arc::<Mutex<Vec<Message>>>::default(), JoinSet::new());
        let kept = Arc::clone(&requests);
        server.spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let mut stream = BufReader::new(stream);
                let Ok(Some(request)) = Message::read(&mut stream, Kind::Request).await else { continue };
                let (status, fields, body) = respond(&request, address);
                kept.lock().unwrap().push(request);
                let body = body.to_string();
                let fields: String =
                    fields.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
                let head = format!(
                    "HTTP/1.1 {status} X\r\nContent-Type: application/json\r\nContent-Length: {}\r\n{fields}\
                     Connection: close\r\n\r\n",
                    body.len()
                );
                let _ = stream.write_all(format!("{head}{body}").as_bytes()).await;
            }
        });
        Self { address, requests, _server: server }
    }

    fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The requests with this method, since the last look.
    fn take(&self, method: &str) -> Vec<Message> {
        let requests = std::mem::take(&mut *self.requests.lock().unwrap());
        requests.into_iter().filter(|request| request.method() == method).collect()
    }
}

/// Runs a script. `None` without Python; with `CI=true` that is a failure.
async fn run(script: &str, arguments: &[&str]) -> Option<Output> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/scaling").join(script);
    let mut command = Command::new("python3");
    // Without `-B` the interpreter would write into the tree.
    command.arg("-B").arg(path).args(arguments).env("AZURE", "azure-token").stdin(Stdio::null());
    match soon(script, command.kill_on_drop(true).output()).await {
        Ok(output) => Some(output),
        Err(error) => {
            assert!(std::env::var_os("CI").is_none_or(|ci| ci != "true"), "no python3: {error}");
            None
        }
    }
}

#[track_caller]
fn stdout(output: &Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn report(calls: u32, more: &str) -> Reply {
    Reply::with(200, &[], &format!("{{\"state\":\"ready\",\"calls\":{calls},\"capacity\":10{more}}}"))
}

/// Three instances with these calls, and their gateway.
async fn fleet(issuer: &Issuer, calls: [u32; 3]) -> ([Instance; 3], Gateway) {
    let instances = Instance::start_all(["bot-0", "bot-1", "bot-2"]);
    for (instance, calls) in instances.iter().zip(calls) {
        instance.probe(report(calls, ""));
    }
    let settings = Settings::new(issuer, &instances.iter().collect::<Vec<_>>())
        .line("fleet.probe", "path = \"/healthz\"\ninterval = \"200ms\"");
    let gateway = Gateway::start(&settings).await;
    wait_for(&gateway, "three ready instances", |fleet| fleet.iter().all(|one| one["state"] == "ready"))
        .await;
    (instances, gateway)
}

async fn wait_for(gateway: &Gateway, what: &str, fits: impl Fn(&[Value]) -> bool) {
    until(what, async || fits(gateway.admin("/fleet").await.json().as_array().unwrap()).then_some(())).await;
}

/// Runs `switchboard fleet list --json` with these options, and returns the names.
async fn listed(gateway: &Gateway, options: &[&str]) -> Vec<String> {
    let mut command = Command::new(BINARY);
    command.args(["fleet", "list", "--json", "--admin", &format!("http://{}", gateway.admin)]).args(options);
    let output = soon("switchboard fleet list", command.kill_on_drop(true).output()).await.unwrap();
    let fleet: Vec<Value> = serde_json::from_str(&stdout(&output)).unwrap();
    fleet.iter().map(|instance| instance["name"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn instances_are_listed_by_state_and_if_they_are_empty() {
    let issuer = Issuer::start();
    let (instances, gateway) = fleet(&issuer, [2, 0, 1]).await;
    assert_eq!(listed(&gateway, &["--state", "ready"]).await, ["bot-0", "bot-1", "bot-2"]);
    assert_eq!(listed(&gateway, &["--empty"]).await, [""; 0], "one that takes calls is never empty");
    for name in ["bot-0", "bot-1"] {
        let drain = crate::support::Request::get(&format!("/fleet/{name}/drain")).method("POST");
        assert_eq!(gateway.admin_request(drain).await.status(), 200);
    }
    assert_eq!(listed(&gateway, &["--state", "draining"]).await, ["bot-0", "bot-1"]);
    let empty = ["--state", "draining", "--empty"];
    // After a report that came after the drain.
    until("bot-1 is empty", async || (listed(&gateway, &empty).await == ["bot-1"]).then_some(())).await;
    instances[0].probe(report(0, ""));
    until("both are", async || (listed(&gateway, &empty).await == ["bot-0", "bot-1"]).then_some(())).await;
    assert_eq!(listed(&gateway, &["--state", "ready", "--empty"]).await, [""; 0]);
}

#[tokio::test]
async fn the_deletion_cost_of_a_pod_is_its_calls() {
    let issuer = Issuer::start();
    let (instances, gateway) = fleet(&issuer, [5, 0, 3]).await;
    // A pod that has replaced the one of which the gateway knows.
    instances[2].probe(report(3, ",\"incarnation\":\"0b1e3f5c-7a2d\""));
    wait_for(&gateway, "the incarnation", |fleet| fleet[2]["incarnation"] == "0b1e3f5c-7a2d").await;
    wait_for(&gateway, "its report", |fleet| fleet[2]["calls"] == 3).await;
    let stub = Stub::start(|request, _| {
        let pod = |name: &str, uid: &str, annotations: Value| {
            json!({ "metadata": { "name": name, "uid": uid, "annotations": annotations } })
        };
        if request.method() == "PATCH" {
            return (200, Vec::new(), json!({ "kind": "Pod" }));
        }
        let (items, next) = if request.target().contains("continue=second") {
            let right = json!({ "controller.kubernetes.io/pod-deletion-cost": "0" });
            (vec![pod("bot-1", "b", right), pod("other", "o", Value::Null)], "")
        } else {
            (vec![pod("bot-0", "a", Value::Null), pod("bot-2", "ffffffff-7a2d", Value::Null)], "second")
        };
        (200, Vec::new(), json!({ "kind": "PodList", "metadata": { "continue": next }, "items": items }))
    })
    .await;
    let (admin, api) = (format!("http://{}", gateway.admin), stub.url());
    let options = ["--admin", &admin, "--api", &api, "--namespace", "calling"];
    let Some(output) = run("pod-deletion-cost.py", &options).await else { return };
    assert_eq!(stdout(&output), "bot-0: 5\n");
    let requests = stub.take("PATCH");
    let [patch] = requests.as_slice() else { panic!("{requests:?}") };
    assert_eq!(patch.target(), "/api/v1/namespaces/calling/pods/bot-0");
    assert_eq!(patch.field("content-type"), Some("application/merge-patch+json"));
    assert_eq!(patch.field("authorization"), None, "no token without TLS");
    let annotations = json!({ "controller.kubernetes.io/pod-deletion-cost": "5" });
    assert_eq!(patch.json(), json!({ "metadata": { "annotations": annotations } }));

    // A gateway that cannot be asked may have placed calls anywhere: nothing is changed.
    let unreachable = ["--admin", "http://127.0.0.1:9"];
    let output = run("pod-deletion-cost.py", &[&options[..], &unreachable].concat()).await.unwrap();
    assert!(!output.status.success());
    assert!(stub.take("PATCH").is_empty());
}

/// Azure Resource Manager with three machines, and the metadata service.
fn azure(request: &Message, address: SocketAddr) -> Responded {
    let (path, query) = request.target().split_once('?').unwrap_or_else(|| (request.target(), ""));
    if path == "/metadata/identity/oauth2/token" {
        assert_eq!(request.field("metadata"), Some("true"));
        return (200, Vec::new(), json!({ "access_token": "azure-token", "token_type": "Bearer" }));
    }
    if request.field("authorization") != Some("Bearer azure-token") {
        return (401, Vec::new(), json!({ "error": { "code": "InvalidAuthenticationToken" } }));
    }
    let machine = |number: u32| {
        // The fleet of a machine may have its name or its computer name.
        let names = match number {
            1 => ["bot-1".to_owned(), "bots000001".to_owned()],
            number => [format!("bots_{number}"), format!("bot-{number}")],
        };
        let [name, computer] = names;
        json!({
            "name": name,
            "instanceId": number.to_string(),
            "properties": { "osProfile": { "computerName": computer } },
        })
    };
    let set = "/subscriptions/s/resourceGroups/g/providers/Microsoft.Compute/virtualMachineScaleSets/bots";
    match path.strip_prefix(set) {
        Some("/virtualMachines") if query.contains("skip") => {
            (200, Vec::new(), json!({ "value": [machine(2)] }))
        }
        Some("/virtualMachines") => {
            assert_eq!(query, "api-version=2024-07-01");
            let next = format!("http://{address}{set}/virtualMachines?api-version=2024-07-01&$skiptoken=2");
            (200, Vec::new(), json!({ "value": [machine(0), machine(1)], "nextLink": next }))
        }
        Some("/delete") => {
            let operation = ("Azure-AsyncOperation", format!("http://{address}/operations/1?done=0"));
            (202, vec![operation, ("Retry-After", "0".to_owned())], Value::Null)
        }
        _ if path == "/operations/1" => {
            (200, vec![("Retry-After", "0".to_owned())], json!({ "status": "Succeeded" }))
        }
        _ => (404, Vec::new(), json!({ "error": { "code": "NotFound" } })),
    }
}

#[tokio::test]
async fn a_scale_set_loses_only_machines_that_are_drained_and_empty() {
    let issuer = Issuer::start();
    let (instances, gateway) = fleet(&issuer, [5, 1, 7]).await;
    let stub = Stub::start(azure).await;
    let (admin, azure) = (format!("http://{}", gateway.admin), stub.url());
    let base = [
        "--subscription",
        "s",
        "--resource-group",
        "g",
        "--scale-set",
        "bots",
        "--admin",
        &admin,
        "--management",
        &azure,
        "--identity",
        &azure,
        "--switchboard",
        BINARY,
    ];
    let scale_in = async |more: &[&str]| run("vmss-scale-in.py", &[&base[..], more].concat()).await;
    let drained = |fleet: &[Value]| {
        fleet
            .iter()
            .filter(|one| one["state"] == "draining")
            .map(|one| one["name"].clone())
            .collect::<Vec<_>>()
    };
    // 13 calls and a fifth of them, 10 on each instance: 1.56, so two are wanted.
    let Some(output) = scale_in(&["--dry-run"]).await else { return };
    let plan =
        "drain bot-1: it has 1 calls\n3 machines, 2 wanted: 1 drained now, 0 deleted, 0 still draining\n";
    assert_eq!(stdout(&output), plan);
    assert!(drained(gateway.admin("/fleet").await.json().as_array().unwrap()).is_empty());

    assert_eq!(stdout(&scale_in(&[]).await.unwrap()), plan);
    wait_for(&gateway, "the drain of bot-1 alone", |fleet| drained(fleet) == ["bot-1"]).await;
    // It still has its call, so nothing is deleted, and no other instance is drained for it.
    let waits = "3 machines, 2 wanted: 0 drained now, 0 deleted, 1 still draining\n";
    assert_eq!(stdout(&scale_in(&["--token-env", "AZURE"]).await.unwrap()), waits);
    assert!(stub.take("POST").is_empty());

    instances[1].probe(report(0, ""));
    wait_for(&gateway, "the end of its call", |fleet| fleet[1]["calls"] == 0).await;
    // Three are wanted: the empty machine stays.
    let kept = "3 machines, 3 wanted: 0 drained now, 0 deleted, 1 still draining\n";
    assert_eq!(stdout(&scale_in(&["--keep", "3"]).await.unwrap()), kept);
    assert!(stub.take("POST").is_empty());
    let output = scale_in(&[]).await.unwrap();
    let deleted =
        "delete bot-1: it is empty\n3 machines, 2 wanted: 0 drained now, 1 deleted, 0 still draining\n";
    assert_eq!(stdout(&output), deleted);
    let requests = stub.take("POST");
    let [delete] = requests.as_slice() else { panic!("{requests:?}") };
    assert!(delete.target().ends_with("/virtualMachineScaleSets/bots/delete?api-version=2024-07-01"));
    assert_eq!(delete.json(), json!({ "instanceIds": ["1"] }));
}

/// Two of three are wanted. The third one serves no call, so the two that do are all the capacity.
#[tokio::test]
async fn an_unreachable_machine_is_no_capacity() {
    let issuer = Issuer::start();
    let (mut instances, gateway) = fleet(&issuer, [5, 1, 7]).await;
    instances[2].stop().await;
    wait_for(&gateway, "an unreachable instance", |fleet| fleet[2]["state"] == "unreachable").await;
    let stub = Stub::start(azure).await;
    let (admin, azure) = (format!("http://{}", gateway.admin), stub.url());
    let scale_in = async |keep: &str| {
        let options = ["--subscription", "s", "--resource-group", "g", "--scale-set", "bots"];
        let servers = ["--admin", &admin, "--management", &azure, "--token-env", "AZURE"];
        let more = ["--switchboard", BINARY, "--keep", keep];
        run("vmss-scale-in.py", &[&options[..], &servers, &more].concat()).await
    };
    let Some(output) = scale_in("2").await else { return };
    let nothing = "3 machines, 2 wanted: 0 drained now, 0 deleted, 0 still draining\n";
    assert_eq!(stdout(&output), nothing);
    let one =
        "drain bot-1: it has 1 calls\n3 machines, 1 wanted: 1 drained now, 0 deleted, 0 still draining\n";
    assert_eq!(stdout(&scale_in("1").await.unwrap()), one);
}

#[tokio::test]
async fn a_redirect_is_refused_and_gets_no_token() {
    let issuer = Issuer::start();
    let (_instances, gateway) = fleet(&issuer, [1, 1, 1]).await;
    let other =
        Stub::start(|_, _| (200, Vec::new(), json!({ "value": [], "items": [], "metadata": {} }))).await;
    let location = format!("{}/elsewhere", other.url());
    let stub = Stub::start(move |_, _| (307, vec![("Location", location.clone())], Value::Null)).await;
    let (admin, redirecting) = (format!("http://{}", gateway.admin), stub.url());
    let azure =
        ["--subscription", "s", "--resource-group", "g", "--scale-set", "bots", "--switchboard", BINARY];
    let pods = ["--namespace", "calling"];
    let token = ["--token-env", "AZURE"];
    for (script, options, servers) in [
        // Azure, the metadata service and a gateway; the API server and a gateway.
        (
            "vmss-scale-in.py",
            [&azure[..], &token].concat(),
            ["--admin", &admin, "--management", &redirecting],
        ),
        ("vmss-scale-in.py", azure.to_vec(), ["--admin", &admin, "--identity", &redirecting]),
        ("pod-deletion-cost.py", pods.to_vec(), ["--admin", &admin, "--api", &redirecting]),
        ("pod-deletion-cost.py", pods.to_vec(), ["--admin", &redirecting, "--api", &redirecting]),
    ] {
        let Some(output) = run(script, &[&options[..], &servers].concat()).await else { return };
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && stderr.contains(" responds 307: "), "{servers:?}: {stderr}");
        assert!(other.requests.lock().unwrap().is_empty(), "{servers:?}");
    }
    assert!(!stub.requests.lock().unwrap().is_empty());
}

#[tokio::test]
async fn a_link_to_another_server_gets_no_token() {
    let issuer = Issuer::start();
    let (_instances, gateway) = fleet(&issuer, [1, 1, 1]).await;
    let other = Stub::start(|_, _| (200, Vec::new(), json!({ "value": [] }))).await;
    let link = format!("{}/next", other.url());
    let stub = Stub::start(move |_, _| (200, Vec::new(), json!({ "value": [], "nextLink": link }))).await;
    let (admin, azure) = (format!("http://{}", gateway.admin), stub.url());
    let options = ["--subscription", "s", "--resource-group", "g", "--scale-set", "bots", "--admin", &admin];
    let more = ["--management", &azure, "--token-env", "AZURE", "--switchboard", BINARY];
    let Some(output) = run("vmss-scale-in.py", &[&options[..], &more].concat()).await else { return };
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(stderr.contains("a response of Azure leads to another server"), "{stderr}");
    assert!(other.take("GET").is_empty());
}
