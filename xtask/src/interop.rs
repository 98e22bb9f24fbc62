//! `cargo xtask interop`: runs Microsoft's client libraries, unmodified, against the emulator.

use std::{
    env, fs,
    io::{BufRead as _, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, ExitCode, Stdio},
};

use openssl::{
    asn1::Asn1Time,
    hash::MessageDigest,
    nid::Nid,
    pkey::PKey,
    rsa::Rsa,
    x509::{X509, X509NameBuilder},
};
use serde_json::Value;

use crate::console::{complain, say};

/// Installs the libraries, starts the emulator over TLS, and runs one script per library. It needs the
/// package registries, so it is not part of the gate.
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
    let python = install_python(&scripts, &folder);
    let node = install_node(&scripts, &folder);

    write_certificate(&folder)?;
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

/// The program that runs scripts, and the folder of the scripts.
struct Installed {
    program: PathBuf,
    scripts: PathBuf,
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

fn install_python(scripts: &Path, folder: &Path) -> Result<Installed, String> {
    let venv = folder.join("venv");
    let program = venv.join("bin/python");
    if !program.exists() {
        finish(Command::new("python3").args(["-m", "venv"]).arg(&venv))?;
    }
    let requirements = scripts.join("requirements.txt");
    let pip = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--requirement"];
    finish(Command::new(&program).args(pip).arg(requirements))?;
    Ok(Installed { program, scripts: scripts.to_owned() })
}

/// Copies the scripts beside the packages, where Node looks for them, and installs the packages.
fn install_node(scripts: &Path, folder: &Path) -> Result<Installed, String> {
    let target = folder.join("node");
    let copy = || -> std::io::Result<()> {
        fs::create_dir_all(&target)?;
        for entry in fs::read_dir(scripts)? {
            let path = entry?.path();
            let wanted = path.extension().is_some_and(|extension| extension == "mjs" || extension == "json");
            if let Some(name) = path.file_name().filter(|_| wanted) {
                fs::copy(&path, target.join(name))?;
            }
        }
        Ok(())
    };
    copy().map_err(|error| format!("cannot copy the scripts to {}: {error}", target.display()))?;
    let npm = ["install", "--silent", "--no-audit", "--no-fund", "--ignore-scripts"];
    finish(Command::new("npm").args(npm).current_dir(&target))?;
    Ok(Installed { program: PathBuf::from("node"), scripts: target })
}

/// Writes a certificate of the app, its key, and a file with both.
fn write_certificate(folder: &Path) -> Result<(), String> {
    let make = || -> Result<(Vec<u8>, Vec<u8>), openssl::error::ErrorStack> {
        let key = PKey::from_rsa(Rsa::generate(2_048)?)?;
        let mut name = X509NameBuilder::new()?;
        name.append_entry_by_nid(Nid::COMMONNAME, "interop")?;
        let name = name.build();
        let mut certificate = X509::builder()?;
        certificate.set_version(2)?;
        certificate.set_subject_name(&name)?;
        certificate.set_issuer_name(&name)?;
        certificate.set_not_before(&*Asn1Time::days_from_now(0)?)?;
        certificate.set_not_after(&*Asn1Time::days_from_now(1)?)?;
        certificate.set_pubkey(&key)?;
        certificate.sign(&key, MessageDigest::sha256())?;
        Ok((key.private_key_to_pem_pkcs8()?, certificate.build().to_pem()?))
    };
    let (key, certificate) = make().map_err(|error| format!("openssl cannot make a certificate: {error}"))?;
    let both = [key.as_slice(), certificate.as_slice()].concat();
    for (name, bytes) in [("app-key.pem", &key), ("app.pem", &certificate), ("app-both.pem", &both)] {
        let path = folder.join(name);
        fs::write(&path, bytes).map_err(|error| format!("cannot write {}: {error}", path.display()))?;
    }
    Ok(())
}

/// The running emulator. Dropping it ends the process.
struct Emulator {
    child: Child,
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
        let mut child = Command::new(binary)
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
            Some((origin, ca)) => Ok(Self { child, origin, ca }),
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

/// Runs a command and returns its output. The error of a failed command has all of its output.
fn finish(command: &mut Command) -> Result<String, String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output =
        command.stdin(Stdio::null()).output().map_err(|error| format!("cannot run {name}: {error}"))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    if output.status.success() {
        Ok(text)
    } else {
        Err(format!("{text}{}({name}: {})", String::from_utf8_lossy(&output.stderr), output.status))
    }
}

const APP: &str = "0efc74f7-41c3-47a4-8775-7259bfef4241";
const SECRET: &str = "not-secret-interop";
const TENANT: &str = "11111111-2222-4333-8444-555555555555";
