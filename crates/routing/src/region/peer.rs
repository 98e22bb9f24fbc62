//! `Peer`: another region, and the URL that sends the platform there.

use url::Url;
use uuid::Uuid;

use crate::name::Name;

/// Another region.
#[derive(Debug, Clone)]
pub struct Peer {
    /// Its name.
    pub name: Name,
    /// Its webhook.
    pub webhook: Url,
}

/// Whether a request's raw query carries the loop marker: any parameter of exactly that name, with or without a value.
pub fn is_marked(query: Option<&str>) -> bool {
    let name = |parameter: &str| parameter.split_once('=').map_or(parameter, |(name, _)| name) == MARKER;
    query.is_some_and(|query| query.split('&').any(name))
}

/// A peer's webhook, cut where a location has something to add.
#[derive(Debug)]
pub(super) struct RedirectUrl {
    name: Name,
    /// From the scheme to the end of the path, without a final slash.
    webhook: String,
    /// The final slash, if there is one.
    final_slash: &'static str,
    /// `?`, the configured query, the marker.
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

    /// The region.
    pub(super) fn name(&self) -> &Name {
        &self.name
    }

    /// The `Location`, with the app segment if the request had one.
    pub(super) fn location(&self, app: Option<Uuid>) -> String {
        let Self { webhook, final_slash, query, .. } = self;
        match app {
            None => format!("{webhook}{final_slash}{query}"),
            Some(app) => format!("{webhook}/{}{query}", app.hyphenated()),
        }
    }
}

/// The query parameter that a redirected request carries, so that two regions that disagree do not send a call to and
/// fro until its caller gives up. Names need no escaping in its value.
const MARKER: &str = "switchboard-from";
