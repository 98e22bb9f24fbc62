//! The settings of traces, from the environment variables that OpenTelemetry defines.

use std::{fmt, path::PathBuf, str::FromStr, time::Duration};

use http::{HeaderName, HeaderValue, header};
use percent_encoding::percent_decode_str;
use url::Url;

use crate::{config::absolute_url, traces::sampler::Sampler};

/// The settings of traces.
#[derive(Debug)]
pub struct TraceSettings {
    pub(super) endpoint: Url,
    /// Header fields of each export. Their values are marked as sensitive, so `Debug` does not show them.
    pub(super) headers: Vec<(HeaderName, HeaderValue)>,
    /// The time of one export, with its repetitions.
    pub(super) timeout: Duration,
    /// A PEM file of authorities that are trusted besides those of the system.
    pub(super) certificate: Option<PathBuf>,
    /// The attributes of the resource, in the order of the variables.
    pub(super) resource: Vec<(String, String)>,
    pub(super) sampler: Sampler,
    /// The most spans that wait for an export.
    pub(super) queue_max: usize,
    /// The most spans of an export.
    pub(super) batch_max: usize,
    /// The longest wait of a span for an export.
    pub(super) delay: Duration,
}

/// Variables that have no valid value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", .0.join("\n"))]
pub struct InvalidTraceSettings(Vec<String>);

impl TraceSettings {
    /// Reads the settings. `variable` looks up an environment variable. Returns `None` if traces are off: no
    /// endpoint is set, or another variable says so.
    ///
    /// # Errors
    ///
    /// A variable has no valid value. The error names each one, and says what would be right.
    pub fn from_variables(
        variable: impl Fn(&str) -> Option<String>,
    ) -> Result<Option<Self>, InvalidTraceSettings> {
        let mut variables = Variables { variable, problems: Vec::new() };
        let settings = variables.settings();
        if variables.problems.is_empty() {
            Ok(settings)
        } else {
            Err(InvalidTraceSettings(variables.problems))
        }
    }
}

/// The variables, and the problems found in them.
struct Variables<V> {
    variable: V,
    problems: Vec<String>,
}

impl<V: Fn(&str) -> Option<String>> Variables<V> {
    fn settings(&mut self) -> Option<TraceSettings> {
        if self.flag("OTEL_SDK_DISABLED") || !self.exports_otlp() {
            return None;
        }
        let endpoint = self.endpoint()?;
        self.check_protocol();
        self.check_compression();
        let timeout = self.milliseconds_of_either("TIMEOUT", TIMEOUT);
        let queue_max = self.number("OTEL_BSP_MAX_QUEUE_SIZE", QUEUE, QUEUE_MAX);
        let batch_max = self.number("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", BATCH.min(queue_max), BATCH_MAX);
        if batch_max > queue_max {
            let problem = format_args!("{batch_max} is more than OTEL_BSP_MAX_QUEUE_SIZE, {queue_max}");
            self.problem("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", problem);
        }
        Some(TraceSettings {
            endpoint,
            headers: self.headers(),
            timeout: timeout.min(self.milliseconds("OTEL_BSP_EXPORT_TIMEOUT", EXPORT_TIMEOUT)),
            certificate: self.either("CERTIFICATE").map(|(_, path)| path.into()),
            resource: self.resource(),
            sampler: self.sampler(),
            queue_max,
            batch_max,
            delay: self.milliseconds("OTEL_BSP_SCHEDULE_DELAY", DELAY),
        })
    }

    /// The value of a variable. An empty one counts as absent, as the specification says.
    fn text(&self, name: &str) -> Option<String> {
        (self.variable)(name).map(|value| value.trim().to_owned()).filter(|value| !value.is_empty())
    }

    /// The value of a variable of the exporter: the one for traces, else the one for all signals.
    fn either(&self, name: &str) -> Option<(String, String)> {
        ["OTEL_EXPORTER_OTLP_TRACES_", "OTEL_EXPORTER_OTLP_"].into_iter().find_map(|prefix| {
            let name = format!("{prefix}{name}");
            self.text(&name).map(|value| (name, value))
        })
    }

    fn problem(&mut self, name: &str, problem: impl fmt::Display) {
        self.problems.push(format!("{name}: {problem}"));
    }

    fn flag(&mut self, name: &str) -> bool {
        match self.text(name) {
            Some(value) if value.eq_ignore_ascii_case("true") => true,
            Some(value) if !value.eq_ignore_ascii_case("false") => {
                self.problem(name, format_args!("{value:?} is not true or false"));
                false
            }
            Some(_) | None => false,
        }
    }

    fn exports_otlp(&mut self) -> bool {
        let name = "OTEL_TRACES_EXPORTER";
        match self.text(name).as_deref() {
            None | Some("otlp") => true,
            Some("none") => false,
            Some(value) => {
                self.problem(name, format_args!("{value:?} is not otlp or none"));
                false
            }
        }
    }

    fn endpoint(&mut self) -> Option<Url> {
        let (name, text) = self.either("ENDPOINT")?;
        let Some(mut url) = absolute_url(&text) else {
            // Not the value: it may have a password in it.
            self.problem(
                &name,
                "not an absolute URL of http or https, like http://collector:4318, without user, \
                 password and fragment",
            );
            return None;
        };
        // The endpoint of traces is used as it is, that of all signals is their base.
        if name == "OTEL_EXPORTER_OTLP_ENDPOINT" {
            let path = format!("{}/v1/traces", url.path().trim_end_matches('/'));
            url.set_path(&path);
        }
        Some(url)
    }

