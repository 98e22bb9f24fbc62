//! The rules that a payload must meet. They run before the signature is checked, since they cost a tenth of
//! it; what they find means nothing until it has been.

use std::borrow::Cow;

use uuid::Uuid;

use crate::{
    AppSettings, Forbidden, Rejection, Tenants,
    clock::SKEW,
    issuer::{EntraVersion, Matched, guid},
    json::{self, InvalidObject, ObjectLimits, Value},
};

/// The claims as the token has them; only their issuer can be read, to find whose rules apply.
#[derive(Debug)]
pub(crate) struct Claims<'a> {
    issuer: Cow<'a, str>,
    aud: Claim<'a>,
    exp: Claim<'a>,
    nbf: Claim<'a>,
    iat: Claim<'a>,
    tid: Claim<'a>,
    tid_by_uri: Claim<'a>,
    appid: Claim<'a>,
    azp: Claim<'a>,
    ver: Claim<'a>,
    scp: Claim<'a>,
    idtyp: Claim<'a>,
}

type Claim<'a> = Option<Value<'a>>;

/// Who the token says sent it, if its signature is right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) app: Uuid,
    pub(crate) tenant: Uuid,
    pub(crate) service: Option<Uuid>,
    pub(crate) window: Window,
    /// Why this caller is not allowed: told only to who has proved to be it.
    pub(crate) forbidden: Option<Forbidden>,
}

impl<'a> Claims<'a> {
    pub(crate) fn parse(payload: &'a [u8]) -> Result<Self, Rejection> {
        let [iss, aud, exp, nbf, iat, tid, tid_by_uri, appid, azp, ver, scp, idtyp] =
            json::read(payload, &NAMES, LIMITS).map_err(|fault| match fault {
                InvalidObject::Syntax => Rejection::ClaimsSyntax,
                InvalidObject::Duplicate => Rejection::Duplicate,
                InvalidObject::CaseVariant(name) => Rejection::CaseVariant(name),
            })?;
        let issuer = match iss {
            None => return Err(Rejection::ClaimMissing("iss")),
            Some(Value::Text(issuer)) => issuer,
            Some(Value::OneText(_) | Value::Number(_) | Value::Other) => {
                return Err(Rejection::ClaimInvalid("iss"));
            }
        };
        Ok(Self { issuer, aud, exp, nbf, iat, tid, tid_by_uri, appid, azp, ver, scp, idtyp })
    }

    pub(crate) fn issuer(&self) -> &str {
        &self.issuer
    }

    /// Every rule but the signature's, for a token whose issuer `matched` one of a trust with these
    /// `callers`.
    pub(crate) fn check(
        &self,
        matched: Matched,
        callers: &[Uuid],
        apps: &[AppSettings],
        now: u64,
    ) -> Result<Identity, Rejection> {
        let app = self.app(apps)?;
        let window = self.window(now)?;
        window.check(now)?;
        let tenant = self.tenant(matched)?;
        self.is_app_only()?;
        let service = self.service(matched)?;
        let forbidden = match service {
            Some(service) if !callers.is_empty() && !callers.contains(&service) => {
                Some(Forbidden::Service(service))
            }
            Some(_) | None if !app.tenants.contain(tenant) => Some(Forbidden::Tenant(tenant)),
            Some(_) | None => None,
        };
        Ok(Identity { app: app.id, tenant, service, window, forbidden })
    }

