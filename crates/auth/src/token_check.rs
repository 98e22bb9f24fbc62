//! `TokenCheck`: applies the rules to one token. Authentication and examination share it, so they have one
//! set of rules.

use std::sync::Arc;

use uuid::Uuid;

use crate::{
    AppSettings, AuthError, Caller, Forbidden, Rejection,
    caller::Sender,
    claims::{Claims, ValidityWindow},
    examination::{Examination, Finding, Findings, Missing, Rule},
    issuer::{Matched, key_may_sign},
    key_cache::{KeyCache, PublishedKeys},
    token::{DecodedToken, Header, HeaderMembers, UnverifiedToken},
    token_cache::Verified,
    token_summary::TokenSummary,
};

/// The trust that has the issuer of a token.
#[derive(Clone, Copy)]
pub(crate) struct IssuingTrust<'s> {
    pub(crate) name: &'s Arc<str>,
    pub(crate) callers: &'s [Uuid],
    pub(crate) keys: &'s Arc<KeyCache>,
    pub(crate) matched: Matched,
}

/// A token, the values that its rules found, and the findings. A value is `None` if its rule was not met.
pub(crate) struct TokenCheck<'s> {
    token: &'s DecodedToken<'s>,
    now: u64,
    members: Option<HeaderMembers<'s>>,
    header: Option<Header>,
    claims: Option<Claims<'s>>,
    trust: Option<IssuingTrust<'s>>,
    app: Option<&'s AppSettings>,
    window: Option<ValidityWindow>,
    tenant: Option<Uuid>,
    /// `Some(None)`: the token need not name its calling app, and does not.
    service: Option<Option<Uuid>>,
    findings: Findings,
}

impl<'s> TokenCheck<'s> {
    /// Applies all rules that need no key. They come first because they are cheap, and because junk must not
    /// use up the cool-down: only a token that passes them may cause a fetch. `trust_of` returns the trust
    /// that has an issuer.
    pub(crate) fn new(
        token: &'s DecodedToken<'s>,
        apps: &'s [AppSettings],
        trust_of: impl FnOnce(&str) -> Option<IssuingTrust<'s>>,
        now: u64,
    ) -> Self {
        let mut findings = Findings::new();
        findings.record(Rule::Form, Ok(()));
        let members = findings.record(Rule::Header, token.header());
        let header = members.as_ref().and_then(|members| findings.record(Rule::Header, members.check()));
        if let Some(header) = &header {
            findings.record(Rule::KeyId, header.key_id.as_ref().ok_or(Rejection::KeyId));
        }
        let claims = findings.record(Rule::Claims, Claims::parse(token.unverified_payload()));
        let mut check = Self {
            token,
            now,
            members,
            header,
            claims: None,
            trust: None,
            app: None,
            window: None,
            tenant: None,
            service: None,
            findings,
        };
        if let Some(claims) = claims {
            check.check_claims(&claims, apps, trust_of);
            check.claims = Some(claims);
        }
        check
    }

    fn check_claims(
        &mut self,
        claims: &Claims<'s>,
        apps: &'s [AppSettings],
        trust_of: impl FnOnce(&str) -> Option<IssuingTrust<'s>>,
    ) {
        let Self { findings, now, .. } = self;
        let issuer = claims.issuer();
        let trust = issuer.and_then(|issuer| trust_of(issuer).ok_or(Rejection::Issuer));
        self.trust = findings.record(Rule::Issuer, trust);
        self.app = findings.record(Rule::Audience, claims.app(apps));
        self.window = findings.record(Rule::Time, claims.window(*now));
        findings.record(Rule::AppOnly, claims.is_app_only());
        findings.record(Rule::NotBound, claims.is_unbound());
        if let Some(IssuingTrust { callers, matched, .. }) = self.trust {
            self.tenant = findings.record(Rule::Tenant, claims.tenant(matched));
            self.service = findings.record(Rule::CallingApp, claims.service(matched));
            if let Some(service) = self.service {
                findings.set(Rule::CallerAllowed, caller_allowed(service, callers));
            }
        }
        if let (Some(app), Some(tenant)) = (self.app, self.tenant) {
            findings.set(Rule::TenantAllowed, tenant_allowed(tenant, app));
        }
    }

