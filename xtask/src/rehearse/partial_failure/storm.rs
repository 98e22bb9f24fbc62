//! A storm of callbacks: many senders that repeat callbacks of the same instance, each once a second.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    thread::{self, JoinHandle},
    time::Duration,
};

use serde_json::{Value, json};

use crate::{
    rehearse::{layout::EVERY_APP, testbed::Testbed, testbed::word},
    support::{http, instant, pause, setup::text},
};

/// The senders, each a thread that ends by itself.
pub(super) struct Storm(Vec<JoinHandle<Statuses>>);

/// The number of responses by their status; 0 stands for no response.
pub(super) type Statuses = BTreeMap<u16, u64>;

/// The callbacks that a storm repeats.
pub(super) struct StormTargets {
    gateway: SocketAddr,
    token: String,
    calls: Vec<StormCall>,
}

#[derive(Clone)]
struct StormCall {
    id: String,
    /// The path of the callback URI.
    path: String,
}

impl StormTargets {
    /// The callbacks of the calls that a bot has at this moment.
    pub(super) fn of_bot(testbed: &Testbed, bot: SocketAddr) -> Result<Self, String> {
        let gateway = testbed.gateways.first().ok_or("there is no gateway")?.public;
        let base = format!("http://{gateway}");
        let document = http::get_json(bot, "/calls")?;
        let listed = document.get("calls").and_then(Value::as_array).into_iter().flatten();
        let living = listed.filter(|call| word(call, "state") != "ended");
        let calls: Vec<StormCall> = living
            .filter_map(|call| {
                let path = word(call, "callback_uri").strip_prefix(&base)?;
                Some(StormCall { id: word(call, "id").to_owned(), path: path.to_owned() })
            })
            .collect();
        if calls.is_empty() {
            return Err(format!("the bot at {bot} has no call with a callback URI at {base}"));
        }
        Ok(Self { gateway, token: text(&testbed.token(EVERY_APP)?, "token")?, calls })
    }

    /// Starts the senders.
    pub(super) fn start(&self, senders: usize, length: Duration) -> Storm {
        let calls = self.calls.iter().cycle().take(senders).enumerate();
        let start = |(number, call): (usize, &StormCall)| {
            let sender =
                Sender { number, gateway: self.gateway, token: self.token.clone(), call: call.clone() };
            thread::spawn(move || sender.run(length))
        };
        Storm(calls.map(start).collect())
    }
}

impl Storm {
    /// Waits for the last response.
    pub(super) fn statuses(self) -> Result<Statuses, String> {
        let mut sum = Statuses::new();
        for sender in self.0 {
            for (status, count) in sender.join().map_err(|_| "a sender of the storm panicked")? {
                *sum.entry(status).or_default() += count;
            }
        }
        Ok(sum)
    }
}

struct Sender {
    number: usize,
    gateway: SocketAddr,
    token: String,
    call: StormCall,
}

impl Sender {
    fn run(&self, length: Duration) -> Statuses {
        let (started, mut statuses) = (instant(), Statuses::new());
        // Spread over the second, as the senders of a platform are.
        pause(SPREAD * u32::try_from(self.number % 100).unwrap_or(0));
        let mut count = 0;
        while started.elapsed() < length {
            let sent = instant();
            count += 1;
            *statuses.entry(self.send(count)).or_default() += 1;
            pause(EVERY.saturating_sub(sent.elapsed()));
        }
        statuses
    }

    /// Sends one callback, with a new message id: the gateway joins requests that share one.
    fn send(&self, count: u32) -> u16 {
        let (number, token) = (self.number, &self.token);
        let fields = format!(
            "Authorization: Bearer {token}\r\n\
             X-Microsoft-Skype-Message-ID: 57000000-0000-4000-8000-{number:06}{count:06}\r\n"
        );
        let resource = format!("/app/calls/{}", self.call.id);
        let body = json!({
            "@odata.type": "#microsoft.graph.commsNotifications",
            "value": [{
                "@odata.type": "#microsoft.graph.commsNotification",
                "changeType": "updated",
                "resource": resource,
                "resourceUrl": resource,
                "resourceData": {"@odata.type": "#microsoft.graph.call", "state": "hold"},
            }],
        });
        let sent = http::exchange(
            self.gateway,
            "POST",
            &self.call.path,
            &fields,
            &body.to_string(),
            RESPONSE_TIME_MAX,
        );
        sent.map_or(0, |(status, _)| status)
    }
}

const EVERY: Duration = Duration::from_secs(1);
const SPREAD: Duration = Duration::from_millis(10);
/// More than the patience of the gateway.
const RESPONSE_TIME_MAX: Duration = Duration::from_secs(10);
