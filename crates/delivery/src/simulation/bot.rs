//! The bots of a simulation: real HTTP over in-memory streams, and faults.

use std::{
    collections::{HashMap, HashSet},
    io,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use switchboard_routing::{Name, Owner};
use tokio::{
    task::{AbortHandle, JoinSet},
    time::{Instant, sleep},
};

use super::{ledger::Ledger, wires::Wires};

/// A bot: one name and one address, and one process after another.
pub(super) struct Bot {
    pub(super) name: Name,
    pub(super) address: SocketAddr,
    pub(super) capacity: Option<u32>,
    state: Mutex<BotState>,
    wires: Wires,
    ledger: Arc<Mutex<Ledger>>,
}

struct BotState {
    behaviour: Behaviour,
    /// The time since which it behaves well.
    well_since: Option<Instant>,
    /// The number of its process.
    life: u32,
    process: Option<AbortHandle>,
    calls: HashSet<String>,
    changes: Changes,
    /// The last two reports to each gateway.
    reported: HashMap<usize, (BotReport, BotReport)>,
    /// The time of the last acceptance, and the number of acceptances at that time.
    accepted_at: Option<(Instant, u64)>,
    /// The last time at which it refused a call because it was full.
    full_at: Option<Instant>,
    random: fastrand::Rng,
}

/// The counts of the events of a bot's calls so far.
#[derive(Clone, Copy, Debug, Default)]
struct Changes {
    /// New calls whose connection ended before it responded.
    abandoned: u64,
    accepted: u64,
    ended: u64,
    /// Ends that a gateway may not know of.
    lost_ends: u64,
}

/// A report to a gateway.
#[derive(Clone, Copy, Debug, Default)]
struct BotReport {
    /// The changes before it.
    changes: Changes,
    /// Calls in it whose acceptance may reach the gateway after the probe was sent. The gateway adds them to
    /// the report until the next one.
    counted_twice: u64,
}

/// The behaviour of a bot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Behaviour {
    Well,
    /// It responds to everything after this time.
    Slow(Duration),
    /// It never responds to a new call. Its probe is fine.
    HangsOnCalls,
    /// It never responds to anything.
    Hangs,
    /// It refuses new calls with 503. Its probe is fine.
    Busy,
    /// It refuses new calls and callbacks with 401. Its probe is fine.
    StaleKeys,
    /// It closes the connection instead of responding to a new call.
    Closes,
    /// Its process is gone: connections are refused.
    Dead,
    /// Its machine is gone: nothing answers a packet.
    Silent,
}

impl Bot {
    pub(super) fn new(
        number: usize,
        capacity: Option<u32>,
        seed: u64,
        wires: &Wires,
        ledger: &Arc<Mutex<Ledger>>,
    ) -> Arc<Self> {
        let last_octet = u8::try_from(number + 1).unwrap();
        let bot = Arc::new(Self {
            name: Name::parse(&format!("bot-{number}")).unwrap(),
            address: SocketAddr::from(([10, 0, 0, last_octet], 3978)),
            capacity,
            state: Mutex::new(BotState {
                behaviour: Behaviour::Well,
                well_since: None,
                life: 0,
                process: None,
                calls: HashSet::new(),
                changes: Changes::default(),
                reported: HashMap::new(),
                accepted_at: None,
                full_at: None,
                random: fastrand::Rng::with_seed(seed),
            }),
            wires: wires.clone(),
            ledger: Arc::clone(ledger),
        });
        bot.start();
        bot
    }

    /// Starts the next process, which has no calls.
    fn start(self: &Arc<Self>) {
        let mut state = self.state();
        state.life += 1;
        state.calls.clear();
        state.behaviour = Behaviour::Well;
        state.well_since = Some(Instant::now());
        let mut accepted = self.wires.listen(self.address);
        let bot = Arc::clone(self);
        let process = tokio::spawn(async move {
            // Ended together with this task.
            let mut connections = JoinSet::new();
            while let Some((gateway, stream)) = accepted.recv().await {
                let bot = Arc::clone(&bot);
                connections.spawn(async move {
                    let service = service_fn(move |request| Arc::clone(&bot).respond(gateway, request));
                    let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
                });
            }
        });
        state.process = Some(process.abort_handle());
    }

