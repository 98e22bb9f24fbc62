//! The reason for which a TLS handshake with a server failed, in words that say what to repair.

use std::{
    error::Error,
    fmt,
    net::IpAddr,
    sync::{Arc, OnceLock},
};

use openssl::{
    asn1::Asn1TimeRef,
    error::ErrorStack,
    nid::Nid,
    ssl::{self, SslRef},
    x509::{GeneralNameRef, X509NameRef, X509Ref, X509StoreContextRef, verify::X509CheckFlags},
};
use url::Host;

use crate::error_chain::printable;

/// The reason for which a TLS handshake with a server failed.
///
/// Texts from certificates are escaped and cut: the certificate is not trusted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TlsFailure {
    /// The validity of a certificate in the chain has ended.
    Expired {
        /// The common name of the certificate.
        certificate: String,
        /// The end of its validity.
        not_after: String,
    },
    /// The validity of a certificate in the chain has not started.
    NotYetValid {
        /// The common name of the certificate.
        certificate: String,
        /// The start of its validity.
        not_before: String,
    },
    /// The certificate is self-signed and no trusted authority.
    SelfSigned {
        /// The common name of the certificate.
        certificate: String,
    },
    /// The server sent its own certificate only, and its issuer is no trusted authority.
    MissingIssuer {
        /// The common name of the server's certificate.
        certificate: String,
        /// The common name of its issuer.
        issuer: String,
    },
    /// The chain ends at an authority that is not trusted.
    UnknownAuthority {
        /// The common name of the authority.
        authority: String,
    },
    /// The certificate is for other names.
    WrongName {
        /// The name or the address that it should be for.
        expected: String,
        /// The names and addresses that it is for.
        names: Vec<String>,
    },
    /// The certificate fails another check.
    Untrusted {
        /// The common name of the certificate.
        certificate: String,
        /// The check, in the words of OpenSSL.
        reason: &'static str,
    },
    /// The server sent bytes that are not TLS.
    NotTls,
    /// The connection ended during the handshake.
    Closed,
    /// The two sides do not agree on a handshake.
    Handshake {
        /// The disagreement, in the words of OpenSSL.
        reason: &'static str,
    },
}

impl TlsFailure {
    /// Returns true if the server's certificate was received and is not trusted.
    pub fn is_untrusted(&self) -> bool {
        !matches!(self, Self::NotTls | Self::Closed | Self::Handshake { .. })
    }

    /// The failure in an error of a handshake, if the error is one of TLS.
    fn of_error(error: &(dyn Error + 'static)) -> Option<Self> {
        let mut next = Some(error);
        while let Some(error) = next {
            if let Some(error) = error.downcast_ref::<ssl::Error>() {
                let stack = error.ssl_error().and_then(|stack| stack.errors().first());
                return Some(match stack.and_then(openssl::error::Error::reason) {
                    Some(reason) if NOT_TLS.contains(&reason) => Self::NotTls,
                    None | Some("unexpected eof while reading") => Self::Closed,
                    Some(reason) => Self::Handshake { reason },
                });
            }
            next = error.source();
        }
        None
    }

    /// The failure of the certificate at which the verification stopped.
    fn of_verification(context: &X509StoreContextRef, expected: &str) -> Self {
        let result = context.error();
        let current = context.current_cert();
        let certificate = current.map_or_else(String::new, |one| common_name(one.subject_name()));
        let issuer = || current.map_or_else(String::new, |one| common_name(one.issuer_name()));
        let time =
            |of: fn(&X509Ref) -> &Asn1TimeRef| current.map_or_else(String::new, |one| of(one).to_string());
        match result.as_raw() {
            NOT_YET_VALID => Self::NotYetValid { certificate, not_before: time(X509Ref::not_before) },
            HAS_EXPIRED => Self::Expired { certificate, not_after: time(X509Ref::not_after) },
            SELF_SIGNED_ALONE => Self::SelfSigned { certificate },
            SELF_SIGNED_IN_CHAIN => Self::UnknownAuthority { authority: certificate },
            NO_LOCAL_ISSUER if context.error_depth() == 0 => {
                Self::MissingIssuer { certificate, issuer: issuer() }
            }
            NO_LOCAL_ISSUER | NO_ISSUER => Self::UnknownAuthority { authority: issuer() },
            NAME_MISMATCH | ADDRESS_MISMATCH => Self::WrongName {
                expected: expected.to_owned(),
                names: current.map(certificate_hosts).unwrap_or_default(),
            },
            _ => Self::Untrusted { certificate, reason: result.error_string() },
        }
    }
}

impl fmt::Display for TlsFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Expired { certificate, not_after } => {
                write!(f, "the certificate of {certificate} expired at {not_after}")
            }
            Self::NotYetValid { certificate, not_before } => {
                write!(f, "the certificate of {certificate} is not valid before {not_before}")
            }
            Self::SelfSigned { certificate } => {
                write!(
                    f,
                    "unknown authority: the certificate of {certificate} is self-signed and not trusted"
                )
            }
            Self::MissingIssuer { certificate, issuer } => write!(
                f,
                "missing intermediate or unknown authority: the server sent the certificate of {certificate} \
                 without that of its issuer {issuer}, which is no trusted authority"
            ),
            Self::UnknownAuthority { authority } => {
                write!(
                    f,
                    "unknown authority: the certificate's chain ends at {authority}, which is not trusted"
                )
            }
            Self::WrongName { expected, names } if names.is_empty() => {
                write!(f, "wrong name: the certificate is for no host, and so not for {expected}")
            }
            Self::WrongName { expected, names } => {
                write!(f, "wrong name: the certificate is not for {expected} but for {}", names.join(", "))
            }
            Self::Untrusted { certificate, reason } => {
                write!(f, "the certificate of {certificate} is not trusted: {reason}")
            }
            Self::NotTls => f.write_str("the server does not speak TLS on this port"),
            Self::Closed => f.write_str("the server closed the connection during the TLS handshake"),
            Self::Handshake { reason } => write!(f, "no agreement on a TLS handshake: {reason}"),
        }
    }
}

