//! The requests below `/communications/calls/{id}`, by method and name.

use http::Method;

/// A request about one call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum GraphAction {
    Answer,
    Reject,
    Redirect,
    KeepAlive,
    RecordingStatus,
    Show,
    HangUp,
}

/// The path and the method name no action.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum InvalidAction {
    /// No action has this name.
    UnknownName,
    /// The path takes other methods.
    Method { allowed: &'static str },
}

impl GraphAction {
    const ALL: [Self; 7] = [
        Self::Answer,
        Self::Reject,
        Self::Redirect,
        Self::KeepAlive,
        Self::RecordingStatus,
        Self::Show,
        Self::HangUp,
    ];

    /// The method, the name in the path, and the name in the timeline of the call.
    fn row(self) -> (Method, Option<&'static str>, &'static str) {
        match self {
            Self::Answer => (Method::POST, Some("answer"), "answer"),
            Self::Reject => (Method::POST, Some("reject"), "reject"),
            Self::Redirect => (Method::POST, Some("redirect"), "redirect"),
            Self::KeepAlive => (Method::POST, Some("keepAlive"), "keep alive"),
            Self::RecordingStatus => (Method::POST, Some("updateRecordingStatus"), "recording status"),
            Self::Show => (Method::GET, None, "get"),
            Self::HangUp => (Method::DELETE, None, "hang up"),
        }
    }

    /// Finds the action of a request. Clients may write the name with its namespace, `microsoft.graph.`.
    pub(super) fn parse(method: &Method, name: Option<&str>) -> Result<Self, InvalidAction> {
        let name = name.map(|name| name.strip_prefix("microsoft.graph.").unwrap_or(name));
        let named: Vec<Self> = Self::ALL.into_iter().filter(|action| action.row().1 == name).collect();
        match named.iter().find(|action| action.row().0 == method) {
            Some(action) => Ok(*action),
            None if named.is_empty() => Err(InvalidAction::UnknownName),
            None if name.is_none() => Err(InvalidAction::Method { allowed: "GET, DELETE" }),
            None => Err(InvalidAction::Method { allowed: "POST" }),
        }
    }

    /// The name in the timeline of the call.
    pub(super) fn label(self) -> &'static str {
        self.row().2
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_action_is_found_by_method_and_name() {
        for action in GraphAction::ALL {
            let (method, name, _) = action.row();
            assert_eq!(GraphAction::parse(&method, name), Ok(action));
        }
        let answer = GraphAction::parse(&Method::POST, Some("microsoft.graph.answer"));
        assert_eq!(answer, Ok(GraphAction::Answer));
        for (method, name, expected) in [
            (Method::PUT, None, InvalidAction::Method { allowed: "GET, DELETE" }),
            (Method::GET, Some("answer"), InvalidAction::Method { allowed: "POST" }),
            (Method::POST, Some("levitate"), InvalidAction::UnknownName),
        ] {
            assert_eq!(GraphAction::parse(&method, name), Err(expected));
        }
    }
}