    pub(super) fn behave(self: &Arc<Self>, behaviour: Behaviour) {
        let was_gone = matches!(self.state().behaviour, Behaviour::Dead | Behaviour::Silent);
        if was_gone && !matches!(behaviour, Behaviour::Dead | Behaviour::Silent) {
            self.start();
        }
        let mut state = self.state();
        state.behaviour = behaviour;
        state.well_since = match behaviour {
            Behaviour::Well => Some(state.well_since.unwrap_or_else(Instant::now)),
            Behaviour::Slow(_)
            | Behaviour::HangsOnCalls
            | Behaviour::Hangs
            | Behaviour::Busy
            | Behaviour::StaleKeys
            | Behaviour::Closes
            | Behaviour::Dead
            | Behaviour::Silent => None,
        };
        if matches!(behaviour, Behaviour::Dead | Behaviour::Silent)
            && let Some(process) = state.process.take()
        {
            process.abort();
            state.calls.clear();
            if behaviour == Behaviour::Silent {
                self.wires.silence(self.address);
            }
        }
    }

    /// The time since which it takes every call; `None` if it does not.
    pub(super) fn takes_calls_since(&self) -> Option<Instant> {
        let state = self.state();
        let calls = u32::try_from(state.calls.len()).unwrap();
        // With room for the calls on their way to it.
        let has_room = self.capacity.is_none_or(|capacity| calls + capacity / 2 < capacity);
        let well_since = state.well_since.filter(|_| has_room)?;
        Some(state.full_at.map_or(well_since, |full_at| full_at.max(well_since)))
    }

    pub(super) fn owner(&self) -> Owner {
        let name = |text: &str| Name::parse(text).unwrap();
        let incarnation = name(&format!("life-{}", self.state().life));
        Owner { region: name("emea"), instance: self.name.clone(), incarnation }
    }

    /// The most by which the expectation of a gateway may be wrong: by the attempts to which it got no
    /// response, and by what other gateways did since the last report but one, as the last one may be on its
    /// way. With one gateway the ends since then matter only as far as it lost some before: the report does
    /// not say which calls are missing.
    pub(super) fn expectation_error_max(&self, gateway: usize, is_alone: bool) -> u64 {
        let state = self.state();
        let (before, last) = state.reported.get(&gateway).copied().unwrap_or_default();
        let counted_twice = before.counted_twice + last.counted_twice;
        let (before, now) = (before.changes, state.changes);
        let ended = now.ended - before.ended;
        let of_others = if is_alone {
            ended.min(now.lost_ends + now.abandoned)
        } else {
            ended + now.accepted - before.accepted
        };
        now.abandoned - before.abandoned + of_others + counted_twice
    }

    /// Notes that a gateway may not know of the end of one of its calls.
    pub(super) fn lost_end(&self) {
        self.state().changes.lost_ends += 1;
    }

    pub(super) fn well_since(&self) -> Option<Instant> {
        self.state().well_since
    }

    /// The number of its calls.
    pub(super) fn calls(&self) -> u32 {
        u32::try_from(self.state().calls.len()).unwrap()
    }

    async fn respond(
        self: Arc<Self>,
        gateway: usize,
        request: Request<Incoming>,
    ) -> io::Result<Response<Full<Bytes>>> {
        let field = |name| request.headers().get(name).map(|value| value.to_str().unwrap().to_owned());
        let (call, callback_of) = (field("x-call").unwrap_or_default(), field("x-owner"));
        let is_probe = request.method() == Method::GET;
        let unanswered = (!is_probe && callback_of.is_none()).then(|| Unanswered(&self));
        if unanswered.is_some() {
            self.ledger().delivered(&call, &self.owner());
        }
        let behaviour = self.state().behaviour;
        if let Behaviour::Slow(delay) = behaviour {
            sleep(delay).await;
        } else if behaviour == Behaviour::Hangs {
            std::future::pending().await
        }
        if behaviour == Behaviour::StaleKeys && callback_of.is_some() {
            return Ok(response(StatusCode::UNAUTHORIZED));
        }
        if is_probe {
            return Ok(self.report(gateway));
        }
        match callback_of {
            Some(owner) => Ok(self.callback(&call, &owner, field("x-ends").is_some())),
            None => {
                let responded = self.new_call(call, self.is_meant(&request)).await;
                if responded.is_ok() {
                    std::mem::forget(unanswered);
                }
                responded
            }
        }
    }

