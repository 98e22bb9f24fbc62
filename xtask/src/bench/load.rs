//! One run of a load generator: wrk, or our own for requests that differ and for TLS with new connections.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use serde_json::Value;

use super::subjects::Plan;
use crate::support::process::Processes;

/// The generator of a load.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Generator {
    /// wrk, which repeats one request for a time.
    Wrk,
    /// `xtask-bench load`, which sends a number of requests from a file.
    Own { count: usize, connections: Connections },
    /// The same at a constant rate, whatever the responses do.
    Paced,
}

impl Generator {
    /// Our own generator, with connections that it keeps.
    pub(super) const fn own(count: usize) -> Self {
        Self::Own { count, connections: Connections::Kept }
    }
}

/// The connections of our own generator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Connections {
    Kept,
    /// TLS, a new connection for each request: with a resumed session, or with a full handshake.
    Resumed,
    Full,
}

/// The requests of a load.
#[derive(Clone, Debug)]
pub(super) struct Requests {
    /// The first request, and all of them.
    pub(super) first: Vec<u8>,
    pub(super) file: PathBuf,
}

/// A run of a generator.
#[derive(Clone, Debug)]
pub(super) struct Load<'a> {
    pub(super) generator: Generator,
    /// The server, like `http://127.0.0.1:8080`.
    pub(super) url: String,
    pub(super) requests: &'a Requests,
    /// The number in the message id of the first request.
    pub(super) first_message: u64,
    /// The status of each response.
    pub(super) status: u16,
    /// The time of wrk, and of a constant rate.
    pub(super) seconds: u64,
    /// The requests per second, if they are constant.
    pub(super) rate: Option<u32>,
}

/// The result of a load without failures.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct LoadResult {
    pub(super) requests: u64,
    /// Requests that the server may have responded to after the generator stopped to count.
    pub(super) uncounted: u64,
    pub(super) resumed: u64,
    /// The 99th percentile of the times of the responses, by our own generator.
    pub(super) p99_us: Option<f64>,
}

impl Load<'_> {
    /// Sends the requests, and checks that none failed.
    pub(super) fn run(&self, processes: &mut Processes, plan: &Plan) -> Result<LoadResult, String> {
        let mut command = match self.generator {
            Generator::Wrk => self.wrk(processes.folder(), plan)?,
            Generator::Own { count, connections } => self.own(plan, count, connections)?,
            Generator::Paced => {
                let count = u64::from(self.rate.unwrap_or(1)) * self.seconds;
                self.own(plan, usize::try_from(count).unwrap_or_default(), Connections::Kept)?
            }
        };
        processes.start_task("load", &mut command)?;
        let (succeeded, output) = processes.wait("load", TIME_MAX)?;
        if !succeeded {
            return Err(format!("the load generator failed: {output}"));
        }
        match self.generator {
            Generator::Wrk => of_wrk(&output),
            Generator::Own { .. } | Generator::Paced => of_own(&output),
        }
    }

    fn wrk(&self, folder: &Path, plan: &Plan) -> Result<Command, String> {
        let mut wrk = plan.other(Path::new("wrk"));
        let script = folder.join("request.lua");
        let text = script_of(&self.requests.first, self.first_message)?;
        fs::write(&script, text).map_err(|error| format!("{}: {error}", script.display()))?;
        let (connections, time) = (format!("-c{CONNECTIONS}"), format!("-d{}s", self.seconds));
        wrk.args(["-t1", &connections, &time, "-s"]).arg(script).arg(&self.url);
        Ok(wrk)
    }

    fn own(&self, plan: &Plan, count: usize, connections: Connections) -> Result<Command, String> {
        let mut tool = plan.other(&plan.tool);
        let (_, address) = self.url.split_once("//").ok_or("not a URL")?;
        tool.args(["load", "--to", address, "--connections", &CONNECTIONS.to_string()]);
        tool.args(["--count", &count.to_string(), "--expect", &self.status.to_string()]);
        tool.arg("--requests").arg(&self.requests.file);
        tool.args(["--length", &self.requests.first.len().to_string()]);
        tool.args(["--first-message", &self.first_message.to_string()]);
        if let Some(rate) = self.rate {
            tool.args(["--rate", &rate.to_string()]);
        }
        match connections {
            Connections::Kept => {}
            Connections::Resumed => {
                tool.args(["--close", "--tls", "resumed"]);
            }
            Connections::Full => {
                tool.args(["--close", "--tls", "full"]);
            }
        }
        Ok(tool)
    }
}

