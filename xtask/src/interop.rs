//! `cargo xtask interop`: runs Microsoft's client libraries, unmodified, against the emulator.

mod install;
mod kits;

use std::{
    env, fs,
    io::{BufRead as _, BufReader},
    path::Path,
    process::{Child, Command, ExitCode, Stdio},
};

use serde_json::Value;

use self::install::{Installed, finish};
use crate::console::{complain, say};

/// Installs the libraries, starts the emulator over TLS, and runs one script per library, then the tests of
/// the packages for tests. It needs the package registries, so it is not part of the gate.
pub(crate) fn run(root: &Path) -> ExitCode {
    match run_all(root) {
        Ok(0) => ExitCode::SUCCESS,
        Ok(failed) => {
            complain(&format!("interop: {failed} libraries failed"));
            ExitCode::FAILURE
        }
        Err(problem) => {
            complain(&format!("interop: {problem}"));
            ExitCode::FAILURE
        }
    }
}

/// Runs all scripts, and returns the number of failures.
fn run_all(root: &Path) -> Result<usize, String> {
    let scripts = root.join("crates/emulator/tests/interop");
    let folder = root.join("target/interop");
    fs::create_dir_all(&folder).map_err(|error| format!("cannot create {}: {error}", folder.display()))?;
    say("installing the libraries");
    let python = install::install_python(&scripts, &folder)
        .and_then(|installed| kits::install_python(root, &folder, installed));
    let node = install::install_node(&scripts, &folder);

    install::write_certificate(&folder)?;
    let emulator = Emulator::start(root, &folder)?;
    say(&format!("the emulator listens on {}\n", emulator.origin));
    let mut failed = 0;
    for library in LIBRARIES {
        let runtime = match library.runtime {
            Runtime::Python => &python,
            Runtime::Node => &node,
        };
        let outcome = match runtime {
            Ok(installed) => emulator.run(installed, library.script, &folder),
            Err(problem) => Err(format!("cannot install it: {problem}")),
        };
        match outcome {
            Ok(lines) => say(&format!("ok      {}\n{}", library.name, lines.trim_end())),
            Err(problem) => {
                failed += 1;
                say(&format!("failed  {}\n{}", library.name, problem.trim_end()));
            }
        }
    }
    failed += kits::run_tests(root, &python, &node, Path::new(&emulator.binary));
    Ok(failed)
}

/// A library, and the script that uses it as documented.
struct Library {
    name: &'static str,
    runtime: Runtime,
    script: &'static str,
}

enum Runtime {
    Python,
    Node,
}

const LIBRARIES: [Library; 10] = [
    Library { name: "msal (Python)", runtime: Runtime::Python, script: "msal_python.py" },
    Library { name: "azure-identity (Python)", runtime: Runtime::Python, script: "azure_identity_python.py" },
    Library {
        name: "managed identity (Python)",
        runtime: Runtime::Python,
        script: "managed_identity_python.py",
    },
    Library { name: "msgraph-sdk (Python)", runtime: Runtime::Python, script: "msgraph_python.py" },
    Library {
        name: "botframework-connector (Python)",
        runtime: Runtime::Python,
        script: "botframework_python.py",
    },
    Library { name: "@azure/msal-node", runtime: Runtime::Node, script: "msal_node.mjs" },
    Library { name: "@azure/identity", runtime: Runtime::Node, script: "azure_identity_node.mjs" },
    Library { name: "managed identity (Node)", runtime: Runtime::Node, script: "managed_identity_node.mjs" },
    Library {
        name: "@microsoft/microsoft-graph-client",
        runtime: Runtime::Node,
        script: "graph_client_node.mjs",
    },
    Library {
        name: "botframework-connector (Node)",
        runtime: Runtime::Node,
        script: "botframework_node.mjs",
    },
];

/// The running emulator. Dropping it ends the process.
struct Emulator {
    child: Child,
    binary: String,
    origin: String,
    ca: String,
}

impl Emulator {
    fn start(root: &Path, folder: &Path) -> Result<Self, String> {
        let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let built = Command::new(cargo)
            .current_dir(root)
            .args([
                "build",
                "-p",
                "switchboard-emulator",
                "--bins",
                "--message-format=json-render-diagnostics",
            ])
            .stderr(Stdio::inherit())
            .output()
            .map_err(|error| format!("cannot run cargo: {error}"))?;
        let binary = String::from_utf8_lossy(&built.stdout)
            .lines()
            .filter_map(|line| serde_json::from_str::<Value>(line).ok())
            .find_map(|message| message.get("executable").and_then(Value::as_str).map(str::to_owned))
            .ok_or("the build failed")?;
        let mut child = Command::new(&binary)
            .args(["serve", "--listen", "127.0.0.1:0", "--json", "--app-id", APP, "--secret", SECRET])
            .arg("--certificate")
            .arg(folder.join("app.pem"))
            .arg("--tls")
            .arg(folder.join("tls"))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|error| format!("cannot start the emulator: {error}"))?;
        let mut line = String::new();
        if let Some(output) = child.stdout.take() {
            let _ = BufReader::new(output).read_line(&mut line);
        }
        let urls: Value = serde_json::from_str(&line).unwrap_or_default();
        let text = |name: &str| urls.get(name).and_then(Value::as_str).map(str::to_owned);
        match text("origin").zip(text("ca")) {
            Some((origin, ca)) => Ok(Self { child, binary, origin, ca }),
            None => {
                let _ = child.kill();
                let _ = child.wait();
                Err("the emulator did not print its addresses".to_owned())
            }
        }
    }

    /// Runs a script and returns its output. The error of a failed script has all of its output.
    fn run(&self, installed: &Installed, script: &str, folder: &Path) -> Result<String, String> {
        let mut command = Command::new(&installed.program);
        command
            .arg(installed.scripts.join(script))
            .env("EMULATOR_ORIGIN", &self.origin)
            .env("EMULATOR_CA", &self.ca)
            .env("EMULATOR_APP", APP)
            .env("EMULATOR_SECRET", SECRET)
            .env("EMULATOR_TENANT", TENANT)
            .env("EMULATOR_CERTIFICATE", folder.join("app.pem"))
            .env("EMULATOR_KEY", folder.join("app-key.pem"))
            .env("EMULATOR_PEM", folder.join("app-both.pem"))
            .env("PYTHONDONTWRITEBYTECODE", "1");
        // The variables in which the runtimes and libraries look for a certificate authority.
        for variable in ["SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "NODE_EXTRA_CA_CERTS"] {
            command.env(variable, &self.ca);
        }
        finish(&mut command)
    }
}

impl Drop for Emulator {
    fn drop(&mut self) {
        // By its process id, which stays valid until the child is waited for.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

const APP: &str = "0efc74f7-41c3-47a4-8775-7259bfef4241";
const SECRET: &str = "not-secret-interop";
const TENANT: &str = "11111111-2222-4333-8444-555555555555";
