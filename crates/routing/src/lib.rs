//! Where a call should live: the region policy, the ranking of instances, and the sealed callback URI. All pure.

use std::{borrow::Cow, fmt};

use switchboard_notification::Call;
use url::Url;
use uuid::Uuid;

/// The name of a region, an instance, an incarnation: 1 to 63 of `A-Z a-z 0-9 . _ -`, not `.` or `..`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Name(Box<str>);

impl Name {
    /// The name, if it is one.
    pub fn parse(text: &str) -> Result<Self, InvalidName> {
        Ok(Self(text.into()))
    }
    /// As text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Why a text is not a `Name`.
#[derive(Debug, thiserror::Error)]
#[error("not 1 to 63 of A-Z a-z 0-9 . _ -")]
pub struct InvalidName;

// ---- region policy -------------------------------------------------------------------------------------------

/// The ordered rules, this region and its peers.
#[derive(Debug)]
pub struct Policy {/* private */}

/// One rule: all conditions given must hold.
#[derive(Debug, Default, Clone)]
pub struct Rule {
    /// `source.region`
    pub source_region: Vec<String>,
    /// `source.countryCode`
    pub country: Vec<String>,
    /// the `X-Microsoft-Skype-Caller-Region` header
    pub caller_region: Vec<String>,
    /// `mediaHostedRegion`
    pub media_region: Vec<String>,
    /// the token's tenant
    pub tenant: Vec<String>,
    /// the organiser's tenant
    pub organizer_tenant: Vec<String>,
    /// the observed user of a policy recording
    pub user: Vec<String>,
    /// The part of the matching calls that it takes, 0 to 1, by a hash of the chain id.
    pub share: f64,
    /// Where they go.
    pub serve_in: Option<Name>,
}

/// Another region.
#[derive(Debug, Clone)]
pub struct Peer {
    /// Its name.
    pub name: Name,
    /// Its webhook.
    pub webhook: Url,
}

/// What the policy looks at.
#[derive(Debug)]
pub struct Traits<'a> {
    /// The new call.
    pub call: &'a Call<'a>,
    /// Its id: the fall-back for `share` where there is no chain id.
    pub call_id: &'a str,
    /// The `X-Microsoft-Skype-Caller-Region` header.
    pub caller_region: Option<&'a str>,
    /// The token's tenant.
    pub tenant: Uuid,
}

/// What the policy decided.
#[derive(Debug, PartialEq)]
pub struct Decision<'p> {
    /// Where the call goes: `None` is here.
    pub redirect: Option<&'p Name>,
    /// The index of the rule that fired, if one did.
    pub rule: Option<usize>,
    /// Why.
    pub reason: Reason,
}

/// Why a call goes where it goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// No rule matched.
    NoRule,
    /// A rule matched and names this region.
    RuleHere,
    /// A rule matched and names another region.
    Rule,
    /// A rule names another region, which is unhealthy.
    Unhealthy,
    /// A rule names another region, but the request has already been redirected once.
    Marked,
}

impl Policy {
    /// The policy of region `here`. Refuses a rule that names a region which is neither here nor a peer.
    pub fn new(here: Name, peers: Vec<Peer>, rules: Vec<Rule>) -> Result<Self, PolicyError> {
        let _ = (here, peers, rules);
        Ok(Self {})
    }

