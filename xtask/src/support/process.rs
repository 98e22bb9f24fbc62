//! Child processes that never outlive this process, however it ends.

use std::{
    env,
    fs::{self, DirBuilder, File},
    io::{BufRead as _, BufReader, Read as _, Seek as _, SeekFrom, Write as _},
    os::unix::{fs::DirBuilderExt as _, process::CommandExt as _},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command, Stdio},
    sync::mpsc,
    thread,
    time::Duration,
};

use serde_json::Value;

use super::{instant, pause};

/// The running children, and the folder of their logs.
pub(crate) struct Processes {
    folder: PathBuf,
    children: Vec<RunningChild>,
    watchdog: Option<Watchdog>,
}

struct RunningChild {
    name: String,
    child: Child,
    log: PathBuf,
    /// True if the child ends by itself, which is not a failure.
    is_task: bool,
}

/// A shell that kills the children and removes the folder if this process ends without cleaning up. Ctrl-C
/// and SIGKILL run no destructors.
struct Watchdog {
    shell: Child,
    input: ChildStdin,
}

impl Processes {
    /// Creates the folder, whose name contains `name`, and starts the watchdog.
    pub(crate) fn new(name: &str) -> Result<Self, String> {
        let folder = env::temp_dir().join(format!("switchboard-{name}-{}", std::process::id()));
        // Other users must not read the seal secret, and must not have prepared the folder.
        DirBuilder::new()
            .mode(0o700)
            .create(&folder)
            .map_err(|error| format!("cannot create {}: {error}", folder.display()))?;
        let mut processes = Self { folder, children: Vec::new(), watchdog: None };
        processes.watchdog = Some(Watchdog::start(&processes.folder)?);
        Ok(processes)
    }

    /// The folder of the logs.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Starts a child that writes its output to its log.
    pub(crate) fn start(&mut self, name: &str, command: &mut Command) -> Result<(), String> {
        let log = self.log(name)?;
        let output = log.1.try_clone().map_err(|error| format!("cannot write the log of {name}: {error}"))?;
        self.spawn(name, command.stdout(output), log)?;
        Ok(())
    }

    /// Starts a child that ends by itself and writes its output to its log.
    pub(crate) fn start_task(&mut self, name: &str, command: &mut Command) -> Result<(), String> {
        self.start(name, command)?;
        if let Some(running) = self.children.last_mut() {
            running.is_task = true;
        }
        Ok(())
    }

    /// Waits for a task to end. Returns whether it succeeded, and its output.
    pub(crate) fn wait(&mut self, name: &str, time_max: Duration) -> Result<(bool, String), String> {
        let started = instant();
        loop {
            if let Some(end) = self.ended(name)? {
                return Ok(end);
            }
            if started.elapsed() > time_max {
                let (seconds, lines) = (time_max.as_secs(), self.last_lines(name));
                return Err(format!("{name} has not ended after {seconds} s; its last lines:\n{lines}"));
            }
            pause(POLL);
        }
    }

    /// The result of a task, like that of `wait`, if the task has ended.
    pub(crate) fn ended(&mut self, name: &str) -> Result<Option<(bool, String)>, String> {
        self.check_running()?;
        let index = self.children.iter().position(|running| running.name == name);
        let index = index.ok_or_else(|| format!("there is no {name}"))?;
        let running = self.children.get_mut(index).ok_or("there is no child")?;
        let ended = running.child.try_wait().map_err(|error| format!("{name}: {error}"))?;
        let Some(status) = ended else { return Ok(None) };
        let running = self.children.remove(index);
        self.forget(&running.child);
        let output = fs::read(&running.log).map_err(|error| format!("{name} left no log: {error}"))?;
        Ok(Some((status.success(), String::from_utf8_lossy(&output).into_owned())))
    }

    /// Sends SIGTERM to a child, which becomes a task.
    pub(crate) fn terminate(&mut self, name: &str) -> Result<(), String> {
        self.signal(name, "TERM")?;
        let running = self.children.iter_mut().find(|running| running.name == name);
        running.map(|running| running.is_task = true).ok_or_else(|| format!("there is no {name}"))
    }

