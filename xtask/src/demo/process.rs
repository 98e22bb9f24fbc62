//! Child processes that never outlive the demo, whatever ends it.

use std::{
    env,
    fs::{self, DirBuilder, File},
    io::{BufRead as _, BufReader, Read as _, Seek as _, SeekFrom, Write as _},
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command, Stdio},
    sync::mpsc,
    thread,
    time::Duration,
};

use serde_json::Value;

/// Where the binaries are.
pub(super) struct Binaries {
    pub(super) gateway: PathBuf,
    pub(super) emulator: PathBuf,
}

/// Builds both binaries; cargo's progress goes to the terminal.
pub(super) fn build(root: &Path) -> Result<Binaries, String> {
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .current_dir(root)
        .args(["build", "-p", "switchboard", "-p", "switchboard-emulator", "--bins"])
        .arg("--message-format=json-render-diagnostics")
        .stderr(Stdio::inherit())
        .output()
        .map_err(|error| format!("cannot run cargo: {error}"))?;
    if !output.status.success() {
        return Err("the build failed".to_owned());
    }
    // Cargo says where it put them, which saves guessing the target folder and the profile.
    let text = String::from_utf8_lossy(&output.stdout);
    let executable = |name: &str| {
        text.lines()
            .filter_map(|line| serde_json::from_str::<Value>(line).ok())
            .filter(|message| message.pointer("/target/name").is_some_and(|target| target == name))
            .find_map(|message| message.get("executable").and_then(Value::as_str).map(PathBuf::from))
            .ok_or_else(|| format!("cargo built no {name}"))
    };
    Ok(Binaries { gateway: executable("switchboard")?, emulator: executable("switchboard-emulator")? })
}

/// The running children, their logs, and the folder for both.
pub(super) struct Processes {
    folder: PathBuf,
    children: Vec<Running>,
    watchdog: Option<Watchdog>,
}

struct Running {
    name: String,
    child: Child,
    log: PathBuf,
}

/// A shell that ends the children and removes the folder when the demo is gone without having said so: nothing that
/// std offers runs after Ctrl-C or a SIGKILL.
struct Watchdog {
    shell: Child,
    orders: ChildStdin,
}

impl Processes {
    pub(super) fn new() -> Result<Self, String> {
        let folder = env::temp_dir().join(format!("switchboard-demo-{}", std::process::id()));
        // Others of this machine must neither read the seal secret nor have prepared the folder.
        DirBuilder::new()
            .mode(0o700)
            .create(&folder)
            .map_err(|error| format!("cannot make {}: {error}", folder.display()))?;
        let mut processes = Self { folder, children: Vec::new(), watchdog: None };
        processes.watchdog = Some(Watchdog::start(&processes.folder)?);
        Ok(processes)
    }

    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Starts a child whose output goes to its log.
    pub(super) fn start(&mut self, name: &str, command: &mut Command) -> Result<(), String> {
        let log = self.log(name)?;
        let output = log.1.try_clone().map_err(|error| format!("cannot write the log of {name}: {error}"))?;
        self.spawn(name, command.stdout(output), log)?;
        Ok(())
    }

    /// Starts a child that says in one line of JSON where it listens.
    pub(super) fn start_and_read(&mut self, name: &str, command: &mut Command) -> Result<Value, String> {
        let log = self.log(name)?;
        let child = self.spawn(name, command.stdout(Stdio::piped()), log)?;
        let output = child.stdout.take().ok_or("no pipe")?;
        let (line_read, line) = mpsc::channel();
        thread::spawn(move || {
            let mut line = String::new();
            let mut output = BufReader::new(output);
            let read = output.read_line(&mut line).map(|_| line);
            let _ = line_read.send(read);
            // Stay until the child ends: it must not find its pipe closed.
            let _ = std::io::copy(&mut output, &mut std::io::sink());
        });
        let read = line.recv_timeout(START_TIME_MAX);
        if let Ok(Ok(line)) = read
            && let Ok(started) = serde_json::from_str(&line)
        {
            return Ok(started);
        }
        self.dead()?;
        Err(format!("{name} did not say where it listens\n{}", self.last_lines(name)))
    }

