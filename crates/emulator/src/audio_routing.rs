//! The audio routing groups of a call: private audio between some participants.

use serde::Deserialize;
use serde_json::{Value, json};

use crate::words::word_in_any_case;

/// The groups of one call.
#[derive(Debug, Default)]
pub(crate) struct AudioRoutingGroups(Vec<AudioRoutingGroup>);

/// A group (Graph reference, "audioRoutingGroup").
#[derive(Clone, Debug)]
struct AudioRoutingGroup {
    id: String,
    mode: &'static str,
    sources: Vec<String>,
    receivers: Vec<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawGroup {
    id: Option<String>,
    routing_mode: Option<String>,
    sources: Option<Vec<String>>,
    receivers: Option<Vec<String>>,
}

impl AudioRoutingGroups {
    /// Returns the groups as Graph lists them.
    pub(crate) fn to_json(&self) -> Value {
        json!({"value": self.0.iter().map(AudioRoutingGroup::to_json).collect::<Vec<_>>()})
    }

    /// Returns a group; `None` if there is none with this id.
    pub(crate) fn show(&self, id: &str) -> Option<Value> {
        self.0.iter().find(|group| group.id == id).map(AudioRoutingGroup::to_json)
    }

    /// Adds a group. Its id is the one that the bot names, or else `new_id`.
    pub(crate) fn add(&mut self, body: &[u8], new_id: String) -> Result<Value, String> {
        let raw = RawGroup::read(body)?;
        let id = raw.id.clone().unwrap_or(new_id);
        let letter = |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, '-' | '_');
        if id.is_empty() || id.len() > MEMBER_BYTES_MAX || !id.chars().all(letter) {
            return Err("id takes letters, digits, - and _".to_owned());
        }
        if self.0.iter().any(|group| group.id == id) {
            return Err("a group of this call has this id".to_owned());
        }
        if self.0.len() >= GROUPS_MAX {
            return Err(format!("a call has at most {GROUPS_MAX} groups"));
        }
        let mut group =
            AudioRoutingGroup { id, mode: "oneToOne", sources: Vec::new(), receivers: Vec::new() };
        if raw.routing_mode.is_none() || raw.sources.is_none() || raw.receivers.is_none() {
            return Err("routingMode, sources and receivers are needed".to_owned());
        }
        group.apply(raw)?;
        let document = group.to_json();
        self.0.push(group);
        Ok(document)
    }

    /// Changes the members of a group that the body names; `None` if there is no such group.
    pub(crate) fn change(&mut self, id: &str, body: &[u8]) -> Option<Result<Value, String>> {
        let group = self.0.iter_mut().find(|group| group.id == id)?;
        Some(RawGroup::read(body).and_then(|raw| group.apply(raw)).map(|()| group.to_json()))
    }

    /// Removes a group; false if there is no such group.
    pub(crate) fn remove(&mut self, id: &str) -> bool {
        let count = self.0.len();
        self.0.retain(|group| group.id != id);
        self.0.len() < count
    }
}

impl AudioRoutingGroup {
    fn apply(&mut self, raw: RawGroup) -> Result<(), String> {
        if let Some(mode) = raw.routing_mode {
            let mode = word_in_any_case(&mode, &MODES);
            self.mode = mode.ok_or_else(|| format!("routingMode must be one of {}", MODES.join(", ")))?;
        }
        if let Some(sources) = raw.sources {
            self.sources = sources;
        }
        if let Some(receivers) = raw.receivers {
            self.receivers = receivers;
        }
        Ok(())
    }

    fn to_json(&self) -> Value {
        json!({
            "@odata.type": "#microsoft.graph.audioRoutingGroup",
            "id": self.id,
            "routingMode": self.mode,
            "sources": self.sources,
            "receivers": self.receivers,
        })
    }
}

impl RawGroup {
    fn read(body: &[u8]) -> Result<Self, String> {
        let raw: Self = serde_json::from_slice(body).map_err(|error| error.to_string())?;
        for members in [&raw.sources, &raw.receivers].into_iter().flatten() {
            let short = members.iter().all(|member| member.len() <= MEMBER_BYTES_MAX);
            if members.len() > MEMBERS_MAX || !short {
                return Err(format!("sources and receivers take at most {MEMBERS_MAX} ids of participants"));
            }
        }
        Ok(raw)
    }
}

const MODES: [&str; 2] = ["oneToOne", "multicast"];
const GROUPS_MAX: usize = 32;
const MEMBERS_MAX: usize = 100;
const MEMBER_BYTES_MAX: usize = 128;