    fn check_protocol(&mut self) {
        if let Some((name, value)) = self.either("PROTOCOL")
            && value != "http/protobuf"
        {
            self.problem(
                &name,
                format_args!(
                    "{value:?} is not supported; write http/protobuf, whose port at a collector is 4318"
                ),
            );
        }
    }

    fn check_compression(&mut self) {
        if let Some((name, value)) = self.either("COMPRESSION")
            && value != "none"
        {
            self.problem(
                &name,
                format_args!("{value:?} is not supported; write none, or remove the variable"),
            );
        }
    }

    /// The header fields. No problem names a value: it is a secret.
    fn headers(&mut self) -> Vec<(HeaderName, HeaderValue)> {
        let Some((name, text)) = self.either("HEADERS") else { return Vec::new() };
        let Some(pairs) = pairs(&text) else {
            self.problem(&name, "not a list like name=value,name=value with percent-encoded values");
            return Vec::new();
        };
        let mut headers = Vec::new();
        for (at, (field, value)) in pairs.into_iter().enumerate() {
            let field = HeaderName::from_str(&field).ok().filter(|field| !RESERVED.contains(field));
            match (field, HeaderValue::from_str(&value)) {
                (Some(field), Ok(mut value)) => {
                    value.set_sensitive(true);
                    headers.push((field, value));
                }
                (None, _) => self.problem(
                    &name,
                    format_args!("field {} has no name, or one that the gateway sets itself", at + 1),
                ),
                (Some(field), Err(_)) => {
                    self.problem(
                        &name,
                        format_args!("the value of {field} has characters that no field may have"),
                    );
                }
            }
        }
        headers
    }

    fn resource(&mut self) -> Vec<(String, String)> {
        let name = "OTEL_RESOURCE_ATTRIBUTES";
        let mut attributes = Vec::new();
        if let Some(text) = self.text(name) {
            match pairs(&text) {
                Some(pairs) => attributes = pairs,
                None => self.problem(name, "not a list like key=value,key=value with percent-encoded values"),
            }
        }
        // It has the last word on the name.
        attributes.extend(self.text("OTEL_SERVICE_NAME").map(|name| ("service.name".to_owned(), name)));
        attributes
    }

    fn sampler(&mut self) -> Sampler {
        let name = "OTEL_TRACES_SAMPLER";
        let sampler = self.text(name).unwrap_or_else(|| "parentbased_always_on".to_owned());
        let ratio = || self.text("OTEL_TRACES_SAMPLER_ARG").map_or(Some(1.0), |text| text.parse().ok());
        let ratio = ratio().filter(|ratio| (0.0..=1.0).contains(ratio));
        let found = Sampler::of(&sampler, ratio.unwrap_or(1.0));
        match &found {
            None => {
                self.problem(name, format_args!("{sampler:?} is not one of {}", Sampler::NAMES.join(", ")))
            }
            Some(found) if found.has_ratio() && ratio.is_none() => {
                self.problem("OTEL_TRACES_SAMPLER_ARG", "not a number from 0 to 1");
            }
            Some(_) => {}
        }
        found.unwrap_or(Sampler::DEFAULT)
    }

    fn number(&mut self, name: &str, default: usize, max: usize) -> usize {
        let Some(text) = self.text(name) else { return default };
        match text.parse() {
            Ok(number) if (1..=max).contains(&number) => number,
            Ok(_) | Err(_) => {
                self.problem(name, format_args!("{text:?} is not a whole number from 1 to {max}"));
                default
            }
        }
    }

    fn milliseconds(&mut self, name: &str, default: u32) -> Duration {
        let max = usize::try_from(MILLISECONDS_MAX).unwrap_or(usize::MAX);
        let number = self.number(name, usize::try_from(default).unwrap_or(max), max);
        Duration::from_millis(u64::try_from(number).unwrap_or(u64::MAX))
    }

    fn milliseconds_of_either(&mut self, name: &str, default: u32) -> Duration {
        let name = self.either(name).map_or_else(|| format!("OTEL_EXPORTER_OTLP_{name}"), |(name, _)| name);
        self.milliseconds(&name, default)
    }
}

/// The pairs of `key=value,key=value`, decoded; `None` if it is not such a list.
fn pairs(text: &str) -> Option<Vec<(String, String)>> {
    let decoded =
        |text: &str| percent_decode_str(text.trim()).decode_utf8().ok().map(std::borrow::Cow::into_owned);
    text.split(',')
        .filter(|pair| !pair.trim().is_empty())
        .map(|pair| {
            let (key, value) = pair.split_once('=')?;
            Some((decoded(key).filter(|key| !key.is_empty())?, decoded(value)?))
        })
        .collect()
}

/// The fields that the exporter or HTTP sets.
const RESERVED: [HeaderName; 6] = [
    header::CONNECTION,
    header::CONTENT_ENCODING,
    header::CONTENT_LENGTH,
    header::CONTENT_TYPE,
    header::HOST,
    header::TRANSFER_ENCODING,
];
/// The defaults of the specification, in milliseconds.
const TIMEOUT: u32 = 10_000;
const EXPORT_TIMEOUT: u32 = 30_000;
const DELAY: u32 = 5_000;
/// The longest time of a setting. A longer one is a mistake of the unit.
const MILLISECONDS_MAX: u32 = 300_000;
/// The defaults of the specification, in spans.
const QUEUE: usize = 2048;
const BATCH: usize = 512;
/// A span takes about a kilobyte.
const QUEUE_MAX: usize = 65_536;
const BATCH_MAX: usize = 8192;

#[cfg(test)]
mod tests;
