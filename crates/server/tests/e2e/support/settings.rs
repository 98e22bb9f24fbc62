//! The configuration of a gateway under test, to which a test adds settings.

use std::{collections::BTreeMap, net::SocketAddr};

use super::{APP, Instance, Issuer};

#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) region: &'static str,
    pub(crate) tls: bool,
    metadata: [String; 2],
    /// The public address, and the origin of every callback URI.
    address: String,
    base: String,
    seal: String,
    /// Further lines, by table.
    lines: BTreeMap<&'static str, Vec<String>>,
    /// Further tables.
    tables: Vec<String>,
}

impl Settings {
    /// Plain HTTP on loopback, region emea, both trusts, a fleet without probe.
    pub(crate) fn new(issuer: &Issuer, instances: &[&Instance]) -> Self {
        let metadata = ["skype", "entra"].map(|trust| issuer.metadata(trust));
        let mut settings = Self::trusting(metadata);
        for instance in instances {
            settings = settings.instance(&instance.name, &instance.url(), "");
        }
        settings
    }

    /// A gateway at this address that trusts the emulator's platform. The platform reaches its callback URIs.
    pub(crate) fn of_platform(origin: &str, public: SocketAddr) -> Self {
        let paths = ["v1/.well-known/OpenIdConfiguration", "common/v2.0/.well-known/openid-configuration"];
        let mut settings = Self::trusting(paths.map(|path| format!("{origin}/{path}")));
        settings.address = public.to_string();
        settings.base = format!("http://{public}");
        settings
    }

    fn trusting(metadata: [String; 2]) -> Self {
        Self {
            region: "emea",
            tls: false,
            metadata,
            address: "127.0.0.1:0".to_owned(),
            base: BASE.to_owned(),
            seal: r#"seal = [{ id = "k1", secret = { file = "seal-k1" } }]"#.into(),
            lines: BTreeMap::new(),
            tables: Vec::new(),
        }
    }

    /// A fleet of one instance that refuses all connections.
    pub(crate) fn without_fleet(issuer: &Issuer) -> Self {
        // No process listens on port 9 of loopback.
        Self::new(issuer, &[]).instance("bot-0", "http://127.0.0.1:9/api/calls", "")
    }

    /// Replaces the setting `seal`.
    pub(crate) fn seal(mut self, line: &str) -> Self {
        self.seal = line.to_owned();
        self
    }

    /// Adds a line to a table; `trust` is each of the two trusts.
    pub(crate) fn line(mut self, table: &'static str, line: &str) -> Self {
        self.lines.entry(table).or_default().push(line.to_owned());
        self
    }

    pub(crate) fn table(mut self, text: &str) -> Self {
        self.tables.push(text.to_owned());
        self
    }

    pub(crate) fn instance(self, name: &str, url: &str, more: &str) -> Self {
        self.table(&format!("[[fleet.instance]]\nname = \"{name}\"\nurl = \"{url}\"\n{more}\n"))
    }

    /// Adds a peer region with its webhook.
    pub(crate) fn peer(self, name: &str) -> Self {
        self.table(&format!(
            "[[peer]]\nname = \"{name}\"\nwebhook = \"https://{name}.bots.example/api/calls\"\n"
        ))
    }

    /// Adds a peer region whose callbacks are proxied to `callback`.
    pub(crate) fn peer_at(self, name: &str, callback: &str) -> Self {
        self.peer(name).table(&format!("callback = \"{callback}\"\n"))
    }

    /// Redirects calls whose source is in `region` to that region.
    pub(crate) fn rule(self, region: &str) -> Self {
        self.table(&format!("[[affinity.rule]]\nsource_region = [\"{region}\"]\nserve_in = \"{region}\"\n"))
    }

    pub(crate) fn render(&self) -> String {
        let more = |table: &str| self.lines.get(table).map(|lines| lines.join("\n")).unwrap_or_default();
        let tls = if self.tls { "tls = { certificate = \"tls.crt\", key = \"tls.key\" }" } else { "" };
        let [skype, entra] = &self.metadata;
        let region = self.region;
        let tables: String = ["affinity", "placement", "forward", "limits", "log", "fleet", "fleet.probe"]
            .iter()
            .fold(String::new(), |text, table| {
                if self.lines.contains_key(table) {
                    format!("{text}[{table}]\n{}\n", more(table))
                } else {
                    text
                }
            });
        format!(
            r#"region = "{region}"
[listen]
address = "{address}"
{tls}
{listen}
[admin]
address = "127.0.0.1:0"
{admin}
[[app]]
id = "{APP}"
{app}
[[trust]]
name = "skype"
metadata = "{skype}"
issuers = ["https://api.botframework.com", "https://api.botframework.com/", "https://graph.microsoft.com"]
callers = ["26a18ebc-cdf7-4a6a-91cb-beb352805e81"]
{trust}
[[trust]]
name = "entra"
metadata = "{entra}"
issuers = ["https://sts.windows.net/{{tid}}/", "https://login.microsoftonline.com/{{tid}}/v2.0"]
callers = ["26a18ebc-cdf7-4a6a-91cb-beb352805e81"]
{trust}
[keys]
{keys}
[callback]
base = "{base}"
{seal}
{callback}
{tables}
{own}"#,
            address = self.address,
            base = self.base,
            listen = more("listen"),
            admin = more("admin"),
            app = more("app"),
            seal = self.seal,
            trust = more("trust"),
            keys = more("keys"),
            callback = more("callback"),
            own = self.tables.join("\n"),
        )
    }
}

/// The origin of every callback URI, unless the platform must reach it.
pub(crate) const BASE: &str = "https://emea.bots.example";

/// The files with seal keys beside the configuration: name and content.
pub(crate) const SEALS: [(&str, &str); 2] = [
    ("seal-k1", "bm90IGEgc2VjcmV0OiB0aGUgc2VhbCBvZiB0aGUgdGVzdHM="),
    ("seal-k2", "bm90IGEgc2VjcmV0OiBhbm90aGVyIHNlYWwgb2YgdGVzdHM="),
];
