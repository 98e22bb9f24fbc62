//! One rule: what it asks of a call, and what it says of one.

use switchboard_notification::Call;
use uuid::Uuid;

use crate::{hash, name::Name};

/// One rule: all conditions given must hold.
///
/// A condition is a list of accepted values, one of which must be the call's, ASCII case aside; an empty list asks
/// nothing. A call without the value does not match a condition on it.
#[derive(Debug, Clone)]
pub struct Rule {
    /// `source.region`
    pub source_region: Vec<String>,
    /// `source.countryCode`
    pub country: Vec<String>,
    /// the `X-Microsoft-Skype-Caller-Region` header
    pub caller_region: Vec<String>,
    /// `mediaHostedRegion`
    pub media_region: Vec<String>,
    /// the token's tenant: GUIDs
    pub tenant: Vec<String>,
    /// the organiser's tenant: GUIDs
    pub organizer_tenant: Vec<String>,
    /// the observed user of a policy recording
    pub user: Vec<String>,
    /// The part of the matching calls that it takes, 0 to 1, by a hash of the chain id and of `serve_in`.
    ///
    /// A greater share takes all that a smaller one took. Two rules that share the same calls out to different
    /// regions choose independently: a half to one and then a half to another leaves a quarter.
    pub share: f64,
    /// Where they go.
    pub serve_in: Name,
}

impl Rule {
    /// The rule that sends every call to `serve_in`; conditions and share are its fields.
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
        }
    }
}

/// What the policy looks at.
#[derive(Clone, Copy, Debug)]
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

/// What one rule said; for `explain`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RuleOutcome {
    /// All conditions hold and the share takes the call.
    Matched,
    /// A condition does not hold: its setting's name and the value seen, if any.
    Failed {
        /// The setting.
        condition: &'static str,
        /// The value in the notification, as it was posted: to be escaped where it is shown.
        seen: Option<String>,
    },
    /// All conditions hold, but the share leaves this chain out.
    NotInShare,
}

/// A rule in the form in which calls are compared with it: only the conditions that were given.
#[derive(Debug)]
pub(super) struct CompiledRule {
    conditions: Vec<Condition>,
    share: f64,
    share_seed: u64,
    serve_in: Name,
}

#[derive(Debug)]
struct Condition {
    field: Field,
    accepted: Vec<String>,
}

#[derive(Clone, Copy, Debug)]
enum Field {
    SourceRegion,
    Country,
    CallerRegion,
    MediaRegion,
    Tenant,
    OrganizerTenant,
    User,
}

impl CompiledRule {
    pub(super) fn new(rule: Rule) -> Self {
        let Rule {
            source_region, country, caller_region, media_region, tenant, organizer_tenant, user, ..
        } = rule;
        // A GUID may be written in braces, without hyphens or in capitals; a token's is compared in one form.
        let guids = |texts: Vec<String>| -> Vec<String> {
            texts
                .into_iter()
                .map(|text| Uuid::try_parse(&text).map_or(text, |guid| guid.hyphenated().to_string()))
                .collect()
        };
        let given = [
            (Field::SourceRegion, source_region),
            (Field::Country, country),
            (Field::CallerRegion, caller_region),
            (Field::MediaRegion, media_region),
            (Field::Tenant, guids(tenant)),
            (Field::OrganizerTenant, guids(organizer_tenant)),
            (Field::User, user),
        ];
        Self {
            conditions: given
                .into_iter()
                .filter(|(_, accepted)| !accepted.is_empty())
                .map(|(field, accepted)| Condition { field, accepted })
                .collect(),
            share: rule.share,
            share_seed: hash::exact(rule.serve_in.as_str(), SHARE_SEED),
            serve_in: rule.serve_in,
        }
    }

    pub(super) fn serve_in(&self) -> &Name {
        &self.serve_in
    }

    pub(super) fn matches(&self, traits: &Traits<'_>) -> bool {
        self.conditions.iter().all(|condition| condition.holds(traits)) && self.shares(traits)
    }

    pub(super) fn explain(&self, traits: &Traits<'_>) -> RuleOutcome {
        match self.conditions.iter().find(|condition| !condition.holds(traits)) {
            Some(Condition { field, .. }) => RuleOutcome::Failed {
                condition: field.name(),
                seen: field.of(traits, &mut Uuid::encode_buffer()).map(str::to_owned),
            },
            None if self.shares(traits) => RuleOutcome::Matched,
            None => RuleOutcome::NotInShare,
        }
    }

    fn shares(&self, traits: &Traits<'_>) -> bool {
        let chain =
            traits.call.chain_id.as_deref().filter(|chain| !chain.is_empty()).unwrap_or(traits.call_id);
        hash::unit(hash::folded(chain, self.share_seed)) < self.share
    }
}

impl Condition {
    fn holds(&self, traits: &Traits<'_>) -> bool {
        let mut buffer = Uuid::encode_buffer();
        let seen = self.field.of(traits, &mut buffer);
        seen.is_some_and(|seen| self.accepted.iter().any(|accepted| accepted.eq_ignore_ascii_case(seen)))
    }
}

impl Field {
    /// The setting.
    fn name(self) -> &'static str {
        match self {
            Self::SourceRegion => "source_region",
            Self::Country => "country",
            Self::CallerRegion => "caller_region",
            Self::MediaRegion => "media_region",
            Self::Tenant => "tenant",
            Self::OrganizerTenant => "organizer_tenant",
            Self::User => "user",
        }
    }

    /// The call's value, if it has one. `buffer` is for the text of a GUID.
    fn of<'t>(self, traits: &'t Traits<'_>, buffer: &'t mut [u8]) -> Option<&'t str> {
        let call = traits.call;
        match self {
            Self::SourceRegion => call.source_region.as_deref(),
            Self::Country => call.country.as_deref(),
            Self::CallerRegion => traits.caller_region,
            Self::MediaRegion => call.media_region.as_deref(),
            Self::Tenant => Some(traits.tenant.hyphenated().encode_lower(buffer)),
            Self::OrganizerTenant => {
                call.organizer_tenant.map(|tenant| &*tenant.hyphenated().encode_lower(buffer))
            }
            Self::User => call.observed_user.as_deref(),
        }
    }
}

/// Shares are hashed apart from affinity keys: the half of the calls that stays is spread over all instances.
const SHARE_SEED: u64 = 2;
