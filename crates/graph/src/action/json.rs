//! JSON as a tree that keeps equal names, so that a duplicate member is an error with a place.
//!
//! auth and notification have JSON readers of their own. This one names the place of a mistake, for the
//! developer of a bot, and it can afford a tree: an action is small and rare. auth reads claims that an
//! attacker controls, so it also refuses names in another case and gives no detail. notification refuses
//! nothing but broken JSON.

use std::{fmt, mem};

use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, SeqAccess, Visitor},
};

use super::error::{InvalidAction, member};

/// Parses the tree. serde_json bounds its depth; the size of the action bounds its width.
///
/// One byte order mark is skipped, as RFC 8259 section 8.1 permits: writers of .NET put it in front.
pub(super) fn parse(bytes: &[u8]) -> Result<Node, InvalidAction> {
    let bytes = bytes.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(bytes);
    serde_json::from_slice(bytes).map_err(|error| InvalidAction::invalid_json(error.line(), error.column()))
}

/// A JSON value.
#[derive(Debug)]
pub(super) enum Node {
    Null,
    Bool(bool),
    /// A whole number that fits `i64`.
    Whole(i64),
    /// Any other number.
    Number,
    Text(String),
    Array(Vec<Self>),
    Object(Vec<(String, Self)>),
}

/// The members of an object. `take` removes them one by one.
#[derive(Debug)]
pub(super) struct Members {
    path: String,
    members: Vec<(String, Node)>,
}

impl Members {
    /// Returns the members of the object at `path`. Fails if `node` is not an object or has a duplicate
    /// member.
    pub(super) fn of(node: Node, path: String) -> Result<Self, InvalidAction> {
        let Node::Object(members) = node else {
            return Err(InvalidAction::value(path, "must be an object"));
        };
        let mut names: Vec<&str> = members.iter().map(|(name, _)| name.as_str()).collect();
        names.sort_unstable();
        let mut before = None;
        for name in names {
            if before == Some(name) {
                return Err(InvalidAction::duplicate(member(&path, name)));
            }
            before = Some(name);
        }
        Ok(Self { path, members })
    }

    /// Fails if a member is not among `known`. Call it first: a misspelt name is a better message than a
    /// missing member.
    pub(super) fn only(&self, known: &'static [&'static str]) -> Result<(), InvalidAction> {
        match self.members.iter().find(|(name, _)| !known.contains(&name.as_str())) {
            Some((name, _)) => Err(InvalidAction::unknown(member(&self.path, name), known)),
            None => Ok(()),
        }
    }

    /// Removes `name` and returns its value and its path.
    pub(super) fn take(&mut self, name: &str) -> Option<(Node, String)> {
        let (_, node) = self.members.iter_mut().find(|(other, _)| other == name)?;
        Some((mem::replace(node, Node::Null), member(&self.path, name)))
    }

    /// Removes `name` and returns its value and its path. Fails if it is absent; `must` says what it must be.
    pub(super) fn require(
        &mut self,
        name: &str,
        must: &'static str,
    ) -> Result<(Node, String), InvalidAction> {
        self.take(name).ok_or_else(|| InvalidAction::missing(member(&self.path, name), must))
    }

    /// Returns the names, in the order of the document.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.members.iter().map(|(name, _)| name.as_str())
    }

    /// Returns the path of the object.
    pub(super) fn path(&self) -> &str {
        &self.path
    }
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(json: D) -> Result<Self, D::Error> {
        json.deserialize_any(NodeVisitor)
    }
}

struct NodeVisitor;

impl<'de> Visitor<'de> for NodeVisitor {
    type Value = Node;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Node, E> {
        Ok(Node::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Node, E> {
        Ok(Node::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Node, E> {
        Ok(Node::Whole(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Node, E> {
        Ok(i64::try_from(value).map_or(Node::Number, Node::Whole))
    }

    fn visit_f64<E>(self, _: f64) -> Result<Node, E> {
        Ok(Node::Number)
    }

    fn visit_str<E>(self, value: &str) -> Result<Node, E> {
        Ok(Node::Text(value.to_owned()))
    }

    fn visit_string<E>(self, value: String) -> Result<Node, E> {
        Ok(Node::Text(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Node, A::Error> {
        let mut nodes = Vec::new();
        while let Some(node) = seq.next_element()? {
            nodes.push(node);
        }
        Ok(Node::Array(nodes))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Node, A::Error> {
        let mut members = Vec::new();
        while let Some(member) = map.next_entry()? {
            members.push(member);
        }
        Ok(Node::Object(members))
    }
}
