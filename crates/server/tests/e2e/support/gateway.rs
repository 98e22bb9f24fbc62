//! The built `switchboard` as a process.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command, Stdio},
};

use tempfile::TempDir;

use super::{
    Client, Request, Response, Settings,
    log::Log,
    settings::{BASE, SEALS},
    tls, until,
};

#[derive(Debug)]
pub(crate) struct Gateway {
    pub(crate) public: SocketAddr,
    pub(crate) admin: SocketAddr,
    pub(crate) log: Log,
    child: Child,
    folder: TempDir,
}

impl Gateway {
    /// Starts a gateway and waits until it is ready.
    pub(crate) async fn start(settings: &Settings) -> Self {
        let gateway = Self::start_unready(settings).await;
        gateway.wait_for_ready(200).await;
        gateway
    }

    /// Starts a gateway that trusts only the certificate in `file`, and waits until it is ready.
    pub(crate) async fn start_trusting(settings: &Settings, file: &Path) -> Self {
        let gateway = Self::start_in(settings, ("SSL_CERT_FILE", file)).await;
        gateway.wait_for_ready(200).await;
        gateway
    }

    /// Starts a gateway and waits until its sockets are bound.
    pub(crate) async fn start_unready(settings: &Settings) -> Self {
        Self::spawn(settings, Command::new(BINARY)).await
    }

    /// Starts a gateway with a variable that names a file, and waits until its sockets are bound.
    pub(crate) async fn start_in(settings: &Settings, (name, file): (&str, &Path)) -> Self {
        let mut command = Command::new(BINARY);
        command.env(name, file);
        Self::spawn(settings, command).await
    }

    /// Starts a gateway with these variables, and waits until it is ready.
    pub(crate) async fn start_with_variables(settings: &Settings, variables: &[(&str, &str)]) -> Self {
        let mut command = Command::new(BINARY);
        command.envs(variables.iter().copied());
        let gateway = Self::spawn(settings, command).await;
        gateway.wait_for_ready(200).await;
        gateway
    }

    /// Starts a gateway with these limits of file descriptors, and waits until its sockets are bound.
    pub(crate) async fn start_limited(settings: &Settings, soft: u32, hard: u32) -> Self {
        let script = format!("ulimit -S -n {soft} && ulimit -H -n {hard} && exec \"$0\" \"$@\"");
        let mut command = Command::new("sh");
        command.args(["-c", &script, BINARY]);
        Self::spawn(settings, command).await
    }

    async fn spawn(settings: &Settings, mut command: Command) -> Self {
        command.stdin(Stdio::null()).stdout(Stdio::null());
        Self::run(settings, command).await
    }

    /// Starts a gateway with this command, to which the arguments of `serve` are added, and waits until its
    /// sockets are bound.
    pub(crate) async fn run(settings: &Settings, command: Command) -> Self {
        let mut gateway = Self::launch(settings, command);
        let listening = gateway.log.message("listening").await;
        let address = |name: &str| listening[name].as_str().unwrap().parse().unwrap();
        (gateway.public, gateway.admin) = (address("public.address"), address("admin.address"));
        gateway
    }

    /// Starts a gateway with this command, which may fail.
    pub(crate) fn launch(settings: &Settings, mut command: Command) -> Self {
        let folder = tempfile::tempdir().unwrap();
        write_configuration(folder.path(), settings);
        let mut child = command
            .args(["serve", "--config"])
            .arg(folder.path().join(CONFIG))
            .env("RUST_LIB_BACKTRACE", "0")
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let log = Log::collect(child.stderr.take().unwrap());
        Self {
            public: SocketAddr::from(([127, 0, 0, 1], 0)),
            admin: SocketAddr::from(([127, 0, 0, 1], 0)),
            log,
            child,
            folder,
        }
    }

    /// The standard input of the command, if it is a pipe.
    pub(crate) fn take_stdin(&mut self) -> ChildStdin {
        self.child.stdin.take().unwrap()
    }

    pub(crate) async fn wait_for_ready(&self, status: u16) {
        until(&format!("/readyz {status}"), async || {
            (self.admin("/readyz").await.status() == status).then_some(())
        })
        .await;
    }

    /// Sends a GET to the admin listener.
    pub(crate) async fn admin(&self, path: &str) -> Response {
        self.admin_request(Request::get(path)).await
    }

