//! `RawCall`: a call resource as posted, and its conversion into a `Call`.

use std::borrow::Cow;

use serde::de::MapAccess;
use serde_json::value::RawValue;
use uuid::Uuid;

use super::{Call, CallState, Modality};
use crate::{
    json::{self, Receive},
    result_info::ResultInfo,
};

/// The members of a call as posted.
#[derive(Default)]
pub(crate) struct RawCall<'a> {
    state: Option<CallState>,
    chain_id: Option<Cow<'a, str>>,
    tenant_id: Option<Uuid>,
    media_region: Option<Cow<'a, str>>,
    modalities: Modalities,
    source: Source<'a>,
    context: IncomingContext<'a>,
    chat: ChatInfo<'a>,
    meeting: MeetingInfo<'a>,
    metadata: ApplicationMetadata<'a>,
}

impl<'a> RawCall<'a> {
    pub(crate) fn into_call(self, result: Option<ResultInfo>) -> Call<'a> {
        let Self {
            state,
            chain_id,
            tenant_id,
            media_region,
            modalities,
            source,
            context,
            chat,
            meeting,
            metadata,
        } = self;
        let policy_recording = context.is_observed || metadata.bot_data.is_policy;
        let observed_user =
            if policy_recording { context.on_behalf_of.user().or(source.identity.id) } else { None };
        Call {
            state,
            chain_id,
            tenant_id: tenant_id.or(source.identity.tenant_id),
            source_region: source.region,
            country: source.country,
            media_region: media_region.or(metadata.bot_data.media_region),
            organizer: meeting.organizer.user.id,
            organizer_tenant: meeting.organizer.user.tenant_id,
            thread_id: chat.thread_id,
            modalities: modalities.0,
            policy_recording,
            observed_user,
            result,
        }
    }
}

impl<'de> Receive<'de> for RawCall<'de> {
    fn member<M: MapAccess<'de>>(&mut self, name: &str, map: &mut M) -> Result<(), M::Error> {
        match name {
            "state" => self.state = json::text(map)?.map(CallState::from),
            "callChainId" => self.chain_id = json::text(map)?,
            "tenantId" => self.tenant_id = guid(map)?,
            "mediaHostedRegion" => self.media_region = json::text(map)?,
            "requestedModalities" => self.modalities = json::read(map)?,
            "source" => self.source = json::read(map)?,
            "incomingContext" => self.context = json::read(map)?,
            "chatInfo" => self.chat = json::read(map)?,
            "meetingInfo" => self.meeting = json::read(map)?,
            "applicationMetadata" => self.metadata = json::read(map)?,
            _ => json::skip(map)?,
        }
        Ok(())
    }
}

#[derive(Default)]
struct Modalities(Vec<Modality>);

impl<'de> Receive<'de> for Modalities {
    fn element(&mut self, index: usize, raw: &'de RawValue) {
        if index < MODALITIES_MAX {
            self.0.extend(json::text_of(raw).map(Modality::from));
        }
    }
}

/// `source`
#[derive(Default)]
struct Source<'a> {
    region: Option<Cow<'a, str>>,
    country: Option<Cow<'a, str>>,
    identity: IdentitySet<'a>,
}

impl<'de> Receive<'de> for Source<'de> {
    fn member<M: MapAccess<'de>>(&mut self, name: &str, map: &mut M) -> Result<(), M::Error> {
        match name {
            "region" => self.region = json::text(map)?,
            "countryCode" => self.country = json::text(map)?,
            "identity" => self.identity = json::read(map)?,
            _ => json::skip(map)?,
        }
        Ok(())
    }
}

/// One party, described by one or more identities. The first of `IDENTITY_KINDS` with an id counts.
#[derive(Default)]
struct IdentitySet<'a> {
    id: Option<Cow<'a, str>>,
    id_rank: usize,
    tenant_id: Option<Uuid>,
    tenant_rank: usize,
}

