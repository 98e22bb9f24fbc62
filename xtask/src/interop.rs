//! `cargo xtask interop`: runs Microsoft's client libraries, unmodified, against the emulator.

mod install;
mod kits;
mod platform;

use std::{fs, path::Path, process::ExitCode};

use self::platform::Platform;
use crate::{
    console::{complain, say},
    support::binaries::{self, Profile},
};

/// Installs the libraries, starts the emulator over TLS and a gateway for the bots of the scripts, and runs
/// one script per library, then the tests of the packages for tests. It needs the package registries, so it
/// is not part of the gate.
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
    let binaries = binaries::build(root, Profile::Dev)?;
    let mut platform = Platform::start(&binaries, &folder)?;
    say(&format!("the emulator listens on {}, the gateway on {}\n", platform.origin, platform.gateway));
    let mut failed = 0;
    for library in LIBRARIES {
        let runtime = match library.runtime {
            Runtime::Python => &python,
            Runtime::Node => &node,
        };
        let outcome = match runtime {
            Ok(installed) => platform.run(installed, library.script, &folder),
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
    failed += kits::run_tests(root, &python, &node, &binaries.emulator);
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
