//! `Action::parse`: each member of an action's JSON, and what it must be.

use url::Url;
use uuid::Uuid;

use super::{
    Action,
    answer::{Answer, CAPACITY_MUST, CallOptions, GraphModality, MODALITIES_MUST, MediaConfig, Prompt},
    error::InvalidAction,
    json::{self, Members, Node},
    redirect::{Redirect, TARGETS_MUST, TIMEOUT_MUST},
    reject::{Reject, RejectReason},
    target::{RedirectTarget, RedirectTargetKind},
};

impl Action {
    /// Parses the JSON of an action. It is strict: an unknown member is an error, since it may be a misspelt
    /// one.
    ///
    /// # Errors
    ///
    /// `bytes` is too large, is not JSON, or is not an action; the error says where and what would be right.
    pub fn parse(bytes: &[u8]) -> Result<Self, InvalidAction> {
        if bytes.len() > ACTION_BYTES_MAX {
            return Err(InvalidAction::too_large(ACTION_BYTES_MAX));
        }
        let mut members = Members::of(json::parse(bytes)?, String::new())?;
        let (name, path) = members.require("action", ACTION_MUST)?;
        match text(name).as_deref() {
            Some("answer") => answer(members).map(Self::Answer),
            Some("reject") => reject(members).map(Self::Reject),
            Some("redirect") => redirect(members).map(Self::Redirect),
            Some(_) | None => Err(InvalidAction::value(path, ACTION_MUST)),
        }
    }
}

fn answer(mut members: Members) -> Result<Answer, InvalidAction> {
    members.only(&["action", "acceptedModalities", "mediaConfig", "callOptions", "participantCapacity"])?;
    let (modalities, path) = members.require("acceptedModalities", MODALITIES_MUST)?;
    let modalities = array(modalities)
        .and_then(|nodes| {
            nodes.into_iter().map(|node| choice(node, GraphModality::ALL, GraphModality::as_str)).collect()
        })
        .ok_or_else(|| InvalidAction::value(path, MODALITIES_MUST))?;
    let (media, path) = members.require("mediaConfig", "must be an object")?;
    let mut answer = Answer::new(modalities, media_config(Members::of(media, path)?)?)?;
    if let Some((options, path)) = members.take("callOptions") {
        answer = answer.with_call_options(call_options(Members::of(options, path)?)?);
    }
    if let Some((capacity, path)) = members.take("participantCapacity") {
        let capacity = whole(&capacity).and_then(|capacity| u32::try_from(capacity).ok());
        let capacity = capacity.ok_or_else(|| InvalidAction::value(path, CAPACITY_MUST))?;
        answer = answer.with_participant_capacity(capacity)?;
    }
    Ok(answer)
}

fn media_config(mut members: Members) -> Result<MediaConfig, InvalidAction> {
    let (kind, path) = members.require("@odata.type", MEDIA_MUST)?;
    match text(kind).as_deref() {
        Some("#microsoft.graph.serviceHostedMediaConfig") => service_hosted(members),
        Some("#microsoft.graph.appHostedMediaConfig") => app_hosted(members),
        Some(_) | None => Err(InvalidAction::value(path, MEDIA_MUST)),
    }
}

fn service_hosted(mut members: Members) -> Result<MediaConfig, InvalidAction> {
    members.only(&["@odata.type", "preFetchMedia"])?;
    let prefetch = match members.take("preFetchMedia") {
        Some((prompts, path)) => array(prompts)
            .ok_or_else(|| InvalidAction::value(path.as_str(), "must be an array of prompts"))?
            .into_iter()
            .enumerate()
            .map(|(at, node)| prompt(Members::of(node, format!("{path}[{at}]"))?))
            .collect::<Result<_, _>>()?,
        None => Vec::new(),
    };
    Ok(MediaConfig::ServiceHosted { prefetch })
}

fn prompt(mut members: Members) -> Result<Prompt, InvalidAction> {
    members.only(&["@odata.type", "uri", "resourceId"])?;
    odata_type(&mut members, &["#microsoft.graph.mediaInfo"], "must be \"#microsoft.graph.mediaInfo\"")?;
    let (uri, path) = members.require("uri", URI_MUST)?;
    let uri = text(uri).filter(|uri| is_web(uri)).ok_or_else(|| InvalidAction::value(path, URI_MUST))?;
    let (id, path) = members.require("resourceId", NOT_EMPTY_MUST)?;
    let resource_id =
        text(id).filter(|id| !id.is_empty()).ok_or_else(|| InvalidAction::value(path, NOT_EMPTY_MUST))?;
    Ok(Prompt { uri, resource_id })
}

