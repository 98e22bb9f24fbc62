//! The explanation of a token: the finding of each rule, without the network, and without any text of the
//! token that a log may not show.

use std::{fmt, future::Future, pin::Pin, sync::Arc, time::SystemTime};

use bytes::Bytes;
use serde::Serialize;
use switchboard_auth::{
    Authenticator, Examination, Fetch, FetchError, Finding, LogValue, Missing, Rejection, Rule,
};
use url::Url;
use uuid::Uuid;

use crate::{config::Config, wall_clock::wall_clock};

/// The rules for a token, each with its finding, and what follows from them.
#[derive(Debug, Serialize)]
pub(in crate::commands) struct TokenExplained {
    verdict: TokenVerdict,
    /// The trust that has the issuer.
    trust: Option<String>,
    /// The stored keys of the trust.
    stored_keys: Option<StoredKeys>,
    rules: Vec<RuleFound>,
    /// The other observations, one sentence each.
    notes: Vec<String>,
    #[serde(skip)]
    pub(super) app: Option<Uuid>,
    #[serde(skip)]
    pub(super) tenant: Option<Uuid>,
}

#[derive(Debug, Serialize)]
struct StoredKeys {
    count: usize,
    age_s: u64,
}

/// The decision of the gateway about a request that has the token.
#[derive(Debug, Serialize)]
#[serde(tag = "is", rename_all = "snake_case")]
enum TokenVerdict {
    /// It meets all rules.
    Accepted,
    /// It does not meet a rule.
    Refused { status: u16, reason: &'static str },
    /// It meets every rule that was checked.
    Undecided,
}

#[derive(Debug, Serialize)]
struct RuleFound {
    rule: &'static str,
    /// The value that the rule is about, if it may be shown.
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<String>,
    #[serde(flatten)]
    result: RuleResult,
}

#[derive(Debug, Serialize)]
#[serde(tag = "result", rename_all = "snake_case")]
enum RuleResult {
    Passed { why: &'static str },
    Failed { reason: &'static str, why: String },
    NotChecked { why: String },
}

impl TokenExplained {
    /// The bytes of a token that are read: twice the longest token, so that a longer one is explained and a
    /// device is not read to its end.
    pub(in crate::commands) const BYTES_MAX: u64 = 16 * 1024;

    /// Explains the token in `bytes`, which may have the scheme `Bearer` before it, at this moment.
    pub(in crate::commands) fn of_now(config: &Config, bytes: &[u8]) -> Result<Self, String> {
        Self::of(config, bytes, wall_clock())
    }

    fn of(config: &Config, bytes: &[u8], now: SystemTime) -> Result<Self, String> {
        let trusts = config.trusts.iter().map(|trust| {
            let offline: Arc<dyn Fetch> = Arc::new(Offline);
            (trust.settings.clone(), offline)
        });
        let authenticator = Authenticator::new(trusts.collect(), config.apps.clone(), config.keys.clone())
            .map_err(|error| error.to_string())?;
        let unread = authenticator.read_stored_keys(now);
        let text = bytes.trim_ascii();
        let token = match text.split_at_checked(SCHEME.len()) {
            Some((scheme, token)) if scheme.eq_ignore_ascii_case(SCHEME) => token,
            Some(_) | None => text,
        };
        let examination = authenticator.examine(&[SCHEME, token].concat(), now);
        let trust = examination.trust.as_deref();
        let unread = unread.iter().filter(|(name, _)| trust == Some(name));
        let mut notes: Vec<_> =
            unread.map(|(name, error)| format!("the stored keys of {name} are not used: {error}")).collect();
        let is_unknown = |(_, found)| found == Finding::Rejected(Rejection::UnknownKey);
        if examination.rules().any(is_unknown) {
            notes
                .push("a running gateway fetches the keys again before it refuses an unknown key".to_owned());
        }
        Ok(Self {
            verdict: TokenVerdict::of(&examination),
            trust: examination.trust.as_deref().map(str::to_owned),
            stored_keys: examination.keys.map(|(count, age)| StoredKeys { count, age_s: age.as_secs() }),
            rules: examination
                .rules()
                .map(|(rule, finding)| RuleFound {
                    rule: rule.label(),
                    value: value(rule, &examination),
                    result: RuleResult::of(rule, finding, config),
                })
                .collect(),
            notes,
            app: examination.app,
            tenant: examination.tenant,
        })
    }

    fn is_proven(&self) -> bool {
        let is_passed = |found: &RuleFound| matches!(found.result, RuleResult::Passed { .. });
        self.rules.iter().any(|found| found.rule == Rule::Signature.label() && is_passed(found))
    }
}

impl TokenVerdict {
    fn of(examination: &Examination) -> Self {
        match examination.failure() {
            Some(Finding::Rejected(rejection)) => Self::Refused { status: 401, reason: rejection.label() },
            Some(Finding::Forbidden(forbidden)) => Self::Refused { status: 403, reason: forbidden.label() },
            Some(Finding::Passed | Finding::NotChecked(_)) | None if examination.is_accepted() => {
                Self::Accepted
            }
            Some(Finding::Passed | Finding::NotChecked(_)) | None => Self::Undecided,
        }
    }
}

impl RuleResult {
    fn of(rule: Rule, finding: Finding, config: &Config) -> Self {
        match finding {
            Finding::Passed => Self::Passed { why: rule.requirement() },
            Finding::Rejected(rejection) => {
                Self::Failed { reason: rejection.label(), why: rejection.to_string() }
            }
            Finding::Forbidden(forbidden) => {
                Self::Failed { reason: forbidden.label(), why: forbidden.to_string() }
            }
            Finding::NotChecked(Missing::Keys) => Self::NotChecked {
                why: match &config.keys.store {
                    Some(_) => "keys.store has no usable keys of this trust".to_owned(),
                    None => {
                        "no stored keys were read: keys.store is not set, or secrets are left out".to_owned()
                    }
                },
            },
            Finding::NotChecked(missing @ Missing::Earlier) => Self::NotChecked { why: missing.to_string() },
        }
    }
}

/// Returns the value that a rule is about, as a log may show it.
fn value(rule: Rule, examination: &Examination) -> Option<String> {
    let token = &examination.token;
    let text = |value: &Option<LogValue>| value.as_ref().map(LogValue::to_string);
    match rule {
        Rule::Issuer => text(&token.issuer),
        Rule::KeyId => text(&token.key_id),
        Rule::Audience => text(&token.audience),
        Rule::Tenant => text(&token.tenant),
        Rule::CallingApp => text(&token.calling_app),
        Rule::Time => {
            let age = token.age_s.map(|age| format!("age {age} s"));
            let left = token.expires_in_s.map(|left| match left {
                0.. => format!("expires in {left} s"),
                _ => format!("expired {} s ago", left.unsigned_abs()),
            });
            match (age, left) {
                (Some(age), Some(left)) => Some(format!("{age}, {left}")),
                (age, left) => age.or(left),
            }
        }
        Rule::Form
        | Rule::Header
        | Rule::Claims
        | Rule::AppOnly
        | Rule::NotBound
        | Rule::Key
        | Rule::KeyIssuer
        | Rule::Signature
        | Rule::CallerAllowed
        | Rule::TenantAllowed => None,
    }
}

impl fmt::Display for TokenExplained {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.verdict {
            TokenVerdict::Accepted => write!(f, "token: accepted")?,
            TokenVerdict::Refused { status, reason } => {
                write!(f, "token: refused with {status}, {reason}")?;
                if *status == 403 && !self.is_proven() {
                    write!(f, ", if its signature is valid")?;
                }
            }
            TokenVerdict::Undecided => write!(f, "token: not decided; it meets every rule that was checked")?,
        }
        if let Some(trust) = &self.trust {
            write!(f, "\n  trust: {trust}, ")?;
            match &self.stored_keys {
                Some(StoredKeys { count, age_s }) => write!(f, "stored keys: {count}, {age_s} s old")?,
                None => write!(f, "no stored keys")?,
            }
        }
        for RuleFound { rule, value, result } in &self.rules {
            let value = value.as_ref().map(|value| format!(" ({value})")).unwrap_or_default();
            match result {
                RuleResult::Passed { why } => write!(f, "\n  {rule}: passed, {why}{value}")?,
                RuleResult::Failed { reason, why } => {
                    write!(f, "\n  {rule}: failed, {reason}: {why}{value}")?;
                }
                RuleResult::NotChecked { why } => write!(f, "\n  {rule}: not checked: {why}{value}")?,
            }
        }
        for note in &self.notes {
            write!(f, "\n  note: {note}")?;
        }
        Ok(())
    }
}

/// A network that is never used.
struct Offline;

impl Fetch for Offline {
    fn get(&self, _: &Url, _: usize) -> Pin<Box<dyn Future<Output = Result<Bytes, FetchError>> + Send + '_>> {
        Box::pin(async { Err(FetchError { kind: "offline", detail: "explain does not fetch".into() }) })
    }
}

/// The scheme and one space.
const SCHEME: &[u8] = b"Bearer ";

#[cfg(test)]
mod tests;
