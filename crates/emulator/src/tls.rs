//! A certificate authority for this machine, and the certificate of the platform.

use std::{
    fs::{self, OpenOptions},
    io::{self, Write as _},
    path::{Path, PathBuf},
};

use openssl::{
    asn1::{Asn1Object, Asn1OctetString, Asn1Time},
    bn::{BigNum, MsbOption},
    ec::{EcGroup, EcKey},
    error::ErrorStack,
    hash::MessageDigest,
    nid::Nid,
    pkey::{PKey, PKeyRef, Private},
    ssl::{AlpnError, SslAcceptor, SslMethod, select_next_proto},
    x509::{
        X509, X509Builder, X509Extension, X509NameBuilder, X509Ref,
        extension::{
            AuthorityKeyIdentifier, BasicConstraints, ExtendedKeyUsage, KeyUsage, SubjectAlternativeName,
            SubjectKeyIdentifier,
        },
    },
};

/// Makes an acceptor from the authority and the certificate in a folder. Creates missing files and renews
/// certificates that expire soon.
///
/// Clients must trust `ca.pem`.
pub(crate) fn acceptor(folder: &Path) -> Result<SslAcceptor, TlsError> {
    create_private_folder(folder).map_err(at(folder))?;
    let (authority, authority_key) = match load_pair(folder, "ca")? {
        // Replacing an authority that another program made would break the clients that trust it.
        Some(pair) if common_name(&pair.0).as_deref() != Some(AUTHORITY_NAME) => {
            return Err(TlsError::ForeignAuthority { path: folder.join("ca.pem") });
        }
        Some(pair) if is_valid_for(&pair.0, RENEW_DAYS)? => pair,
        _ => {
            let pair = new_authority()?;
            store_pair(folder, "ca", &pair)?;
            pair
        }
    };
    let (certificate, key) = match load_pair(folder, "server")? {
        Some(pair) if is_valid_for(&pair.0, RENEW_DAYS)? && pair.0.verify(&authority_key)? => pair,
        _ => {
            let pair = new_certificate(&authority, &authority_key)?;
            store_pair(folder, "server", &pair)?;
            pair
        }
    };
    let mut acceptor = SslAcceptor::mozilla_intermediate_v5(SslMethod::tls_server())?;
    acceptor.set_private_key(&key)?;
    acceptor.set_certificate(&certificate)?;
    acceptor.set_alpn_select_callback(|_, offered| {
        select_next_proto(b"\x08http/1.1", offered).ok_or(AlpnError::NOACK)
    });
    Ok(acceptor.build())
}

/// The reason why TLS cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The folder or a file in it cannot be read or written.
    #[error("cannot use {}: {error}; name a folder that can be created and written to", .path.display())]
    File {
        /// The folder or file.
        path: PathBuf,
        /// The error of the system.
        error: io::Error,
    },
    /// The folder holds a certificate authority that the emulator did not make.
    #[error(
        "{} is not a certificate authority of the emulator: name another folder, or remove the file",
        .path.display()
    )]
    ForeignAuthority {
        /// The file of the authority.
        path: PathBuf,
    },
    /// OpenSSL failed.
    #[error("openssl failed: {0}")]
    Crypto(#[from] ErrorStack),
}

impl TlsError {
    /// A stable name for logs.
    pub fn label(&self) -> &'static str {
        match self {
            Self::File { .. } => "file",
            Self::ForeignAuthority { .. } => "not_ours",
            Self::Crypto(_) => "crypto",
        }
    }
}

type CertifiedKey = (X509, PKey<Private>);

/// Loads a certificate with its key. `None` if one is missing or they do not belong together.
fn load_pair(folder: &Path, name: &str) -> Result<Option<CertifiedKey>, TlsError> {
    let path = folder.join(format!("{name}.pem"));
    let Some(certificate) = read(&path)? else { return Ok(None) };
    let Ok(certificate) = X509::from_pem(&certificate) else {
        return Err(TlsError::ForeignAuthority { path });
    };
    let key = read(&folder.join(format!("{name}-key.pem")))?;
    let key = key.and_then(|key| PKey::private_key_from_pem(&key).ok());
    let key = key.filter(|key| certificate.public_key().is_ok_and(|public| public.public_eq(key)));
    match key {
        Some(key) => Ok(Some((certificate, key))),
        None if common_name(&certificate).as_deref() == Some(AUTHORITY_NAME) || name != "ca" => Ok(None),
        None => Err(TlsError::ForeignAuthority { path }),
    }
}

