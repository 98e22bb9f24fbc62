//! The behaviour of a bot: its treatment of new calls, and the failures injected on request.

use std::{collections::BTreeMap, str::FromStr, time::Duration};

use url::Url;

use crate::{call::parse_http_url, words::words};

words! {
    /// A bot's treatment of a new call.
    pub enum AnswerMode {
        /// Answers through Graph.
        Graph = "graph",
        /// Asks the gateway to answer, by an action in the response to the notification.
        Action = "action",
        /// Rejects through Graph.
        Reject = "reject",
        /// Redirects through Graph.
        Redirect = "redirect",
        /// Asks the gateway to reject.
        ActionReject = "action-reject",
        /// Asks the gateway to redirect.
        ActionRedirect = "action-redirect",
        /// Accepts the notification and does nothing.
        None = "none",
    }
}

/// The behaviour of a bot. The default answers every call through Graph, without a token.
#[derive(Clone, Debug)]
pub struct Behaviour {
    /// The treatment of a new call.
    pub answer: AnswerMode,
    /// The time before the bot handles a notification.
    pub delay: Duration,
    /// The failures injected on request.
    pub fail: Option<InjectedFailure>,
    /// The credentials for tokens. If `None`, the bot sends no token to Graph.
    pub credentials: Option<ClientCredentials>,
    /// `participantCapacity` of the answer: the users of a recording policy that the bot records in one call.
    pub participant_capacity: Option<u32>,
    /// `isDeltaRosterEnabled` of the answer.
    pub delta_roster: bool,
    /// The response to the announcement of a participant.
    pub joining: JoinResponse,
    /// The time from `established` until the bot hangs up. `None` means that it does not hang up.
    pub hang_up_after: Option<Duration>,
    /// The behaviour as a bot on Microsoft's calling SDK for .NET; `None` for a plain bot. It needs
    /// credentials.
    pub sdk: Option<SdkBehaviour>,
}

/// The behaviour of a bot on Microsoft's calling SDK for .NET.
#[derive(Clone, Debug, Default)]
pub struct SdkBehaviour {
    /// The names of the requests that follow when a call is established.
    pub then: Vec<String>,
    /// The arguments of requests by name, like `prompt`.
    pub arguments: BTreeMap<String, String>,
}

impl Default for Behaviour {
    fn default() -> Self {
        Self {
            answer: AnswerMode::Graph,
            delay: Duration::ZERO,
            fail: None,
            credentials: None,
            participant_capacity: None,
            delta_roster: false,
            joining: JoinResponse::Accept,
            hang_up_after: None,
            sdk: None,
        }
    }
}

/// The client credentials of an app.
#[derive(Clone)]
pub struct ClientCredentials {
    /// The app id.
    pub app: String,
    /// The client secret.
    pub secret: String,
}

impl std::fmt::Debug for ClientCredentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ClientCredentials").field("app", &self.app).finish_non_exhaustive()
    }
}

/// A failure of a share of the notifications.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct InjectedFailure {
    pub(super) mode: FailureMode,
    /// From 0 to 1.
    pub(super) share: f64,
}

/// The way in which a notification fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FailureMode {
    Status(http::StatusCode),
    /// No response comes for a minute.
    Hang,
    /// The connection is closed without a response.
    Reset,
}

impl FromStr for InjectedFailure {
    type Err = InvalidFailure;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (mode, share) = text.split_once(':').unwrap_or((text, "1"));
        let mode = match mode {
            "hang" => FailureMode::Hang,
            "reset" => FailureMode::Reset,
            status => {
                let status: u16 = status.parse().map_err(|_| InvalidFailure)?;
                if !(400..=599).contains(&status) {
                    return Err(InvalidFailure);
                }
                FailureMode::Status(http::StatusCode::from_u16(status).map_err(|_| InvalidFailure)?)
            }
        };
        let share = share.parse().ok().filter(|share| (0.0..=1.0).contains(share)).ok_or(InvalidFailure)?;
        Ok(Self { mode, share })
    }
}

/// The text is not a failure.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "not a failure: give a status from 400 to 599, hang or reset; add a share from 0 to 1 after a colon, \
     like 503 or hang:0.1"
)]
pub struct InvalidFailure;

/// A bot's response to the announcement of a participant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum JoinResponse {
    /// The bot records the participant.
    Accept,
    /// The bot does not record the participant.
    Reject,
    /// The platform is to invite another bot.
    Invite(Url),
    /// The response has no body, which the platform does not understand.
    Silent,
}

impl FromStr for JoinResponse {
    type Err = InvalidJoinResponse;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "accept" => Ok(Self::Accept),
            "reject" => Ok(Self::Reject),
            "silent" => Ok(Self::Silent),
            _ => {
                let url = text.strip_prefix("invite=").and_then(|url| parse_http_url(url).ok());
                url.map(Self::Invite).ok_or(InvalidJoinResponse)
            }
        }
    }
}

/// The text is not a response to the announcement of a participant.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be accept, reject, silent, or invite=URL with the webhook of another bot")]
pub struct InvalidJoinResponse;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_and_join_responses_are_parsed() {
        let fail: InjectedFailure = "hang:0.25".parse().unwrap();
        assert_eq!(fail, InjectedFailure { mode: FailureMode::Hang, share: 0.25 });
        assert_eq!("503".parse::<InjectedFailure>().unwrap().share, 1.0);
        for text in ["", "200", "600", "503:", "503:2", "503:-1", "503:NaN", "explode"] {
            assert_eq!(text.parse::<InjectedFailure>(), Err(InvalidFailure), "{text}");
        }
        assert!(matches!("invite=http://x/".parse(), Ok(JoinResponse::Invite(_))));
        assert!("invite=x".parse::<JoinResponse>().is_err());
    }

    #[test]
    fn debug_output_hides_the_secret() {
        let credentials = ClientCredentials { app: "a".to_owned(), secret: "hush".to_owned() };
        assert!(!format!("{credentials:?}").contains("hush"));
    }
}
