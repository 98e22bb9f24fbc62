//! The faults of a certificate for the public listener, found before the platform meets them.

use std::{
    cmp::Ordering,
    fmt,
    net::IpAddr,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use openssl::{
    asn1::{Asn1Time, Asn1TimeRef},
    pkey::{PKeyRef, Private},
    x509::{X509, X509Ref, X509VerifyResult},
};
use switchboard_delivery::{certificate_hosts, common_name};
use url::Host;

/// A fault of a certificate or of its chain. Displayed with what would be right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum CertificateFinding {
    /// The key belongs to none of the certificates.
    KeyMismatch,
    /// The key belongs to a certificate that is not the first; `position` counts from 1.
    KeyOfAnother { position: usize, certificate: String },
    /// The certificate is its own issuer.
    SelfSigned { certificate: String },
    /// The file has no certificate of the issuer.
    MissingIssuer { certificate: String, issuer: String },
    /// The certificate of the issuer is in the file, but not after the one that it issued.
    WrongOrder { certificate: String, issuer: String },
    /// The certificate is not for the host of `callback.base`.
    WrongHost { host: String, names: Vec<String> },
    /// The validity has ended.
    Expired { certificate: String, not_after: String },
    /// The validity is about to end.
    ExpiresSoon { certificate: String, not_after: String, days: i32 },
    /// The validity has not started.
    NotYetValid { certificate: String, not_before: String },
}

/// Examines the certificates of a file, in its order, for a listener at `host`. Without a key, the key is not
/// examined.
pub(crate) fn examine(
    chain: &[X509],
    key: Option<&PKeyRef<Private>>,
    host: &Host<&str>,
    now: SystemTime,
) -> Vec<CertificateFinding> {
    let Some(own) = chain.first() else { return Vec::new() };
    // The other findings would be about a certificate that is not the gateway's own.
    if let Some(finding) = key.and_then(|key| key_fault(chain, key)) {
        return vec![finding];
    }
    let mut findings = Vec::new();
    let path = path(chain, &mut findings);
    if !is_for(own, host) {
        findings
            .push(CertificateFinding::WrongHost { host: host.to_string(), names: certificate_hosts(own) });
    }
    findings.extend(path.iter().filter_map(|certificate| validity_fault(certificate, now)));
    findings
}

/// Compares the key with the certificates. Returns `None` if it is that of the first.
pub(crate) fn key_fault(chain: &[X509], key: &PKeyRef<Private>) -> Option<CertificateFinding> {
    let mut certificates = chain.iter();
    let owner = certificates.position(|one| one.public_key().is_ok_and(|public| public.public_eq(key)));
    match owner {
        Some(0) => None,
        None => Some(CertificateFinding::KeyMismatch),
        Some(index) => Some(CertificateFinding::KeyOfAnother {
            position: index + 1,
            certificate: chain.get(index).map_or_else(String::new, |one| common_name(one.subject_name())),
        }),
    }
}

/// The certificates from the gateway's own to the last issuer in the file. Adds what is wrong with the chain.
fn path<'c>(chain: &'c [X509], findings: &mut Vec<CertificateFinding>) -> Vec<&'c X509Ref> {
    let has_issued = |issuer: &X509Ref, one: &X509Ref| issuer.issued(one) == X509VerifyResult::OK;
    let mut path: Vec<&X509Ref> = Vec::new();
    for (index, certificate) in chain.iter().enumerate() {
        path.push(certificate);
        let name = common_name(certificate.subject_name());
        let issuer = common_name(certificate.issuer_name());
        if has_issued(certificate, certificate) {
            if index == 0 {
                findings.push(CertificateFinding::SelfSigned { certificate: name });
            }
            break;
        }
        if chain.get(index + 1).is_some_and(|next| has_issued(next, certificate)) {
            continue;
        }
        if chain.iter().any(|other| has_issued(other, certificate)) {
            findings.push(CertificateFinding::WrongOrder { certificate: name, issuer });
        } else if index == 0 {
            findings.push(CertificateFinding::MissingIssuer { certificate: name, issuer });
        }
        // The certificate of a root is usually left out: the platform has its own.
        break;
    }
    path
}

