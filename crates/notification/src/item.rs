//! `Item`: one notification of a Graph body.

use std::borrow::Cow;

use serde::de::MapAccess;
use serde_json::value::RawValue;

use crate::{
    call::{Call, CallState},
    data::{Data, RawData},
    error::{ErrorCode, InvalidNotification},
    id::CallId,
    json::{self, Receive, Received},
    resource::{Resource, ResourcePart},
};

/// One item of a Graph body.
#[derive(Debug)]
pub struct Item<'a> {
    /// The item's JSON, byte for byte.
    pub raw: &'a str,
    /// created, updated or deleted.
    pub change_type: ChangeType,
    /// Which resource changed, by its path; `None` when the item is not about a call.
    pub resource: Option<Resource<'a>>,
    /// What `resourceData` holds.
    pub data: Data<'a>,
}

impl<'a> Item<'a> {
    /// The call that the item is about.
    pub fn call_id(&self) -> Option<&CallId<'a>> {
        self.resource.as_ref().map(|resource| &resource.call_id)
    }

    /// The call, if this is a new incoming call: created, a call, its state incoming.
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

    /// What the item is, for logs and counters.
    pub fn kind(&self) -> ItemKind {
        let Some(Resource { part, .. }) = &self.resource else { return ItemKind::NotACall };
        match (&self.data, part) {
            (Data::ParticipantJoining, _) => ItemKind::ParticipantJoining,
            (Data::ParticipantLeft, _) => ItemKind::ParticipantLeft,
            // One published roster has the path `/operations/participants`; operations are never arrays.
            (_, ResourcePart::Participants) | (Data::List(_), ResourcePart::Operations) => ItemKind::Roster,
            (_, ResourcePart::Operations) | (Data::Operation(_), _) => ItemKind::Operation,
            (_, ResourcePart::ContentSharingSessions) => ItemKind::ContentSharing,
            (Data::Call(_), ResourcePart::Call) if self.new_call().is_some() => ItemKind::IncomingCall,
            (Data::Call(_) | Data::Absent, ResourcePart::Call) => ItemKind::CallState,
            (Data::List(_) | Data::Other, ResourcePart::Call) | (_, ResourcePart::Other) => ItemKind::Other,
        }
    }

    /// Reads the item at `index` of `value`.
    pub(crate) fn parse(index: usize, raw: &'a RawValue) -> Result<Self, InvalidNotification> {
        let error =
            |code, message: String| InvalidNotification::new(code, format!("value[{index}]{message}"));

        if !raw.get().starts_with('{') {
            return Err(error(ErrorCode::ItemNotObject, " is not an object".into()));
        }
        let item = RawItem::read(raw).map_err(|_| error(ErrorCode::NotJson, " is not JSON".into()))?;
        if let Some(name) = item.duplicate {
            return Err(error(ErrorCode::Duplicate, format!(".{name} appears twice")));
        }
        let change_type = ChangeType::of(item.change_type)
            .map_err(|problem| error(ErrorCode::ChangeType, format!(".changeType {problem}")))?;

        let find = |name: &str, path: Option<&'a RawValue>| {
            let path = path.and_then(json::text_of);
            path.map_or(Ok(None), Resource::parse)
                .map_err(|invalid| error(ErrorCode::CallId, format!(".{name} names {invalid}")))
        };
        // `resource` is the older name: where the two differ, it gives way.
        let mut resource = find("resourceUrl", item.resource_url)?;
        if resource.is_none() {
            resource = find("resource", item.resource)?;
        }
        let mut data = item.data.unwrap_or_default();
        if resource.is_none()
            && let Some(id) = data.value.take_call_id()
        {
            let call_id = CallId::parse(id)
                .map_err(|invalid| error(ErrorCode::CallId, format!(".resourceData.id is {invalid}")))?;
            resource = Some(Resource { call_id, part: ResourcePart::Call });
        }

        let data = Data::new(data, resource.as_ref().map(|resource| resource.part));
        Ok(Self { raw: raw.get(), change_type, resource, data })
    }

    /// The paths that the item names, about a call or not; for error messages.
    pub(crate) fn paths(&self) -> Vec<Cow<'a, str>> {
        let Ok(Ok(item)) = serde_json::from_str(self.raw).map(RawItem::read) else { return Vec::new() };
        [item.resource_url, item.resource].into_iter().flatten().filter_map(json::text_of).collect()
    }
}