    /// Sends a signal to a child by its process id, which stays valid until the child is waited for.
    pub(crate) fn signal(&self, name: &str, signal: &str) -> Result<(), String> {
        let running = self.children.iter().find(|running| running.name == name);
        let id = running.ok_or_else(|| format!("there is no {name}"))?.child.id().to_string();
        // The `kill` of the shell: a minimal system has no other.
        let sent = Command::new("sh").args(["-c", "kill -s \"$0\" \"$1\"", signal, &id]).status();
        match sent {
            Ok(status) if status.success() => Ok(()),
            _ => Err(format!("cannot send {signal} to {name}")),
        }
    }

    /// Kills a child without warning, like a crash.
    pub(crate) fn kill(&mut self, name: &str) -> Result<(), String> {
        let index = self.children.iter().position(|running| running.name == name);
        let mut running = self.children.remove(index.ok_or_else(|| format!("there is no {name}"))?);
        let killed = running.child.kill().and_then(|()| running.child.wait());
        self.forget(&running.child);
        killed.map(|_| ()).map_err(|error| format!("cannot kill {name}: {error}"))
    }

    /// Tells the watchdog that a child has ended: another process may reuse its id.
    fn forget(&mut self, child: &Child) {
        if let Some(watchdog) = &mut self.watchdog {
            watchdog.send(&format!("-{}", child.id()));
        }
    }

    /// The log of a child until now.
    pub(crate) fn log_of(&self, name: &str) -> Result<String, String> {
        let running = self.children.iter().find(|running| running.name == name);
        let running = running.ok_or_else(|| format!("there is no {name}"))?;
        let output = fs::read(&running.log).map_err(|error| format!("{name} has no log: {error}"))?;
        Ok(String::from_utf8_lossy(&output).into_owned())
    }

    /// The process id of a child.
    pub(crate) fn id(&self, name: &str) -> Result<u32, String> {
        let running = self.children.iter().find(|running| running.name == name);
        running.map(|running| running.child.id()).ok_or_else(|| format!("there is no {name}"))
    }

    /// The CPU time of a child until now; `None` on a system without /proc (see proc_pid_stat(5)).
    pub(crate) fn cpu_time(&self, name: &str) -> Option<Duration> {
        let running = self.children.iter().find(|running| running.name == name)?;
        let stat = fs::read_to_string(format!("/proc/{}/stat", running.child.id())).ok()?;
        cpu_time(&stat)
    }

    /// Starts a child that prints its addresses as one line of JSON, and returns that line.
    pub(crate) fn start_and_read(&mut self, name: &str, command: &mut Command) -> Result<Value, String> {
        let log = self.log(name)?;
        let child = self.spawn(name, command.stdout(Stdio::piped()), log)?;
        let output = child.stdout.take().ok_or("the child has no output pipe")?;
        let (line_read, line) = mpsc::channel();
        thread::spawn(move || {
            let mut line = String::new();
            let mut output = BufReader::new(output);
            let read = output.read_line(&mut line).map(|_| line);
            let _ = line_read.send(read);
            // Read until the child ends: its pipe must stay open.
            let _ = std::io::copy(&mut output, &mut std::io::sink());
        });
        let read = line.recv_timeout(START_TIME_MAX);
        if let Ok(Ok(line)) = read
            && let Ok(started) = serde_json::from_str(&line)
        {
            return Ok(started);
        }
        self.check_running()?;
        Err(format!("{name} did not print its addresses; its last lines:\n{}", self.last_lines(name)))
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
            // In a process group of its own: a Ctrl-C that this process ignores must not end the child.
            .process_group(0)
            .spawn()
            .map_err(|error| format!("cannot start {name}: {error}"))?;
        let id = child.id();
        self.children.push(RunningChild { name: name.to_owned(), child, log, is_task: false });
        if let Some(watchdog) = &mut self.watchdog {
            watchdog.send(&id.to_string());
        }
        self.children
            .last_mut()
            .map(|running| &mut running.child)
            .ok_or_else(|| "there is no child".to_owned())
    }

    /// Fails with the end of the log if a child that is not a task has ended.
    pub(crate) fn check_running(&mut self) -> Result<(), String> {
        for running in self.children.iter_mut().filter(|running| !running.is_task) {
            if let Ok(Some(status)) = running.child.try_wait() {
                let (name, lines) = (&running.name, last_lines(&running.log));
                return Err(format!("{name} ended ({status}); its last lines:\n{lines}"));
            }
        }
        Ok(())
    }

