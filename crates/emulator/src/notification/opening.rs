//! The first notifications of a call: made by the platform, or given with the call.

use serde_json::Value;

use super::{
    ids::CallIds,
    incoming::{incoming, legacy_incoming},
    member::InvalidMember,
    named::NamedIds,
};
use crate::call::{CallRequest, Protocol};

/// The bodies that open a call.
#[derive(Clone, Debug)]
pub(crate) struct Opening {
    /// The legacy form, which is posted first; `None` if only the Graph form is posted.
    pub(crate) legacy: Option<Value>,
    pub(crate) graph: Value,
}

impl Opening {
    /// Makes the bodies of a call, with the ids of the call and the members that the request sets.
    pub(crate) fn new(call: &CallRequest, ids: &CallIds) -> Result<Self, InvalidMember> {
        let own = call.body.clone().map(|mut body| {
            NamedIds::read(&body).replace(&mut body, ids, call.app, call.tenant);
            body
        });
        let legacy_first = call.protocol == Protocol::LegacyFirst;
        let (legacy, graph, set_legacy) = match own {
            Some(body) if body.get("value").is_some() => {
                (legacy_first.then(|| legacy_incoming(call, ids)), body, false)
            }
            Some(body) => (Some(body), incoming(call, ids), true),
            None => (legacy_first.then(|| legacy_incoming(call, ids)), incoming(call, ids), false),
        };
        let mut opening = Self { legacy, graph };
        for setting in &call.set {
            match &mut opening.legacy {
                Some(legacy) if set_legacy => setting.apply(legacy)?,
                _ => setting.apply(&mut opening.graph)?,
            }
        }
        Ok(opening)
    }
}
