//! One run of a load generator: wrk, or our own for requests that differ and for TLS with new connections.

use std::{
    fs,
    path::{Path, PathBuf},
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

/// The result of a load without failures.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct LoadResult {
    pub(super) requests: u64,
    /// Requests that the server may have responded to after the generator stopped to count.
    pub(super) uncounted: u64,
    pub(super) resumed: u64,
}

/// Runs a load against `url`, like `http://127.0.0.1:8080`.
pub(super) fn run(
    processes: &mut Processes,
    plan: &Plan,
    generator: Generator,
    requests: &Requests,
    url: &str,
    status: u16,
    seconds: u64,
) -> Result<LoadResult, String> {
    let mut command = match generator {
        Generator::Wrk => {
            let mut wrk = plan.other(Path::new("wrk"));
            let script = processes.folder().join("request.lua");
            let text = script_of(&requests.first)?;
            fs::write(&script, text).map_err(|error| format!("{}: {error}", script.display()))?;
            wrk.args(["-t1", &format!("-c{CONNECTIONS}"), &format!("-d{seconds}s"), "-s"])
                .arg(script)
                .arg(url);
            wrk
        }
        Generator::Own { count, connections } => {
            let mut tool = plan.other(&plan.tool);
            let (_, address) = url.split_once("//").ok_or("not a URL")?;
            tool.args(["load", "--to", address, "--connections", &CONNECTIONS.to_string()]);
            tool.args(["--count", &count.to_string(), "--expect", &status.to_string()]);
            tool.arg("--requests").arg(&requests.file).args(["--length", &requests.first.len().to_string()]);
            match connections {
                Connections::Kept => {}
                Connections::Resumed => {
                    tool.args(["--close", "--tls", "resumed"]);
                }
                Connections::Full => {
                    tool.args(["--close", "--tls", "full"]);
                }
            }
            tool
        }
    };
    processes.start_task("load", &mut command)?;
    let (succeeded, output) = processes.wait("load", TIME_MAX)?;
    if !succeeded {
        return Err(format!("the load generator failed: {output}"));
    }
    match generator {
        Generator::Wrk => of_wrk(&output),
        Generator::Own { .. } => of_own(&output),
    }
}

/// A script that makes wrk repeat a request.
fn script_of(request: &[u8]) -> Result<String, String> {
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
    Ok(LoadResult { requests, uncounted: CONNECTIONS, resumed: 0 })
}

fn of_own(output: &str) -> Result<LoadResult, String> {
    let line = output.lines().find(|line| line.starts_with('{')).unwrap_or_default();
    let result: Value = serde_json::from_str(line).map_err(|_| format!("no result: {output}"))?;
    let number = |name: &str| result.get(name).and_then(Value::as_u64);
    match (number("failures"), number("requests"), number("resumed")) {
        (Some(0), Some(requests), Some(resumed)) => Ok(LoadResult { requests, uncounted: 0, resumed }),
        (Some(failures), ..) => {
            let first = result.get("failure").and_then(Value::as_str).unwrap_or_default();
            Err(format!("{failures} failures: {first}"))
        }
        _ => Err(format!("no result: {output}")),
    }
}

/// The connections of each load.
pub(super) const CONNECTIONS: u64 = 64;
const TIME_MAX: Duration = Duration::from_secs(300);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_script_repeats_the_request() {
        let script = script_of(b"POST /a HTTP/1.1\r\nHost: b\r\nContent-Length: 2\r\n\r\n{}").unwrap();
        assert_eq!(
            script,
            "wrk.method = \"POST\"\nwrk.path = \"/a\"\nwrk.body = [==[{}]==]\nwrk.headers[\"Host\"] = \"b\"\n"
        );
    }

    #[test]
    fn results_with_failures_are_refused() {
        let wrk = "Running 1s test\n  Thread Stats   Avg\n  31415 requests in 1.00s, 3.5MB read\n";
        assert_eq!(of_wrk(wrk), Ok(LoadResult { requests: 31_415, uncounted: 64, resumed: 0 }));
        let refused = of_wrk(&format!("{wrk}  Non-2xx or 3xx responses: 3\n"));
        assert_eq!(refused, Err("wrk: Non-2xx or 3xx responses: 3".to_owned()));
        assert!(of_wrk("unable to connect").is_err());

        let own = r#"{"requests":10,"failures":0,"failure":null,"resumed":4}"#;
        assert_eq!(of_own(own), Ok(LoadResult { requests: 10, uncounted: 0, resumed: 4 }));
        let refused = of_own(r#"{"requests":9,"failures":1,"failure":"status 500","resumed":0}"#);
        assert_eq!(refused, Err("1 failures: status 500".to_owned()));
        assert!(of_own("").is_err());
    }
}
