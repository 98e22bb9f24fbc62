//! Certificates of an authority of the test, with one fault each.

use openssl::{
    bn::{BigNum, MsbOption},
    ec::{EcGroup, EcKey},
    hash::MessageDigest,
    nid::Nid,
    pkey::PKey,
    x509::{
        X509Name, X509NameRef,
        extension::{BasicConstraints, SubjectAlternativeName},
    },
};

use super::*;

#[derive(Clone)]
struct Certified {
    certificate: X509,
    key: PKey<Private>,
}

impl Certified {
    /// A certificate of `subject` for `hosts`, valid between two days after 1970. Without hosts it is that of
    /// an authority.
    fn issue(subject: &str, issuer: Option<&Self>, hosts: &[&str], (from, until): (i64, i64)) -> Self {
        let group = EcGroup::from_curve_name(Nid::X9_62_PRIME256V1).unwrap();
        let key = PKey::from_ec_key(EcKey::generate(&group).unwrap()).unwrap();
        let mut name = X509Name::builder().unwrap();
        name.append_entry_by_text("CN", subject).unwrap();
        let name = name.build();
        let mut builder = X509::builder().unwrap();
        let mut serial = BigNum::new().unwrap();
        serial.rand(64, MsbOption::ONE, false).unwrap();
        builder.set_version(2).unwrap();
        builder.set_serial_number(&serial.to_asn1_integer().unwrap()).unwrap();
        builder.set_subject_name(&name).unwrap();
        let issuer_name: &X509NameRef = issuer.map_or(&name, |issuer| issuer.certificate.subject_name());
        builder.set_issuer_name(issuer_name).unwrap();
        builder.set_not_before(&Asn1Time::from_unix(from * DAY).unwrap()).unwrap();
        builder.set_not_after(&Asn1Time::from_unix(until * DAY).unwrap()).unwrap();
        builder.set_pubkey(&key).unwrap();
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
            names.build(&builder.x509v3_context(None, None)).unwrap()
        };
        builder.append_extension(extension).unwrap();
        builder.sign(issuer.map_or(&key, |issuer| &issuer.key), MessageDigest::sha256()).unwrap();
        Self { certificate: builder.build(), key }
    }
}

const DAY: i64 = 86_400;
/// The time of all examinations, in days.
const TODAY: i64 = 20_000;
/// A validity that is far from both ends.
const VALID: (i64, i64) = (TODAY - 30, TODAY + 60);
const HOST: &str = "emea.bots.example";

#[track_caller]
fn check(chain: &[&Certified], host: &str, expected: &[(&str, &str)]) {
    let certificates: Vec<_> = chain.iter().map(|one| one.certificate.clone()).collect();
    let now = UNIX_EPOCH + Duration::from_secs((TODAY * DAY).try_into().unwrap());
    let host = Host::parse(host).unwrap();
    let host = match &host {
        Host::Domain(name) => Host::Domain(name.as_str()),
        Host::Ipv4(address) => Host::Ipv4(*address),
        Host::Ipv6(address) => Host::Ipv6(*address),
    };
    let findings = examine(&certificates, Some(&chain[0].key), &host, now);
    let found: Vec<_> = findings.iter().map(|finding| (finding.label(), finding.to_string())).collect();
    let found: Vec<_> = found.iter().map(|(label, text)| (*label, text.as_str())).collect();
    assert_eq!(found, expected);
}