/// A script that makes wrk repeat a request, with another message id each time.
fn script_of(request: &[u8], first_message: u64) -> Result<String, String> {
    let request = std::str::from_utf8(request).map_err(|_| "the request is no text")?;
    let (head, body) = request.split_once("\r\n\r\n").ok_or("the request has no head")?;
    let mut lines = head.lines();
    let path = lines.next().and_then(|line| line.split(' ').nth(1)).ok_or("the request has no path")?;
    let mut script = format!("wrk.method = \"POST\"\nwrk.path = \"{path}\"\nwrk.body = [==[{body}]==]\n");
    for (name, value) in lines.filter_map(|line| line.split_once(": ")) {
        // wrk adds the length itself.
        if name != "Content-Length" {
            script.push_str(&format!("wrk.headers[\"{name}\"] = \"{value}\"\n"));
        }
    }
    script.push_str(&COUNT_MESSAGES.replace("{first}", &first_message.to_string()));
    Ok(script)
}

fn of_wrk(output: &str) -> Result<LoadResult, String> {
    if let Some(line) = output
        .lines()
        .map(str::trim)
        .find(|line| line.starts_with("Socket errors:") || line.starts_with("Non-2xx or 3xx responses:"))
    {
        return Err(format!("wrk: {line}"));
    }
    let requests = output.lines().find_map(|line| {
        let (count, _) = line.trim().split_once(" requests in ")?;
        count.parse().ok()
    });
    let requests = requests.ok_or_else(|| format!("wrk printed no result: {output}"))?;
    Ok(LoadResult { requests, uncounted: CONNECTIONS, resumed: 0, p99_us: None })
}

fn of_own(output: &str) -> Result<LoadResult, String> {
    let line = output.lines().find(|line| line.starts_with('{')).unwrap_or_default();
    let result: Value = serde_json::from_str(line).map_err(|_| format!("no result: {output}"))?;
    let number = |name: &str| result.get(name).and_then(Value::as_u64);
    match (number("failures"), number("requests"), number("resumed")) {
        (Some(0), Some(requests), Some(resumed)) => Ok(LoadResult {
            requests,
            uncounted: 0,
            resumed,
            p99_us: result.get("p99_us").and_then(Value::as_f64),
        }),
        (Some(failures), ..) => {
            let first = result.get("failure").and_then(Value::as_str).unwrap_or_default();
            Err(format!("{failures} failures: {first}"))
        }
        _ => Err(format!("no result: {output}")),
    }
}

/// The platform gives each message another id. The last group of 12 digits is the number here.
const COUNT_MESSAGES: &str = r#"local head, tail
local message = {first} - 1
function init()
    local id = "X%-Microsoft%-Skype%-Message%-ID: %x+%-%x+%-%x+%-%x+%-"
    head, tail = wrk.format():match("^(.-" .. id .. ")%d+(.*)$")
end
function request()
    message = message + 1
    return head .. string.format("%012d", message) .. tail
end
"#;
/// The connections of each load.
pub(super) const CONNECTIONS: u64 = 64;
const TIME_MAX: Duration = Duration::from_secs(300);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_script_repeats_the_request_and_counts_its_message_id() {
        let script = script_of(b"POST /a HTTP/1.1\r\nHost: b\r\nContent-Length: 2\r\n\r\n{}", 7).unwrap();
        let (request, count) = script.split_once("local head, tail\n").unwrap();
        assert_eq!(
            request,
            "wrk.method = \"POST\"\nwrk.path = \"/a\"\nwrk.body = [==[{}]==]\nwrk.headers[\"Host\"] = \"b\"\n"
        );
        assert!(count.starts_with("local message = 7 - 1\n"), "{count}");
    }

    #[test]
    fn results_with_failures_are_refused() {
        let wrk = "Running 1s test\n  Thread Stats   Avg\n  31415 requests in 1.00s, 3.5MB read\n";
        assert_eq!(of_wrk(wrk), Ok(LoadResult { requests: 31_415, uncounted: 64, resumed: 0, p99_us: None }));
        let refused = of_wrk(&format!("{wrk}  Non-2xx or 3xx responses: 3\n"));
        assert_eq!(refused, Err("wrk: Non-2xx or 3xx responses: 3".to_owned()));
        assert!(of_wrk("unable to connect").is_err());

        let own = r#"{"requests":10,"failures":0,"failure":null,"resumed":4,"p99_us":70}"#;
        assert_eq!(
            of_own(own),
            Ok(LoadResult { requests: 10, uncounted: 0, resumed: 4, p99_us: Some(70.0) })
        );
        let refused = of_own(r#"{"requests":9,"failures":1,"failure":"status 500","resumed":0}"#);
        assert_eq!(refused, Err("1 failures: status 500".to_owned()));
        assert!(of_own("").is_err());
    }
}
