//! `switchboard mint`: the callback URI of an instance, for a bot that has one for its whole process.

use std::{
    env,
    io::{self, Write as _},
    path::Path,
    process::ExitCode,
};
#[cfg(unix)]
use std::{fs::Permissions, os::unix::fs::PermissionsExt as _};

use switchboard_delivery::{Discovery, pod_incarnation, pod_instance};
use switchboard_routing::{Name, Owner};

use super::{
    load,
    output::{FAILURE, complain, print},
};
use crate::{
    cli::{EX_USAGE, MintArgs},
    config::{Config, shown},
};

/// `switchboard mint`: prints the callback URI of an instance, or writes it to a file.
pub fn mint(args: &MintArgs) -> ExitCode {
    let config = match load(&args.config) {
        Ok(config) => config,
        Err(code) => return code,
    };
    let uri = match minted(&config, args, |name| env::var(name).ok()) {
        Ok(uri) => uri,
        Err(problem) => return complain(&problem, EX_USAGE),
    };
    let Some(file) = &args.out else { return print(&uri) };
    match replace(file, &format!("{uri}\n")) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => complain(&format!("--out: {} cannot be written: {error}", shown(file)), FAILURE),
    }
}

fn minted(config: &Config, args: &MintArgs, env: impl Fn(&str) -> Option<String>) -> Result<String, String> {
    if config.apps.iter().all(|app| app.id != args.app) {
        return Err(format!("--app: {} is not the id of an [[app]]", args.app));
    }
    let discovery = config.delivery.discovery.as_ref();
    let has_pods = discovery.is_some_and(|source| !matches!(source, Discovery::Dns(_) | Discovery::File(_)));
    let (name, incarnation) = instance(args, has_pods, env)?;
    let owner = Owner { region: config.region.clone(), instance: name, incarnation };
    if config.delivery.discovery.is_some() {
        // Only a running gateway knows the discovered instances. Its admin listener lists them.
        config.callback.check(owner.as_ref()).map_err(|error| format!("--instance: {error}"))?;
        return Ok(config.callback.mint(&owner, args.app));
    }
    let instances = &config.delivery.instances;
    let Some(listed) = instances.iter().find(|instance| instance.name == owner.instance) else {
        let names: Vec<_> = instances.iter().map(|instance| instance.name.as_str()).collect();
        return Err(format!(
            "--instance: the configuration has no {}; its instances are {}",
            owner.instance,
            names.join(", ")
        ));
    };
    if listed.apps.as_ref().is_some_and(|apps| !apps.contains(&args.app)) {
        return Err(format!("--app: {} does not serve {}", owner.instance, args.app));
    }
    Ok(config.callback.mint(&owner, args.app))
}

/// The name and the incarnation of the instance. `has_pods` if the fleet is the pods of a service: only then
/// is the uid of a pod its incarnation, and no pod is without one.
fn instance(
    args: &MintArgs,
    has_pods: bool,
    env: impl Fn(&str) -> Option<String>,
) -> Result<(Name, Name), String> {
    // A manifest that sets a variable to nothing means to leave it out.
    let variable = |name| env(name).filter(|value| !value.is_empty());
    let own = variable("POD_NAME").map(|pod| pod_instance(&pod));
    let name = args.instance.clone().or_else(|| own.clone());
    let name =
        name.ok_or("--instance: missing; name the instance, or set POD_NAME to the name of the pod")?;
    let incarnation = match (&args.incarnation, variable("POD_UID")) {
        (Some(incarnation), _) => incarnation.clone(),
        (None, _) if !has_pods => Name::parse("0").map_err(|error| error.to_string())?,
        (None, Some(uid)) if own.as_ref() == Some(&name) => pod_incarnation(&uid).ok_or_else(|| {
            format!("the variable POD_UID: '{}' is not the uid of a pod", uid.escape_debug())
        })?,
        // The uid of this pod says nothing about another one.
        (None, _) => {
            let problem = "--incarnation: missing; set POD_NAME and POD_UID to the name and the uid of the \
                           pod, or write the first 13 characters of its uid";
            return Err(problem.to_owned());
        }
    };
    Ok((name, incarnation))
}

