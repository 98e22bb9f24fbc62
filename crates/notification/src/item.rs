//! `Item`: one notification of a Graph body.

use std::borrow::Cow;

use crate::{
    call::{Call, CallState},
    data::{Data, RawData},
    error::{ErrorCode, InvalidNotification},
    id::CallId,
    json::{self, Malformed, Receive, Received, Shape, Value},
    labelled::labelled,
    resource::{Resource, ResourcePart},
};

/// One item of a Graph body.
#[derive(Debug)]
pub struct Item<'a> {
    /// The JSON of the item, byte for byte.
    pub raw: &'a str,
    /// Its `changeType`.
    pub change_type: ChangeType,
    /// The resource that changed, by its path; `None` if the item is not about a call.
    pub resource: Option<Resource<'a>>,
    /// The content of `resourceData`.
    pub data: Data<'a>,
}

impl<'a> Item<'a> {
    /// Returns the id of the call that the item is about.
    pub fn call_id(&self) -> Option<&CallId<'a>> {
        self.resource.as_ref().map(|resource| &resource.call_id)
    }

    /// Returns the call if it is a new incoming call: created, a call, in the state incoming.
    pub fn new_call(&self) -> Option<&Call<'a>> {
        let Some(Resource { part: ResourcePart::Call, .. }) = &self.resource else { return None };
        match &self.data {
            Data::Call(call)
                if self.change_type == ChangeType::Created && call.state == Some(CallState::Incoming) =>
            {
                Some(call)
            }
            Data::Absent
            | Data::Call(_)
            | Data::ParticipantJoining
            | Data::ParticipantLeft
            | Data::Operation(_)
            | Data::List(_)
            | Data::Other => None,
        }
    }

    /// Returns the kind of the item, for logs and metrics.
    pub fn kind(&self) -> ItemKind {
        let Some(Resource { part, .. }) = &self.resource else { return ItemKind::NoCall };
        match (&self.data, part) {
            (Data::ParticipantJoining, _) => ItemKind::ParticipantJoining,
            (Data::ParticipantLeft, _) => ItemKind::ParticipantLeft,
            // One published roster has the path `/operations/participants`. Operations are never arrays.
            (_, ResourcePart::Participants) | (Data::List(_), ResourcePart::Operations) => ItemKind::Roster,
            (_, ResourcePart::Operations) | (Data::Operation(_), _) => ItemKind::Operation,
            (_, ResourcePart::ContentSharingSessions) => ItemKind::ContentSharing,
            (Data::Call(_), ResourcePart::Call) if self.new_call().is_some() => ItemKind::IncomingCall,
            (Data::Call(_) | Data::Absent, ResourcePart::Call) => ItemKind::CallState,
            (Data::List(_) | Data::Other, ResourcePart::Call) | (_, ResourcePart::Other) => ItemKind::Other,
        }
    }

    /// Converts the received item at `index` of `value`. `raw` is its JSON.
    pub(crate) fn new(
        index: usize,
        raw: &'a str,
        received: Received<RawItem<'a>>,
    ) -> Result<Self, InvalidNotification> {
        let error =
            |code, message: String| InvalidNotification::new(code, format!("value[{index}]{message}"));

        let Received { shape: Shape::Object, value: item } = received else {
            return Err(error(ErrorCode::ItemNotObject, " is not an object".into()));
        };
        if let Some(name) = item.duplicate {
            return Err(error(ErrorCode::Duplicate, format!(".{name} occurs twice")));
        }
        let change_type = ChangeType::of(item.change_type)
            .map_err(|problem| error(ErrorCode::ChangeType, format!(".changeType {problem}")))?;

        let find = |name: &str, path: Option<&'a str>| {
            let path = path.and_then(json::text_of);
            path.map_or(Ok(None), Resource::parse)
                .map_err(|invalid| error(ErrorCode::CallId, format!(".{name}: {invalid}")))
        };
        // `resource` is the older name. If the two differ, `resourceUrl` counts.
        let mut resource = find("resourceUrl", item.resource_url)?;
        if resource.is_none() {
            resource = find("resource", item.resource)?;
        }
        let mut data = item.data.unwrap_or_default();
        if resource.is_none()
            && let Some(id) = data.value.take_call_id()
        {
            let call_id = CallId::parse(id)
                .map_err(|invalid| error(ErrorCode::CallId, format!(".resourceData.id: {invalid}")))?;
            resource = Some(Resource { call_id, part: ResourcePart::Call });
        }

        let data = Data::new(data, resource.as_ref().map(|resource| resource.part));
        Ok(Self { raw, change_type, resource, data })
    }

    /// Returns the paths that the item names, about a call or not, for error messages.
    pub(crate) fn paths(&self) -> Vec<Cow<'a, str>> {
        let Ok(Received { value: item, .. }) = json::receive::<RawItem<'_>>(self.raw) else {
            return Vec::new();
        };
        [item.resource_url, item.resource].into_iter().flatten().filter_map(json::text_of).collect()
    }
}

labelled! {
    /// The kind of an item, for logs and metrics.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
    pub enum ItemKind {
        /// A new incoming call.
        IncomingCall = "incoming_call",
        /// A call's state changed.
        CallState = "call_state",
        /// The participants of a call changed.
        Roster = "roster",
        /// An operation finished or progressed.
        Operation = "operation",
        /// Content sharing started, changed or stopped.
        ContentSharing = "content_sharing",
        /// A participant is about to join. The bot decides in the body of its response.
        ParticipantJoining = "participant_joining",
        /// A participant left.
        ParticipantLeft = "participant_left",
        /// The item is about a call, and this version does not know its kind.
        Other = "other",
        /// The item is not about a call.
        NoCall = "not_a_call",
    }
}

labelled! {
    /// `changeType`. The labels are the values as Microsoft spells them.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub enum ChangeType {
        /// created
        Created = "created",
        /// updated
        Updated = "updated",
        /// deleted
        Deleted = "deleted",
    }
}

impl ChangeType {
    /// Parses the value. The error completes the sentence "changeType …".
    fn of(raw: Option<&str>) -> Result<Self, &'static str> {
        let raw = raw.ok_or("is missing")?;
        if !raw.starts_with('"') {
            return Err("is not a string");
        }
        let text = json::text_of(raw).unwrap_or_default();
        Self::ALL
            .iter()
            .copied()
            .find(|change_type| change_type.label().eq_ignore_ascii_case(&text))
            .ok_or("is not created, updated or deleted")
    }
}

/// The members of an item, unparsed.
#[derive(Default)]
pub(crate) struct RawItem<'a> {
    change_type: Option<&'a str>,
    resource: Option<&'a str>,
    resource_url: Option<&'a str>,
    data: Option<Received<RawData<'a>>>,
    duplicate: Option<&'static str>,
}

impl<'a> Receive<'a> for RawItem<'a> {
    fn member(&mut self, name: &str, value: Value<'_, 'a>) -> Result<(), Malformed> {
        let is_first = match name {
            "changeType" => self.change_type.replace(value.raw()?).is_none(),
            "resource" => self.resource.replace(value.raw()?).is_none(),
            "resourceUrl" => self.resource_url.replace(value.raw()?).is_none(),
            "resourceData" => self.data.replace(value.receive()?).is_none(),
            _ => return value.skip(),
        };
        if !is_first {
            self.duplicate = ["changeType", "resource", "resourceUrl", "resourceData"]
                .into_iter()
                .find(|own| *own == name);
        }
        Ok(())
    }
}