#[test]
fn each_fault_is_named_with_what_would_be_right() {
    let root = Certified::issue("Root", None, &[], (0, 40_000));
    let issue = |days| Certified::issue("Intermediate", Some(&root), &[], days);
    let intermediate = issue((0, 40_000));
    let own = |hosts: &[&str], days| Certified::issue("gateway", Some(&intermediate), hosts, days);
    let good = own(&[HOST], VALID);
    let itself = Certified::issue("gateway", None, &[HOST], VALID);

    check(&[&good, &intermediate], HOST, &[]);
    check(&[&good, &intermediate, &root], HOST, &[]);
    check(
        &[&good],
        HOST,
        &[(
            "missing_issuer",
            "the file has no certificate of Intermediate, which issued that of gateway; append it, as in the \
             fullchain.pem of ACME clients",
        )],
    );
    check(
        &[&itself],
        HOST,
        &[(
            "self_signed",
            "the certificate of gateway is self-signed, and the platform refuses it; use one of a public \
             authority, here or at the proxy that ends TLS",
        )],
    );
    check(
        &[&good, &root, &intermediate],
        HOST,
        &[(
            "wrong_order",
            "the certificate of Intermediate does not follow that of gateway, which it issued; put the \
             gateway's own certificate first, then the one of its issuer, and so on",
        )],
    );
    check(
        &[&own(&["other.example", "10.0.0.1"], VALID), &intermediate],
        HOST,
        &[(
            "wrong_host",
            "the certificate is for other.example, 10.0.0.1 and not for emea.bots.example, the host of \
             callback.base, to which the platform posts; use one for that name",
        )],
    );
    check(
        &[&own(&[HOST], (TODAY - 90, TODAY - 1)), &intermediate],
        HOST,
        &[("expired", "the certificate of gateway expired at Oct  3 00:00:00 2024 GMT; renew it")],
    );
    check(
        &[&own(&[HOST], (TODAY - 80, TODAY + 10)), &intermediate],
        HOST,
        &[(
            "expires_soon",
            "the certificate of gateway expires at Oct 14 00:00:00 2024 GMT, in 10 days; renew it",
        )],
    );
    check(
        &[&own(&[HOST], (TODAY + 1, TODAY + 90)), &intermediate],
        HOST,
        &[(
            "not_yet_valid",
            "the certificate of gateway is not valid before Oct  5 00:00:00 2024 GMT; check the clock of \
             this machine, or use another one until then",
        )],
    );
    // The faults of an issuer count as well, and several faults are all named.
    let expired = issue((0, TODAY - 1));
    let below = Certified::issue("gateway", Some(&expired), &[HOST], VALID);
    let text = "the certificate of Intermediate expired at Oct  3 00:00:00 2024 GMT; renew it";
    check(&[&below, &expired], HOST, &[("expired", text)]);
    let old = Certified::issue("gateway", None, &["localhost"], (TODAY - 9, TODAY - 1));
    let now = UNIX_EPOCH + Duration::from_secs((TODAY * DAY).try_into().unwrap());
    let labels = examine(&[old.certificate], None, &Host::Domain(HOST), now);
    let labels: Vec<_> = labels.iter().map(CertificateFinding::label).collect();
    assert_eq!(labels, ["self_signed", "wrong_host", "expired"]);
}

#[test]
fn short_lived_certificates_are_renewed_in_their_last_third() {
    let root = Certified::issue("Root", None, &[], (0, 40_000));
    for (days, is_soon) in [((-4, 2), false), ((-5, 1), true), ((-60, 14), false), ((-60, 13), true)] {
        let own = Certified::issue("gateway", Some(&root), &[HOST], (TODAY + days.0, TODAY + days.1));
        let now = UNIX_EPOCH + Duration::from_secs((TODAY * DAY).try_into().unwrap());
        let findings = examine(&[own.certificate, root.certificate.clone()], None, &Host::Domain(HOST), now);
        assert_eq!(findings.iter().any(|finding| finding.label() == "expires_soon"), is_soon, "{days:?}");
    }
}

#[test]
fn a_key_of_another_certificate_is_told_from_a_key_of_none() {
    let root = Certified::issue("Root", None, &[], VALID);
    let own = Certified::issue("gateway", Some(&root), &[HOST], VALID);
    let other = Certified::issue("other", None, &[HOST], VALID);
    let chain = [root.certificate.clone(), own.certificate.clone()];
    assert_eq!(key_fault(&chain, &root.key), None);
    assert_eq!(key_fault(&chain, &other.key), Some(CertificateFinding::KeyMismatch));
    assert_eq!(
        key_fault(&chain, &own.key).unwrap().to_string(),
        "the key belongs to certificate 2 of the file, that of gateway; put the gateway's own certificate \
         first, then the one of its issuer, and so on"
    );
}

#[test]
fn a_wildcard_stands_for_one_label() {
    let root = Certified::issue("Root", None, &[], VALID);
    for (name, host, is_for) in [
        ("EMEA.bots.example", HOST, true),
        ("*.bots.example", HOST, true),
        ("*.example", HOST, false),
        ("*.bots.example", "bots.example", false),
        ("*.bots.example", "a.emea.bots.example", false),
        ("*.example", "bots.example", false),
        ("e*.bots.example", HOST, false),
        ("10.0.0.1", "10.0.0.1", true),
        ("10.0.0.2", "10.0.0.1", false),
        ("2001:db8::1", "[2001:db8::1]", true),
        ("2001:db8::2", "[2001:db8::1]", false),
    ] {
        let own = Certified::issue("gateway", Some(&root), &[name], VALID);
        let host = Host::parse(host).unwrap();
        let host = match &host {
            Host::Domain(name) => Host::Domain(name.as_str()),
            Host::Ipv4(address) => Host::Ipv4(*address),
            Host::Ipv6(address) => Host::Ipv6(*address),
        };
        assert_eq!(super::is_for(&own.certificate, &host), is_for, "{name} {host}");
    }
}
