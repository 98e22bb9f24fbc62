//! The JSON bodies of requests, as the Graph reference shows them.

use serde_json::{Map, Value, json};

use crate::{
    Answer, CallbackUri, MediaConfig, Redirect, RedirectTarget, RedirectTargetKind, Reject, action::Prompt,
};

/// Returns the body of `call: answer`.
pub(crate) fn answer(answer: &Answer, callback: &CallbackUri) -> Vec<u8> {
    let modalities: Vec<_> = answer.modalities.iter().map(|modality| modality.as_str()).collect();
    let mut body = object([
        ("callbackUri", callback.as_str().into()),
        ("mediaConfig", media_config(&answer.media_config)),
        ("acceptedModalities", modalities.into()),
    ]);
    if let Some(options) = answer.call_options {
        let mut value = object([("@odata.type", "#microsoft.graph.incomingCallOptions".into())]);
        put(&mut value, "isContentSharingNotificationEnabled", options.content_sharing_notification);
        put(&mut value, "isDeltaRosterEnabled", options.delta_roster);
        put(&mut body, "callOptions", Some(value));
    }
    put(&mut body, "participantCapacity", answer.participant_capacity);
    bytes(body)
}

/// Returns the body of `call: reject`.
pub(crate) fn reject(reject: Reject, callback: Option<&CallbackUri>) -> Vec<u8> {
    let mut body = object([("reason", reject.reason.as_str().into())]);
    put(&mut body, "callbackUri", callback.map(CallbackUri::as_str));
    bytes(body)
}

/// Returns the body of `call: redirect`.
pub(crate) fn redirect(redirect: &Redirect, callback: &CallbackUri) -> Vec<u8> {
    let targets: Vec<_> = redirect.targets.iter().map(target).collect();
    let mut body = object([
        ("targets", targets.into()),
        ("timeout", redirect.timeout_seconds.into()),
        ("callbackUri", callback.as_str().into()),
    ]);
    put(&mut body, "maskCallee", redirect.mask_callee);
    put(&mut body, "maskCaller", redirect.mask_caller);
    bytes(body)
}

pub(crate) fn media_config(config: &MediaConfig) -> Value {
    match config {
        MediaConfig::ServiceHosted { prefetch } => {
            let media: Vec<_> = prefetch.iter().map(prompt).collect();
            json!({"@odata.type": "#microsoft.graph.serviceHostedMediaConfig", "preFetchMedia": media})
        }
        MediaConfig::AppHosted { blob, remove_from_default_audio_group } => {
            let mut config = object([
                ("@odata.type", "#microsoft.graph.appHostedMediaConfig".into()),
                ("blob", blob.as_str().into()),
            ]);
            put(&mut config, "removeFromDefaultAudioGroup", *remove_from_default_audio_group);
            config.into()
        }
    }
}

fn prompt(prompt: &Prompt) -> Value {
    json!({"uri": prompt.uri, "resourceId": prompt.resource_id})
}

fn target(target: &RedirectTarget) -> Value {
    json!({"@odata.type": "#microsoft.graph.invitationParticipantInfo", "identity": identity_set(target)})
}

/// Returns the identity set of a target.
pub(crate) fn identity_set(target: &RedirectTarget) -> Value {
    // Only this kind needs the derived types. The Graph reference shows the base types for all others.
    let (set, identity) = match target.kind {
        RedirectTargetKind::AzureCommunicationServicesUser => (
            "#microsoft.graph.communicationsIdentitySet",
            "#microsoft.graph.azureCommunicationServicesUserIdentity",
        ),
        RedirectTargetKind::User
        | RedirectTargetKind::Application
        | RedirectTargetKind::ApplicationInstance
        | RedirectTargetKind::Phone
        | RedirectTargetKind::Guest
        | RedirectTargetKind::Encrypted
        | RedirectTargetKind::OnPremises => ("#microsoft.graph.identitySet", "#microsoft.graph.identity"),
    };
    let mut one = object([("@odata.type", identity.into()), ("id", target.id.as_str().into())]);
    put(&mut one, "displayName", target.display_name.as_deref());
    put(&mut one, "tenantId", target.tenant.map(|tenant| tenant.to_string()));
    object([("@odata.type", set.into()), (target.kind.as_str(), one.into())]).into()
}

fn object<const N: usize>(members: [(&str, Value); N]) -> Map<String, Value> {
    members.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

/// Inserts `value` if there is one: for Graph, `null` may not mean the same as absent.
fn put(body: &mut Map<String, Value>, name: &str, value: Option<impl Into<Value>>) {
    if let Some(value) = value {
        body.insert(name.to_owned(), value.into());
    }
}

fn bytes(body: Map<String, Value>) -> Vec<u8> {
    Value::Object(body).to_string().into_bytes()
}
