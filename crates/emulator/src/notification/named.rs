//! The ids that a body names, and their replacement by those of a placed call.

use serde_json::Value;
use uuid::Uuid;

use super::ids::CallIds;

/// The ids of a call that the body of a notification names, as the body spells them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct NamedIds {
    pub(crate) call: Option<String>,
    pub(crate) chain: Option<String>,
    pub(crate) app: Option<String>,
    pub(crate) tenant: Option<String>,
}

impl NamedIds {
    /// Reads the ids of a legacy body, or of the first item of a Graph body.
    pub(crate) fn read(body: &Value) -> Self {
        let text = |value: &Value, pointer: &str| {
            let text = value.pointer(pointer).and_then(Value::as_str);
            text.filter(|text| (ID_BYTES_MIN..=ID_BYTES_MAX).contains(&text.len())).map(str::to_owned)
        };
        let Some(item) = body.pointer("/value/0") else {
            let app = body.get("participants").and_then(Value::as_array).into_iter().flatten();
            let app = app
                .filter_map(|person| person.get("identity")?.as_str()?.strip_prefix("28:"))
                .find(|app| Uuid::try_parse(app).is_ok());
            let (call, tenant) = (text(body, "/id"), text(body, "/tenantId"));
            return Self { call, chain: None, app: app.map(str::to_owned), tenant };
        };
        let data = |pointer: &str| text(item, &format!("/resourceData{pointer}"));
        let in_path = |name: &str| {
            let path = item.get(name).and_then(Value::as_str)?;
            let mut segments = path.split(['/', '(', '\'']).filter(|segment| !segment.is_empty());
            segments.find(|segment| segment.eq_ignore_ascii_case("calls"))?;
            let id = segments.next()?.split(['?', ')']).next()?;
            (ID_BYTES_MIN..=ID_BYTES_MAX).contains(&id.len()).then(|| id.to_owned())
        };
        let created_call = || data("/callChainId").or_else(|| data("/state")).and_then(|_| data("/id"));
        Self {
            call: in_path("resourceUrl").or_else(|| in_path("resource")).or_else(created_call),
            chain: data("/callChainId"),
            app: data("/targets/0/identity/application/id"),
            tenant: data("/tenantId").or_else(|| data("/source/identity/user/tenantId")),
        }
    }

    /// Adds the ids that are missing here from those of another notification of the same call.
    pub(crate) fn or(self, other: Self) -> Self {
        Self {
            call: self.call.or(other.call),
            chain: self.chain.or(other.chain),
            app: self.app.or(other.app),
            tenant: self.tenant.or(other.tenant),
        }
    }

    /// Replaces these ids by those of a placed call, in every text of the body.
    pub(crate) fn replace(&self, body: &mut Value, ids: &CallIds, app: Uuid, tenant: Uuid) {
        let replacements: Vec<(&str, String)> =
            [(&self.call, ids.call), (&self.chain, ids.chain), (&self.app, app), (&self.tenant, tenant)]
                .into_iter()
                .filter_map(|(old, new)| Some((old.as_deref()?, new.to_string())))
                .collect();
        if !replacements.is_empty() {
            replace_texts(body, &replacements);
        }
    }
}

/// Replaces texts in every string. serde_json reads at most 128 levels, so the recursion is bounded.
fn replace_texts(value: &mut Value, replacements: &[(&str, String)]) {
    match value {
        Value::String(text) => {
            if let Some(changed) = replaced(text, replacements) {
                *text = changed;
            }
        }
        Value::Array(elements) => {
            elements.iter_mut().for_each(|element| replace_texts(element, replacements));
        }
        Value::Object(members) => {
            members.values_mut().for_each(|member| replace_texts(member, replacements));
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// Replaces in one pass, so that a new id is never replaced again; `None` if nothing matches.
fn replaced(text: &str, replacements: &[(&str, String)]) -> Option<String> {
    let mut changed: Option<String> = None;
    let mut rest = text;
    let mut start = 0;
    for (place, _) in text.char_indices() {
        if place < start {
            continue;
        }
        let Some(here) = text.get(place..) else { continue };
        let found = replacements
            .iter()
            .find(|(old, _)| here.get(..old.len()).is_some_and(|head| head.eq_ignore_ascii_case(old)));
        if let Some((old, new)) = found {
            let kept = text.get(start..place).unwrap_or_default();
            let output = changed.get_or_insert_default();
            output.push_str(kept);
            output.push_str(new);
            start = place + old.len();
            rest = text.get(start..).unwrap_or_default();
        }
    }
    changed.map(|output| output + rest)
}

/// A shorter text would also match parts of other words.
const ID_BYTES_MIN: usize = 8;
const ID_BYTES_MAX: usize = 256;

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn every_mention_of_an_id_is_replaced_whatever_its_case() {
        let mut body = json!({"value": [{
            "resource": "/app/calls/AAAAAAAA-0000/participants",
            "resourceUrl": "/communications/calls/aaaaaaaa-0000/participants",
            "resourceData": {
                "callChainId": "cccccccc", "tenantId": "tttttttt",
                "targets": [{"identity": {"application": {"id": "pppppppp"}}}],
                "note": "é 8:orgid:TTTTTTTT of aaaaaaaa-0000 and aaaaaaaa-0001",
            },
        }]});
        let named = NamedIds::read(&body);
        named.replace(&mut body, &CallIds::numbered(), Uuid::from_u128(7), Uuid::from_u128(8));
        let text = |pointer: &str| body.pointer(pointer).and_then(Value::as_str).unwrap().to_owned();
        let guid = |number| Uuid::from_u128(number).to_string();
        assert_eq!(text("/value/0/resource"), format!("/app/calls/{}/participants", guid(1)));
        assert_eq!(text("/value/0/resourceData/callChainId"), guid(2));
        assert_eq!(text("/value/0/resourceData/targets/0/identity/application/id"), guid(7));
        let note = format!("é 8:orgid:{} of {} and aaaaaaaa-0001", guid(8), guid(1));
        assert_eq!(text("/value/0/resourceData/note"), note);
    }

    #[test]
    fn the_ids_of_every_form_of_a_body_are_read() {
        let call = |body: Value| NamedIds::read(&body).call;
        let item = |item: Value| json!({"value": [item]});
        assert_eq!(call(json!({"id": "12345678"})).as_deref(), Some("12345678"));
        assert_eq!(call(item(json!({"resource": "app/calls('12345678')"}))).as_deref(), Some("12345678"));
        assert_eq!(call(item(json!({"resourceUrl": "/communications/calls/1"}))), None);
        let data = json!({"resourceData": {"id": "12345678", "state": "incoming"}});
        assert_eq!(call(item(data)).as_deref(), Some("12345678"));
        assert_eq!(call(json!([1])), None);
        let legacy = json!({"participants": [{"identity": "28:0efc74f7-41c3-47a4-8775-7259bfef4241"}]});
        assert!(NamedIds::read(&legacy).app.is_some());
    }
}
