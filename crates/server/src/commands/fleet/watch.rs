//! `list --watch`: the fleet again and again, redrawn on a terminal and appended elsewhere.

use std::{
    io::{self, ErrorKind, IsTerminal},
    pin::pin,
    time::Duration,
};

use http::Method;
use tokio::{
    signal::ctrl_c,
    time::{MissedTickBehavior, interval},
};

use super::{filter::retain_listed, merged::MergedFleet, report::FleetError, table::table};
use crate::{
    cli::FleetListArgs,
    commands::{
        gateways::Gateways,
        output::{RED, coloured, is_coloured, write},
    },
    wall_clock::wall_clock,
};

/// Shows the fleet every 2 s, until Ctrl-C or until the reader of stdout has gone.
pub(super) async fn watch(gateways: &Gateways, args: &FleetListArgs) -> Result<(), FleetError> {
    let (on_terminal, is_coloured) = (io::stdout().is_terminal(), is_coloured());
    let mut ticks = interval(INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    // One for the whole time: a signal between two would be lost.
    let mut end = pin!(ctrl_c());
    loop {
        let next = async {
            ticks.tick().await;
            gateways.ask_json(&Method::GET, "/fleet", RESPONSE_TIME).await
        };
        let mut fleet = tokio::select! {
            responses = next => MergedFleet::of(gateways, responses),
            ended = &mut end => return ended.map_err(FleetError::Signal),
        };
        retain_listed(&mut fleet, args);
        let mut text = humantime::format_rfc3339_seconds(wall_clock()).to_string();
        text.push('\n');
        // Above the table, of which a terminal may have no room for all lines.
        for problem in fleet.problems() {
            text.push_str(&if is_coloured { coloured(&problem, RED) } else { problem });
            text.push('\n');
        }
        text.push_str(&table(&fleet.rows(), is_coloured));
        let text = if on_terminal { frame(&text, lines_of_terminal()) } else { format!("{text}\n\n") };
        match write(&text) {
            Err(error) if error.kind() == ErrorKind::BrokenPipe => return Ok(()),
            written => written.map_err(FleetError::Write)?,
        }
    }
}

/// Draws `text` over the last frame. Lines that are too long are cut by the terminal. Lines before the last
/// one that have no room are left out, because a frame that scrolls could not be drawn over.
pub(super) fn frame(text: &str, height: usize) -> String {
    let lines: Vec<_> = text.lines().collect();
    // The cursor stands on the last line of the terminal.
    let room = height.saturating_sub(1).max(3);
    let mut frame = format!("{HOME}{NO_WRAP}");
    let mut push = |line: &str| {
        frame.push_str(line);
        frame.push_str(END_OF_LINE);
    };
    match lines.as_slice() {
        [most @ .., last] if lines.len() > room => {
            let shown = room - 2;
            most.iter().take(shown).for_each(|line| push(line));
            push(&format!("… {} more lines", most.len() - shown));
            push(last);
        }
        lines => lines.iter().for_each(|line| push(line)),
    }
    frame.push_str(WRAP);
    frame.push_str(CLEAR_BELOW);
    frame
}

/// The lines of the terminal.
fn lines_of_terminal() -> usize {
    #[cfg(unix)]
    let lines = rustix::termios::tcgetwinsize(io::stdout()).ok().map(|size| usize::from(size.ws_row));
    #[cfg(not(unix))]
    let lines = None;
    // A terminal that does not know its size says 0.
    lines.filter(|lines| *lines > 0).unwrap_or(LINES)
}

const INTERVAL: Duration = Duration::from_secs(2);
/// Short, so that a gateway that hangs does not hold up the others for long.
const RESPONSE_TIME: Duration = Duration::from_secs(3);
/// The size of the first terminals.
const LINES: usize = 24;
const HOME: &str = "\x1b[H";
const NO_WRAP: &str = "\x1b[?7l";
const WRAP: &str = "\x1b[?7h";
/// Clears the rest of the line.
const END_OF_LINE: &str = "\x1b[K\n";
const CLEAR_BELOW: &str = "\x1b[J";