    fn log(&self, name: &str) -> Result<(PathBuf, File), String> {
        let path = self.folder.join(format!("{}.log", name.replace(['/', ' '], "-")));
        let file =
            File::create(&path).map_err(|error| format!("cannot write {}: {error}", path.display()))?;
        Ok((path, file))
    }

    fn spawn(
        &mut self,
        name: &str,
        command: &mut Command,
        (log, errors): (PathBuf, File),
    ) -> Result<&mut Child, String> {
        let child = command
            .stdin(Stdio::null())
            .stderr(errors)
            .env("NO_COLOR", "1")
            .spawn()
            .map_err(|error| format!("cannot start {name}: {error}"))?;
        let id = child.id();
        self.children.push(Running { name: name.to_owned(), child, log });
        if let Some(watchdog) = &mut self.watchdog {
            watchdog.tell(&id.to_string());
        }
        self.children.last_mut().map(|running| &mut running.child).ok_or_else(|| "no child".to_owned())
    }

    /// An error if a child has ended, with the end of its log.
    pub(super) fn dead(&mut self) -> Result<(), String> {
        for running in &mut self.children {
            if let Ok(Some(status)) = running.child.try_wait() {
                let (name, lines) = (&running.name, last_lines(&running.log));
                return Err(format!("{name} ended ({status}); its last lines:\n{lines}"));
            }
        }
        Ok(())
    }

    /// The end of a child's log.
    pub(super) fn last_lines(&self, name: &str) -> String {
        let running = self.children.iter().find(|running| running.name == name);
        running.map(|running| last_lines(&running.log)).unwrap_or_default()
    }
}

impl Drop for Processes {
    fn drop(&mut self) {
        for running in &mut self.children {
            // By its id, which is ours until it is waited for.
            let _ = running.child.kill();
            let _ = running.child.wait();
        }
        if let Some(mut watchdog) = self.watchdog.take() {
            watchdog.tell("done");
            drop(watchdog.orders);
            let _ = watchdog.shell.wait();
        }
        let _ = fs::remove_dir_all(&self.folder);
    }
}

impl Watchdog {
    fn start(folder: &Path) -> Result<Self, String> {
        let mut shell = Command::new("sh")
            .args(["-c", WATCHDOG, "switchboard-demo"])
            .arg(folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|error| format!("cannot start sh: {error}"))?;
        let orders = shell.stdin.take().ok_or("no pipe")?;
        Ok(Self { shell, orders })
    }

    fn tell(&mut self, order: &str) {
        let _ = writeln!(self.orders, "{order}");
    }
}

fn last_lines(log: &Path) -> String {
    let read = || -> std::io::Result<String> {
        let mut file = File::open(log)?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(LOG_BYTES)))?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    };
    let text = read().unwrap_or_else(|error| error.to_string());
    let lines: Vec<String> = text
        .lines()
        .rev()
        .take(LOG_LINES)
        .map(|line| format!("  {}", super::screen::printable(line)))
        .collect();
    if lines.is_empty() {
        return "  (nothing)".to_owned();
    }
    lines.into_iter().rev().collect::<Vec<_>>().join("\n")
}

/// Reads one process id a line. `done` means that all was cleaned up; an end without it means that the demo died.
const WATCHDOG: &str = r#"trap '' INT TERM HUP QUIT
ids=
while read -r id; do
  [ "$id" = done ] && exit 0
  ids="$ids $id"
done
[ -n "$ids" ] && kill -9 $ids
rm -rf -- "$1""#;

/// Making RSA keys on a loaded machine takes seconds.
pub(super) const START_TIME_MAX: Duration = Duration::from_secs(60);
const LOG_BYTES: u64 = 16 * 1024;
const LOG_LINES: usize = 15;
