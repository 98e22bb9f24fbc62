//! Asking the instances how they are: ready, draining, full, gone.

use std::{collections::HashMap, sync::Arc, time::Duration};

use bytes::{Bytes, BytesMut};
use http::{Method, Request, StatusCode, Uri, header, uri::PathAndQuery};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use openssl::ssl::SslConnector;
use serde::Deserialize;
use switchboard_routing::Name;
use tokio::{
    sync::Semaphore,
    task::{AbortHandle, JoinSet},
    time::{Instant, MissedTickBehavior, interval_at, sleep, timeout},
};

use crate::{
    cause::Cause,
    connections::connect_near,
    delivery::Delivery,
    instance::{BACKOFF, Event, Instance, Report, ReportedState},
    settings::ProbeSettings,
};

impl Delivery {
    /// Probes the instances that there are. Without a probe in the settings it has nothing to do, and never ends either.
    pub(crate) async fn probe_all(self: &Arc<Self>) {
        let Some(settings) = &self.settings.probe else { return std::future::pending().await };
        let probing = Arc::new(Probing {
            path: ProbeSettings::request_path(&settings.path),
            interval: settings.interval.max(INTERVAL_MIN),
            permits: Semaphore::new(PROBES_MAX),
            tls: self.tls.clone(),
        });
        // Tasks, which end with this future: a hundred instances in one future would all be polled at each wake.
        let mut tasks = JoinSet::new();
        let mut running: HashMap<Name, (Arc<Instance>, AbortHandle)> = HashMap::new();
        loop {
            let fleet = self.fleet.load_full();
            running.retain(|name, (asked, task)| {
                // The same one may have other addresses: those of a host change one after the other.
                let stays = fleet.instance(name.as_str()).is_some_and(|one| {
                    Arc::ptr_eq(&one.tracker, &asked.tracker) && one.new_calls.url == asked.new_calls.url
                });
                if !stays {
                    task.abort();
                }
                stays
            });
            let new = fleet.instances().iter().filter(|one| !running.contains_key(one.name()));
            let new: Vec<_> = new.cloned().collect();
            let count = u32::try_from(new.len()).unwrap_or(u32::MAX).max(1);
            let start = Instant::now();
            for (instance, nth) in new.into_iter().zip(1..=count) {
                // The first probe at once, since a fleet of which nothing is known takes no calls; from the second one on
                // the instances are spread over the interval.
                let second = start + probing.interval.mul_f64(f64::from(nth) / f64::from(count));
                let task = tasks.spawn(Arc::clone(&probing).keep_asking(Arc::clone(&instance), second));
                running.insert(instance.name().clone(), (instance, task));
            }
            self.fleet_replaced.notified().await;
            while tasks.try_join_next().is_some() {}
        }
    }
}

/// What all probes have in common.
struct Probing {
    path: Option<PathAndQuery>,
    interval: Duration,
    permits: Semaphore,
    tls: SslConnector,
}

impl Probing {
    async fn keep_asking(self: Arc<Self>, instance: Arc<Instance>, second: Instant) {
        let mut ticks = interval_at(second, self.interval);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            if let Ok(_permit) = self.permits.acquire().await {
                // Boxed: of ten thousand such tasks a few ask at a time.
                Box::pin(self.probe(&instance)).await;
            }
            tokio::select! {
                _ = ticks.tick() => {}
                () = instance.tracker.attempt_failed() => {
                    // A try failed, which may have been the call's fault: it is soon asked again. Not at once, or an
                    // instance that answers probes and fails calls would get them all.
                    sleep(BACKOFF.min(self.interval)).await;
                }
            }
        }
    }

    /// Asks one instance, and lets its health learn from the answer.
    async fn probe(&self, instance: &Instance) {
        let tracker = &instance.tracker;
        let sent = Instant::now();
        tracker.learn(Event::ProbeSent, sent);
        let asked = match &self.path {
            Some(path) => {
                let answer = ask(instance, path, &self.tls);
                timeout(self.interval / 2, answer).await.unwrap_or(Err(Cause::Timeout))
            }
            None => Err(Cause::BadReport),
        };
        match asked {
            Ok(report) => tracker.reported(report, sent, Instant::now()),
            Err(cause) => {
                tracing::debug!(instance = %instance.name(), reason = cause.label(), "instance missed a probe");
                tracker.probe_missed(Instant::now());
            }
        }
    }
}

/// One GET, over a connection of its own: whether an instance still accepts connections is part of the question.
async fn ask(instance: &Instance, path: &PathAndQuery, tls: &SslConnector) -> Result<Report, Cause> {
    let endpoint = &instance.new_calls;
    let mut sender = connect_near(endpoint.url.origin(), tls).await?;
    let mut request = Request::new(Full::new(Bytes::new()));
    *request.method_mut() = Method::GET;
    *request.uri_mut() = Uri::from(path.clone());
    let headers = request.headers_mut();
    headers.insert(header::HOST, endpoint.host.clone());
    headers.insert(header::ACCEPT, header::HeaderValue::from_static("application/json"));
    headers.insert(header::CONNECTION, header::HeaderValue::from_static("close"));
    headers.insert(header::USER_AGENT, header::HeaderValue::from_static("switchboard-probe"));
    let response = sender.send_request(request).await.map_err(|error| Cause::of_error(&error))?;
    let status = response.status();
    let body = read(response.into_body()).await?;
    report(status, &body)
}

