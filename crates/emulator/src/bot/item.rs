//! One item of a notification, as far as a bot reads it.

use serde_json::Value;

/// The members of an item that the bot uses.
#[derive(Debug)]
pub(super) struct NotificationItem {
    pub(super) call_id: String,
    /// The state of the call, or another short name for the subject of the item.
    pub(super) kind: String,
    pub(super) new_call: bool,
    /// The call has ended.
    pub(super) end: bool,
    /// A recording policy invited the bot.
    pub(super) recorded: bool,
    pub(super) tenant: Option<String>,
}

impl NotificationItem {
    /// Reads an item. `None` if it has no call id, or one that does not fit into a path segment.
    pub(super) fn read(item: &Value) -> Option<Self> {
        let text = |name: &str| item.get(name).and_then(Value::as_str);
        let path = text("resourceUrl").or_else(|| text("resource"))?;
        let mut segments =
            path.split('/').skip_while(|segment| !segment.eq_ignore_ascii_case("calls")).skip(1);
        let call_id = segments.next()?;
        let fits = |letter: u8| letter.is_ascii_alphanumeric() || matches!(letter, b'-' | b'_' | b'.');
        if call_id.is_empty()
            || call_id.len() > ID_BYTES_MAX
            || !call_id.bytes().all(fits)
            || call_id.starts_with('.')
        {
            return None;
        }
        let change = text("changeType")?.to_ascii_lowercase();
        let state = item.pointer("/resourceData/state").and_then(Value::as_str).map(str::to_ascii_lowercase);
        let below = segments.next();
        let data_type = item.pointer("/resourceData/@odata.type").and_then(Value::as_str).unwrap_or_default();
        let kind = match (below, state.as_deref()) {
            (None, None) if data_type.ends_with(".participantJoiningNotification") => "participant joining",
            (None, None) if data_type.ends_with(".participantLeftNotification") => "participant left",
            (None, Some(_)) if item.pointer("/resourceData/toneInfo").is_some() => "tone",
            (None, Some(state)) => STATES.iter().find(|known| **known == state).copied().unwrap_or("call"),
            (None, None) if change == "deleted" => "deleted",
            (None, None) => "call",
            (Some("participants"), _) => "roster",
            (Some("operations"), _) => "operation",
            (Some("contentsharingsessions"), _) => "content sharing",
            (Some(_), _) => "other",
        };
        Some(Self {
            call_id: call_id.to_ascii_lowercase(),
            kind: kind.to_owned(),
            new_call: change == "created" && kind == "incoming",
            end: below.is_none()
                && kind != "participant left"
                && (change == "deleted" || kind == "terminated"),
            recorded: item
                .pointer("/resourceData/incomingContext/observedParticipantId")
                .is_some_and(Value::is_string),
            tenant: item.pointer("/resourceData/tenantId").and_then(Value::as_str).map(str::to_owned),
        })
    }
}

/// The states that the bot shows by name. The platform's set is open, and the bot stores a name for each
/// notification. It shows any other state as `call`, so that the names stay short.
const STATES: [&str; 11] = [
    "incoming",
    "establishing",
    "ringing",
    "established",
    "hold",
    "transferring",
    "transferaccepted",
    "redirecting",
    "terminating",
    "terminated",
    "unknownfuturevalue",
];

/// Longer than any id of the platform.
pub(super) const ID_BYTES_MAX: usize = 128;

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[track_caller]
    fn check(item: &Value, expected: Option<(&str, &str, bool, bool)>) {
        let item = NotificationItem::read(item);
        let seen =
            item.as_ref().map(|item| (item.call_id.as_str(), item.kind.as_str(), item.new_call, item.end));
        assert_eq!(seen, expected);
    }

    #[test]
    fn the_kind_of_each_item_is_recognized() {
        fn call(change_type: &str, resource: &str, data: &Value) -> Value {
            json!({"changeType": change_type, "resource": resource, "resourceData": data})
        }
        check(
            &call("Created", "/app/calls/A1", &json!({"state": "Incoming"})),
            Some(("a1", "incoming", true, false)),
        );
        check(
            &call("updated", "/app/calls/a1", &json!({"state": "established"})),
            Some(("a1", "established", false, false)),
        );
        check(
            &call("updated", "communications/calls/a1/participants", &json!([])),
            Some(("a1", "roster", false, false)),
        );
        check(
            &call("deleted", "/app/calls/a1/operations/2", &json!({})),
            Some(("a1", "operation", false, false)),
        );
        check(&call("deleted", "/app/calls/a1", &json!({})), Some(("a1", "deleted", false, true)));
        let joining = json!({"@odata.type": "#microsoft.graph.participantJoiningNotification", "call": {}});
        check(&call("created", "/app/calls/a1", &joining), Some(("a1", "participant joining", false, false)));
        let left = json!({"@odata.type": "#microsoft.graph.participantLeftNotification"});
        check(&call("deleted", "/app/calls/a1", &left), Some(("a1", "participant left", false, false)));
        let tone = json!({"state": "established", "toneInfo": {}});
        check(&call("updated", "/app/calls/a1", &tone), Some(("a1", "tone", false, false)));
        check(
            &call("updated", "/app/calls/a1", &json!({"state": "x".repeat(9_000)})),
            Some(("a1", "call", false, false)),
        );
        check(&call("created", "/app/calls/..", &json!({})), None);
        check(&call("created", "/app/calls/a%2fb", &json!({})), None);
        check(&call("created", "/app/calls", &json!({})), None);
        check(&json!({"changeType": "created"}), None);
        check(&json!(7), None);
    }
}
