//! The body of a notification, as Microsoft's calling SDK for .NET reads it.

use serde_json::Value;

/// A body that the SDK reads.
#[derive(Debug, PartialEq)]
pub(super) enum Notification {
    /// The legacy form of a new call.
    Legacy,
    /// The items in order. `None` is a `null`, at which the SDK fails after the items before it.
    Items(Vec<Option<SdkItem>>),
}

/// An item that the SDK can read. It may still ignore it.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct SdkItem {
    pub(super) change: Change,
    /// `None` if the path is not one that the SDK knows.
    pub(super) subject: Option<Subject>,
    pub(super) data: Value,
}

/// The change that an item reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    Created,
    Updated,
    Deleted,
}

/// The resource that an item is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Subject {
    /// The call id in lower case.
    pub(super) call: String,
    /// The collection below the call, in lower case.
    pub(super) collection: Option<String>,
    /// The number of path segments below the call.
    pub(super) depth: usize,
}

/// The reason why the SDK refuses a whole body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum SdkRefusal {
    Unreadable,
    EmptyMessage,
    NoNotifications,
    /// A member of an item is absent or has no usable value.
    Item(&'static str),
    UnknownType(String),
    NoClientContext,
    /// The targets of a call are of a type that targets cannot have.
    Targets,
}

impl SdkRefusal {
    /// The body of the 400.
    pub(super) fn message(&self) -> String {
        match self {
            Self::Unreadable => "Unable to deserialize the notification.".to_owned(),
            Self::EmptyMessage => "Unexpected empty message content.".to_owned(),
            Self::NoNotifications => "Notifications received from server are empty.".to_owned(),
            Self::Item(member) => format!("The notification has no valid {member}."),
            Self::UnknownType(name) => format!("The type {name} is not known."),
            Self::NoClientContext => "Client context is missing.".to_owned(),
            Self::Targets => {
                "ArgumentException: the targets are not of type invitationParticipantInfo.".to_owned()
            }
        }
    }
}

impl Notification {
    pub(super) fn read(body: &[u8]) -> Result<Self, SdkRefusal> {
        let body = body.strip_prefix(BYTE_ORDER_MARK).unwrap_or(body);
        if body.iter().all(u8::is_ascii_whitespace) {
            return Err(SdkRefusal::EmptyMessage);
        }
        let body: Value = serde_json::from_slice(body).map_err(|_| SdkRefusal::Unreadable)?;
        let Some(members) = body.as_object().filter(|_| depth(&body) <= DEPTH_MAX) else {
            return Err(SdkRefusal::Unreadable);
        };
        let legacy = |name: &&str| members.keys().any(|key| key.eq_ignore_ascii_case(name));
        if ["callState", "presentedModalityTypes"].iter().any(legacy) {
            return Ok(Self::Legacy);
        }
        match members.get("value") {
            None | Some(Value::Null) => Err(SdkRefusal::NoNotifications),
            Some(Value::Array(items)) if items.is_empty() => Err(SdkRefusal::NoNotifications),
            Some(Value::Array(items)) => {
                items.iter().map(read_item).collect::<Result<_, _>>().map(Self::Items)
            }
            Some(Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Object(_)) => {
                Err(SdkRefusal::Unreadable)
            }
        }
    }
}

fn read_item(item: &Value) -> Result<Option<SdkItem>, SdkRefusal> {
    if item.is_null() {
        return Ok(None);
    }
    let text = |name: &str| item.get(name).and_then(Value::as_str);
    let change = match text("changeType").map(str::to_ascii_lowercase).as_deref() {
        Some("created") => Change::Created,
        Some("updated") => Change::Updated,
        Some("deleted") => Change::Deleted,
        _ => return Err(SdkRefusal::Item("changeType")),
    };
    let subject = Subject::read(text("resourceUrl").ok_or(SdkRefusal::Item("resourceUrl"))?);
    let data = item.get("resourceData").ok_or(SdkRefusal::Item("resourceData"))?;
    match data {
        Value::Object(_) => check_resource(data)?,
        Value::Array(parts) => parts.iter().filter(|part| part.is_object()).try_for_each(check_resource)?,
        // The SDK takes a roster without people.
        Value::Null if subject.as_ref().is_none_or(|subject| subject.depth > 0) => {}
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {
            return Err(SdkRefusal::Item("@odata.type in resourceData"));
        }
    }
    Ok(Some(SdkItem { change, subject, data: data.clone() }))
}

fn check_resource(data: &Value) -> Result<(), SdkRefusal> {
    let name = type_of(data).ok_or(SdkRefusal::Item("@odata.type in resourceData"))?;
    if !TYPES.contains(&name) && !name.ends_with("Operation") {
        return Err(SdkRefusal::UnknownType(name.chars().take(TYPE_LETTERS_MAX).collect()));
    }
    let has_context =
        || data.get("clientContext").and_then(Value::as_str).is_some_and(|text| !text.is_empty());
    if name.ends_with("Operation") && !has_context() {
        return Err(SdkRefusal::NoClientContext);
    }
    let targets = data.get("targets").and_then(Value::as_array).into_iter().flatten();
    if targets.into_iter().any(|target| type_of(target) == Some("participantInfo")) {
        return Err(SdkRefusal::Targets);
    }
    Ok(())
}

/// The name of the type without its namespace.
pub(super) fn type_of(data: &Value) -> Option<&str> {
    let name = data.get("@odata.type").and_then(Value::as_str)?;
    name.strip_prefix('#').unwrap_or(name).strip_prefix("microsoft.graph.")
}

impl Subject {
    /// Reads `/communications/calls/{id}…`, in any case. All other forms are `None`.
    fn read(url: &str) -> Option<Self> {
        let path = url.split(['?', '#']).next().unwrap_or_default();
        let path = path.strip_prefix('/').unwrap_or(path);
        let mut segments = path.strip_suffix('/').unwrap_or(path).split('/').map(str::to_ascii_lowercase);
        if segments.next().as_deref() != Some("communications") || segments.next().as_deref() != Some("calls")
        {
            return None;
        }
        let call = segments.next().filter(|call| !call.is_empty())?;
        let collection = segments.next();
        let depth = usize::from(collection.is_some()) + segments.count();
        Some(Self { call, collection, depth })
    }
}

/// The depth of nested arrays and objects. `serde_json` has bounded it before.
fn depth(value: &Value) -> usize {
    match value {
        Value::Array(parts) => 1 + parts.iter().map(depth).max().unwrap_or(0),
        Value::Object(members) => 1 + members.values().map(depth).max().unwrap_or(0),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => 0,
    }
}

const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";
const DEPTH_MAX: usize = 64;
const TYPE_LETTERS_MAX: usize = 100;

/// The types of resources besides the operations.
const TYPES: [&str; 9] = [
    "call",
    "participant",
    "deltaParticipants",
    "participantJoiningNotification",
    "participantLeftNotification",
    "audioRoutingGroup",
    "contentSharingSession",
    "commsNotification",
    "onlineMeeting",
];
