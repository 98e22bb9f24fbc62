//! `replay`: places the calls of a recording again.

use std::{path::PathBuf, process::ExitCode, sync::Arc, time::Duration};

use clap::Args;
use serde_json::Value;
use switchboard_emulator::{
    CallEnd, CallEvent, Client, DEFAULT_APP, RECORDING_BYTES_MAX, RecordedCall, Recording, RemoteTimeline,
    ReplaySettings, parse_http_url, place_call,
};
use tokio::{
    sync::watch,
    task::JoinSet,
    time::{Instant, sleep_until},
};
use url::Url;
use uuid::Uuid;

use super::{
    platform_options::{PlatformOptions, client, not_placed, read_text_of},
    values::guid,
};
use crate::screen::{TimelineTable, complain, say};

#[derive(Debug, Args)]
pub(crate) struct ReplayArguments {
    /// A recording of `listen`.
    file: PathBuf,
    /// The webhook of the bot, like http://127.0.0.1:8443/api/calls.
    #[arg(long, value_name = "URL", value_parser = parse_http_url)]
    to: Url,
    /// The app id of the bot. It replaces the recorded one.
    #[arg(long, value_name = "GUID", value_parser = guid, default_value_t = DEFAULT_APP)]
    app_id: Uuid,
    /// The tenant of the calls. It replaces the recorded one [default: the recorded one].
    #[arg(long, value_name = "GUID", value_parser = guid)]
    tenant: Option<Uuid>,
    /// Leave out the recorded pauses. The order stays.
    #[arg(long)]
    fast: bool,
    #[command(flatten)]
    platform: PlatformOptions,
    /// Print JSON lines instead of a table.
    #[arg(long)]
    json: bool,
}

/// Places the calls. Succeeds if each one completes.
pub(super) async fn run(arguments: ReplayArguments) -> Result<ExitCode, String> {
    let ReplayArguments { file, to, app_id: app, tenant, fast, platform, json } = arguments;
    let wrong = |error: &dyn std::fmt::Display| format!("{}: {error}", file.display());
    let text = read_text_of(&file, RECORDING_BYTES_MAX + 1)?;
    let recording = Recording::parse(&text).map_err(|error| wrong(&error))?;
    let settings = ReplaySettings { to, app, tenant, fast };
    let calls = recording.calls(&settings).map_err(|error| wrong(&error))?;
    let client = client(platform.ca.as_deref())?;
    let (platform, own) = platform.start(app).await?;
    let view = match (json, calls.len()) {
        (true, _) => View::Json,
        (false, 1) => View::Table,
        (false, _) => View::Lines,
    };
    let (ended, _) = watch::channel(vec![Progress::Waiting; calls.len()]);
    let replay = Arc::new(Replay { client, platform, view, fast, started: Instant::now(), progress: ended });
    let calls = Arc::new(calls);
    let mut playing = JoinSet::new();
    for number in 0..calls.len() {
        let (replay, calls) = (Arc::clone(&replay), Arc::clone(&calls));
        playing.spawn(async move { replay.play(&calls, number).await });
    }
    let mut completed = true;
    while let Some(result) = playing.join_next().await {
        completed &= result.map_err(|error| error.to_string())??;
    }
    // A platform of our own served these calls only.
    drop(own);
    Ok(if completed { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The output of a replay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum View {
    Json,
    /// The timeline of the only call.
    Table,
    /// A line for each call.
    Lines,
}

/// The progress of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Progress {
    Waiting,
    /// Its first notification has a response.
    Started,
    Ended,
}

struct Replay {
    client: Client,
    platform: Url,
    view: View,
    fast: bool,
    started: Instant,
    progress: watch::Sender<Vec<Progress>>,
}

impl Replay {
    /// Plays one call when it is due. Returns false if it does not end as expected.
    async fn play(&self, calls: &[RecordedCall], number: usize) -> Result<bool, String> {
        let Some(call) = calls.get(number) else { return Ok(true) };
        if self.fast {
            self.wait_for_earlier(calls, number).await;
        } else {
            sleep_until(self.started + Duration::from_millis(call.starts_ms)).await;
        }
        let placed = place_call(&self.client, &self.platform, &call.request).await;
        let result = match placed {
            Ok(timeline) => self.follow(timeline, number).await,
            Err(error) => Err(not_placed(&self.platform, &error)),
        };
        self.set(number, Progress::Ended);
        let end = result?;
        let (number, notifications) = (number + 1, call.notifications);
        match self.view {
            View::Lines => say(&format!(
                "call {number} of {}: {} ({notifications} recorded notifications): {}",
                calls.len(),
                end.outcome,
                end.reason
            )),
            View::Table if !end.ok => complain(&format!("{}: {}", end.outcome, end.reason)),
            View::Table | View::Json => {}
        }
        Ok(end.ok)
    }

    /// Waits until every earlier call has started, and has ended if it ended before this one in the
    /// recording.
    async fn wait_for_earlier(&self, calls: &[RecordedCall], number: usize) {
        let Some(starts_ms) = calls.get(number).map(|call| call.starts_ms) else { return };
        let mut progress = self.progress.subscribe();
        let due = |progress: &Vec<Progress>| {
            calls.iter().zip(progress).take(number).all(|(earlier, progress)| match progress {
                Progress::Waiting => false,
                Progress::Started => earlier.ends_ms >= starts_ms,
                Progress::Ended => true,
            })
        };
        let _ = progress.wait_for(due).await;
    }

    fn set(&self, number: usize, to: Progress) {
        self.progress.send_modify(|progress| {
            if let Some(progress) = progress.get_mut(number).filter(|progress| **progress != Progress::Ended)
            {
                *progress = to;
            }
        });
    }

    /// Shows a call to its end.
    async fn follow(&self, mut timeline: RemoteTimeline, number: usize) -> Result<CallEnd, String> {
        let mut table = TimelineTable::new();
        while let Some(event) = timeline.next().await {
            match self.view {
                View::Json => say(&numbered(&event, number + 1)),
                View::Table => table.show(&event),
                View::Lines => {}
            }
            match event {
                CallEvent::Step(step) if !step.received => self.set(number, Progress::Started),
                CallEvent::End(end) => return Ok(end),
                CallEvent::Call(_) | CallEvent::Sent(_) | CallEvent::Step(_) => {}
            }
        }
        Err(format!("the platform at {} stopped before the end of a call", self.platform))
    }
}

/// Returns an event as a line of JSON, with the number of its call.
fn numbered(event: &CallEvent, number: usize) -> String {
    let mut line = serde_json::to_value(event).unwrap_or_default();
    if let Some(members) = line.as_object_mut() {
        members.insert("number".to_owned(), Value::from(number));
    }
    line.to_string()
}