    /// Where a new call goes. `marked`: the request carries the loop marker.
    pub fn decide(&self, traits: &Traits<'_>, marked: bool, healthy: impl Fn(&Name) -> bool) -> Decision<'_> {
        let _ = (traits, marked, healthy);
        Decision { redirect: None, rule: None, reason: Reason::NoRule }
    }

    /// Rule by rule: whether it matched, and the first condition that failed with the value that was seen.
    pub fn explain(&self, traits: &Traits<'_>) -> Vec<RuleOutcome> {
        let _ = traits;
        Vec::new()
    }

    /// The `Location` for a redirect to `region`: its webhook, the app segment if the request had one, the marker
    /// `switchboard-from={here}`. `None` if the region is not a peer.
    pub fn location(&self, region: &Name, app: Option<Uuid>) -> Option<String> {
        let _ = (region, app);
        None
    }
}

/// Whether a request's raw query carries the loop marker.
pub fn is_marked(query: Option<&str>) -> bool {
    let _ = query;
    false
}

/// What one rule said; for `explain`.
#[derive(Debug, PartialEq, Eq)]
pub enum RuleOutcome {
    /// All conditions hold and the share takes the call.
    Matched,
    /// A condition does not hold: its setting's name and the value seen, if any.
    Failed {
        /// The setting.
        condition: &'static str,
        /// The value in the notification.
        seen: Option<String>,
    },
    /// All conditions hold, but the share leaves this chain out.
    NotInShare,
}

/// Why a policy cannot be built.
#[derive(Debug, thiserror::Error)]
pub enum PolicyError {
    /// A rule names a region that is neither here nor a peer.
    #[error("rule {rule} names the unknown region {region}")]
    UnknownRegion {
        /// The rule's index.
        rule: usize,
        /// The region.
        region: Name,
    },
}

// ---- ranking -------------------------------------------------------------------------------------------------

/// The hash of an affinity key (call id, chain, thread, tenant; ASCII case folded).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AffinityKey(u64);

impl AffinityKey {
    /// Of a text.
    pub fn of(text: &str) -> Self {
        let _ = text;
        Self(0)
    }
}

/// One candidate: what the ranking needs to know of an instance.
#[derive(Clone, Copy, Debug)]
pub struct Candidate {
    /// The hash of the instance's name, made once with `hash_name`.
    pub name_hash: u64,
    /// At least 1.
    pub weight: u32,
    /// Calls and capacity, if both are reported.
    pub load: Option<Load>,
}

/// The reported load of an instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Load {
    /// Calls.
    pub calls: u32,
    /// Capacity, more than 0.
    pub capacity: u32,
}

/// The stable hash of an instance's name.
pub fn hash_name(name: &Name) -> u64 {
    let _ = name;
    0
}

/// The order in which candidates are asked: their indices, best first, made lazily. Weighted rendezvous hashing, then
/// bounded loads: the first that is not more than half full and 25 % above the mean is moved to the front.
pub fn rank(key: AffinityKey, candidates: &[Candidate]) -> impl Iterator<Item = usize> + use<> {
    let _ = key;
    0..candidates.len()
}

// ---- callback URI --------------------------------------------------------------------------------------------

/// Who owns a call: a region, an instance and its incarnation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner {
    /// The region.
    pub region: Name,
    /// The instance.
    pub instance: Name,
    /// Its incarnation, `0` where the source has none.
    pub incarnation: Name,
}

/// A seal key.
pub struct SealKey {/* id, secret; redacted Debug */}

impl SealKey {
    /// `id`: a `Name` without dots. `secret`: 32 bytes or more.
    pub fn new(id: &str, secret: &[u8]) -> Result<Self, SealKeyError> {
        let _ = (id, secret);
        Ok(Self {})
    }
}

impl fmt::Debug for SealKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SealKey")
    }
}

/// Why a seal key cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("invalid seal key")]
pub struct SealKeyError;

/// Writes and reads callback URIs.
#[derive(Debug)]
pub struct CallbackUris {/* base, path, keys */}

impl CallbackUris {
    /// `base` without a path; `path` like `/api/callbacks`; the first key signs, all of them verify. Refuses an empty
    /// list, a doubled key id, and a base and path so long that a URI could exceed 250 characters.
    pub fn new(base: &Url, path: &str, keys: Vec<SealKey>) -> Result<Self, CallbackUrisError> {
        let _ = (base, path, keys);
        Ok(Self {})
    }

    /// The URI with which `owner` answers calls of `app`.
    pub fn mint(&self, owner: &Owner, app: Uuid) -> String {
        let _ = (owner, app);
        String::new()
    }

    /// Reads a raw request path; `None` if it does not have the shape of a callback.
    pub fn parse<'a>(&self, path: &'a str) -> Option<Sealed<'a>> {
        let _ = path;
        None
    }

    /// Checks the seal, in constant time, for the app of the token.
    pub fn open(&self, sealed: &Sealed<'_>, app: Uuid) -> Result<Owner, SealError> {
        let _ = (sealed, app);
        Err(SealError::Mismatch)
    }
}

/// A callback path whose seal has not been checked: nothing can be read from it.
#[derive(Debug)]
pub struct Sealed<'a> {
    _text: Cow<'a, str>,
}

/// Why `CallbackUris` cannot be built.
#[derive(Debug, thiserror::Error)]
#[error("invalid callback settings")]
pub struct CallbackUrisError;

/// Why a seal does not open.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// No such key id.
    #[error("unknown seal key")]
    UnknownKey,
    /// The MAC is not ours.
    #[error("wrong seal")]
    Mismatch,
}

impl SealError {
    /// A stable name for logs and metrics.
    pub fn label(self) -> &'static str {
        "seal"
    }
}