fn read(path: &Path) -> Result<Option<Vec<u8>>, TlsError> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(at(path)(error)),
    }
}

/// Stores a certificate with its key.
fn store_pair(folder: &Path, name: &str, (certificate, key): &CertifiedKey) -> Result<(), TlsError> {
    // If the process stops between the two files, both are made again.
    let files = [
        (format!("{name}-key.pem"), 0o600, key.private_key_to_pem_pkcs8()?),
        (format!("{name}.pem"), 0o644, certificate.to_pem()?),
    ];
    for (file, mode, bytes) in files {
        let path = folder.join(file);
        // A new file has the right mode, and writing it follows no link.
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(at(&path)(error)),
            _ => {}
        }
        let mut file = create_new(&path, mode).map_err(at(&path))?;
        file.write_all(&bytes).map_err(at(&path))?;
    }
    Ok(())
}

/// Creates the folder and its parents, for the user of this process only.
fn create_private_folder(folder: &Path) -> io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    // Elsewhere the access control list of the parent applies.
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(folder)
}

/// Creates a file with the given mode; without one where there are no modes.
#[cfg_attr(not(unix), expect(unused_variables, reason = "only Unix has modes"))]
fn create_new(path: &Path, mode: u32) -> io::Result<fs::File> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, mode);
    options.open(path)
}

fn at(path: &Path) -> impl Fn(io::Error) -> TlsError {
    move |error| TlsError::File { path: path.to_owned(), error }
}

/// True if the certificate is valid now and for some days more.
fn is_valid_for(certificate: &X509Ref, days: u32) -> Result<bool, ErrorStack> {
    Ok(certificate.not_after() > &*Asn1Time::days_from_now(days)?
        && certificate.not_before() <= &*Asn1Time::days_from_now(0)?)
}

fn common_name(certificate: &X509Ref) -> Option<String> {
    let name = certificate.subject_name().entries_by_nid(Nid::COMMONNAME).next()?;
    name.data().to_string().ok()
}

fn new_authority() -> Result<CertifiedKey, ErrorStack> {
    let key = new_key()?;
    let mut builder = builder(AUTHORITY_NAME, &key, AUTHORITY_DAYS)?;
    let mut name = X509NameBuilder::new()?;
    name.append_entry_by_nid(Nid::COMMONNAME, AUTHORITY_NAME)?;
    builder.set_issuer_name(&name.build())?;
    builder.append_extension(BasicConstraints::new().critical().ca().pathlen(0).build()?)?;
    builder.append_extension(KeyUsage::new().critical().key_cert_sign().crl_sign().build()?)?;
    // A stolen key of an authority that a developer's machine trusts must not impersonate other hosts.
    let constraints = Asn1OctetString::new_from_bytes(&LOOPBACK_ONLY)?;
    let object = Asn1Object::from_str("2.5.29.30")?;
    builder.append_extension(X509Extension::new_from_der(&object, true, &constraints)?)?;
    let identifier = SubjectKeyIdentifier::new().build(&builder.x509v3_context(None, None))?;
    builder.append_extension(identifier)?;
    builder.sign(&key, MessageDigest::sha256())?;
    Ok((builder.build(), key))
}

fn new_certificate(authority: &X509, authority_key: &PKeyRef<Private>) -> Result<CertifiedKey, ErrorStack> {
    let key = new_key()?;
    let mut builder = builder("localhost", &key, SERVER_DAYS)?;
    builder.set_issuer_name(authority.subject_name())?;
    builder.append_extension(BasicConstraints::new().critical().build()?)?;
    builder.append_extension(KeyUsage::new().critical().digital_signature().build()?)?;
    builder.append_extension(ExtendedKeyUsage::new().server_auth().build()?)?;
    let context = builder.x509v3_context(Some(authority), None);
    let names = SubjectAlternativeName::new().dns("localhost").ip("127.0.0.1").ip("::1").build(&context)?;
    let subject = SubjectKeyIdentifier::new().build(&context)?;
    let issuer = AuthorityKeyIdentifier::new().keyid(true).build(&context)?;
    for extension in [names, subject, issuer] {
        builder.append_extension(extension)?;
    }
    builder.sign(authority_key, MessageDigest::sha256())?;
    Ok((builder.build(), key))
}