impl<'de> Receive<'de> for IdentitySet<'de> {
    fn member<M: MapAccess<'de>>(&mut self, name: &str, map: &mut M) -> Result<(), M::Error> {
        let Identity { id, tenant_id } = json::read(map)?;
        // The platform may add kinds. Kinds that are not listed come last.
        let rank = IDENTITY_KINDS.iter().position(|kind| *kind == name).unwrap_or(IDENTITY_KINDS.len());
        if id.is_some() && (self.id.is_none() || rank <= self.id_rank) {
            (self.id, self.id_rank) = (id, rank);
        }
        if tenant_id.is_some() && (self.tenant_id.is_none() || rank <= self.tenant_rank) {
            (self.tenant_id, self.tenant_rank) = (tenant_id, rank);
        }
        Ok(())
    }
}

/// One identity of a set.
#[derive(Default)]
struct Identity<'a> {
    id: Option<Cow<'a, str>>,
    tenant_id: Option<Uuid>,
}

impl<'de> Receive<'de> for Identity<'de> {
    fn member<M: MapAccess<'de>>(&mut self, name: &str, map: &mut M) -> Result<(), M::Error> {
        match name {
            "id" => self.id = json::text(map)?,
            "tenantId" => self.tenant_id = guid(map)?,
            _ => json::skip(map)?,
        }
        Ok(())
    }
}

/// `incomingContext`
#[derive(Default)]
struct IncomingContext<'a> {
    is_observed: bool,
    on_behalf_of: OnBehalfOf<'a>,
}

impl<'de> Receive<'de> for IncomingContext<'de> {
    fn member<M: MapAccess<'de>>(&mut self, name: &str, map: &mut M) -> Result<(), M::Error> {
        match name {
            "observedParticipantId" => self.is_observed = json::text(map)?.is_some(),
            "onBehalfOf" => self.on_behalf_of = json::read(map)?,
            _ => json::skip(map)?,
        }
        Ok(())
    }
}

/// Documented as an identity set. A text, a single identity and a participant are accepted, too.
#[derive(Default)]
struct OnBehalfOf<'a> {
    text: Option<Cow<'a, str>>,
    id: Option<Cow<'a, str>>,
    participant: IdentitySet<'a>,
    set: IdentitySet<'a>,
}

impl<'a> OnBehalfOf<'a> {
    fn user(self) -> Option<Cow<'a, str>> {
        self.set.id.or(self.participant.id).or(self.id).or(self.text)
    }
}

impl<'de> Receive<'de> for OnBehalfOf<'de> {
    fn member<M: MapAccess<'de>>(&mut self, name: &str, map: &mut M) -> Result<(), M::Error> {
        match name {
            "id" => self.id = json::text(map)?,
            "identity" => self.participant = json::read(map)?,
            _ => self.set.member(name, map)?,
        }
        Ok(())
    }

    fn text(&mut self, text: Cow<'de, str>) {
        self.text = Some(text).filter(|text| !text.is_empty()).map(without_mri_prefix);
    }
}

/// `chatInfo`
#[derive(Default)]
struct ChatInfo<'a> {
    thread_id: Option<Cow<'a, str>>,
}

impl<'de> Receive<'de> for ChatInfo<'de> {
    fn member<M: MapAccess<'de>>(&mut self, name: &str, map: &mut M) -> Result<(), M::Error> {
        match name {
            "threadId" => self.thread_id = json::text(map)?,
            _ => json::skip(map)?,
        }
        Ok(())
    }
}

/// `meetingInfo`
#[derive(Default)]
struct MeetingInfo<'a> {
    organizer: Organizer<'a>,
}

impl<'de> Receive<'de> for MeetingInfo<'de> {
    fn member<M: MapAccess<'de>>(&mut self, name: &str, map: &mut M) -> Result<(), M::Error> {
        match name {
            "organizer" => self.organizer = json::read(map)?,
            _ => json::skip(map)?,
        }
        Ok(())
    }
}

/// `meetingInfo.organizer`
#[derive(Default)]
struct Organizer<'a> {
    user: Identity<'a>,
}

impl<'de> Receive<'de> for Organizer<'de> {
    fn member<M: MapAccess<'de>>(&mut self, name: &str, map: &mut M) -> Result<(), M::Error> {
        match name {
            "user" => self.user = json::read(map)?,
            _ => json::skip(map)?,
        }
        Ok(())
    }
}