/// What an item is, for logs and counters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ItemKind {
    /// A new incoming call.
    IncomingCall,
    /// A call's state changed.
    CallState,
    /// The participants of a call changed.
    Roster,
    /// An operation finished or progressed.
    Operation,
    /// Content sharing began, changed or ended.
    ContentSharing,
    /// A participant is about to join; the bot answers in the response body.
    ParticipantJoining,
    /// A participant left.
    ParticipantLeft,
    /// About a call, in a way this version does not know.
    Other,
    /// Not about a call.
    NotACall,
}

impl ItemKind {
    /// A stable name for logs and metrics.
    pub fn label(self) -> &'static str {
        match self {
            Self::IncomingCall => "incoming_call",
            Self::CallState => "call_state",
            Self::Roster => "roster",
            Self::Operation => "operation",
            Self::ContentSharing => "content_sharing",
            Self::ParticipantJoining => "participant_joining",
            Self::ParticipantLeft => "participant_left",
            Self::Other => "other",
            Self::NotACall => "not_a_call",
        }
    }
}

/// `changeType`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChangeType {
    /// created
    Created,
    /// updated
    Updated,
    /// deleted
    Deleted,
}

impl ChangeType {
    /// The value, or what is wrong with it.
    fn of(raw: Option<&RawValue>) -> Result<Self, &'static str> {
        let raw = raw.ok_or("is missing")?;
        if !raw.get().starts_with('"') {
            return Err("is not a string");
        }
        let text = json::text_of(raw).unwrap_or_default();
        [Self::Created, Self::Updated, Self::Deleted]
            .into_iter()
            .find(|change_type| change_type.label().eq_ignore_ascii_case(&text))
            .ok_or("is not created, updated or deleted")
    }

    /// The value as Microsoft spells it.
    pub fn label(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Updated => "updated",
            Self::Deleted => "deleted",
        }
    }
}

/// An item's members, before anything is known of them.
#[derive(Default)]
struct RawItem<'a> {
    change_type: Option<&'a RawValue>,
    resource: Option<&'a RawValue>,
    resource_url: Option<&'a RawValue>,
    data: Option<Received<RawData<'a>>>,
    duplicate: Option<&'static str>,
}

impl<'a> RawItem<'a> {
    /// The JSON is known to be whole. What can still fail is a number beyond what a float can hold, in a place where no
    /// number belongs: like any wrong type it costs the data, not the notification.
    fn read(raw: &'a RawValue) -> Result<Self, serde_json::Error> {
        let item = serde_json::from_str::<Received<Self>>(raw.get()).map(|received| received.value);
        item.or_else(|_| {
            serde_json::from_str::<Received<WithoutData<'a>>>(raw.get()).map(|received| received.value.0)
        })
    }
}

impl<'de> Receive<'de> for RawItem<'de> {
    fn member<M: MapAccess<'de>>(&mut self, name: &str, map: &mut M) -> Result<(), M::Error> {
        let is_first = match name {
            "changeType" => self.change_type.replace(map.next_value()?).is_none(),
            "resource" => self.resource.replace(map.next_value()?).is_none(),
            "resourceUrl" => self.resource_url.replace(map.next_value()?).is_none(),
            "resourceData" => self.data.replace(map.next_value()?).is_none(),
            _ => return json::skip(map),
        };
        if !is_first {
            self.duplicate = ["changeType", "resource", "resourceUrl", "resourceData"]
                .into_iter()
                .find(|own| *own == name);
        }
        Ok(())
    }
}

#[derive(Default)]
struct WithoutData<'a>(RawItem<'a>);

impl<'de> Receive<'de> for WithoutData<'de> {
    fn member<M: MapAccess<'de>>(&mut self, name: &str, map: &mut M) -> Result<(), M::Error> {
        if name != "resourceData" {
            return self.0.member(name, map);
        }
        if self.0.data.replace(Received::default()).is_some() {
            self.0.duplicate = Some("resourceData");
        }
        json::skip(map)
    }
}
