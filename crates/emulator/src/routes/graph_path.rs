//! The names in the paths of Graph, which are compared without regard to case.

/// The path of a request to Graph, below its version.
#[derive(Debug, PartialEq)]
pub(super) struct GraphPath<'a> {
    /// Names are spelled as documented; ids are as the request has them.
    pub(super) segments: Vec<&'a str>,
}

impl<'a> GraphPath<'a> {
    /// Reads the segments of a path; `None` if the first one is no version of Graph.
    ///
    /// A path may end with a slash, and a name may have its namespace, `microsoft.graph.`.
    pub(super) fn parse(segments: &[&'a str]) -> Option<Self> {
        let (version, rest) = segments.split_first()?;
        if !version.eq_ignore_ascii_case("v1.0") && !version.eq_ignore_ascii_case("beta") {
            return None;
        }
        let rest = match rest {
            [rest @ .., ""] => rest,
            rest => rest,
        };
        Some(Self { segments: rest.iter().map(|segment| canonical(segment)).collect() })
    }
}

/// Returns the documented spelling of a name, and every other segment as it is.
fn canonical(segment: &str) -> &str {
    let namespace = segment.get(..NAMESPACE.len()).filter(|start| start.eq_ignore_ascii_case(NAMESPACE));
    let name = namespace.and_then(|start| segment.get(start.len()..)).unwrap_or(segment);
    NAMES.iter().find(|known| known.eq_ignore_ascii_case(name)).copied().unwrap_or(segment)
}

const NAMESPACE: &str = "microsoft.graph.";

/// The names below the version. `%24` is the dollar sign of a client that escapes it.
const NAMES: [&str; 32] = [
    "$batch",
    "%24batch",
    "communications",
    "app",
    "calls",
    "logTeleconferenceDeviceQuality",
    "answer",
    "reject",
    "redirect",
    "keepAlive",
    "updateRecordingStatus",
    "playPrompt",
    "recordResponse",
    "subscribeToTone",
    "cancelMediaProcessing",
    "mute",
    "unmute",
    "transfer",
    "changeScreenSharingRole",
    "sendDtmfTones",
    "addLargeGalleryView",
    "raiseHand",
    "lowerHand",
    "participants",
    "invite",
    "startHoldMusic",
    "stopHoldMusic",
    "admitAllFromLobby",
    "lowerAllHands",
    "operations",
    "audioRoutingGroups",
    "contentSharingSessions",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(path: &str, expected: Option<&str>) {
        let segments: Vec<&str> = path.split('/').collect();
        let parsed = GraphPath::parse(&segments).map(|path| path.segments.join("/"));
        assert_eq!(parsed.as_deref(), expected, "{path}");
    }

    #[test]
    fn names_are_found_in_any_case_and_ids_are_kept() {
        check("v1.0/communications/calls/AbC", Some("communications/calls/AbC"));
        check("BETA/App/CALLS/AbC/Microsoft.Graph.ANSWER", Some("app/calls/AbC/answer"));
        check("V1.0/Communications/Calls/AbC/PlayPrompt", Some("communications/calls/AbC/playPrompt"));
        check("v1.0/communications/calls/", Some("communications/calls"));
        check("v1.0/$BATCH", Some("$batch"));
        check("v1.0", Some(""));
        check("v1.0/me/Levitate", Some("me/Levitate"));
        check("v1.0/microsoft.graph.levitate", Some("microsoft.graph.levitate"));
        check("v2.0/communications/calls", None);
        check("", None);
    }

    #[test]
    fn segments_of_other_alphabets_do_not_panic() {
        check("v1.0/microsoft.grapé.x/ ", Some("microsoft.grapé.x/ "));
    }
}
