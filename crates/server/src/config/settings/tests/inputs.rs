//! Configurations for the tests of the table of settings.

/// Configurations that together write every setting.
pub(super) fn configurations() -> Vec<String> {
    let mut all = vec![
        EXAMPLE.replace("# proxies", "proxies"),
        DNS.to_owned(),
        FILE.to_owned(),
        format!("skype_metadata = \"https://keys.example/\"\ncloud = \"dod\"\n{MINIMAL}"),
        format!("{MINIMAL}[limits]\nconnections_per_source = 100\n[admin]\ntoken = {{ file = \"token\" }}\n"),
    ];
    all.extend(credentials());
    if cfg!(feature = "kubernetes") {
        all.push(KUBERNETES.to_owned());
    }
    all
}

/// Configurations that together have every table, and write as little as possible.
pub(super) fn defaults() -> Vec<String> {
    let tables = "[[peer]]\nname = \"amer\"\nwebhook = \"https://a.example/x\"\n[[affinity.rule]]\n\
                  serve_in = \"amer\"\n[fleet.probe]\npath = \"/\"\n[[trust]]\nname = \"a\"\n\
                  metadata = \"https://a.example\"\nissuers = [\"https://a.example\"]\n";
    let pack = "[placement]\nfill = \"pack\"\n";
    let mut all = vec![MINIMAL.to_owned(), format!("{MINIMAL}{tables}"), format!("{MINIMAL}{pack}")];
    let lines_of_defaults = ["scheme", "path = \"/api/calls\"", "refresh", "servers", "interval"];
    let least = |text: &str| {
        let is_left = |line: &&str| !lines_of_defaults.iter().any(|start| line.starts_with(start));
        text.lines().filter(is_left).map(|line| format!("{line}\n")).collect::<String>()
    };
    all.extend([least(DNS), least(FILE)]);
    all.extend(credentials());
    if cfg!(feature = "kubernetes") {
        all.push(least(KUBERNETES));
    }
    all
}

/// The smallest configuration with each kind of credential.
fn credentials() -> Vec<String> {
    let guid = "0efc74f7-41c3-47a4-8775-7259bfef4241";
    let identity = format!("client_id = \"{guid}\", endpoint = \"http://127.0.0.1:4000/token\"");
    let credentials = [
        "certificate = \"app.pem\"\nkey = \"app.key\"".to_owned(),
        "federated_token = \"token\"".to_owned(),
        "secret = { file = \"secret\" }".to_owned(),
        format!("federated_identity = {{ {identity} }}"),
        format!("managed_identity = {{ tenant = \"{guid}\", {identity} }}"),
    ];
    credentials
        .iter()
        .map(|credential| {
            MINIMAL.replace("\n[callback]", &format!("[app.graph]\n{credential}\n\n[callback]"))
        })
        .collect()
}

pub(super) const MINIMAL: &str = include_str!("../../../../../../fixtures/config/minimal.toml");
const EXAMPLE: &str = include_str!("../../../../../../fixtures/config/example.toml");
const DNS: &str = include_str!("../../../../../../fixtures/config/dns.toml");
const KUBERNETES: &str = include_str!("../../../../../../fixtures/config/kubernetes.toml");
const FILE: &str = include_str!("../../../../../../fixtures/config/file.toml");