/// `applicationMetadata`
#[derive(Default)]
struct ApplicationMetadata<'a> {
    bot_data: BotData<'a>,
}

impl<'de> Receive<'de> for ApplicationMetadata<'de> {
    fn member<M: MapAccess<'de>>(&mut self, name: &str, map: &mut M) -> Result<(), M::Error> {
        match name {
            "botData" => self.bot_data = json::read(map)?,
            _ => json::skip(map)?,
        }
        Ok(())
    }
}

/// `applicationMetadata.botData`
///
/// One mark of a policy is enough: a call that is treated as a policy call by mistake gets less time than it
/// has, but a policy call that is not recognised is lost. `isMultiParty` is not a mark: it is about the
/// number of participants.
#[derive(Default)]
struct BotData<'a> {
    media_region: Option<Cow<'a, str>>,
    is_policy: bool,
}

impl<'de> Receive<'de> for BotData<'de> {
    fn member<M: MapAccess<'de>>(&mut self, name: &str, map: &mut M) -> Result<(), M::Error> {
        match name {
            "mediaHostedRegion" => self.media_region = json::text(map)?,
            "inviteReasons" => self.is_policy |= json::read::<InviteReasons, M>(map)?.is_policy,
            "policyIdentifier" => self.is_policy |= json::text(map)?.is_some(),
            "pairedRecorders" | "otherRecorders" => self.is_policy |= json::read::<NotEmpty, M>(map)?.0,
            "user" => self.is_policy |= json::read::<BotUser, M>(map)?.is_policy_holder,
            _ => json::skip(map)?,
        }
        Ok(())
    }
}

#[derive(Default)]
struct InviteReasons {
    is_policy: bool,
}

impl<'de> Receive<'de> for InviteReasons {
    fn element(&mut self, _: usize, raw: &'de RawValue) {
        self.is_policy |= json::text_of(raw).is_some_and(|reason| {
            reason.eq_ignore_ascii_case("ComplianceRecording")
                || reason.eq_ignore_ascii_case("PolicyBasedRecording")
        });
    }
}

#[derive(Default)]
struct NotEmpty(bool);

impl<'de> Receive<'de> for NotEmpty {
    fn element(&mut self, _: usize, _: &'de RawValue) {
        self.0 = true;
    }
}

/// `applicationMetadata.botData.user`
#[derive(Default)]
struct BotUser {
    is_policy_holder: bool,
}

impl<'de> Receive<'de> for BotUser {
    fn member<M: MapAccess<'de>>(&mut self, name: &str, map: &mut M) -> Result<(), M::Error> {
        match name {
            "policyHolderId" => self.is_policy_holder = json::text(map)?.is_some(),
            _ => json::skip(map)?,
        }
        Ok(())
    }
}

fn guid<'de, M: MapAccess<'de>>(map: &mut M) -> Result<Option<Uuid>, M::Error> {
    Ok(json::text(map)?.and_then(|text| Uuid::try_parse(&text).ok()))
}

/// Returns the object id of `8:orgid:{object id}`, so that a rule can name a user in one way only. Other
/// texts do not change.
fn without_mri_prefix(text: Cow<'_, str>) -> Cow<'_, str> {
    match text {
        Cow::Borrowed(text) => Cow::Borrowed(
            USER_MRI_PREFIXES.iter().find_map(|prefix| text.strip_prefix(prefix)).unwrap_or(text),
        ),
        Cow::Owned(text) => Cow::Owned(
            USER_MRI_PREFIXES.iter().find_map(|prefix| text.strip_prefix(prefix)).unwrap_or(&text).to_owned(),
        ),
    }
}

/// The kinds of identity, in the order of preference. An app without call permissions receives `encrypted`.
const IDENTITY_KINDS: [&str; 7] =
    ["user", "guest", "phone", "encrypted", "onPremises", "applicationInstance", "application"];

/// The prefixes of users in the public cloud, GCC High and DoD.
const USER_MRI_PREFIXES: [&str; 3] = ["8:orgid:", "8:gcch:", "8:dod:"];

/// There are five modalities. A body of one megabyte could name a quarter of a million.
const MODALITIES_MAX: usize = 16;
