//! `IssuerPattern`: an issuer as the settings spell it, with or without a place for the tenant.

use std::borrow::Cow;

use uuid::Uuid;

/// An accepted issuer. It is compared byte for byte, except the tenant, which is a GUID in any case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct IssuerPattern {
    text: Box<str>,
    tenant: TenantPlace,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum TenantPlace {
    /// The issuer contains no tenant.
    Nowhere,
    /// The issuer contains one tenant, written out.
    Fixed(Uuid),
    /// The issuer contains any tenant: its placeholder is between these byte offsets.
    At(usize, usize),
}

/// The facts about a token that follow from its issuer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Matched {
    /// The tenant in the issuer. Any application of any tenant can obtain a token of such an issuer, so the
    /// token must name the calling service.
    pub(crate) tenant: Option<(Uuid, EntraVersion)>,
}

/// The two token formats of Entra. The names of the claims differ between them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum EntraVersion {
    /// `ver` is "1.0", and the caller is in `appid`.
    V1,
    /// `ver` is "2.0", and the caller is in `azp`.
    V2,
}

impl IssuerPattern {
    /// Parses an issuer. `{tid}` may occur once, as a whole segment of the path.
    pub(crate) fn parse(text: &str) -> Result<Self, &'static str> {
        if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err("must be visible ASCII characters");
        }
        let tenant = match text.split_once(TID) {
            None if text.contains(['{', '}']) => return Err("the only placeholder is {tid}"),
            None => text.split('/').find_map(guid).map_or(TenantPlace::Nowhere, TenantPlace::Fixed),
            Some((before, after)) => {
                if before.contains(['{', '}']) || after.contains(['{', '}']) {
                    return Err("the only placeholder is one {tid}");
                }
                let authority = before.split_once("://").map_or("", |(_, authority)| authority);
                if !authority.contains('/')
                    || !before.ends_with('/')
                    || !(after.is_empty() || after.starts_with('/'))
                {
                    return Err("{tid} must be a whole segment of the path");
                }
                TenantPlace::At(before.len(), before.len() + TID.len())
            }
        };
        Ok(Self { text: text.into(), tenant })
    }

    /// Returns true if the issuer contains a tenant.
    pub(crate) fn has_tenant(&self) -> bool {
        match self.tenant {
            TenantPlace::Nowhere => false,
            TenantPlace::Fixed(_) | TenantPlace::At(..) => true,
        }
    }

    /// Matches the issuer of a token.
    pub(crate) fn matches(&self, issuer: &str) -> Option<Matched> {
        let tenant = match self.tenant {
            TenantPlace::Nowhere if *issuer == *self.text => None,
            TenantPlace::Fixed(tenant) if *issuer == *self.text => Some(tenant),
            TenantPlace::Nowhere | TenantPlace::Fixed(_) => return None,
            TenantPlace::At(from, to) => {
                let tenant =
                    issuer.strip_prefix(self.text.get(..from)?)?.strip_suffix(self.text.get(to..)?)?;
                Some(guid(tenant)?)
            }
        };
        Some(Matched { tenant: tenant.map(|tenant| (tenant, self.version())) })
    }

    /// Returns true if one issuer can match both patterns.
    pub(crate) fn overlaps(&self, other: &Self) -> bool {
        self.text == other.text || self.matches(&other.text).is_some() || other.matches(&self.text).is_some()
    }

    /// Returns the version. v2.0 issuers end with `/v2.0`, v1 issuers with the tenant (Microsoft identity
    /// platform, "Access tokens", `iss`).
    fn version(&self) -> EntraVersion {
        if self.text.ends_with("/v2.0") { EntraVersion::V2 } else { EntraVersion::V1 }
    }
}

/// Returns true if a key with `key_issuer` may sign a token of `issuer` and `tenant`.
///
/// The key's issuer, with the tenant put in, must equal the token's issuer. For a v1 token, it may instead
/// equal the metadata's issuer. Entra publishes the keys of several clouds and of personal accounts in one
/// set: without this rule, each of them could sign for every tenant.
pub(crate) fn key_may_sign(
    key_issuer: Option<&str>,
    metadata_issuer: Option<&str>,
    issuer: &str,
    matched: Matched,
    tenant: Uuid,
) -> bool {
    let Some(key_issuer) = key_issuer else { return true };
    // Issuers compare byte for byte, so the tenant goes in as the token spells it.
    let spelled = issuer.split('/').find(|segment| guid(segment) == Some(tenant));
    let put_in = |template| put_tenant_in(template, spelled, tenant);
    let key_issuer = put_in(key_issuer);
    if *key_issuer == *issuer {
        return true;
    }
    match matched.tenant {
        Some((_, EntraVersion::V1)) => metadata_issuer.is_some_and(|metadata| put_in(metadata) == key_issuer),
        Some((_, EntraVersion::V2)) | None => false,
    }
}