    /// Returns the trust, if the token names one. It proves nothing.
    pub(crate) fn trust(&self) -> Option<IssuingTrust<'s>> {
        self.trust
    }

    /// Returns the trust and the id of the key that the token names, or the reason to refuse the token
    /// without its key. Call it before the rules that need a key are applied.
    pub(crate) fn wanted_key(&self) -> Result<(IssuingTrust<'s>, Arc<str>), Rejection> {
        let key_id = self.header.as_ref().and_then(|header| header.key_id.clone());
        match (self.findings.rejection(), self.trust, key_id) {
            (None, Some(trust), Some(key_id)) => Ok((trust, key_id)),
            (Some(rejection), ..) => Err(rejection),
            // A value is missing only if its rule has failed.
            (None, ..) => Err(Rejection::KeyId),
        }
    }

    /// Applies the rules that need a key and returns the caller; `None` if the current set does not contain
    /// the key.
    pub(crate) fn verify(&mut self) -> Result<Option<Verified>, AuthError> {
        let Some((trust, set)) = self.trust.and_then(|trust| Some((trust, trust.keys.usable()?))) else {
            return Ok(None);
        };
        if !self.apply_key_rules(&set) {
            return Ok(None);
        }
        let rejected = |rejection| AuthError::Rejected(rejection, Some(Arc::clone(trust.name)));
        if let Some(rejection) = self.findings.rejection() {
            return Err(rejected(rejection));
        }
        let (Some(sender), Some(window)) = (self.sender(set.generation), self.window) else {
            return Err(rejected(Rejection::Signature));
        };
        match self.findings.failure() {
            Some(Finding::Forbidden(forbidden)) => Err(AuthError::Forbidden(forbidden, Box::new(sender))),
            // The law of this crate: a token is accepted exactly if it meets all rules.
            None if self.findings.all_passed() => {
                let caller = Arc::new(Caller::new(sender));
                Ok(Some(Verified { caller, window, keys: Arc::clone(trust.keys) }))
            }
            Some(Finding::Rejected(_) | Finding::Passed | Finding::NotChecked(_)) | None => {
                Err(rejected(Rejection::Signature))
            }
        }
    }

    /// Applies the rules that need a key of `set`. Returns true if the set contains the key.
    fn apply_key_rules(&mut self, set: &PublishedKeys) -> bool {
        let Some((header, key_id)) = self.header.as_ref().and_then(|it| Some((it, it.key_id.as_deref()?)))
        else {
            return false;
        };
        let key = set.keys.get(key_id).ok_or(Rejection::UnknownKey);
        let Some(key) = self.findings.record(Rule::Key, key) else { return false };
        let issuer = self.claims.as_ref().and_then(|claims| claims.issuer().ok());
        if let (Some(trust), Some(tenant), Some(issuer)) = (self.trust, self.tenant, issuer) {
            let metadata_issuer = set.metadata_issuer.as_deref();
            let may_sign = key_may_sign(key.issuer(), metadata_issuer, issuer, trust.matched, tenant);
            self.findings.record(Rule::KeyIssuer, may_sign.then_some(()).ok_or(Rejection::KeyIssuer));
        }
        self.findings.record(Rule::Signature, key.verify(&UnverifiedToken::new(self.token, header)));
        true
    }

    /// Returns the sender that the token names. Call it after checking the signature.
    fn sender(&self, generation: u64) -> Option<Sender> {
        Some(Sender {
            app: self.app?.id,
            tenant: self.tenant?,
            service: self.service?,
            trust: Arc::clone(self.trust?.name),
            key_id: self.header.as_ref()?.key_id.clone()?,
            generation,
        })
    }

    pub(crate) fn summary(&self) -> TokenSummary {
        let (issuer_is_known, audience_is_known) = (self.trust.is_some(), self.app.is_some());
        TokenSummary::of(
            self.members.as_ref(),
            self.claims.as_ref(),
            issuer_is_known,
            audience_is_known,
            self.now,
        )
    }

    /// Applies the rules that need a key, with the keys at hand, and returns all findings.
    pub(crate) fn examine(mut self) -> Examination {
        let mut keys = None;
        if let Some(trust) = self.trust {
            match trust.keys.usable() {
                Some(set) => {
                    keys = trust.keys.status().age.map(|age| (set.keys.len(), age));
                    self.apply_key_rules(&set);
                }
                None => {
                    for rule in [Rule::Key, Rule::KeyIssuer, Rule::Signature] {
                        self.findings.set(rule, Finding::NotChecked(Missing::Keys));
                    }
                }
            }
        }
        let mut examination = Examination::new(self.summary(), self.findings);
        examination.trust = self.trust.map(|trust| Arc::clone(trust.name));
        examination.app = self.app.map(|app| app.id);
        examination.tenant = self.tenant;
        examination.keys = keys;
        examination
    }
}

fn caller_allowed(service: Option<Uuid>, callers: &[Uuid]) -> Finding {
    match service {
        Some(service) if !callers.is_empty() && !callers.contains(&service) => {
            Finding::Forbidden(Forbidden::Service(service))
        }
        Some(_) | None => Finding::Passed,
    }
}

fn tenant_allowed(tenant: Uuid, app: &AppSettings) -> Finding {
    if app.tenants.contain(tenant) { Finding::Passed } else { Finding::Forbidden(Forbidden::Tenant(tenant)) }
}
