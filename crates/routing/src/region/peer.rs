//! `Peer`: another region, and the URL that sends the platform there.

use url::Url;
use uuid::Uuid;

use crate::name::Name;

/// Another region.
#[derive(Debug, Clone)]
pub struct Peer {
    /// The name of the region.
    pub name: Name,
    /// The webhook of its gateway.
    pub webhook: Url,
}

/// Returns true if a request's raw query carries the loop marker: a parameter of exactly that name, with or
/// without a value.
pub fn is_marked(query: Option<&str>) -> bool {
    let name = |parameter: &str| parameter.split_once('=').map_or(parameter, |(name, _)| name) == MARKER;
    query.is_some_and(|query| query.split('&').any(name))
}

/// The webhook of a peer, split where a `Location` adds something.
#[derive(Debug)]
pub(super) struct RedirectUrl {
    name: Name,
    /// From the scheme to the end of the path, without a final slash.
    webhook: String,
    /// The final slash, if there is one.
    final_slash: &'static str,
    /// `?`, the configured query and the marker.
    query: String,
}

impl RedirectUrl {
    pub(super) fn new(peer: Peer, here: &Name) -> Self {
        let Peer { name, webhook: mut url } = peer;
        let query = match url.query() {
            Some(query) if !query.is_empty() => format!("?{query}&{MARKER}={here}"),
            Some(_) | None => format!("?{MARKER}={here}"),
        };
        url.set_query(None);
        let (webhook, final_slash) = match url.as_str().strip_suffix('/') {
            Some(cut) => (cut.to_owned(), "/"),
            None => (url.into(), ""),
        };
        Self { name, webhook, final_slash, query }
    }

    /// Returns the name of the region.
    pub(super) fn name(&self) -> &Name {
        &self.name
    }

    /// Returns the `Location`, with the app segment if the request had one.
    pub(super) fn location(&self, app: Option<Uuid>) -> String {
        let Self { webhook, final_slash, query, .. } = self;
        match app {
            None => format!("{webhook}{final_slash}{query}"),
            Some(app) => format!("{webhook}/{}{query}", app.hyphenated()),
        }
    }
}

/// The query parameter of a redirected request. Without it, two regions that disagree would redirect a call
/// to each other until its caller gives up. Names need no escaping in its value.
const MARKER: &str = "switchboard-from";
