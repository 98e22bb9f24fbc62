//! How a bot behaves: what it does with a call, and what goes wrong on request.

use std::{str::FromStr, time::Duration};

use url::Url;

use crate::{call::parse_http_url, words::words};

words! {
    /// What a bot does with a new call.
    pub enum AnswerMode {
        /// Answers it through Graph.
        Graph = "graph",
        /// Lets the gateway answer it, by the action in its reply to the notification.
        Action = "action",
        /// Rejects it through Graph.
        Reject = "reject",
        /// Redirects it through Graph.
        Redirect = "redirect",
        /// Lets the gateway reject it.
        ActionReject = "action-reject",
        /// Lets the gateway redirect it.
        ActionRedirect = "action-redirect",
        /// Takes the notification and does nothing.
        None = "none",
    }
}

/// Everything about a bot that is not as simple as can be.
#[derive(Clone, Debug)]
pub struct Behaviour {
    /// What it does with a new call.
    pub answer: AnswerMode,
    /// How long it takes before it does anything with a notification.
    pub delay: Duration,
    /// What goes wrong.
    pub fail: Option<InjectedFailure>,
    /// The credentials with which it asks for a token; without it asks Graph without a token.
    pub credentials: Option<ClientCredentials>,
    /// `participantCapacity` of its answer: users of a recording policy that it takes in one call.
    pub participant_capacity: Option<u32>,
    /// `isDeltaRosterEnabled` of its answer.
    pub delta_roster: bool,
    /// What it says about a participant who is about to join.
    pub joining: JoinResponse,
    /// Hangs up so long after the call was established.
    pub hang_up_after: Option<Duration>,
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
        }
    }
}

/// The client credentials of an app.
#[derive(Clone)]
pub struct ClientCredentials {
    /// The app id.
    pub app: String,
    /// Its secret.
    pub secret: String,
}

impl std::fmt::Debug for ClientCredentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ClientCredentials").field("app", &self.app).finish_non_exhaustive()
    }
}

/// What goes wrong with a share of the notifications.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct InjectedFailure {
    pub(super) how: FailureMode,
    /// From 0 to 1.
    pub(super) share: f64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FailureMode {
    Status(http::StatusCode),
    /// Nothing comes for a minute.
    Hang,
    /// The connection is closed without an answer.
    Reset,
}

impl FromStr for InjectedFailure {
    type Err = InvalidFailure;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (how, share) = text.split_once(':').unwrap_or((text, "1"));
        let how = match how {
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
        Ok(Self { how, share })
    }
}

/// The text is no way to fail.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "not a way to fail: a status from 400 to 599, hang or reset, and a share after a colon, like 503 or hang:0.1"
)]
pub struct InvalidFailure;

/// What a bot says about a participant who is about to join.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum JoinResponse {
    /// It takes them.
    Accept,
    /// It does not.
    Reject,
    /// Another bot is to be invited.
    Invite(Url),
    /// It says nothing, which the platform does not understand.
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

/// The text is nothing that can be said about a participant.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be accept, reject, silent, or invite=URL with the webhook of another bot")]
pub struct InvalidJoinResponse;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_and_answers_are_words() {
        let fail: InjectedFailure = "hang:0.25".parse().unwrap();
        assert_eq!(fail, InjectedFailure { how: FailureMode::Hang, share: 0.25 });
        assert_eq!("503".parse::<InjectedFailure>().unwrap().share, 1.0);
        for text in ["", "200", "600", "503:", "503:2", "503:-1", "503:NaN", "explode"] {
            assert_eq!(text.parse::<InjectedFailure>(), Err(InvalidFailure), "{text}");
        }
        assert!(matches!("invite=http://x/".parse(), Ok(JoinResponse::Invite(_))));
        assert!("invite=x".parse::<JoinResponse>().is_err());
    }

    #[test]
    fn a_secret_is_not_shown() {
        let credentials = ClientCredentials { app: "a".to_owned(), secret: "hush".to_owned() };
        assert!(!format!("{credentials:?}").contains("hush"));
    }
}