    /// The last lines of a child's log.
    pub(crate) fn last_lines(&self, name: &str) -> String {
        let running = self.children.iter().find(|running| running.name == name);
        running.map(|running| last_lines(&running.log)).unwrap_or_default()
    }
}

impl Drop for Processes {
    fn drop(&mut self) {
        for running in &mut self.children {
            // By its process id, which stays valid until the child is waited for.
            let _ = running.child.kill();
            let _ = running.child.wait();
        }
        if let Some(mut watchdog) = self.watchdog.take() {
            watchdog.send("done");
            drop(watchdog.input);
            let _ = watchdog.shell.wait();
        }
        let _ = fs::remove_dir_all(&self.folder);
    }
}

impl Watchdog {
    fn start(folder: &Path) -> Result<Self, String> {
        let mut shell = Command::new("sh")
            .args(["-c", WATCHDOG, "switchboard-watchdog"])
            .arg(folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|error| format!("cannot start sh: {error}"))?;
        let input = shell.stdin.take().ok_or("the watchdog has no input pipe")?;
        Ok(Self { shell, input })
    }

    fn send(&mut self, line: &str) {
        let _ = writeln!(self.input, "{line}");
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
        return "  (no output)".to_owned();
    }
    lines.into_iter().rev().collect::<Vec<_>>().join("\n")
}

/// The sum of the fourteenth and fifteenth fields: clock ticks in user and system mode. The second field may
/// contain blanks and brackets.
fn cpu_time(stat: &str) -> Option<Duration> {
    let (_, fields) = stat.rsplit_once(") ")?;
    let ticks: Vec<u64> = fields.split(' ').skip(11).take(2).map_while(|field| field.parse().ok()).collect();
    let [user, system] = *ticks.as_slice() else { return None };
    Some(Duration::from_millis(user.saturating_add(system).saturating_mul(TICK_MS)))
}

/// Reads one process id per line, with a minus before the id of a process that has ended. `done` means that
/// the parent has cleaned up. The end of the input without `done` means that the parent has died.
const WATCHDOG: &str = r#"trap '' INT TERM HUP QUIT
ids=
while read -r id; do
  case $id in
    done) exit 0 ;;
    -*)
      left=
      for other in $ids; do [ "-$other" = "$id" ] || left="$left $other"; done
      ids=$left
      ;;
    *) ids="$ids $id" ;;
  esac
done
[ -n "$ids" ] && kill -9 $ids
rm -rf -- "$1""#;

/// Long, since the platform generates RSA keys, which takes seconds on a loaded machine.
pub(crate) const START_TIME_MAX: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(20);
/// USER_HZ is 100 on every current Linux.
const TICK_MS: u64 = 10;
const LOG_BYTES: u64 = 16 * 1024;
const LOG_LINES: usize = 15;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_time_is_the_sum_of_two_fields() {
        let stat = "7 (a) b) S 1 7 7 0 -1 4194560 1 2 3 4 120 30 0 0 20 0 1 0 99 1 1";
        assert_eq!(cpu_time(stat), Some(Duration::from_millis(1_500)));
        assert_eq!(cpu_time("7 (a) S 1"), None);
    }

    #[test]
    fn a_killed_child_and_an_ended_task_are_removed() {
        let mut processes = Processes::new("process-test").unwrap();
        processes.start("sleeper", Command::new("sleep").arg("60")).unwrap();
        processes.start_task("task", Command::new("sh").args(["-c", "echo output; exit 3"])).unwrap();
        assert_eq!(processes.wait("task", Duration::from_secs(20)), Ok((false, "output\n".to_owned())));
        assert_eq!(processes.ended("sleeper"), Ok(None));
        processes.kill("sleeper").unwrap();
        processes.start("sleeper", Command::new("sleep").arg("60")).unwrap();
        processes.terminate("sleeper").unwrap();
        assert_eq!(processes.wait("sleeper", Duration::from_secs(20)), Ok((false, String::new())));
        assert_eq!(processes.check_running(), Ok(()));
        assert!(processes.children.is_empty());
    }
}