/// Returns what is wrong with the validity of a certificate, or that it ends soon.
pub(crate) fn validity_fault(certificate: &X509Ref, now: SystemTime) -> Option<CertificateFinding> {
    let seconds = now.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO).as_secs();
    let now = Asn1Time::from_unix(i64::try_from(seconds).ok()?).ok()?;
    let (starts, ends) = (certificate.not_before(), certificate.not_after());
    let is_after =
        |one: &Asn1TimeRef, other: &Asn1TimeRef| one.compare(other).ok() == Some(Ordering::Greater);
    let name = common_name(certificate.subject_name());
    if is_after(&now, ends) {
        return Some(CertificateFinding::Expired { certificate: name, not_after: ends.to_string() });
    }
    if is_after(starts, &now) {
        return Some(CertificateFinding::NotYetValid { certificate: name, not_before: starts.to_string() });
    }
    let (days, lifetime) = (now.diff(ends).ok()?.days, starts.diff(ends).ok()?.days);
    // A certificate of six days is renewed after three.
    (days < RENEWAL_DAYS.min(lifetime / 3)).then(|| CertificateFinding::ExpiresSoon {
        certificate: name,
        not_after: ends.to_string(),
        days,
    })
}

/// Returns true if the certificate is for `host`, as a client of the web checks it (RFC 9525): by its
/// alternative names only, and `*` stands for one whole label.
fn is_for(certificate: &X509Ref, host: &Host<&str>) -> bool {
    let Some(names) = certificate.subject_alt_names() else { return false };
    let address = |address: IpAddr| match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    };
    names.iter().any(|name| match host {
        Host::Domain(host) => name.dnsname().is_some_and(|pattern| fits(pattern, host)),
        Host::Ipv4(host) => name.ipaddress() == Some(&address((*host).into())),
        Host::Ipv6(host) => name.ipaddress() == Some(&address((*host).into())),
    })
}

fn fits(pattern: &str, host: &str) -> bool {
    match (pattern.strip_prefix("*."), host.split_once('.')) {
        (Some(pattern), Some((_, parent))) => pattern.contains('.') && pattern.eq_ignore_ascii_case(parent),
        _ => pattern.eq_ignore_ascii_case(host),
    }
}

impl CertificateFinding {
    /// A stable name for logs.
    pub(crate) fn label(&self) -> &'static str {
        match self {
            Self::KeyMismatch => "key_mismatch",
            Self::KeyOfAnother { .. } | Self::WrongOrder { .. } => "wrong_order",
            Self::SelfSigned { .. } => "self_signed",
            Self::MissingIssuer { .. } => "missing_issuer",
            Self::WrongHost { .. } => "wrong_host",
            Self::Expired { .. } => "expired",
            Self::ExpiresSoon { .. } => "expires_soon",
            Self::NotYetValid { .. } => "not_yet_valid",
        }
    }
}

impl fmt::Display for CertificateFinding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::KeyMismatch => f.write_str(
                "the key does not belong to the certificate; use two files that were made together",
            ),
            Self::KeyOfAnother { position, certificate } => write!(
                f,
                "the key belongs to certificate {position} of the file, that of {certificate}; {RIGHT_ORDER}"
            ),
            Self::SelfSigned { certificate } => write!(
                f,
                "the certificate of {certificate} is self-signed, and the platform refuses it; use one of a \
                 public authority, here or at the proxy that ends TLS"
            ),
            Self::MissingIssuer { certificate, issuer } => write!(
                f,
                "the file has no certificate of {issuer}, which issued that of {certificate}; append it, as \
                 in the fullchain.pem of ACME clients"
            ),
            Self::WrongOrder { certificate, issuer } => write!(
                f,
                "the certificate of {issuer} does not follow that of {certificate}, which it issued; \
                 {RIGHT_ORDER}"
            ),
            Self::WrongHost { host, names } => {
                let names = if names.is_empty() { "no host".to_owned() } else { names.join(", ") };
                write!(
                    f,
                    "the certificate is for {names} and not for {host}, the host of callback.base, to which \
                     the platform posts; use one for that name"
                )
            }
            Self::Expired { certificate, not_after } => {
                write!(f, "the certificate of {certificate} expired at {not_after}; renew it")
            }
            Self::ExpiresSoon { certificate, not_after, days } => {
                write!(f, "the certificate of {certificate} expires at {not_after}, in {days} days; renew it")
            }
            Self::NotYetValid { certificate, not_before } => write!(
                f,
                "the certificate of {certificate} is not valid before {not_before}; check the clock of this \
                 machine, or use another one until then"
            ),
        }
    }
}

const RIGHT_ORDER: &str = "put the gateway's own certificate first, then the one of its issuer, and so on";

/// Public authorities issue for 47 to 90 days, and clients renew in the last third.
const RENEWAL_DAYS: i32 = 14;

#[cfg(test)]
mod tests;
