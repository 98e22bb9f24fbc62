//! `Claims`: the rules that a token's payload must meet. They run before the signature is checked, since they
//! cost a tenth of it. Their result means nothing until the signature has been checked.

use uuid::Uuid;

use crate::{
    AppSettings, Rejection, Tenants,
    clock::SKEW,
    issuer::{EntraVersion, Matched, guid},
    json::{self, InvalidObject, ObjectLimits, Value},
};

/// The claims of a token, each with its rule. The rules are independent of each other, except that the issuer
/// determines the trust whose rules apply.
#[derive(Debug)]
pub(crate) struct Claims<'a> {
    iss: Claim<'a>,
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
    cnf: Claim<'a>,
}

type Claim<'a> = Option<Value<'a>>;

impl<'a> Claims<'a> {
    pub(crate) fn parse(payload: &'a [u8]) -> Result<Self, Rejection> {
        let [iss, aud, exp, nbf, iat, tid, tid_by_uri, appid, azp, ver, scp, idtyp, cnf] =
            json::read(payload, &NAMES, LIMITS).map_err(|invalid| match invalid {
                InvalidObject::Syntax => Rejection::ClaimsSyntax,
                InvalidObject::Duplicate => Rejection::Duplicate,
                InvalidObject::CaseVariant(name) => Rejection::CaseVariant(name),
            })?;
        Ok(Self { iss, aud, exp, nbf, iat, tid, tid_by_uri, appid, azp, ver, scp, idtyp, cnf })
    }

    pub(crate) fn issuer(&self) -> Result<&str, Rejection> {
        match &self.iss {
            None => Err(Rejection::ClaimMissing("iss")),
            Some(Value::Text(issuer)) => Ok(issuer),
            Some(Value::OneText(_) | Value::Number(_) | Value::Other) => Err(Rejection::ClaimInvalid("iss")),
        }
    }

    /// Returns the values of the audience, the tenant and the calling app, which may be malformed.
    pub(crate) fn named(&self) -> NamedParties<'_, 'a> {
        NamedParties {
            audience: self.aud.as_ref(),
            tenant: self.tid.as_ref().or(self.tid_by_uri.as_ref()),
            calling_app: self.appid.as_ref().or(self.azp.as_ref()),
        }
    }

    /// Returns the time at which the token was issued, or from which it is valid.
    pub(crate) fn issued_at(&self) -> Option<u64> {
        let time = |claim, name| seconds(claim, name).ok().flatten();
        time(&self.iat, "iat").or_else(|| time(&self.nbf, "nbf"))
    }

    /// Returns the time at which the token expires.
    pub(crate) fn expires_at(&self) -> Option<u64> {
        seconds(&self.exp, "exp").ok().flatten()
    }

    /// Returns the app whose audience `aud` is, exactly. RFC 7519 section 4.1.3 allows an array. Each of
    /// several audiences could use the token against the others, so an array may have one.
    pub(crate) fn app<'s>(&self, apps: &'s [AppSettings]) -> Result<&'s AppSettings, Rejection> {
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

    /// Returns the time in which the token is valid, which contains `now`. Its length is bounded: Entra's
    /// longest tokens live 28 hours.
    pub(crate) fn window(&self, now: u64) -> Result<ValidityWindow, Rejection> {
        let exp = seconds(&self.exp, "exp")?.ok_or(Rejection::ClaimMissing("exp"))?;
        let nbf = seconds(&self.nbf, "nbf")?;
        let iat = seconds(&self.iat, "iat")?;
        match nbf.or(iat) {
            Some(start) if exp <= start || exp - start > LIFETIME_MAX => return Err(Rejection::Lifetime),
            Some(_) => {}
            // Without a start, only the remaining time can be bounded.
            None if exp > now.saturating_add(LIFETIME_MAX) => return Err(Rejection::Lifetime),
            None => {}
        }
        let start = match (nbf, iat) {
            (Some(nbf), Some(iat)) => nbf.max(iat),
            (Some(start), None) | (None, Some(start)) => start,
            // A start is needed, so that a cached token and a new one get the same verdict after the clock
            // was set back.
            (None, None) => exp.saturating_sub(LIFETIME_MAX).saturating_add(SKEW),
        };
        let window = ValidityWindow { start, exp };
        window.check(now).map(|()| window)
    }

    /// Returns the tenant. It has two names (.NET's tools write `tid` as the URI), and may also be in the
    /// issuer.
    pub(crate) fn tenant(&self, matched: Matched) -> Result<Uuid, Rejection> {
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

    /// Refuses tokens of users: the platform calls as an app. A token with `scp` was issued to a user,
    /// whatever app the user used.
    pub(crate) fn is_app_only(&self) -> Result<(), Rejection> {
        if self.scp.is_some() {
            return Err(Rejection::UserToken);
        }
        match &self.idtyp {
            None => Ok(()),
            Some(Value::Text(idtyp)) if idtyp == "app" => Ok(()),
            Some(Value::Text(_) | Value::OneText(_) | Value::Number(_) | Value::Other) => {
                Err(Rejection::UserToken)
            }
        }
    }

    /// Refuses tokens that are bound to a key of their sender (RFC 7800): only a sender that proves to have
    /// the key may use one, and a webhook call has no such proof.
    pub(crate) fn is_unbound(&self) -> Result<(), Rejection> {
        if self.cnf.is_some() { Err(Rejection::BoundToken) } else { Ok(()) }
    }

    /// Returns the app id of the calling service. The version of the token determines which claim Entra
    /// writes it to. Reading the other claim would accept a caller that Entra did not check.
    pub(crate) fn service(&self, matched: Matched) -> Result<Option<Uuid>, Rejection> {
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

/// The time in which a token is valid, without the skew. Unix seconds; always one interval.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ValidityWindow {
    /// The later of `nbf` and `iat`.
    start: u64,
    exp: u64,
}

impl ValidityWindow {
    /// Applies RFC 7519 sections 4.1.4 and 4.1.5, with the skew at both ends.
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

/// The audience, the tenant and the calling app of a token as it spells them.
pub(crate) struct NamedParties<'c, 'a> {
    pub(crate) audience: Option<&'c Value<'a>>,
    pub(crate) tenant: Option<&'c Value<'a>>,
    pub(crate) calling_app: Option<&'c Value<'a>>,
}

impl Tenants {
    pub(crate) fn contain(&self, tenant: Uuid) -> bool {
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

/// The claims that are read. Other claims may have any shape and are ignored.
const NAMES: [&str; 13] = [
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
    "cnf",
];

/// Entra's largest tokens have about 40 claims with at most three levels.
const LIMITS: ObjectLimits = ObjectLimits { depth: 16, members: 128 };

/// 28 hours: the longest life of an access token that Entra evaluates continuously. Today's tokens of the
/// platform live for five minutes to a little more than an hour.
const LIFETIME_MAX: u64 = 28 * 60 * 60;
