//! `Rule`: one rule of the region policy, and its outcome for a call.

use switchboard_notification::Call;
use uuid::Uuid;

use crate::{hash, name::Name};

/// One rule. It matches a call if all its conditions hold.
///
/// A condition is a list of accepted values, without regard to ASCII case: the call's value must be one of
/// them. An empty list is not a condition. A call without a value does not match a condition on it.
#[derive(Debug, Clone)]
pub struct Rule {
    /// `source.region`
    pub source_region: Vec<String>,
    /// `source.countryCode`
    pub country: Vec<String>,
    /// The `X-Microsoft-Skype-Caller-Region` header
    pub caller_region: Vec<String>,
    /// `mediaHostedRegion`
    pub media_region: Vec<String>,
    /// The token's tenant: GUIDs
    pub tenant: Vec<String>,
    /// The organiser's tenant: GUIDs
    pub organizer_tenant: Vec<String>,
    /// The observed user of a policy recording
    pub user: Vec<String>,
    /// The share of the matching calls that the rule takes, 0 to 1, by a hash of the chain id and of
    /// `serve_in`.
    ///
    /// A greater share takes all calls that a smaller share takes. Rules for different regions choose
    /// independently: half to one region and then half to another leaves a quarter.
    pub share: f64,
    /// The region that serves these calls.
    pub serve_in: Name,
    /// True for a dry run: the rule is evaluated and not followed. The next rule is, as if this one did not
    /// match.
    pub dry_run: bool,
}

impl Rule {
    /// Creates the rule that sends every call to `serve_in`. Set its fields for conditions and a share.
    pub fn to(serve_in: Name) -> Self {
        Self {
            source_region: Vec::new(),
            country: Vec::new(),
            caller_region: Vec::new(),
            media_region: Vec::new(),
            tenant: Vec::new(),
            organizer_tenant: Vec::new(),
            user: Vec::new(),
            share: 1.0,
            serve_in,
            dry_run: false,
        }
    }
}

/// The facts about a call that the policy uses.
#[derive(Clone, Copy, Debug)]
pub struct Traits<'a> {
    /// The new call.
    pub call: &'a Call<'a>,
    /// Its id. `share` uses it if there is no chain id.
    pub call_id: &'a str,
    /// The `X-Microsoft-Skype-Caller-Region` header.
    pub caller_region: Option<&'a str>,
    /// The token's tenant.
    pub tenant: Uuid,
}

/// The outcome of one rule, for `explain`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RuleOutcome {
    /// All conditions hold and the share takes the call.
    Matched,
    /// A condition does not hold.
    Failed {
        /// The name of its setting.
        condition: &'static str,
        /// The value in the notification, if it has one. It is as posted: escape it before showing it.
        seen: Option<String>,
    },
    /// All conditions hold, but the chain is not in the share.
    OutsideShare,
}

/// The effect of a rule on the calls that it matches.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RuleEffect<'p> {
    /// The region that serves them.
    pub serve_in: &'p Name,
    /// The share of them that the rule takes, 0 to 1.
    pub share: f64,
    /// The rule is decided and not followed.
    pub dry_run: bool,
}

/// A rule in the form that calls are compared with: only the conditions that are set.
#[derive(Debug)]
pub(super) struct CompiledRule {
    conditions: Vec<Condition>,
    share: f64,
    share_seed: u64,
    serve_in: Name,
    dry_run: bool,
}

/// One condition that is set.
#[derive(Debug)]
struct Condition {
    /// The name of the setting.
    setting: &'static str,
    value: ValueOf,
    accepted: Vec<String>,
}

/// Returns the call's value, if it has one. The buffer holds the text of a GUID.
type ValueOf = for<'t> fn(&'t Traits<'t>, &'t mut [u8]) -> Option<&'t str>;

impl CompiledRule {
    pub(super) fn new(rule: Rule) -> Self {
        let Rule {
            source_region, country, caller_region, media_region, tenant, organizer_tenant, user, ..
        } = rule;
        // A GUID may be written in braces, without hyphens or in upper case. Convert it to the form of a
        // call's GUIDs.
        let guids = |texts: Vec<String>| -> Vec<String> {
            texts
                .into_iter()
                .map(|text| Uuid::try_parse(&text).map_or(text, |guid| guid.hyphenated().to_string()))
                .collect()
        };
        let all: [(&'static str, ValueOf, Vec<String>); 7] = [
            ("source_region", |traits, _| traits.call.source_region.as_deref(), source_region),
            ("country", |traits, _| traits.call.country.as_deref(), country),
            ("caller_region", |traits, _| traits.caller_region, caller_region),
            ("media_region", |traits, _| traits.call.media_region.as_deref(), media_region),
            ("tenant", |traits, buffer| Some(text_of(traits.tenant, buffer)), guids(tenant)),
            (
                "organizer_tenant",
                |traits, buffer| traits.call.organizer_tenant.map(|tenant| text_of(tenant, buffer)),
                guids(organizer_tenant),
            ),
            ("user", |traits, _| traits.call.observed_user.as_deref(), user),
        ];
        Self {
            conditions: all
                .into_iter()
                .filter(|(_, _, accepted)| !accepted.is_empty())
                .map(|(setting, value, accepted)| Condition { setting, value, accepted })
                .collect(),
            share: rule.share,
            share_seed: hash::exact(rule.serve_in.as_str(), SHARE_SEED),
            serve_in: rule.serve_in,
            dry_run: rule.dry_run,
        }
    }

    pub(super) fn serve_in(&self) -> &Name {
        &self.serve_in
    }

    pub(super) fn effect(&self) -> RuleEffect<'_> {
        RuleEffect { serve_in: &self.serve_in, share: self.share, dry_run: self.dry_run }
    }

    pub(super) fn is_dry_run(&self) -> bool {
        self.dry_run
    }

    pub(super) fn matches(&self, traits: &Traits<'_>) -> bool {
        self.conditions.iter().all(|condition| condition.holds(traits)) && self.is_in_share(traits)
    }

    pub(super) fn explain(&self, traits: &Traits<'_>) -> RuleOutcome {
        match self.conditions.iter().find(|condition| !condition.holds(traits)) {
            Some(Condition { setting, value, .. }) => RuleOutcome::Failed {
                condition: setting,
                seen: value(traits, &mut Uuid::encode_buffer()).map(str::to_owned),
            },
            None if self.is_in_share(traits) => RuleOutcome::Matched,
            None => RuleOutcome::OutsideShare,
        }
    }

    fn is_in_share(&self, traits: &Traits<'_>) -> bool {
        let chain =
            traits.call.chain_id.as_deref().filter(|chain| !chain.is_empty()).unwrap_or(traits.call_id);
        hash::unit(hash::folded(chain, self.share_seed)) < self.share
    }
}

impl Condition {
    fn holds(&self, traits: &Traits<'_>) -> bool {
        let mut buffer = Uuid::encode_buffer();
        let seen = (self.value)(traits, &mut buffer);
        seen.is_some_and(|seen| self.accepted.iter().any(|accepted| accepted.eq_ignore_ascii_case(seen)))
    }
}

/// Returns the text of a GUID in the form that accepted values have.
fn text_of(guid: Uuid, buffer: &mut [u8]) -> &str {
    guid.hyphenated().encode_lower(buffer)
}

/// Shares and affinity keys have different seeds: the half of the calls that stays is spread over all
/// instances.
const SHARE_SEED: u64 = 2;