/// `Url` accepts blanks, as browsers do. Graph may not.
pub(super) fn is_web(uri: &str) -> bool {
    uri.bytes().all(|byte| byte.is_ascii_graphic())
        && Url::parse(uri).is_ok_and(|url| matches!(url.scheme(), "https" | "http"))
}

fn app_hosted(mut members: Members) -> Result<MediaConfig, InvalidAction> {
    members.only(&["@odata.type", "blob", "removeFromDefaultAudioGroup"])?;
    let (blob, path) = members.require("blob", NOT_EMPTY_MUST)?;
    let blob = text(blob)
        .filter(|blob| !blob.is_empty())
        .ok_or_else(|| InvalidAction::value(path, NOT_EMPTY_MUST))?;
    let remove_from_default_audio_group = flag(&mut members, "removeFromDefaultAudioGroup")?;
    Ok(MediaConfig::AppHosted { blob, remove_from_default_audio_group })
}

fn call_options(mut members: Members) -> Result<CallOptions, InvalidAction> {
    members.only(&["@odata.type", "isContentSharingNotificationEnabled", "isDeltaRosterEnabled"])?;
    odata_type(
        &mut members,
        &["#microsoft.graph.incomingCallOptions"],
        "must be \"#microsoft.graph.incomingCallOptions\"",
    )?;
    Ok(CallOptions {
        content_sharing_notification: flag(&mut members, "isContentSharingNotificationEnabled")?,
        delta_roster: flag(&mut members, "isDeltaRosterEnabled")?,
    })
}

fn reject(mut members: Members) -> Result<Reject, InvalidAction> {
    members.only(&["action", "reason"])?;
    let Some((reason, path)) = members.take("reason") else { return Ok(Reject::default()) };
    match choice(reason, RejectReason::ALL, RejectReason::as_str) {
        Some(reason) => Ok(Reject { reason }),
        None => Err(InvalidAction::value(path, "must be \"none\", \"busy\" or \"forbidden\"")),
    }
}

fn redirect(mut members: Members) -> Result<Redirect, InvalidAction> {
    members.only(&["action", "targets", "timeout", "maskCallee", "maskCaller"])?;
    let (targets, path) = members.require("targets", TARGETS_MUST)?;
    let targets = array(targets)
        .ok_or_else(|| InvalidAction::value(path.as_str(), TARGETS_MUST))?
        .into_iter()
        .enumerate()
        .map(|(at, node)| target(Members::of(node, format!("{path}[{at}]"))?))
        .collect::<Result<_, _>>()?;
    let mut redirect = Redirect::new(targets)?;
    if let Some((timeout, path)) = members.take("timeout") {
        let seconds = whole(&timeout).and_then(|seconds| u8::try_from(seconds).ok());
        redirect = redirect.with_timeout(seconds.ok_or_else(|| InvalidAction::value(path, TIMEOUT_MUST))?)?;
    }
    if let Some(mask) = flag(&mut members, "maskCallee")? {
        redirect = redirect.with_mask_callee(mask);
    }
    if let Some(mask) = flag(&mut members, "maskCaller")? {
        redirect = redirect.with_mask_caller(mask);
    }
    Ok(redirect)
}

fn target(mut members: Members) -> Result<RedirectTarget, InvalidAction> {
    members.only(&["@odata.type", "identity"])?;
    odata_type(
        &mut members,
        &["#microsoft.graph.invitationParticipantInfo"],
        "must be \"#microsoft.graph.invitationParticipantInfo\"",
    )?;
    let (identity, path) = members.require("identity", IDENTITY_MUST)?;
    identity_set(Members::of(identity, path)?)
}

