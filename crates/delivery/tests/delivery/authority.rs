//! Certificates of an authority of the tests.

use std::net::IpAddr;

use openssl::{
    asn1::Asn1Time,
    bn::BigNum,
    ec::{EcGroup, EcKey},
    hash::MessageDigest,
    nid::Nid,
    pkey::{PKey, Private},
    x509::{
        X509, X509Builder, X509Name, X509NameBuilder, X509Ref,
        extension::{BasicConstraints, SubjectAlternativeName},
    },
};

/// A certificate and its key.
#[derive(Clone)]
pub(crate) struct Certified {
    pub(crate) certificate: X509,
    pub(crate) key: PKey<Private>,
}

impl Certified {
    /// A self-signed authority.
    pub(crate) fn authority(name: &str) -> Self {
        issue(None, name, &[], (-1, 1))
    }

    /// An authority below this one.
    pub(crate) fn intermediate(&self, name: &str) -> Self {
        issue(Some(self), name, &[], (-1, 1))
    }

    /// A certificate of a server for these hosts, valid between these days from now.
    pub(crate) fn server(&self, hosts: &[&str], days: (i64, i64)) -> Self {
        issue(Some(self), "bot", hosts, days)
    }

    /// A self-signed certificate of a server.
    pub(crate) fn self_signed(hosts: &[&str]) -> Self {
        issue(None, "bot", hosts, (-1, 1))
    }
}

fn issue(issuer: Option<&Certified>, name: &str, hosts: &[&str], (from, until): (i64, i64)) -> Certified {
    let group = EcGroup::from_curve_name(Nid::X9_62_PRIME256V1).unwrap();
    let key = PKey::from_ec_key(EcKey::generate(&group).unwrap()).unwrap();
    let subject = common_name(name);
    let mut builder: X509Builder = X509::builder().unwrap();
    builder.set_version(2).unwrap();
    let mut serial = BigNum::new().unwrap();
    serial.rand(64, openssl::bn::MsbOption::ONE, false).unwrap();
    builder.set_serial_number(&serial.to_asn1_integer().unwrap()).unwrap();
    builder.set_subject_name(&subject).unwrap();
    let issuer_name = issuer.map_or(&*subject, |issuer| X509Ref::subject_name(&issuer.certificate));
    builder.set_issuer_name(issuer_name).unwrap();
    builder.set_not_before(&day(from)).unwrap();
    builder.set_not_after(&day(until)).unwrap();
    builder.set_pubkey(&key).unwrap();
    let context = builder.x509v3_context(None, None);
    let extension = if hosts.is_empty() {
        BasicConstraints::new().critical().ca().build().unwrap()
    } else {
        let mut names = SubjectAlternativeName::new();
        for host in hosts {
            if host.parse::<IpAddr>().is_ok() {
                names.ip(host)
            } else {
                names.dns(host)
            };
        }
        names.build(&context).unwrap()
    };
    builder.append_extension(extension).unwrap();
    builder.sign(issuer.map_or(&key, |issuer| &issuer.key), MessageDigest::sha256()).unwrap();
    Certified { certificate: builder.build(), key }
}

fn common_name(name: &str) -> X509Name {
    let mut builder = X509NameBuilder::new().unwrap();
    builder.append_entry_by_text("CN", name).unwrap();
    builder.build()
}

/// The moment so many days from now. A negative number counts from a moment long ago.
fn day(days: i64) -> Asn1Time {
    match u32::try_from(days) {
        Ok(days) => Asn1Time::days_from_now(days).unwrap(),
        Err(_) => Asn1Time::from_unix(1_700_000_000 + days * 86_400).unwrap(),
    }
}