/// Returns `template` with the tenant in place of `{tenantid}`, as Microsoft's documents call it.
fn put_tenant_in<'t>(template: &'t str, spelled: Option<&str>, tenant: Uuid) -> Cow<'t, str> {
    if !template.contains(TENANTID) {
        return Cow::Borrowed(template);
    }
    Cow::Owned(spelled.map_or_else(
        || template.replace(TENANTID, &tenant.to_string()),
        |spelled| template.replace(TENANTID, spelled),
    ))
}

/// Parses a GUID with hyphens, in any case. Other spellings are not accepted.
pub(crate) fn guid(text: &str) -> Option<Uuid> {
    if text.len() == GUID_BYTES { Uuid::try_parse(text).ok() } else { None }
}

/// 32 digits and four hyphens.
const GUID_BYTES: usize = 36;

/// The tenant's place in settings.
const TID: &str = "{tid}";

/// The tenant's place in Entra's documents.
const TENANTID: &str = "{tenantid}";

#[cfg(test)]
mod tests {
    use super::*;

    const TENANT: &str = "11111111-2222-4333-8444-55555555555A";

    fn tenant() -> Uuid {
        guid(TENANT).unwrap()
    }

    #[track_caller]
    fn check(pattern: &str, issuer: &str, expected: Option<Option<(Uuid, EntraVersion)>>) {
        let found = IssuerPattern::parse(pattern).unwrap().matches(issuer).map(|matched| matched.tenant);
        assert_eq!(found, expected, "{pattern} {issuer}");
    }

    #[test]
    fn issuers_compare_byte_for_byte() {
        check("https://api.botframework.com", "https://api.botframework.com", Some(None));
        for other in [
            "https://api.botframework.com/",
            "http://api.botframework.com",
            "https://API.botframework.com",
            "https://api.botframework.com.evil.example",
            "https://u@api.botframework.com",
            "https://api.botframew\u{43e}rk.com",
            "",
        ] {
            check("https://api.botframework.com", other, None);
        }
    }

    #[test]
    fn the_tenant_is_a_guid() {
        let pattern = "https://login.microsoftonline.com/{tid}/v2.0";
        let issuer = |tenant: &str| format!("https://login.microsoftonline.com/{tenant}/v2.0");
        check(pattern, &issuer(TENANT), Some(Some((tenant(), EntraVersion::V2))));
        for other in ["{tid}", "{tenantid}", "common", "", "11111111222243338444555555555555", "*"] {
            check(pattern, &issuer(other), None);
        }
        check(pattern, &format!("https://login.microsoftonline.com/{TENANT}/{TENANT}/v2.0"), None);
        let v1 = format!("https://sts.windows.net/{TENANT}/");
        check("https://sts.windows.net/{tid}/", &v1, Some(Some((tenant(), EntraVersion::V1))));
        check(&v1, &v1, Some(Some((tenant(), EntraVersion::V1))));
    }

    #[test]
    fn placeholders_in_other_places_are_refused() {
        for text in [
            "",
            "https://a/{tenantid}/",
            "https://a/{tid}/{tid}/",
            "https://{tid}/",
            "https://{tid}.a/",
            "{tid}",
            "https://a/x{tid}",
            "https://a/{tid}x",
            "https://a/{tid",
            "https://a /",
        ] {
            assert!(IssuerPattern::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_key_signs_for_its_own_issuer_only() {
        let v2_template = "https://login.microsoftonline.com/{tenantid}/v2.0";
        let v2 = format!("https://login.microsoftonline.com/{TENANT}/v2.0");
        let v1 = format!("https://sts.windows.net/{TENANT}/");
        let consumers = "https://login.microsoftonline.com/9188040d-6c67-4c5b-b112-36a304b66dad/v2.0";
        let abroad = "https://login.microsoftonline.us/{tenantid}/v2.0";
        let matched = |version| Matched { tenant: Some((tenant(), version)) };
        for (key, metadata, issuer, version, expected) in [
            (Some(v2_template), None, &v2, EntraVersion::V2, true),
            (Some(v2_template), Some(v2_template), &v1, EntraVersion::V1, true),
            (Some(v2_template), None, &v1, EntraVersion::V1, false),
            (Some(consumers), Some(v2_template), &v2, EntraVersion::V2, false),
            (Some(consumers), Some(v2_template), &v1, EntraVersion::V1, false),
            (Some(abroad), Some(v2_template), &v2, EntraVersion::V2, false),
            (Some(abroad), Some(v2_template), &v1, EntraVersion::V1, false),
            (None, None, &v2, EntraVersion::V2, true),
        ] {
            let found = key_may_sign(key, metadata, issuer, matched(version), tenant());
            assert_eq!(found, expected, "{key:?} {metadata:?} {issuer}");
        }
    }
}
