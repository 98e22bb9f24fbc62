//! `Data`: the content of `resourceData`.

use std::borrow::Cow;

use crate::{
    call::{Call, RawCall},
    json::{Malformed, Receive, Received, Shape, Value},
    resource::ResourcePart,
    result_info::ResultInfo,
};

/// The content of `resourceData`.
#[derive(Debug)]
pub enum Data<'a> {
    /// There is no `resourceData`, or it is neither an object nor an array.
    Absent,
    /// `#microsoft.graph.call`, or an object without a type if the path names the call itself.
    Call(Box<Call<'a>>),
    /// `#microsoft.graph.participantJoiningNotification`
    ParticipantJoining,
    /// `#microsoft.graph.participantLeftNotification`
    ParticipantLeft,
    /// `#microsoft.graph.commsOperation` or one of its subtypes.
    Operation(Operation<'a>),
    /// An array (participants, content sharing sessions), with its length.
    List(usize),
    /// Another object.
    Other,
}

impl<'a> Data<'a> {
    /// Converts the received value. `part` is the part of a call that the item's path names.
    pub(crate) fn new(received: Received<RawData<'a>>, part: Option<ResourcePart>) -> Self {
        match received.shape {
            Shape::Scalar => Self::Absent,
            Shape::Array(length) => Self::List(length),
            Shape::Object => received.value.into_data(part),
        }
    }
}

/// `#microsoft.graph.commsOperation` and its subtypes.
#[derive(Debug)]
pub struct Operation<'a> {
    /// The name of the type without `#microsoft.graph.`.
    pub name: Cow<'a, str>,
    /// `notStarted`, `running`, `completed` or `failed`.
    pub status: Option<Cow<'a, str>>,
    /// Its result.
    pub result: Option<ResultInfo>,
}

/// `resourceData` before its type is known. It collects the members of all types, so that one pass is enough.
#[derive(Default)]
pub(crate) struct RawData<'a> {
    odata_type: Option<Cow<'a, str>>,
    id: Option<Cow<'a, str>>,
    status: Option<Cow<'a, str>>,
    result: Option<ResultInfo>,
    call: RawCall<'a>,
}

impl<'a> Receive<'a> for RawData<'a> {
    fn member(&mut self, name: &str, value: Value<'_, 'a>) -> Result<(), Malformed> {
        match name {
            "@odata.type" => self.odata_type = value.text()?,
            "id" => self.id = value.text()?,
            "status" => self.status = value.text()?,
            "resultInfo" => {
                let result: Received<ResultInfo> = value.receive()?;
                self.result = (result.shape == Shape::Object).then_some(result.value);
            }
            _ => self.call.member(name, value)?,
        }
        Ok(())
    }
}

impl<'a> RawData<'a> {
    /// Removes and returns the id, if the type is a call.
    pub(crate) fn take_call_id(&mut self) -> Option<Cow<'a, str>> {
        let is_call =
            self.odata_type.as_deref().is_some_and(|name| short_name(name).eq_ignore_ascii_case("call"));
        if is_call { self.id.take() } else { None }
    }

    fn into_data(self, part: Option<ResourcePart>) -> Data<'a> {
        let Some(odata_type) = self.odata_type else {
            return match part {
                Some(ResourcePart::Call) => Data::Call(Box::new(self.call.into_call(self.result))),
                Some(ResourcePart::Operations) => {
                    let name = Cow::Borrowed("commsOperation");
                    Data::Operation(Operation { name, status: self.status, result: self.result })
                }
                Some(
                    ResourcePart::Participants | ResourcePart::ContentSharingSessions | ResourcePart::Other,
                )
                | None => Data::Other,
            };
        };
        match short_name(&odata_type) {
            name if name.eq_ignore_ascii_case("call") => {
                Data::Call(Box::new(self.call.into_call(self.result)))
            }
            name if name.eq_ignore_ascii_case("participantJoiningNotification") => Data::ParticipantJoining,
            name if name.eq_ignore_ascii_case("participantLeftNotification") => Data::ParticipantLeft,
            // All operations have such a name, also those of later versions.
            name if ends_with(name, "Operation") => {
                let name = match &odata_type {
                    Cow::Borrowed(text) => Cow::Borrowed(short_name(text)),
                    Cow::Owned(text) => Cow::Owned(short_name(text).to_owned()),
                };
                Data::Operation(Operation { name, status: self.status, result: self.result })
            }
            _ => Data::Other,
        }
    }
}

/// Returns `call` for `#microsoft.graph.call`.
fn short_name(odata_type: &str) -> &str {
    let name = odata_type.strip_prefix('#').unwrap_or(odata_type);
    match name.split_at_checked(NAMESPACE.len()) {
        Some((namespace, name)) if namespace.eq_ignore_ascii_case(NAMESPACE) => name,
        Some(_) | None => name,
    }
}

/// Returns true if `text` ends with `end`, without regard to ASCII case.
fn ends_with(text: &str, end: &str) -> bool {
    let start = text.len().saturating_sub(end.len());
    text.get(start..).is_some_and(|tail| tail.eq_ignore_ascii_case(end))
}

const NAMESPACE: &str = "microsoft.graph.";