impl Error for TlsFailure {}

/// The verification of the server's certificate in one handshake.
///
/// The error of a handshake says only that the certificate is not trusted. The verification itself knows the
/// certificate and the check that failed. A resumed session is not verified.
///
/// ```
/// use openssl::ssl::{SslConnector, SslMethod};
/// use switchboard_delivery::TlsVerification;
/// use url::Host;
///
/// # fn main() -> Result<(), openssl::error::ErrorStack> {
/// let mut session = SslConnector::builder(SslMethod::tls_client())?.build().configure()?;
/// session.set_verify_hostname(false);
/// let verification = TlsVerification::default();
/// verification.verify(&mut session, &Host::Domain("emea.bots.contoso.com"))?;
/// // After a handshake that failed with `error`: `verification.failure(&error)`.
/// assert_eq!(verification.failure(&std::io::Error::other("not TLS")), None);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, Default)]
pub struct TlsVerification(Arc<OnceLock<TlsFailure>>);

impl TlsVerification {
    /// Lets the handshake of `ssl` verify that the certificate is for `host`, and records the check that
    /// fails. A name is also sent to the server (SNI).
    ///
    /// The chain is verified as `ssl` says. An [`openssl::ssl::ConnectConfiguration`] must not verify a host
    /// of its own.
    ///
    /// # Errors
    ///
    /// OpenSSL refuses the host.
    pub fn verify<S: AsRef<str>>(&self, ssl: &mut SslRef, host: &Host<S>) -> Result<(), ErrorStack> {
        ssl.param_mut().set_hostflags(X509CheckFlags::NO_PARTIAL_WILDCARDS);
        let host = match host {
            Host::Domain(name) => {
                ssl.param_mut().set_host(name.as_ref())?;
                ssl.set_hostname(name.as_ref())?;
                name.as_ref().to_owned()
            }
            Host::Ipv4(address) => {
                ssl.param_mut().set_ip((*address).into())?;
                address.to_string()
            }
            Host::Ipv6(address) => {
                ssl.param_mut().set_ip((*address).into())?;
                address.to_string()
            }
        };
        let failure = Arc::clone(&self.0);
        ssl.set_verify_callback(ssl.verify_mode(), move |is_valid, context| {
            if !is_valid {
                // The first failure ends the verification.
                let _ = failure.set(TlsFailure::of_verification(context, &host));
            }
            is_valid
        });
        Ok(())
    }

    /// The failure of the handshake that ended with `error`; `None` if the error is not one of TLS.
    pub fn failure(&self, error: &(dyn Error + 'static)) -> Option<TlsFailure> {
        self.0.get().cloned().or_else(|| TlsFailure::of_error(error))
    }
}

/// The common name in a subject or an issuer of a certificate, escaped and cut.
pub fn common_name(name: &X509NameRef) -> String {
    let entry = name.entries_by_nid(Nid::COMMONNAME).next();
    let text = entry.and_then(|entry| entry.data().to_string().ok());
    text.map_or_else(|| "a subject without a common name".to_owned(), |text| shown(&text))
}

/// The first names and addresses of hosts that a certificate is for, escaped and cut.
pub fn certificate_hosts(certificate: &X509Ref) -> Vec<String> {
    let Some(names) = certificate.subject_alt_names() else { return Vec::new() };
    let mut hosts: Vec<_> = names.iter().filter_map(host).collect();
    let more = hosts.len().saturating_sub(NAMES_MAX);
    hosts.truncate(NAMES_MAX);
    if more > 0 {
        hosts.push(format!("{more} more"));
    }
    hosts
}

/// The host that an alternative name of a certificate names.
fn host(name: &GeneralNameRef) -> Option<String> {
    let address = |bytes: &[u8]| {
        let v4 = || <[u8; 4]>::try_from(bytes).map(IpAddr::from);
        let v6 = || <[u8; 16]>::try_from(bytes).map(IpAddr::from);
        v4().or_else(|_| v6()).ok().map(|address| address.to_string())
    };
    name.dnsname().map(shown).or_else(|| name.ipaddress().and_then(address))
}

/// Text from a certificate, without control characters, and cut.
fn shown(text: &str) -> String {
    let cut = if text.chars().nth(NAME_CHARS_MAX).is_some() { "…" } else { "" };
    format!("{}{cut}", printable(text, NAME_CHARS_MAX))
}

/// The reasons that OpenSSL gives when the bytes of the server are not TLS.
const NOT_TLS: [&str; 4] =
    ["wrong version number", "packet length too long", "http request", "https proxy request"];

/// The results of a verification, as `openssl/x509_vfy.h` numbers them.
const NO_ISSUER: i32 = 2;
const NOT_YET_VALID: i32 = 9;
const HAS_EXPIRED: i32 = 10;
const SELF_SIGNED_ALONE: i32 = 18;
const SELF_SIGNED_IN_CHAIN: i32 = 19;
const NO_LOCAL_ISSUER: i32 = 20;
const NAME_MISMATCH: i32 = 62;
const ADDRESS_MISMATCH: i32 = 64;

/// The names of a certificate that are shown. Certificates of content networks have a hundred.
const NAMES_MAX: usize = 8;
/// The longest name that is shown: a host name has at most 253 characters.
const NAME_CHARS_MAX: usize = 253;
