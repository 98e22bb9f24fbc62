//! Decides which region and which instance gets a call, and writes and reads the sealed callback URI of its
//! owner.
//!
//! Pure decisions: no network, no clock, no state, no HTTP status codes. The caller knows which instances
//! there are, what state they are in, and what a token proves.
//!
//! ```
//! use switchboard_notification::Call;
//! use switchboard_routing::{
//!     AffinityKey, CallbackUris, Candidate, Name, Owner, Peer, Policy, Rule, SealKey, Traits, hash_name,
//!     is_marked, rank,
//! };
//! use url::Url;
//! use uuid::uuid;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! // The region: calls from the Americas are served in amer.
//! let (emea, amer) = (Name::parse("emea")?, Name::parse("amer")?);
//! let peer = Peer { name: amer.clone(), webhook: Url::parse("https://amer.bots.contoso.com/api/calls")? };
//! let rule = Rule { source_region: vec!["amer".into()], ..Rule::to(amer.clone()) };
//! let policy = Policy::new(emea.clone(), vec![peer], vec![rule])?;
//!
//! let call = Call { source_region: Some("Amer".into()), ..Call::default() };
//! let call_id = "491f0b00-6aee-11ef-a87f-0d9e4ba7d6c7";
//! let tenant = uuid!("72f988bf-86f1-41af-91ab-2d7cd011db47");
//! let traits = Traits { call: &call, call_id, caller_region: None, tenant };
//! let decision = policy.decide(&traits, is_marked(None), |_region| true);
//! assert_eq!(decision.redirect, Some(&amer));
//! assert_eq!(
//!     policy.location(&amer, None).as_deref(),
//!     Some("https://amer.bots.contoso.com/api/calls?switchboard-from=emea"),
//! );
//!
//! // The instance, for a call that is served in emea.
//! let bots = [Name::parse("bot-0")?, Name::parse("bot-1")?];
//! let candidates =
//!     bots.each_ref().map(|name| Candidate { name_hash: hash_name(name), weight: 1, load: None });
//! let first = rank(AffinityKey::of(call_id), &candidates).next();
//! assert_eq!(first, Some(0));
//!
//! // The callback URI that the instance answers the call with, and the owner that it names.
//! let app = uuid!("0efc74f7-41c3-47a4-8775-7259bfef4241");
//! let keys = vec![SealKey::new("k1", b"use `switchboard keygen` instead")?];
//! let uris = CallbackUris::new(&Url::parse("https://emea.bots.contoso.com")?, "/api/callbacks", keys)?;
//! let owner = Owner { region: emea, instance: bots[0].clone(), incarnation: Name::parse("0")? };
//! uris.check(owner.as_ref())?;
//! let uri = Url::parse(&uris.mint(&owner, app))?;
//! let sealed = uris.parse(uri.path()).ok_or("not a callback")?;
//! assert_eq!(owner, uris.open(&sealed, app)?);
//! # Ok(())
//! # }
//! ```
//!
//! The enums of this crate are exhaustive on purpose: a new variant needs a decision wherever one is matched.
//! Adding a variant is therefore a breaking change.
//!
//! Reading order: `region` (this region or another), `ranking` (which instance), `callback` (how callbacks
//! find it).

mod callback;
mod endpoint;
mod hash;
mod name;
mod ranking;
mod region;

pub use callback::{
    CallbackParts, CallbackUriError, CallbackUris, InvalidCallbackUris, InvalidSealKey, Owner, OwnerRef,
    SealError, SealKey, Sealed,
};
pub use endpoint::InvalidUrl;
pub use name::{InvalidName, Name, NameRef};
pub use ranking::{AffinityKey, Candidate, Load, choose, fill_order, hash_name, rank};
pub use region::{
    Decision, DecisionReason, InvalidPolicy, Peer, Policy, Rule, RuleEffect, RuleOutcome, Traits, is_marked,
};