/// Replaces a file as a whole, so that a bot that waits for it never reads a part.
fn replace(path: &Path, text: &str) -> io::Result<()> {
    let folder =
        path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."));
    let mut builder = tempfile::Builder::new();
    // The bot often runs as another user, so the umask decides who may read the file, as for any output.
    #[cfg(unix)]
    builder.permissions(Permissions::from_mode(0o666));
    let mut file = builder.tempfile_in(folder)?;
    file.write_all(text.as_bytes())?;
    file.as_file().sync_all()?;
    file.persist(path)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::{
        cli::{ConfigArgs, Given, GivenBy},
        commands::tests::TWO_INSTANCES,
        config::tests::parse,
    };

    const APP: &str = "0efc74f7-41c3-47a4-8775-7259bfef4241";
    const POD_UID: &str = "0B1E3F5C-7a2d-4e5f-8a9b-0c1d2e3f4a5b";

    fn args(instance: Option<&str>, incarnation: Option<&str>, app: &str) -> MintArgs {
        MintArgs {
            config: ConfigArgs { file: Given { value: "unused".into(), by: GivenBy::Option } },
            instance: instance.map(|name| Name::parse(name).unwrap()),
            app: Uuid::parse_str(app).unwrap(),
            incarnation: incarnation.map(|name| Name::parse(name).unwrap()),
            out: None,
        }
    }

    fn mint(args: &MintArgs, pod: &[(&str, &str)]) -> Result<String, String> {
        let env = |name: &str| pod.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned());
        minted(&parse(TWO_INSTANCES).unwrap(), args, env)
    }

    /// The instance that a URI names for an app.
    fn opened(uri: &str, app: &str) -> Option<String> {
        let config = parse(TWO_INSTANCES).unwrap();
        let path = uri.strip_prefix("https://emea.bots.contoso.com").unwrap();
        let callback = config.callback.parse(path).unwrap();
        let owner = config.callback.open(&callback, Uuid::parse_str(app).unwrap()).ok()?;
        Some(owner.instance.to_string())
    }

    #[test]
    fn a_minted_uri_opens_for_its_app_only() {
        let uri = mint(&args(Some("bot-0"), None, APP), &[]).unwrap();
        assert_eq!(opened(&uri, APP).as_deref(), Some("bot-0"));
        assert_eq!(opened(&uri, "11111111-41c3-47a4-8775-7259bfef4241"), None);
    }

    #[test]
    fn a_pod_needs_no_option_for_itself() {
        let pod = [("POD_NAME", "bot-0"), ("POD_UID", POD_UID)];
        let missing = "--incarnation: missing; set POD_NAME and POD_UID to the name and the uid of the pod, \
                       or write the first 13 characters of its uid";
        for (given, incarnation, env, of_pods, of_others) in [
            (None, None, &pod[..], Ok("0b1e3f5c-7a2d"), "0"),
            (Some("bot-0"), None, &pod, Ok("0b1e3f5c-7a2d"), "0"),
            (None, Some("b2"), &pod, Ok("b2"), "b2"),
            (Some("bot-0"), Some("0"), &[], Ok("0"), "0"),
            (None, None, &pod[..1], Err(missing), "0"),
            (None, None, &[pod[0], ("POD_UID", "")], Err(missing), "0"),
            (Some("bot-0"), None, &pod[1..], Err(missing), "0"),
            (Some("bot-0"), None, &[("POD_NAME", "bot-1"), pod[1]], Err(missing), "0"),
        ] {
            let variable =
                |name: &str| env.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned());
            let args = args(given, incarnation, APP);
            let found = |has_pods| {
                instance(&args, has_pods, variable).map(|(name, incarnation)| (name.to_string(), incarnation))
            };
            let expected = |incarnation: &str| ("bot-0".to_owned(), Name::parse(incarnation).unwrap());
            assert_eq!(found(true), of_pods.map(expected).map_err(str::to_owned), "{given:?} {env:?}");
            assert_eq!(found(false), Ok(expected(of_others)), "{given:?} {env:?}");
        }
        let nonsense = |name: &str| Some(if name == "POD_UID" { "b\n2" } else { "bot-0" }.to_owned());
        let problem = instance(&args(None, None, APP), true, nonsense).unwrap_err();
        assert_eq!(problem, "the variable POD_UID: 'b\\n2' is not the uid of a pod");
    }

    #[test]
    fn what_names_no_instance_of_the_app_gets_no_uri() {
        for (instance, app, pod, expected) in [
            (
                Some("bot-9"),
                APP,
                &[][..],
                "--instance: the configuration has no bot-9; its instances are bot-0, bot-1",
            ),
            (
                Some("bot-0"),
                "22222222-41c3-47a4-8775-7259bfef4241",
                &[],
                "--app: 22222222-41c3-47a4-8775-7259bfef4241 is not the id of an [[app]]",
            ),
            (Some("bot-1"), APP, &[], "--app: bot-1 does not serve 0efc74f7-41c3-47a4-8775-7259bfef4241"),
            (
                None,
                APP,
                &[("POD_NAME", "")],
                "--instance: missing; name the instance, or set POD_NAME to the name of the pod",
            ),
        ] {
            assert_eq!(mint(&args(instance, None, app), pod).unwrap_err(), expected);
        }
    }

    #[test]
    fn a_file_is_replaced_as_a_whole() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("uri");
        replace(&file, "a longer text\n").unwrap();
        replace(&file, "new\n").unwrap();
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "new\n");
        let names: Vec<_> =
            folder.path().read_dir().unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(names, ["uri"], "no temporary file stays");
        assert!(replace(&folder.path().join("absent/uri"), "new\n").is_err());
    }
}
