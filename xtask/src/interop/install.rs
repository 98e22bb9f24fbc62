//! The libraries, installed from the package registries, and the files that their scripts read.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use openssl::{
    asn1::Asn1Time,
    hash::MessageDigest,
    nid::Nid,
    pkey::PKey,
    rsa::Rsa,
    x509::{X509, X509NameBuilder},
};

/// The program that runs scripts, and the folder of the scripts.
pub(super) struct Installed {
    pub(super) program: PathBuf,
    pub(super) scripts: PathBuf,
}

/// Makes a virtual environment and installs the packages in it.
pub(super) fn install_python(scripts: &Path, folder: &Path) -> Result<Installed, String> {
    let venv = folder.join("venv");
    let program = venv.join("bin/python");
    if !program.exists() {
        finish(Command::new("python3").args(["-m", "venv"]).arg(&venv))?;
    }
    let requirements = scripts.join("requirements.txt");
    let pip = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--requirement"];
    finish(Command::new(&program).args(pip).arg(requirements))?;
    Ok(Installed { program, scripts: scripts.to_owned() })
}

/// Copies the scripts beside the packages, where Node looks for them, and installs the packages.
pub(super) fn install_node(scripts: &Path, folder: &Path) -> Result<Installed, String> {
    let target = folder.join("node");
    let copy = || -> std::io::Result<()> {
        fs::create_dir_all(&target)?;
        for entry in fs::read_dir(scripts)? {
            let path = entry?.path();
            let wanted = path.extension().is_some_and(|extension| extension == "mjs" || extension == "json");
            if let Some(name) = path.file_name().filter(|_| wanted) {
                fs::copy(&path, target.join(name))?;
            }
        }
        Ok(())
    };
    copy().map_err(|error| format!("cannot copy the scripts to {}: {error}", target.display()))?;
    let npm = ["install", "--silent", "--no-audit", "--no-fund", "--ignore-scripts"];
    finish(Command::new("npm").args(npm).current_dir(&target))?;
    Ok(Installed { program: PathBuf::from("node"), scripts: target })
}

/// Writes a certificate of the app, its key, and a file with both.
pub(super) fn write_certificate(folder: &Path) -> Result<(), String> {
    let make = || -> Result<(Vec<u8>, Vec<u8>), openssl::error::ErrorStack> {
        let key = PKey::from_rsa(Rsa::generate(2_048)?)?;
        let mut name = X509NameBuilder::new()?;
        name.append_entry_by_nid(Nid::COMMONNAME, "interop")?;
        let name = name.build();
        let mut certificate = X509::builder()?;
        certificate.set_version(2)?;
        certificate.set_subject_name(&name)?;
        certificate.set_issuer_name(&name)?;
        certificate.set_not_before(&*Asn1Time::days_from_now(0)?)?;
        certificate.set_not_after(&*Asn1Time::days_from_now(1)?)?;
        certificate.set_pubkey(&key)?;
        certificate.sign(&key, MessageDigest::sha256())?;
        Ok((key.private_key_to_pem_pkcs8()?, certificate.build().to_pem()?))
    };
    let (key, certificate) = make().map_err(|error| format!("openssl cannot make a certificate: {error}"))?;
    let both = [key.as_slice(), certificate.as_slice()].concat();
    for (name, bytes) in [("app-key.pem", &key), ("app.pem", &certificate), ("app-both.pem", &both)] {
        let path = folder.join(name);
        fs::write(&path, bytes).map_err(|error| format!("cannot write {}: {error}", path.display()))?;
    }
    Ok(())
}

/// Runs a command and returns its output. The error of a failed command has all of its output.
pub(super) fn finish(command: &mut Command) -> Result<String, String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output =
        command.stdin(Stdio::null()).output().map_err(|error| format!("cannot run {name}: {error}"))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    if output.status.success() {
        Ok(text)
    } else {
        Err(format!("{text}{}({name}: {})", String::from_utf8_lossy(&output.stderr), output.status))
    }
}
