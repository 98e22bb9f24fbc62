//! Bodies as text, and parsed bodies as text.

use switchboard_notification::{Call, Data, Envelope, Item};

/// Returns a description of each item: its kind, and the parsed values.
pub(super) fn describe(envelope: &Envelope<'_>) -> String {
    match envelope {
        Envelope::Legacy(legacy) => format!("legacy {} {:?}", legacy.kind.label(), legacy.id),
        Envelope::Graph(notifications) => {
            notifications.items.iter().map(describe_item).collect::<Vec<_>>().join("\n")
        }
    }
}

fn describe_item(item: &Item<'_>) -> String {
    let about = match &item.resource {
        None => "-".to_owned(),
        Some(resource) => format!("{:?} of {}", resource.part, resource.call_id),
    };
    let mut words = vec![format!("{} {} {about}", item.kind().label(), item.change_type.label())];
    match &item.data {
        Data::Call(call) => words.push(describe_call(call)),
        Data::Operation(operation) => {
            words.push(format!("{} status={:?}", operation.name, operation.status.as_deref().unwrap_or("-")));
            words.extend(operation.result.map(|result| format!("{result:?}")));
        }
        Data::List(length) => words.push(format!("list of {length}")),
        data @ (Data::Absent | Data::ParticipantJoining | Data::ParticipantLeft | Data::Other) => {
            words.push(format!("{data:?}"));
        }
    }
    words.join("\n  ")
}

/// Returns the members of the call that are present.
fn describe_call(call: &Call<'_>) -> String {
    let Call {
        state,
        chain_id,
        tenant_id,
        source_region,
        country,
        media_region,
        organizer,
        organizer_tenant,
        thread_id,
        modalities,
        policy_recording,
        observed_user,
        result,
    } = call;
    let texts = [
        ("chain", chain_id),
        ("source", source_region),
        ("country", country),
        ("media", media_region),
        ("organizer", organizer),
        ("thread", thread_id),
        ("observed", observed_user),
    ];
    let mut words = vec![format!("call state={state:?}")];
    words.extend(
        texts.iter().filter_map(|(name, text)| text.as_deref().map(|text| format!("{name}={text:?}"))),
    );
    words.extend(tenant_id.map(|id| format!("tenant={id}")));
    words.extend(organizer_tenant.map(|id| format!("organizer_tenant={id}")));
    words.extend((!modalities.is_empty()).then(|| format!("modalities={modalities:?}")));
    words.extend(policy_recording.then(|| "policy_recording".to_owned()));
    words.extend(result.map(|result| format!("{result:?}")));
    words.join("\n  ")
}

/// Returns a Graph body with `items`.
pub(super) fn graph(items: &str) -> String {
    format!(r#"{{"value":[{items}]}}"#)
}

/// Returns an item about call `c1` with this `changeType` and `resourceData`.
pub(super) fn item(change_type: &str, data: &str) -> String {
    format!(
        r#"{{"changeType":"{change_type}","resourceUrl":"/communications/calls/c1","resourceData":{data}}}"#
    )
}