    /// True if a new call was minted for this process, not for the one before it.
    fn is_meant(&self, request: &Request<Incoming>) -> bool {
        let minted_for = request.headers().get("switchboard-incarnation");
        minted_for.is_none_or(|incarnation| incarnation == self.owner().incarnation.as_str())
    }

    fn report(&self, gateway: usize) -> Response<Full<Bytes>> {
        let calls = self.calls();
        let mut state = self.state();
        let (_, last) = state.reported.get(&gateway).copied().unwrap_or_default();
        let counted_twice = match state.accepted_at {
            Some((at, count)) if at == Instant::now() => count,
            _ => 0,
        };
        let report = BotReport { changes: state.changes, counted_twice };
        state.reported.insert(gateway, (last, report));
        drop(state);
        let report = match self.capacity {
            Some(capacity) => format!(r#"{{"state":"ready","calls":{calls},"capacity":{capacity}}}"#),
            None => r#"{"state":"ready"}"#.into(),
        };
        Response::new(Full::new(report.into()))
    }

    async fn new_call(&self, call: String, is_meant: bool) -> io::Result<Response<Full<Bytes>>> {
        let owner = self.owner();
        let (behaviour, pause) = {
            let mut state = self.state();
            (state.behaviour, Duration::from_millis(state.random.u64(1..40)))
        };
        if !is_meant {
            return Ok(response(StatusCode::SERVICE_UNAVAILABLE));
        }
        let status = match behaviour {
            Behaviour::Busy => StatusCode::SERVICE_UNAVAILABLE,
            Behaviour::StaleKeys => StatusCode::UNAUTHORIZED,
            Behaviour::Closes => return Err(io::ErrorKind::BrokenPipe.into()),
            Behaviour::HangsOnCalls | Behaviour::Hangs => std::future::pending().await,
            // A process that is gone serves no connection.
            Behaviour::Well | Behaviour::Slow(_) | Behaviour::Dead | Behaviour::Silent => {
                sleep(pause).await;
                self.accept(call, &owner)
            }
        };
        Ok(response(status))
    }

    fn accept(&self, call: String, owner: &Owner) -> StatusCode {
        let mut state = self.state();
        let calls = u32::try_from(state.calls.len()).unwrap();
        if self.capacity.is_some_and(|capacity| calls >= capacity) {
            state.full_at = Some(Instant::now());
            return StatusCode::SERVICE_UNAVAILABLE;
        }
        self.ledger().accepted(&call, owner);
        state.calls.insert(call);
        state.changes.accepted += 1;
        let now = Instant::now();
        let at_once = state.accepted_at.filter(|(at, _)| *at == now).map_or(0, |(_, count)| count);
        state.accepted_at = Some((now, at_once + 1));
        StatusCode::ACCEPTED
    }

    /// Accepts callbacks of its own calls only.
    fn callback(&self, call: &str, owner: &str, ends: bool) -> Response<Full<Bytes>> {
        let here = self.owner();
        let (name, life) = owner.split_once('/').unwrap();
        if name != here.instance.as_str() {
            self.ledger().violated(format!("a callback of {call} at {owner} reached {}", here.instance));
        }
        if life != here.incarnation.as_str() {
            return response(StatusCode::NOT_FOUND);
        }
        if ends {
            let mut state = self.state();
            if state.calls.remove(call) {
                state.changes.ended += 1;
            }
        }
        response(StatusCode::ACCEPTED)
    }

    fn state(&self) -> MutexGuard<'_, BotState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A new call without a response. Its drop counts it as abandoned.
struct Unanswered<'a>(&'a Bot);

impl Drop for Unanswered<'_> {
    fn drop(&mut self) {
        self.0.state().changes.abandoned += 1;
    }
}

fn response(status: StatusCode) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::default());
    *response.status_mut() = status;
    response
}
