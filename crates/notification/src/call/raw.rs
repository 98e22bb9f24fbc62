//! `RawCall`: a call resource as posted, and its conversion into a `Call`.

use std::borrow::Cow;

use uuid::Uuid;

use super::{Call, CallState, Modality};
use crate::{
    json::{self, Malformed, Receive, Value, text_of},
    result_info::ResultInfo,
};

/// The members of a call as posted. The ones that only a new call needs are not read yet: most notifications
/// are about other calls.
#[derive(Default)]
pub(crate) struct RawCall<'a> {
    state: Option<CallState>,
    chain_id: Option<Cow<'a, str>>,
    tenant_id: Option<&'a str>,
    media_region: Option<&'a str>,
    modalities: Option<&'a str>,
    source: Option<&'a str>,
    context: Option<&'a str>,
    chat: Option<&'a str>,
    meeting: Option<&'a str>,
    metadata: Option<&'a str>,
}

impl<'a> RawCall<'a> {
    pub(crate) fn into_call(self, result: Option<ResultInfo>) -> Call<'a> {
        let Self { state, chain_id, .. } = self;
        if state != Some(CallState::Incoming) {
            return Call { state, chain_id, result, ..Call::default() };
        }
        let source: Source<'_> = read(self.source);
        let context: IncomingContext<'_> = read(self.context);
        let metadata: ApplicationMetadata<'_> = read(self.metadata);
        let organizer = read::<MeetingInfo<'_>>(self.meeting).organizer.user;
        let policy_recording = context.is_observed || metadata.bot_data.is_policy;
        let observed_user =
            if policy_recording { context.on_behalf_of.user().or(source.identity.id) } else { None };
        Call {
            state,
            chain_id,
            tenant_id: self.tenant_id.and_then(guid_of).or(source.identity.tenant_id),
            source_region: source.region,
            country: source.country,
            media_region: self.media_region.and_then(text_of).or(metadata.bot_data.media_region),
            organizer: organizer.id,
            organizer_tenant: organizer.tenant_id,
            thread_id: read::<ChatInfo<'_>>(self.chat).thread_id,
            modalities: read::<Modalities>(self.modalities).0,
            policy_recording,
            observed_user,
            result,
        }
    }
}

/// Reads the bytes of a value.
fn read<'a, T: Receive<'a>>(raw: Option<&'a str>) -> T {
    let received = raw.and_then(|raw| json::receive(raw).ok());
    received.map_or_else(T::default, |received| received.value)
}

impl<'a> Receive<'a> for RawCall<'a> {
    fn member(&mut self, name: &str, value: Value<'_, 'a>) -> Result<(), Malformed> {
        let member = match name {
            "state" => {
                self.state = value.text()?.map(CallState::from);
                return Ok(());
            }
            "callChainId" => {
                self.chain_id = value.text()?;
                return Ok(());
            }
            "tenantId" => &mut self.tenant_id,
            "mediaHostedRegion" => &mut self.media_region,
            "requestedModalities" => &mut self.modalities,
            "source" => &mut self.source,
            "incomingContext" => &mut self.context,
            "chatInfo" => &mut self.chat,
            "meetingInfo" => &mut self.meeting,
            "applicationMetadata" => &mut self.metadata,
            _ => return value.skip(),
        };
        *member = Some(value.raw()?);
        Ok(())
    }
}

#[derive(Default)]
struct Modalities(Vec<Modality>);

impl<'a> Receive<'a> for Modalities {
    fn element(&mut self, index: usize, value: Value<'_, 'a>) -> Result<(), Malformed> {
        let modality = value.text()?;
        if index < MODALITIES_MAX {
            self.0.extend(modality.map(Modality::from));
        }
        Ok(())
    }
}

/// `source`
#[derive(Default)]
struct Source<'a> {
    region: Option<Cow<'a, str>>,
    country: Option<Cow<'a, str>>,
    identity: IdentitySet<'a>,
}