async fn read(mut body: Incoming) -> Result<Bytes, Cause> {
    let mut bytes = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.map_err(|_| Cause::Closed)?.into_data() else { continue };
        if bytes.len().saturating_add(data.len()) > REPORT_BYTES_MAX {
            return Err(Cause::ResponseTooLarge);
        }
        bytes.extend_from_slice(&data);
    }
    Ok(bytes.freeze())
}

/// What an answer to a probe says.
///
/// 503 is draining, whatever its body. 2xx is what the body says if that is a JSON object, and ready otherwise: health
/// endpoints commonly answer `OK` or nothing. An object that cannot be read, or that names a state we do not know, is a
/// miss: to take it for ready could send calls to an instance that is trying to say no.
fn report(status: StatusCode, body: &[u8]) -> Result<Report, Cause> {
    let draining = status == StatusCode::SERVICE_UNAVAILABLE;
    if !draining && !status.is_success() {
        return Err(Cause::BadReport);
    }
    let wire = if body.trim_ascii_start().starts_with(b"{") {
        serde_json::from_slice::<WireReport>(body).map_err(|_| Cause::BadReport)
    } else {
        Ok(WireReport::default())
    };
    if draining {
        let WireReport { calls, capacity, .. } = wire.unwrap_or_default();
        return Ok(Report { state: ReportedState::Draining, calls, capacity });
    }
    let WireReport { state, calls, capacity } = wire?;
    let state = match state {
        None => ReportedState::Ready,
        Some(state) if state.eq_ignore_ascii_case("ready") => ReportedState::Ready,
        Some(state) if state.eq_ignore_ascii_case("full") => ReportedState::Full,
        Some(state) if state.eq_ignore_ascii_case("draining") => ReportedState::Draining,
        Some(_) => return Err(Cause::BadReport),
    };
    Ok(Report { state, calls, capacity })
}

/// `{"state":"ready|draining|full","calls":n,"capacity":n}`, all optional; other members are the instance's business.
#[derive(Default, Deserialize)]
struct WireReport {
    state: Option<String>,
    calls: Option<u32>,
    capacity: Option<u32>,
}

/// The largest answer to a probe.
const REPORT_BYTES_MAX: usize = 4 * 1024;
/// Probes under way at once: a fleet that hangs as a whole costs no more sockets than this.
const PROBES_MAX: usize = 256;
/// The shortest interval: settings ask for seconds, and zero would spin.
const INTERVAL_MIN: Duration = Duration::from_millis(10);

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(status: u16, body: &str, expected: Option<(ReportedState, Option<u32>, Option<u32>)>) {
        let seen = report(StatusCode::from_u16(status).unwrap(), body.as_bytes());
        let expected = expected
            .map(|(state, calls, capacity)| Report { state, calls, capacity })
            .ok_or(Cause::BadReport);
        assert_eq!(seen, expected, "{status} {body}");
    }

    #[test]
    fn a_2xx_says_what_its_object_says_and_ready_without_one() {
        use ReportedState::{Draining, Full, Ready};
        check(200, "", Some((Ready, None, None)));
        check(204, "", Some((Ready, None, None)));
        check(200, "OK", Some((Ready, None, None)));
        check(200, "Healthy", Some((Ready, None, None)));
        check(200, "{}", Some((Ready, None, None)));
        check(200, r#"{"status":"Healthy"}"#, Some((Ready, None, None)));
        check(200, r#"{"state":"ready","calls":3,"capacity":10}"#, Some((Ready, Some(3), Some(10))));
        check(200, r#" {"state":"Full"}"#, Some((Full, None, None)));
        check(200, r#"{"state":"draining","calls":1}"#, Some((Draining, Some(1), None)));
        check(200, r#"{"state":null,"calls":null}"#, Some((Ready, None, None)));
    }

    #[test]
    fn a_503_is_draining_whatever_it_says() {
        check(503, "", Some((ReportedState::Draining, None, None)));
        check(
            503,
            r#"{"state":"ready","calls":2,"capacity":4}"#,
            Some((ReportedState::Draining, Some(2), Some(4))),
        );
        check(503, "{garbage", Some((ReportedState::Draining, None, None)));
    }

    #[test]
    fn anything_else_is_a_miss() {
        for status in [301, 302, 400, 401, 404, 429, 500, 502, 504] {
            check(status, r#"{"state":"ready"}"#, None);
        }
        check(200, "{", None);
        check(200, r#"{"state":"ready""#, None);
        check(200, r#"{"state":"sleeping"}"#, None);
        check(200, r#"{"state":1}"#, None);
        check(200, r#"{"calls":-1}"#, None);
        check(200, r#"{"calls":1.5}"#, None);
        check(200, r#"{"calls":"3"}"#, None);
        check(200, r#"{"calls":99999999999}"#, None);
        check(200, r#"{"state":"ready","state":"full"}"#, None);
    }
}