    /// `aud` is one of ours exactly. RFC 7519 section 4.1.3 allows an array; one with several audiences could
    /// be used by each of them against the others, so an array may have one.
    fn app<'s>(&self, apps: &'s [AppSettings]) -> Result<&'s AppSettings, Rejection> {
        let audience = match &self.aud {
            None => return Err(Rejection::ClaimMissing("aud")),
            Some(Value::Text(audience) | Value::OneText(audience)) => audience,
            Some(Value::Number(_) | Value::Other) => return Err(Rejection::ClaimInvalid("aud")),
        };
        let id = guid(audience);
        let is_same = |other: &String| *other == **audience || id.is_some() && guid(other) == id;
        apps.iter()
            .find(|app| id == Some(app.id) || app.audiences.iter().any(is_same))
            .ok_or(Rejection::Audience)
    }

    /// When the token is valid. Its length is bounded: no real token lives longer than a day.
    fn window(&self, now: u64) -> Result<Window, Rejection> {
        let exp = seconds(&self.exp, "exp")?.ok_or(Rejection::ClaimMissing("exp"))?;
        let nbf = seconds(&self.nbf, "nbf")?;
        let iat = seconds(&self.iat, "iat")?;
        match nbf.or(iat) {
            Some(start) if exp <= start || exp - start > LIFETIME_MAX => return Err(Rejection::Lifetime),
            Some(_) => {}
            // Without a beginning, what remains is what can be bounded.
            None if exp > now.saturating_add(LIFETIME_MAX) => return Err(Rejection::Lifetime),
            None => {}
        }
        let start = match (nbf, iat) {
            (Some(nbf), Some(iat)) => nbf.max(iat),
            (Some(start), None) | (None, Some(start)) => start,
            // Kept, so that a remembered token is judged like a new one when the clock was set back.
            (None, None) => exp.saturating_sub(LIFETIME_MAX).saturating_add(SKEW),
        };
        Ok(Window { start, exp })
    }

    /// The tenant, by either of its names (.NET's tools write `tid` as the URI), and the issuer's if it has
    /// one.
    fn tenant(&self, matched: Matched) -> Result<Uuid, Rejection> {
        let tenant = match (guid_claim(&self.tid, "tid")?, guid_claim(&self.tid_by_uri, "tid")?) {
            (None, None) => return Err(Rejection::ClaimMissing("tid")),
            (Some(tenant), None) | (None, Some(tenant)) => tenant,
            (Some(one), Some(other)) if one == other => one,
            (Some(_), Some(_)) => return Err(Rejection::TenantConflict),
        };
        match matched.tenant {
            Some((issuers, _)) if issuers != tenant => Err(Rejection::TenantMismatch),
            Some(_) | None => Ok(tenant),
        }
    }

    /// The platform calls as an app. A token with `scp` was issued to a person, whatever app that person
    /// used.
    fn is_app_only(&self) -> Result<(), Rejection> {
        if self.scp.is_some() {
            return Err(Rejection::NotAppOnly);
        }
        match &self.idtyp {
            None => Ok(()),
            Some(Value::Text(idtyp)) if idtyp == "app" => Ok(()),
            Some(Value::Text(_) | Value::OneText(_) | Value::Number(_) | Value::Other) => {
                Err(Rejection::NotAppOnly)
            }
        }
    }

    /// The calling service's app id. Entra writes it into one claim by version, never into "either": a token
    /// of one version that is read by the rules of the other could name a caller that Entra did not check.
    fn service(&self, matched: Matched) -> Result<Option<Uuid>, Rejection> {
        let (appid, azp) = (guid_claim(&self.appid, "appid")?, guid_claim(&self.azp, "azp")?);
        let Some((_, version)) = matched.tenant else {
            return match (appid, azp) {
                (Some(one), Some(other)) if one != other => Err(Rejection::CallerConflict),
                (one, other) => Ok(one.or(other)),
            };
        };
        let (ver, named, unnamed) = match version {
            EntraVersion::V1 => ("1.0", appid, azp),
            EntraVersion::V2 => ("2.0", azp, appid),
        };
        let has_version = matches!(&self.ver, Some(Value::Text(text)) if text == ver);
        if !has_version || unnamed.is_some() {
            return Err(Rejection::Version);
        }
        named.map(Some).ok_or(Rejection::CallerMissing)
    }
}

/// When a token is valid, without the skew. Unix seconds; always one interval.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Window {
    /// The later of `nbf` and `iat`.
    start: u64,
    exp: u64,
}

impl Window {
    /// RFC 7519 sections 4.1.4 and 4.1.5, with the skew on both ends.
    pub(crate) fn check(self, now: u64) -> Result<(), Rejection> {
        if now >= self.exp.saturating_add(SKEW) {
            return Err(Rejection::Expired { expired_at: self.exp, now });
        }
        if now.saturating_add(SKEW) < self.start {
            return Err(Rejection::NotYetValid { not_before: self.start, now });
        }
        Ok(())
    }
}

impl Tenants {
    fn contain(&self, tenant: Uuid) -> bool {
        match self {
            Self::Any => true,
            Self::Only(tenants) => tenants.contains(&tenant),
        }
    }
}

fn seconds(claim: &Claim<'_>, name: &'static str) -> Result<Option<u64>, Rejection> {
    match claim {
        None => Ok(None),
        Some(Value::Number(seconds)) => Ok(Some(*seconds)),
        Some(Value::Text(_) | Value::OneText(_) | Value::Other) => Err(Rejection::ClaimInvalid(name)),
    }
}

fn guid_claim(claim: &Claim<'_>, name: &'static str) -> Result<Option<Uuid>, Rejection> {
    match claim {
        None => Ok(None),
        Some(Value::Text(text)) => guid(text).map(Some).ok_or(Rejection::ClaimInvalid(name)),
        Some(Value::OneText(_) | Value::Number(_) | Value::Other) => Err(Rejection::ClaimInvalid(name)),
    }
}

/// The claims that decide. Others may have any shape and are passed over.
const NAMES: [&str; 12] = [
    "iss",
    "aud",
    "exp",
    "nbf",
    "iat",
    "tid",
    "http://schemas.microsoft.com/identity/claims/tenantid",
    "appid",
    "azp",
    "ver",
    "scp",
    "idtyp",
];

/// Entra's largest tokens have about 40 claims, of three levels at most.
const LIMITS: ObjectLimits = ObjectLimits { depth: 16, members: 128 };

/// A day. Real tokens live from five minutes to a little more than an hour.
const LIFETIME_MAX: u64 = 24 * 60 * 60;