impl<'a> Receive<'a> for Source<'a> {
    fn member(&mut self, name: &str, value: Value<'_, 'a>) -> Result<(), Malformed> {
        match name {
            "region" => self.region = value.text()?,
            "countryCode" => self.country = value.text()?,
            "identity" => self.identity = value.read()?,
            _ => value.skip()?,
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

impl<'a> Receive<'a> for IdentitySet<'a> {
    fn member(&mut self, name: &str, value: Value<'_, 'a>) -> Result<(), Malformed> {
        let Identity { id, tenant_id } = value.read()?;
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

impl<'a> Receive<'a> for Identity<'a> {
    fn member(&mut self, name: &str, value: Value<'_, 'a>) -> Result<(), Malformed> {
        match name {
            "id" => self.id = value.text()?,
            "tenantId" => self.tenant_id = guid(value)?,
            _ => value.skip()?,
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

impl<'a> Receive<'a> for IncomingContext<'a> {
    fn member(&mut self, name: &str, value: Value<'_, 'a>) -> Result<(), Malformed> {
        match name {
            "observedParticipantId" => self.is_observed = value.text()?.is_some(),
            "onBehalfOf" => self.on_behalf_of = value.read()?,
            _ => value.skip()?,
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

impl<'a> Receive<'a> for OnBehalfOf<'a> {
    fn member(&mut self, name: &str, value: Value<'_, 'a>) -> Result<(), Malformed> {
        match name {
            "id" => self.id = value.text()?,
            "identity" => self.participant = value.read()?,
            _ => self.set.member(name, value)?,
        }
        Ok(())
    }

    fn text(&mut self, text: Cow<'a, str>) {
        self.text = Some(without_mri_prefix(text));
    }
}

/// `chatInfo`
#[derive(Default)]
struct ChatInfo<'a> {
    thread_id: Option<Cow<'a, str>>,
}

impl<'a> Receive<'a> for ChatInfo<'a> {
    fn member(&mut self, name: &str, value: Value<'_, 'a>) -> Result<(), Malformed> {
        match name {
            "threadId" => self.thread_id = value.text()?,
            _ => value.skip()?,
        }
        Ok(())
    }
}

/// `meetingInfo`
#[derive(Default)]
struct MeetingInfo<'a> {
    organizer: Organizer<'a>,
}

impl<'a> Receive<'a> for MeetingInfo<'a> {
    fn member(&mut self, name: &str, value: Value<'_, 'a>) -> Result<(), Malformed> {
        match name {
            "organizer" => self.organizer = value.read()?,
            _ => value.skip()?,
        }
        Ok(())
    }
}

/// `meetingInfo.organizer`
#[derive(Default)]
struct Organizer<'a> {
    user: Identity<'a>,
}

impl<'a> Receive<'a> for Organizer<'a> {
    fn member(&mut self, name: &str, value: Value<'_, 'a>) -> Result<(), Malformed> {
        match name {
            "user" => self.user = value.read()?,
            _ => value.skip()?,
        }
        Ok(())
    }
}

/// `applicationMetadata`
#[derive(Default)]
struct ApplicationMetadata<'a> {
    bot_data: BotData<'a>,
}

impl<'a> Receive<'a> for ApplicationMetadata<'a> {
    fn member(&mut self, name: &str, value: Value<'_, 'a>) -> Result<(), Malformed> {
        match name {
            "botData" => self.bot_data = value.read()?,
            _ => value.skip()?,
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

impl<'a> Receive<'a> for BotData<'a> {
    fn member(&mut self, name: &str, value: Value<'_, 'a>) -> Result<(), Malformed> {
        match name {
            "mediaHostedRegion" => self.media_region = value.text()?,
            "inviteReasons" => self.is_policy |= value.read::<InviteReasons>()?.is_policy,
            "policyIdentifier" => self.is_policy |= value.text()?.is_some(),
            "pairedRecorders" | "otherRecorders" => self.is_policy |= value.read::<NotEmpty>()?.0,
            "user" => self.is_policy |= value.read::<BotUser>()?.is_policy_holder,
            _ => value.skip()?,
        }
        Ok(())
    }
}

#[derive(Default)]
struct InviteReasons {
    is_policy: bool,
}

impl<'a> Receive<'a> for InviteReasons {
    fn element(&mut self, _: usize, value: Value<'_, 'a>) -> Result<(), Malformed> {
        self.is_policy |= value.text()?.is_some_and(|reason| {
            reason.eq_ignore_ascii_case("ComplianceRecording")
                || reason.eq_ignore_ascii_case("PolicyBasedRecording")
        });
        Ok(())
    }
}

#[derive(Default)]
struct NotEmpty(bool);

impl<'a> Receive<'a> for NotEmpty {
    fn element(&mut self, _: usize, value: Value<'_, 'a>) -> Result<(), Malformed> {
        self.0 = true;
        value.skip()
    }
}

/// `applicationMetadata.botData.user`
#[derive(Default)]
struct BotUser {
    is_policy_holder: bool,
}

impl<'a> Receive<'a> for BotUser {
    fn member(&mut self, name: &str, value: Value<'_, 'a>) -> Result<(), Malformed> {
        match name {
            "policyHolderId" => self.is_policy_holder = value.text()?.is_some(),
            _ => value.skip()?,
        }
        Ok(())
    }
}

fn guid(value: Value<'_, '_>) -> Result<Option<Uuid>, Malformed> {
    value.raw().map(guid_of)
}

fn guid_of(raw: &str) -> Option<Uuid> {
    text_of(raw).and_then(|text| Uuid::try_parse(&text).ok())
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