    /// Sends `request` to the admin listener, with the `Host` that it requires unless the test has set one.
    pub(crate) async fn admin_request(&self, request: Request) -> Response {
        let request = if request.fields.iter().any(|(_, value)| value == "emea.bots.example") {
            request.replace("Host", &self.admin.to_string())
        } else {
            request
        };
        Client::connect(self.admin).await.exchange(request.bytes()).await
    }

    /// Returns the sum of all samples of a metric that have all of these labels.
    pub(crate) async fn metric(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let metrics = self.admin("/metrics").await;
        let text = String::from_utf8(metrics.body).unwrap();
        let labels: Vec<_> = labels.iter().map(|(name, value)| format!("{name}=\"{value}\"")).collect();
        let sample = |line: &str| {
            let (series, value) = line.rsplit_once(' ')?;
            let (found, rest) = series.split_once('{').unwrap_or((series, ""));
            (found == name && labels.iter().all(|label| rest.contains(label.as_str())))
                .then_some(value.parse::<f64>().ok()?)
        };
        text.lines().filter_map(sample).sum()
    }

    pub(crate) fn path(&self, file: &str) -> PathBuf {
        self.folder.path().join(file)
    }

    pub(crate) fn rewrite(&self, settings: &Settings) {
        write_configuration(self.folder.path(), settings);
    }

    /// Replaces the configuration by a text, for what `Settings` cannot express.
    pub(crate) fn rewrite_text(&self, text: &str) {
        std::fs::write(self.path(CONFIG), text).unwrap();
    }

    /// Sends a signal: `TERM`, `HUP`, …
    pub(crate) fn signal(&self, name: &str) {
        send_signal(name, self.child.id());
    }

    /// Returns the bytes that the process has read, from files and sockets.
    pub(crate) fn bytes_read(&self) -> u64 {
        let counters = std::fs::read_to_string(format!("/proc/{}/io", self.child.id())).unwrap();
        let read = counters.lines().find_map(|line| line.strip_prefix("rchar: ")).unwrap();
        read.parse().unwrap()
    }

    /// Returns the number of threads of the process with this name.
    pub(crate) fn threads_named(&self, name: &str) -> usize {
        let threads = std::fs::read_dir(format!("/proc/{}/task", self.child.id())).unwrap();
        let names =
            threads.filter_map(|thread| std::fs::read_to_string(thread.ok()?.path().join("comm")).ok());
        names.filter(|found| found.trim_end() == name).count()
    }

    /// Waits for the end of the process and returns its exit code.
    pub(crate) async fn exit(&mut self) -> Option<i32> {
        self.log.ended().await;
        self.child.wait().unwrap().code()
    }
}

/// Sends the signal of Ctrl-C to a process.
pub(crate) fn interrupt(process: &tokio::process::Child) {
    send_signal("INT", process.id().unwrap());
}

fn send_signal(name: &str, process: u32) {
    // The `kill` that is built into the shell: a minimal system has no other.
    let done = Command::new("sh")
        .args(["-c", "kill -s \"$0\" \"$1\"", name, &process.to_string()])
        .status()
        .unwrap();
    assert!(done.success(), "kill -s {name}");
}

/// Here and not in `request.rs`, so that a request does not depend on the gateway.
impl Request {
    /// Sends the request to the public listener over a new connection.
    pub(crate) async fn send(&self, gateway: &Gateway) -> Response {
        Client::connect(gateway.public).await.exchange(self.bytes()).await
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        // The process may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
        self.log.join();
        if std::thread::panicking() {
            print_log(&self.log.text());
        } else {
            self.log.check();
        }
    }
}

#[expect(clippy::print_stderr, reason = "the gateway's log explains a failed test")]
fn print_log(log: &str) {
    eprintln!("the gateway's log:\n{log}");
}

/// Writes the configuration and the files that it names.
pub(crate) fn write_configuration(folder: &Path, settings: &Settings) {
    let write = |name: &str, content: &str| std::fs::write(folder.join(name), content).unwrap();
    for (name, secret) in SEALS {
        write(name, secret);
    }
    if settings.tls && !folder.join("tls.key").exists() {
        tls::Identity::new(1).write(folder);
    }
    write(CONFIG, &settings.render());
}

/// Returns the path of a callback URI, to which the platform posts.
#[track_caller]
pub(crate) fn path_of(callback_uri: &str) -> String {
    callback_uri.strip_prefix(BASE).unwrap_or_else(|| panic!("not below {BASE}: {callback_uri}")).to_owned()
}

pub(crate) const BINARY: &str = env!("CARGO_BIN_EXE_switchboard");
pub(crate) const CONFIG: &str = "switchboard.toml";
