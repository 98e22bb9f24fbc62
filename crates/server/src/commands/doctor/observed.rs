//! The clocks of other machines, as their responses show them.

use std::{
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use http::Method;
use switchboard_auth::{Fetch, FetchError};
use switchboard_graph::{GraphRequest, GraphResponse, Transport, TransportError};
use url::Url;

use super::finding::Finding;
use crate::{
    clients::{
        fetch::{Fetcher, KEY_DOCUMENT_TIME_MAX},
        graph::GraphTransport,
    },
    wall_clock::wall_clock,
};

/// The difference of this machine's clock to those of other machines, in seconds.
#[derive(Debug, Default)]
pub(super) struct ClockOffsets {
    /// With the host of each. Positive if the clock of this machine is ahead.
    seconds: Mutex<Vec<(i64, String)>>,
}

impl ClockOffsets {
    /// Notes the `Date` of a response of `url` that has just arrived.
    pub(super) fn note(&self, url: &Url, date: Option<&str>) {
        let Some(date) = date.and_then(|date| httpdate::parse_http_date(date).ok()) else { return };
        let host = url.host_str().unwrap_or_default().to_owned();
        let seconds = seconds_between(date, wall_clock());
        self.seconds.lock().unwrap_or_else(PoisonError::into_inner).push((seconds, host));
    }

    /// Compares this machine's clock with the middle one of the others: one of them may be wrong, too.
    pub(super) fn finding(&self) -> Finding {
        let (area, subject) = ("clock", "this machine");
        let mut seconds = self.seconds.lock().unwrap_or_else(PoisonError::into_inner).clone();
        seconds.sort_unstable();
        let Some((offset, host)) = seconds.get(seconds.len() / 2) else {
            let advice = "check the clock by other means: a token is refused if it is five minutes off";
            return Finding::skipped(area, subject, "no response had a Date", advice);
        };
        let direction = if *offset < 0 { "behind" } else { "ahead of" };
        let detail = match offset.unsigned_abs() {
            0 | 1 => format!("the same time as {host}, by {} responses", seconds.len()),
            apart => format!("{apart} s {direction} {host}, by {} responses", seconds.len()),
        };
        let advice = "synchronize the clock (NTP): a token is refused if it is five minutes off";
        match offset.unsigned_abs() {
            apart if apart >= FAILED_SECONDS => Finding::failed(area, subject, detail, advice),
            apart if apart >= WARNING_SECONDS => Finding::warning(area, subject, detail, advice),
            _ => Finding::ok(area, subject, detail),
        }
    }
}

/// The seconds from `one` to `other`.
fn seconds_between(one: SystemTime, other: SystemTime) -> i64 {
    let seconds = |duration: Duration| i64::try_from(duration.as_secs()).unwrap_or(i64::MAX);
    match other.duration_since(one) {
        Ok(later) => seconds(later),
        Err(error) => -seconds(error.duration()),
    }
}

/// The client of the key documents, which notes their dates.
pub(super) struct ObservedFetch {
    pub(super) fetcher: Fetcher,
    pub(super) clocks: Arc<ClockOffsets>,
}

impl Fetch for ObservedFetch {
    fn get(
        &self,
        url: &Url,
        bytes_max: usize,
    ) -> Pin<Box<dyn Future<Output = Result<Bytes, FetchError>> + Send + '_>> {
        let url = url.clone();
        Box::pin(async move {
            let answer =
                self.fetcher.answer(Method::GET, &url, None, bytes_max, KEY_DOCUMENT_TIME_MAX).await?;
            self.clocks.note(&url, answer.date());
            answer.document()
        })
    }
}

/// The client of Graph, which notes the dates of the responses.
pub(super) struct ObservedTransport {
    pub(super) transport: GraphTransport,
    pub(super) clocks: Arc<ClockOffsets>,
}

impl Transport for ObservedTransport {
    fn send(
        &self,
        request: GraphRequest,
    ) -> Pin<Box<dyn Future<Output = Result<GraphResponse, TransportError>> + Send + '_>> {
        Box::pin(async move {
            let url = request.url.clone();
            let response = self.transport.send(request).await?;
            let mut headers = response.headers.iter();
            let date = headers.find(|(name, _)| name.eq_ignore_ascii_case("date"));
            self.clocks.note(&url, date.map(|(_, value)| value.as_str()));
            Ok(response)
        })
    }
}

/// The tolerance of the authenticator is 300 s. A token that was just issued is refused beyond it.
const FAILED_SECONDS: u64 = 240;
const WARNING_SECONDS: u64 = 30;

#[cfg(test)]
mod tests {
    use super::{super::finding::Status, *};

    #[test]
    fn the_middle_clock_counts() {
        for (seconds, status) in [
            (&[][..], Status::Skipped),
            (&[0], Status::Ok),
            (&[1, 0, -29], Status::Ok),
            (&[-30, -31, 900], Status::Warning),
            (&[900, 900, 0], Status::Failed),
            (&[-240], Status::Failed),
        ] {
            let offsets = seconds.iter().map(|one| (*one, "host".to_owned())).collect();
            let clocks = ClockOffsets { seconds: Mutex::new(offsets) };
            assert_eq!(clocks.finding().status, status, "{seconds:?}");
        }
    }

    #[test]
    fn a_date_that_is_none_does_not_count() {
        let clocks = ClockOffsets::default();
        let url = Url::parse("https://a.example/").unwrap();
        for date in [None, Some(""), Some("yesterday"), Some("-1")] {
            clocks.note(&url, date);
        }
        assert_eq!(clocks.finding().status, Status::Skipped);
        clocks.note(&url, Some("Thu, 01 Jan 1970 00:00:00 GMT"));
        assert_eq!(clocks.finding().status, Status::Failed);
    }
}
