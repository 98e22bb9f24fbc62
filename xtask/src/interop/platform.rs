//! The emulator over TLS, and a gateway between it and the bot of a script.

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use super::install::{Installed, finish};
use crate::support::{
    binaries::Binaries,
    http, instant, pause,
    process::{Processes, START_TIME_MAX},
    setup::{free_addresses, new_secret, text, trusts, write_private},
};

/// The running processes. Dropping it ends them.
pub(super) struct Platform {
    processes: Processes,
    pub(super) origin: String,
    ca: String,
    /// The address of the gateway.
    pub(super) gateway: SocketAddr,
    /// The address at which the gateway expects the bot of each script, one after the other.
    bot: SocketAddr,
    /// The callback URI of this bot, for the calls that it places.
    callback: String,
}

impl Platform {
    pub(super) fn start(binaries: &Binaries, folder: &Path) -> Result<Self, String> {
        let mut processes = Processes::new("interop")?;
        let mut emulator = Command::new(&binaries.emulator);
        emulator.args(["serve", "--listen", "127.0.0.1:0", "--json", "--app-id", APP, "--secret", SECRET]);
        emulator.arg("--certificate").arg(folder.join("app.pem")).arg("--tls").arg(folder.join("tls"));
        let urls = processes.start_and_read("emulator", &mut emulator)?;
        let (origin, ca) = (text(&urls, "origin")?, text(&urls, "ca")?);

        let [gateway, bot] = free_addresses("127.0.0.1", 2)?[..] else {
            return Err("the addresses are not two".to_owned());
        };
        let seal = processes.folder().join("seal");
        write_private(&seal, &new_secret()?)?;
        let file = processes.folder().join("gateway.toml");
        write_private(&file, &configuration(gateway, bot, &origin, &seal))?;
        // The certificate authority of the emulator, which has the metadata.
        let mut serve = Command::new(&binaries.gateway);
        serve.args(["serve", "--config"]).arg(&file).env("SSL_CERT_FILE", &ca);
        processes.start("gateway", &mut serve)?;
        wait_for_gateway(&mut processes, gateway)?;
        let mut mint = Command::new(&binaries.gateway);
        mint.args(["mint", "--instance", "bot-0", "--app", APP, "--config"]).arg(&file);
        let callback = finish(&mut mint)?.trim().to_owned();
        Ok(Self { processes, origin, ca, gateway, bot, callback })
    }

    /// Runs a script and returns its output. The error of a failed script has all of its output.
    pub(super) fn run(
        &mut self,
        installed: &Installed,
        script: &str,
        folder: &Path,
    ) -> Result<String, String> {
        let file = |name: &str| -> PathBuf { folder.join(name) };
        // Some libraries log the errors that their scripts expect. They are of interest if a script fails.
        let errors = self.processes.folder().join(format!("{script}.errors"));
        let mut command = Command::new("sh");
        command
            .args(["-c", r#"exec "$0" "$@" 2>"$SCRIPT_ERRORS""#])
            .arg(&installed.program)
            .arg(installed.scripts.join(script))
            .env("SCRIPT_ERRORS", &errors)
            .env("EMULATOR_ORIGIN", &self.origin)
            .env("EMULATOR_CA", &self.ca)
            .env("EMULATOR_APP", APP)
            .env("EMULATOR_SECRET", SECRET)
            .env("EMULATOR_TENANT", TENANT)
            .env("EMULATOR_CERTIFICATE", file("app.pem"))
            .env("EMULATOR_KEY", file("app-key.pem"))
            .env("EMULATOR_PEM", file("app-both.pem"))
            .env("GATEWAY_WEBHOOK", format!("http://{}/api/calls", self.gateway))
            .env("BOT_ADDRESS", self.bot.to_string())
            .env("BOT_CALLBACK", &self.callback)
            .env("PYTHONDONTWRITEBYTECODE", "1");
        // The variables in which the runtimes and libraries look for a certificate authority.
        for variable in ["SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "NODE_EXTRA_CA_CERTS"] {
            command.env(variable, &self.ca);
        }
        self.processes.start_task(script, &mut command)?;
        let outcome = match self.processes.wait(script, SCRIPT_TIME_MAX) {
            Ok((true, output)) => return Ok(output),
            Ok((false, output)) => output,
            Err(problem) => {
                self.processes.kill(script)?;
                problem
            }
        };
        let errors = fs::read_to_string(errors).unwrap_or_default();
        let gateway = self.processes.last_lines("gateway");
        Err(format!("{outcome}{errors}\nthe gateway's last lines:\n{gateway}"))
    }
}

fn wait_for_gateway(processes: &mut Processes, address: SocketAddr) -> Result<(), String> {
    let started = instant();
    while !matches!(http::get(address, READY_PATH), Ok((200, _))) {
        processes.check_running()?;
        if started.elapsed() > START_TIME_MAX {
            return Err(format!("the gateway is not ready:\n{}", processes.last_lines("gateway")));
        }
        pause(Duration::from_millis(50));
    }
    Ok(())
}

/// A configuration of one bot, in the format that the documents describe.
fn configuration(gateway: SocketAddr, bot: SocketAddr, platform: &str, seal: &Path) -> String {
    let (trusts, seal) = (trusts(platform), seal.display());
    format!(
        r#"# Made by `cargo xtask interop`.
region = "emea"

[listen]
address = "{gateway}"
ready_path = "{READY_PATH}"

[[app]]
id = "{APP}"

{trusts}

[callback]
base = "http://{gateway}"
seal = [{{ id = "k1", secret = {{ file = "{seal}" }} }}]

[[fleet.instance]]
name = "bot-0"
url = "http://{bot}/api/calls"

[log]
format = "text"
"#
    )
}

const READY_PATH: &str = "/readyz";
/// Longer than the slowest script needs on a busy machine.
const SCRIPT_TIME_MAX: Duration = Duration::from_secs(180);
const APP: &str = "0efc74f7-41c3-47a4-8775-7259bfef4241";
const SECRET: &str = "not-secret-interop";
const TENANT: &str = "11111111-2222-4333-8444-555555555555";