fn new_key() -> Result<PKey<Private>, ErrorStack> {
    PKey::from_ec_key(EcKey::generate(&*EcGroup::from_curve_name(Nid::X9_62_PRIME256V1)?)?)
}

fn builder(name: &str, key: &PKeyRef<Private>, days: u32) -> Result<X509Builder, ErrorStack> {
    let mut subject = X509NameBuilder::new()?;
    subject.append_entry_by_nid(Nid::COMMONNAME, name)?;
    let mut serial = BigNum::new()?;
    serial.rand(127, MsbOption::MAYBE_ZERO, false)?;
    let mut builder = X509::builder()?;
    builder.set_version(2)?;
    builder.set_serial_number(&*serial.to_asn1_integer()?)?;
    builder.set_subject_name(&subject.build())?;
    builder.set_not_before(&*Asn1Time::days_from_now(0)?)?;
    builder.set_not_after(&*Asn1Time::days_from_now(days)?)?;
    builder.set_pubkey(key)?;
    Ok(builder)
}

/// The common name by which the emulator recognizes its own authorities.
const AUTHORITY_NAME: &str = "Switchboard emulator: this machine only";

/// NameConstraints (RFC 5280 section 4.2.1.10) that permit `localhost`, 127.0.0.0/8 and `::1`.
const LOOPBACK_ONLY: [u8; 65] = [
    0x30, 0x3f, 0xa0, 0x3d, // permittedSubtrees
    0x30, 0x0b, 0x82, 0x09, b'l', b'o', b'c', b'a', b'l', b'h', b'o', b's', b't', // dNSName
    0x30, 0x0a, 0x87, 0x08, 127, 0, 0, 0, 255, 0, 0, 0, // iPAddress, version 4, with its mask
    0x30, 0x22, 0x87, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, // iPAddress, version 6
    0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
];

const AUTHORITY_DAYS: u32 = 5 * 365;

/// Some clients refuse certificates that are valid for more than 398 days.
const SERVER_DAYS: u32 = 365;
const RENEW_DAYS: u32 = 30;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn valid_files_are_used_again() {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str| fs::read(folder.path().join(name)).unwrap();
        acceptor(folder.path()).unwrap();
        let (ca, server) = (file("ca.pem"), file("server.pem"));
        acceptor(folder.path()).unwrap();
        assert_eq!((&ca, &server), (&file("ca.pem"), &file("server.pem")));

        fs::remove_file(folder.path().join("server-key.pem")).unwrap();
        acceptor(folder.path()).unwrap();
        assert_eq!(ca, file("ca.pem"));
        assert_ne!(server, file("server.pem"));
    }

    #[cfg(unix)]
    #[test]
    fn only_the_owner_can_read_a_key() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().unwrap();
        acceptor(&folder.path().join("tls")).unwrap();
        for (name, expected) in [("", 0o700), ("ca-key.pem", 0o600), ("server-key.pem", 0o600)] {
            let mode = fs::metadata(folder.path().join("tls").join(name)).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, expected, "{name}");
        }
    }

    #[test]
    fn a_foreign_authority_is_not_overwritten() {
        let folder = tempfile::tempdir().unwrap();
        let key = new_key().unwrap();
        let mut foreign = builder("Contoso root", &key, 10).unwrap();
        foreign.sign(&key, MessageDigest::sha256()).unwrap();
        for bytes in [foreign.build().to_pem().unwrap(), b"not a certificate".to_vec()] {
            fs::write(folder.path().join("ca.pem"), &bytes).unwrap();
            let error = acceptor(folder.path()).err().expect("refused");
            assert!(error.to_string().contains("name another folder"), "{error}");
            assert_eq!(fs::read(folder.path().join("ca.pem")).unwrap(), bytes);
        }
    }
}
