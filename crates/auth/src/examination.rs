//! `Examination`: the rules for a token, each with its finding.

use std::{sync::Arc, time::Duration};

use uuid::Uuid;

use crate::{
    rejection::{Forbidden, Rejection},
    token_summary::TokenSummary,
};

/// Declares `Rule` from one table: each row has a variant, its label, and what the rule requires.
macro_rules! rules {
    ($($(#[$doc:meta])* $variant:ident = $label:literal, $requirement:literal;)*) => {
        /// The rules for a token, in the order in which they are applied. The first one that a token does not
        /// meet is the reason of its refusal.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Rule {
            $($(#[$doc])* $variant,)*
        }

        impl Rule {
            /// All rules.
            pub const ALL: &'static [Self] = &[$(Self::$variant),*];

            /// Returns a stable name.
            pub fn label(self) -> &'static str {
                match self { $(Self::$variant => $label,)* }
            }

            /// Returns what the rule requires, in words.
            pub fn requirement(self) -> &'static str {
                match self { $(Self::$variant => $requirement,)* }
            }
        }

        impl Findings {
            pub(crate) fn new() -> Self {
                Self([$((Rule::$variant, Finding::NotChecked(Missing::Earlier)),)*])
            }
        }

        /// A finding for each rule, in their order.
        #[derive(Clone, Debug)]
        pub(crate) struct Findings([(Rule, Finding); [$($label),*].len()]);
    };
}

rules! {
    /// The token is a compact JWS of allowed length, each segment in canonical base64url.
    Form = "form", "a compact JWS in canonical base64url";
    /// The header has an allowed algorithm and type, and no member that is refused.
    Header = "header", "an allowed algorithm and type, and no member that is refused";
    /// The claims are a JSON object, each name once.
    Claims = "claims", "a JSON object, each name once";
    /// A trust has the issuer.
    Issuer = "issuer", "a trust has the issuer";
    /// The token names a key.
    KeyId = "key_id", "the token names a key";
    /// The audience is a configured app.
    Audience = "audience", "the audience is a configured app";
    /// The token is valid now, and for a bounded time.
    Time = "time", "valid now, and for a bounded time";
    /// The token names one tenant, that of its issuer.
    Tenant = "tenant", "one tenant, that of the issuer";
    /// The token was issued to an app, not to a user.
    AppOnly = "app_only", "issued to an app, not to a user";
    /// The token is not bound to a key of its sender.
    NotBound = "not_bound", "not bound to a key of its sender";
    /// The token names its calling app where its version says.
    CallingApp = "calling_app", "named where the version says";
    /// The trust has the key.
    Key = "key", "the trust has the key";
    /// The key may sign for the issuer.
    KeyIssuer = "key_issuer", "the key may sign for the issuer";
    /// The signature was made with the key.
    Signature = "signature", "made with the key";
    /// The trust allows the calling app.
    CallerAllowed = "caller_allowed", "the trust allows the calling app";
    /// The app allows the tenant.
    TenantAllowed = "tenant_allowed", "the app allows the tenant";
}

/// The finding for one rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finding {
    /// The token meets the rule.
    Passed,
    /// The token does not meet the rule: 401.
    Rejected(Rejection),
    /// The token does not meet the rule: 403 if its sender is proven.
    Forbidden(Forbidden),
    /// The rule was not applied.
    NotChecked(Missing),
}

/// The reasons for which a rule was not applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Missing {
    /// It needs a value that an earlier rule did not find.
    #[error("an earlier rule failed")]
    Earlier,
    /// The trust has no usable keys at the moment.
    #[error("no usable keys")]
    Keys,
}

/// All rules for one token, and what the token says. [`Authenticator::examine`] makes it.
///
/// [`Authenticator::examine`]: crate::Authenticator::examine
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Examination {
    findings: Findings,
    /// The unproven content of the token.
    pub token: TokenSummary,
    /// The name of the trust that has the issuer.
    pub trust: Option<Arc<str>>,
    /// The app whose audience the token has.
    pub app: Option<Uuid>,
    /// The tenant of the token.
    pub tenant: Option<Uuid>,
    /// The number and the age of the trust's usable keys.
    pub keys: Option<(usize, Duration)>,
}

impl Examination {
    /// The examination of a token that could not be read.
    pub(crate) fn unread(rejection: Rejection) -> Self {
        let mut findings = Findings::new();
        findings.record::<()>(Rule::Form, Err(rejection));
        Self::new(TokenSummary::default(), findings)
    }

    pub(crate) fn new(token: TokenSummary, findings: Findings) -> Self {
        Self { findings, token, trust: None, app: None, tenant: None, keys: None }
    }

    /// Returns each rule with its finding, in their order.
    pub fn rules(&self) -> impl Iterator<Item = (Rule, Finding)> {
        self.findings.0.iter().copied()
    }

    /// Returns true if the token meets all rules: the authenticator accepts it.
    pub fn is_accepted(&self) -> bool {
        self.findings.all_passed()
    }

    /// Returns the finding that decides: the first failed rule. `None` if no rule failed.
    pub fn failure(&self) -> Option<Finding> {
        self.findings.failure()
    }
}

impl Findings {
    /// Records the result of a rule and returns its value.
    pub(crate) fn record<T>(&mut self, rule: Rule, result: Result<T, Rejection>) -> Option<T> {
        match result {
            Ok(value) => {
                self.set(rule, Finding::Passed);
                Some(value)
            }
            Err(rejection) => {
                self.set(rule, Finding::Rejected(rejection));
                None
            }
        }
    }

    pub(crate) fn set(&mut self, rule: Rule, finding: Finding) {
        if let Some((_, found)) = self.0.iter_mut().find(|(other, _)| *other == rule) {
            *found = finding;
        }
    }

    pub(crate) fn all_passed(&self) -> bool {
        self.0.iter().all(|(_, finding)| *finding == Finding::Passed)
    }

    pub(crate) fn failure(&self) -> Option<Finding> {
        self.0.iter().map(|(_, finding)| *finding).find(|finding| match finding {
            Finding::Rejected(_) | Finding::Forbidden(_) => true,
            Finding::Passed | Finding::NotChecked(_) => false,
        })
    }

    /// Returns the first rejection, if there is one.
    pub(crate) fn rejection(&self) -> Option<Rejection> {
        self.0.iter().find_map(|(_, finding)| match finding {
            Finding::Rejected(rejection) => Some(*rejection),
            Finding::Passed | Finding::Forbidden(_) | Finding::NotChecked(_) => None,
        })
    }
}
