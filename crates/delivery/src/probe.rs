//! Probing the instances for their state: ready, draining, full, unreachable.

mod miss_log;
mod once;

use std::{
    collections::HashMap,
    sync::{Arc, atomic::AtomicBool},
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use http::{HeaderValue, StatusCode, header, uri::PathAndQuery};
use http_body_util::BodyExt;
use serde::Deserialize;
use switchboard_routing::Name;
use tokio::{
    sync::Semaphore,
    task::{AbortHandle, JoinSet},
    time::{Instant, MissedTickBehavior, interval_at, sleep, sleep_until, timeout},
};

use self::miss_log::MissLog;
pub use self::once::{Examined, ExaminedFailure, ExaminedState};
use crate::{
    cause::Cause,
    connections::{Connector, ResponseBody, SendError, connect_near, exchange},
    delivery::Delivery,
    headers::RequestHead,
    instance::{EJECTION_MIN, Event, Instance, Report, ReportedState},
    member::is_known,
    settings::ProbeSettings,
};

impl Delivery {
    /// Probes the instances of the fleet, and follows its changes. Without a probe in the settings it waits
    /// forever.
    pub(crate) async fn probe_all(self: &Arc<Self>) {
        let Some(settings) = &self.settings.probe else { return std::future::pending().await };
        let probing = Arc::new(Probing {
            path: ProbeSettings::request_path(&settings.path),
            is_forwarded: settings.is_forwarded,
            interval: settings.interval.max(INTERVAL_MIN),
            permits: Semaphore::new(PROBES_MAX),
            permits_after_misses: Semaphore::new(PROBES_AFTER_MISSES_MAX),
            delivery: Arc::clone(self),
        });
        // Tasks that end with this future: a hundred instances in one future would all be polled at each
        // wake.
        let mut tasks = JoinSet::new();
        let mut running: HashMap<Name, (Arc<Instance>, AbortHandle)> = HashMap::new();
        loop {
            let fleet = self.fleet.load_full();
            running.retain(|name, (probed, task)| {
                // The same instance may have other addresses: the addresses of a host change one by one.
                let stays = fleet.instance(name.as_str()).is_some_and(|one| {
                    Arc::ptr_eq(&one.tracker, &probed.tracker) && one.new_calls.url == probed.new_calls.url
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
                // The first probe is sent at once, since an instance takes no calls before it. The later ones
                // are spread over the interval.
                let second = start + probing.interval.mul_f64(f64::from(nth) / f64::from(count));
                let task = tasks.spawn(Arc::clone(&probing).keep_probing(Arc::clone(&instance), second));
                running.insert(instance.name().clone(), (instance, task));
            }
            loop {
                tokio::select! {
                    biased;
                    () = self.fleet_replaced.notified() => break,
                    Some(Err(ended)) = tasks.join_next_with_id(), if !tasks.is_empty() => {
                        let mut running = running.values_mut();
                        let panicked = running.find(|(_, task)| ended.is_panic() && task.id() == ended.id());
                        if let Some((instance, task)) = panicked {
                            let name = instance.name();
                            tracing::error!(instance = %name, "probe task panicked: restarting it");
                            *task = tasks.spawn(Arc::clone(&probing).restart(Arc::clone(instance)));
                        }
                    }
                }
            }
        }
    }
}

/// The parts that all probes share.
struct Probing {
    path: Option<PathAndQuery>,
    is_forwarded: bool,
    interval: Duration,
    permits: Semaphore,
    /// The permits of the instances that missed their last probe, in addition to `permits`.
    permits_after_misses: Semaphore,
    delivery: Arc<Delivery>,
}

impl Probing {
    /// Probes an instance again after an interval: if the next probe panics, too, it does not spin.
    async fn restart(self: Arc<Self>, instance: Arc<Instance>) {
        sleep(self.interval).await;
        let second = Instant::now() + self.interval;
        self.keep_probing(instance, second).await;
    }

    async fn keep_probing(self: Arc<Self>, instance: Arc<Instance>, second: Instant) {
        let mut ticks = interval_at(second, self.interval);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut has_missed = false;
        let mut log = MissLog::default();
        loop {
            let sent = Instant::now();
            // Instances that hang hold a permit for half an interval. They do not get all of them.
            let after_miss = match has_missed {
                true => self.permits_after_misses.acquire().await.ok(),
                false => None,
            };
            if let Ok(_permit) = self.permits.acquire().await {
                // Boxed: few of ten thousand such tasks probe at a time.
                has_missed = !Box::pin(self.probe(&instance, &mut log)).await;
            }
            drop(after_miss);
            let probe_wanted = async {
                // Asked for by each of many new calls at once, and one probe serves them all.
                sleep(WANTED_SPACING.min(self.interval)).await;
                instance.tracker.probe_wanted().await;
            };
            let probe_due = async {
                tokio::select! {
                    biased;
                    _ = ticks.tick() => {}
                    () = instance.tracker.attempt_failed() => {
                        // The failure may have been the fault of the call, so the instance is probed soon. It
                        // is not probed at once: an instance that passes probes and fails calls would then
                        // get all calls.
                        sleep(EJECTION_MIN.min(self.interval)).await;
                    }
                }
            };
            tokio::select! {
                biased;
                () = probe_due => {}
                () = probe_wanted => {}
                () = instance.probed_incarnation.probe_due() => sleep_until(sent + PAUSE_MIN).await,
            }
        }
    }

    /// Probes one instance; its health learns from the outcome. Returns true if it responded with a report.
    async fn probe(&self, instance: &Arc<Instance>, log: &mut MissLog) -> bool {
        let tracker = &instance.tracker;
        let sent = Instant::now();
        tracker.learn(Event::ProbeSent, sent);
        let outcome = match &self.path {
            Some(path) => {
                let report = request_report(instance, path, &self.delivery.connector, self.is_forwarded);
                timeout(self.interval / 2, report).await.unwrap_or(Err(Cause::Timeout))
            }
            None => Err(Cause::BadReport),
        };
        // Without descriptors no probe is sent, and none was missed.
        let has_reported = !matches!(outcome, Err(cause) if cause != Cause::Exhausted);
        match outcome {
            Ok(ProbeReport { report, incarnation }) => {
                log.hit();
                let incarnation = incarnation.of(instance);
                let tracker = self.delivery.learn_incarnation(instance, incarnation.as_ref(), sent).await;
                tracker.reported(report, sent, Instant::now());
            }
            // The probe was not sent, so it says nothing about the instance.
            Err(Cause::Exhausted) => {}
            Err(cause) => {
                instance.probed_incarnation.missed(cause);
                log.missed(instance.name(), cause);
                tracker.probe_missed(cause, sent, Instant::now());
            }
        }
        has_reported
    }
}

/// Sends one GET over a connection of its own: a probe also checks that the instance still accepts
/// connections.
async fn request_report(
    instance: &Instance,
    path: &PathAndQuery,
    connector: &Connector,
    is_forwarded: bool,
) -> Result<ProbeReport, Cause> {
    let endpoint = &instance.new_calls;
    let connection = connect_near(endpoint.url.origin(), connector).await?;
    let mut head = RequestHead::get(path, &endpoint.host);
    head.add(&header::ACCEPT, &HeaderValue::from_static("application/json"));
    head.add(&header::CONNECTION, &HeaderValue::from_static("close"));
    head.add(&header::USER_AGENT, &HeaderValue::from_static("switchboard-probe"));
    if is_forwarded {
        head.add(&FORWARDED_PROTO, &HeaderValue::from_static("https"));
    }
    let sent = exchange(connection, head.without_body(), &AtomicBool::default(), None).await;
    let response = sent.map_err(|error| match error {
        SendError::Unsent => Cause::Closed,
        SendError::Sent(cause) => cause,
    })?;
    let status = response.status();
    if status != StatusCode::SERVICE_UNAVAILABLE && !status.is_success() {
        return Err(Cause::of_probe_status(status));
    }
    let body = read(response.into_body()).await?;
    report(status, &body)
}

async fn read(mut body: ResponseBody) -> Result<Bytes, Cause> {
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

/// The report in a response to a probe.
///
/// A 503 means draining, whatever its body. With a 2xx a JSON object in the body is the report, and any other
/// body means ready: health endpoints commonly send `OK` or nothing. An object that cannot be read, or that
/// has an unknown state, is a miss. Treating it as ready could send calls to an instance that is trying to
/// refuse them.
fn report(status: StatusCode, body: &[u8]) -> Result<ProbeReport, Cause> {
    let draining = status == StatusCode::SERVICE_UNAVAILABLE;
    let wire = if body.trim_ascii_start().starts_with(b"{") {
        serde_json::from_slice::<WireReport>(body).map_err(|_| Cause::BadReport)
    } else {
        Ok(WireReport::default())
    };
    if draining {
        let WireReport { calls, capacity, incarnation, .. } = wire.unwrap_or_default();
        let report = Report { state: ReportedState::Draining, calls, capacity };
        return Ok(ProbeReport { report, incarnation });
    }
    let WireReport { state, calls, capacity, incarnation } = wire?;
    let state = match state {
        None => ReportedState::Ready,
        Some(state) if state.eq_ignore_ascii_case("ready") => ReportedState::Ready,
        Some(state) if state.eq_ignore_ascii_case("full") => ReportedState::Full,
        Some(state) if state.eq_ignore_ascii_case("draining") => ReportedState::Draining,
        Some(_) => return Err(Cause::BadReport),
    };
    Ok(ProbeReport { report: Report { state, calls, capacity }, incarnation })
}

/// A report, and the incarnation in it.
#[derive(Debug)]
struct ProbeReport {
    report: Report,
    incarnation: ReportedIncarnation,
}

/// `{"state":"ready|draining|full","calls":n,"capacity":n,"incarnation":"…"}`, all optional. Other members
/// are ignored.
#[derive(Default, Deserialize)]
struct WireReport {
    state: Option<String>,
    calls: Option<u32>,
    capacity: Option<u32>,
    #[serde(default)]
    incarnation: ReportedIncarnation,
}

/// The member `incarnation` of a report. One that is not valid costs the instance nothing but its
/// incarnation: it says nothing about calls.
#[derive(Debug, Default, Deserialize)]
#[serde(transparent)]
struct ReportedIncarnation(serde_json::Value);

impl ReportedIncarnation {
    /// The incarnation; `None` without one. Warns once about one that is not valid.
    fn of(&self, instance: &Instance) -> Option<Name> {
        if self.0.is_null() {
            return None;
        }
        let parsed = self.parse();
        if parsed.is_none() && instance.probed_incarnation.is_first_warning() {
            tracing::warn!(
                instance = %instance.name(),
                "reported incarnation is not used: it is not a text of 1 to 13 of A-Z a-z 0-9 . _ -"
            );
        }
        parsed.filter(is_known)
    }

    fn parse(&self) -> Option<Name> {
        let text = self.0.as_str().filter(|text| text.len() <= INCARNATION_BYTES_MAX)?;
        Name::parse(text).ok()
    }
}

const FORWARDED_PROTO: header::HeaderName = header::HeaderName::from_static("x-forwarded-proto");
/// The largest body of a response to a probe.
const REPORT_BYTES_MAX: usize = 4 * 1024;
/// The longest incarnation, as long as that of a pod: it is in each callback URI.
const INCARNATION_BYTES_MAX: usize = 13;
/// The least time between two probes of one instance: callbacks that make a probe due may be many.
const PAUSE_MIN: Duration = Duration::from_millis(200);
/// Probes in flight at once: a fleet that hangs as a whole costs no more sockets than this.
const PROBES_MAX: usize = 256;
/// The part of them for instances that missed their last probe: the others are not late because of them.
const PROBES_AFTER_MISSES_MAX: usize = PROBES_MAX / 2;
/// The shortest time between the end of a probe and the next one that a new call asks for.
const WANTED_SPACING: Duration = Duration::from_millis(100);
/// The shortest interval: settings are in seconds, and zero would spin.
const INTERVAL_MIN: Duration = Duration::from_millis(10);

#[cfg(test)]
mod task_tests;

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(status: u16, body: &str, expected: Option<(ReportedState, Option<u32>, Option<u32>)>) {
        let seen = report(StatusCode::from_u16(status).unwrap(), body.as_bytes()).map(|seen| seen.report);
        let expected = expected
            .map(|(state, calls, capacity)| Report { state, calls, capacity })
            .ok_or(Cause::BadReport);
        assert_eq!(seen, expected, "{status} {body}");
    }

    #[test]
    fn a_2xx_is_the_report_in_its_object_and_ready_without_one() {
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
    fn a_503_is_draining_whatever_its_body() {
        check(503, "", Some((ReportedState::Draining, None, None)));
        check(
            503,
            r#"{"state":"ready","calls":2,"capacity":4}"#,
            Some((ReportedState::Draining, Some(2), Some(4))),
        );
        check(503, "{garbage", Some((ReportedState::Draining, None, None)));
    }

    #[test]
    fn an_invalid_report_is_a_miss() {
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

    #[track_caller]
    fn check_incarnation(status: u16, body: &str, expected: Option<&str>) {
        let seen = report(StatusCode::from_u16(status).unwrap(), body.as_bytes()).unwrap().incarnation;
        assert_eq!(seen.parse().as_ref().map(Name::as_str), expected, "{status} {body}");
    }

    #[test]
    fn an_incarnation_is_a_short_name_and_an_invalid_one_is_no_miss() {
        check_incarnation(200, r#"{"incarnation":"1790000000123"}"#, Some("1790000000123"));
        check_incarnation(200, r#"{"state":"full","incarnation":"a.b_C-9"}"#, Some("a.b_C-9"));
        check_incarnation(503, r#"{"incarnation":"a"}"#, Some("a"));
        check_incarnation(503, r#"{"incarnation":"#, None);
        for body in ["", "OK", "{}", r#"{"incarnation":null}"#] {
            check_incarnation(200, body, None);
        }
        for invalid in [r#""""#, r#"".""#, r#""..""#, r#""12345678901234""#, r#""a b""#, r#""a/b""#, r#""ä""#]
        {
            check_incarnation(200, &format!(r#"{{"incarnation":{invalid}}}"#), None);
        }
        for invalid in ["1790000000123", "1.5", "true", "[]", r#"{"a":[{}]}"#] {
            check_incarnation(200, &format!(r#"{{"incarnation":{invalid}}}"#), None);
        }
    }
}
