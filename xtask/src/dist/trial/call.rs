//! A call through the installed programs: the platform, one bot, and a gateway with an edited configuration.

use std::{net::SocketAddr, time::Duration};

use super::{
    super::{commands, debian_root::DebianRoot},
    rules::{CONFIGURATION, SECRETS, STATE, expect},
};
use crate::support::{
    http, instant, pause,
    process::{Processes, START_TIME_MAX},
    setup::{free_addresses, text, trusts},
};

/// Edits the example configuration and places a call, which must be completed. Returns the configuration.
pub(super) fn place(debian: &DebianRoot) -> Result<String, String> {
    let mut processes = Processes::new("dist")?;
    let emulator = || debian.command("daemon:daemon", "/usr/bin/switchboard-emulator");
    let serve = ["serve", "--listen", "127.0.0.1:0", "--app-id", APP, "--json"];
    let platform = text(&processes.start_and_read("platform", emulator().args(serve))?, "origin")?;
    let bot = ["bot", "--name", "bot-0", "--listen", "127.0.0.1:0", "--platform", &platform, "--json"];
    let bot = text(&processes.start_and_read("bot", emulator().args(bot))?, "url")?;

    let addresses = free_addresses("127.0.0.1", 2)?;
    let [public, admin] = addresses.as_slice() else { return Err("there are no free ports".to_owned()) };
    let example = commands::read(&debian.path(CONFIGURATION))?;
    let configuration = edit(&example, [*public, *admin], &bot, &platform)?;
    debian.write(CONFIGURATION, &configuration)?;
    // The unit does the same.
    debian.run(&["install", "--directory", "--owner=switchboard", "--mode=700", STATE])?;
    let checked = debian.run(&["sh", "-c", &as_unit("check")])?;
    expect(checked.contains("instances: bot-0"), "the edited configuration must be valid", &checked)?;
    let mut gateway = debian.command("root:root", "/bin/sh");
    processes.start("gateway", gateway.args(["-c", &as_unit("serve")]))?;
    wait_until_ready(&mut processes, *admin)?;

    let to = format!("http://{public}/api/calls");
    let call = ["call", "--platform", &platform, "--to", &to, "--app-id", APP, "--duration", "100ms"];
    processes.start_task("call", emulator().args(call))?;
    let (completed, timeline) = processes.wait("call", CALL_TIME_MAX)?;
    let log = processes.last_lines("gateway");
    expect(completed, "a call must be completed", &format!("{timeline}\n{log}"))?;
    processes.terminate("gateway")?;
    let (ended, log) = processes.wait("gateway", CALL_TIME_MAX)?;
    expect(ended, "SIGTERM must end the gateway", &log)?;
    Ok(configuration)
}

/// The command of the unit: with the secrets, as its user.
fn as_unit(subcommand: &str) -> String {
    format!(
        "set -a; . {}; exec setpriv --reuid switchboard --regid switchboard --init-groups \
         switchboard {subcommand} --config {}",
        SECRETS, CONFIGURATION
    )
}

/// Replaces the values that an operator replaces, and adds the issuers of the emulator.
fn edit(
    example: &str,
    [public, admin]: [SocketAddr; 2],
    bot: &str,
    platform: &str,
) -> Result<String, String> {
    let mut edited = example.to_owned();
    for (from, to) in [
        ("127.0.0.1:8443", public.to_string()),
        ("00000000-0000-0000-0000-000000000000", APP.to_owned()),
        ("https://emea.bots.example.com", format!("http://{public}")),
        ("http://127.0.0.1:3978/api/calls", bot.to_owned()),
    ] {
        if !edited.contains(from) {
            return Err(format!("the example configuration lacks {from}"));
        }
        edited = edited.replace(from, &to);
    }
    // The example has `[keys]` already.
    let trusts = trusts(platform);
    let trusts = trusts.split("[keys]").next().unwrap_or_default();
    Ok(format!("{edited}\n[admin]\naddress = \"{admin}\"\n\n{trusts}"))
}

fn wait_until_ready(processes: &mut Processes, admin: SocketAddr) -> Result<(), String> {
    let started = instant();
    while !http::get(admin, "/readyz").is_ok_and(|(status, _)| status == 200) {
        processes.check_running()?;
        if started.elapsed() > START_TIME_MAX {
            return Err(format!("the gateway is not ready; its log:\n{}", processes.last_lines("gateway")));
        }
        pause(Duration::from_millis(50));
    }
    Ok(())
}

const APP: &str = "0efc74f7-41c3-47a4-8775-7259bfef4241";
const CALL_TIME_MAX: Duration = Duration::from_secs(60);