pub(super) fn identity_set(mut members: Members) -> Result<RedirectTarget, InvalidAction> {
    members.only(&[
        "user",
        "application",
        "applicationInstance",
        "phone",
        "guest",
        "encrypted",
        "onPremises",
        "azureCommunicationServicesUser",
        "@odata.type",
    ])?;
    odata_type(
        &mut members,
        &["#microsoft.graph.identitySet", "#microsoft.graph.communicationsIdentitySet"],
        "must be \"#microsoft.graph.identitySet\" or \"#microsoft.graph.communicationsIdentitySet\"",
    )?;
    let kinds: Vec<_> = RedirectTargetKind::ALL
        .iter()
        .filter(|kind| members.names().any(|name| name == kind.as_str()))
        .collect();
    let [kind] = kinds.as_slice() else {
        return Err(InvalidAction::value(members.path(), IDENTITY_MUST));
    };
    let (identity, path) = members.require(kind.as_str(), "must be an object")?;
    one_identity(**kind, Members::of(identity, path)?)
}

fn one_identity(kind: RedirectTargetKind, mut members: Members) -> Result<RedirectTarget, InvalidAction> {
    members.only(&["@odata.type", "id", "displayName", "tenantId"])?;
    odata_type(
        &mut members,
        &["#microsoft.graph.identity", "#microsoft.graph.azureCommunicationServicesUserIdentity"],
        "must be \"#microsoft.graph.identity\" or \
         \"#microsoft.graph.azureCommunicationServicesUserIdentity\"",
    )?;
    let path = members.path().to_owned();
    let (id, id_path) = members.require("id", "must be a string")?;
    let id = text(id).ok_or_else(|| InvalidAction::value(id_path, "must be a string"))?;
    let mut target = RedirectTarget::new(kind, &id).map_err(|error| error.inside(&path))?;
    if let Some((name, name_path)) = members.take("displayName") {
        let name = text(name).ok_or_else(|| InvalidAction::value(name_path, "must be a string"))?;
        target = target.with_display_name(&name).map_err(|error| error.inside(&path))?;
    }
    if let Some((tenant, path)) = members.take("tenantId") {
        let tenant =
            text(tenant).filter(|text| text.len() == GUID_BYTES).and_then(|id| Uuid::try_parse(&id).ok());
        target = target.with_tenant(tenant.ok_or_else(|| InvalidAction::value(path, "must be a GUID"))?);
    }
    Ok(target)
}

/// A type annotation may be left out where the place determines the type. A wrong one is an error.
pub(super) fn odata_type(
    members: &mut Members,
    allowed: &[&str],
    must: &'static str,
) -> Result<(), InvalidAction> {
    let Some((name, path)) = members.take("@odata.type") else { return Ok(()) };
    match text(name) {
        Some(name) if allowed.contains(&name.as_str()) => Ok(()),
        Some(_) | None => Err(InvalidAction::value(path, must)),
    }
}

pub(super) fn flag(members: &mut Members, name: &str) -> Result<Option<bool>, InvalidAction> {
    match members.take(name) {
        Some((Node::Bool(value), _)) => Ok(Some(value)),
        Some((_, path)) => Err(InvalidAction::value(path, "must be true or false")),
        None => Ok(None),
    }
}

fn choice<T: Copy>(node: Node, all: &[T], name: fn(T) -> &'static str) -> Option<T> {
    let text = text(node)?;
    all.iter().copied().find(|one| name(*one) == text)
}

pub(super) fn text(node: Node) -> Option<String> {
    if let Node::Text(text) = node { Some(text) } else { None }
}

pub(super) fn array(node: Node) -> Option<Vec<Node>> {
    if let Node::Array(nodes) = node { Some(nodes) } else { None }
}

pub(super) fn whole(node: &Node) -> Option<i64> {
    if let Node::Whole(number) = node { Some(*number) } else { None }
}

const ACTION_MUST: &str = "must be \"answer\", \"reject\" or \"redirect\"";
const MEDIA_MUST: &str =
    "must be \"#microsoft.graph.serviceHostedMediaConfig\" or \"#microsoft.graph.appHostedMediaConfig\"";
pub(super) const IDENTITY_MUST: &str = "must be an object with exactly one of user, application, \
                                        applicationInstance, phone, guest, encrypted, onPremises, \
                                        azureCommunicationServicesUser";
pub(super) const URI_MUST: &str = "must be an absolute http or https URL";
pub(super) const NOT_EMPTY_MUST: &str = "must be a string that is not empty";

/// `Uuid` accepts other spellings, too. Graph documents this one.
const GUID_BYTES: usize = 36;

/// An app-hosted media blob has about 1 KiB, 25 targets have about 8 KiB.
pub(super) const ACTION_BYTES_MAX: usize = 64 * 1024;
