//! A small bot instance: it takes calls, answers them through Graph or the gateway, and shows them.

mod actions;
mod behaviour;
mod graph;
mod instance;
mod item;
mod ledger;
mod page;
mod routes;
mod sdk;
mod settings;
mod webhook;

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use tokio::{net::TcpListener, time::sleep};

use self::instance::Instance;
pub use self::{
    behaviour::{
        AnswerMode, Behaviour, ClientCredentials, InjectedFailure, InvalidFailure, InvalidJoinResponse,
        JoinResponse, SdkBehaviour,
    },
    ledger::{BotCall, BotCalls, BotOperation, Stray},
    sdk::{InvalidSdkRequest, parse_sdk_request},
    settings::BotSettings,
};
use crate::{client::Client, server::Server};

/// A running bot. It stops when it is dropped.
#[derive(Debug)]
pub struct Bot {
    instance: Arc<Instance>,
    server: Server,
}

impl Bot {
    /// Binds and serves on the current runtime.
    ///
    /// # Errors
    /// The address cannot be bound, or the journal cannot be opened.
    pub async fn start(settings: BotSettings, client: Client) -> io::Result<Self> {
        let listen = settings.listen;
        let listener = TcpListener::bind(listen)
            .await
            .map_err(|error| io::Error::new(error.kind(), format!("cannot listen on {listen}: {error}")))?;
        let instance = Arc::new(Instance::new(settings, client, listener.local_addr()?)?);
        Ok(Self { server: Server::start(listener, Arc::clone(&instance))?, instance })
    }

    /// The bound address.
    pub fn address(&self) -> SocketAddr {
        self.server.address()
    }

    /// The calls, as `GET /calls` shows them.
    pub fn calls(&self) -> BotCalls {
        self.instance.calls()
    }

    /// Takes no new call, waits for the end of the current ones, and stops after the last response.
    pub async fn drain(mut self) {
        self.instance.set_draining(true);
        while self.instance.ledger().active > 0 {
            sleep(DRAIN_POLL).await;
        }
        self.server.finish().await;
    }
}

impl Drop for Bot {
    fn drop(&mut self) {
        self.instance.stop_working();
    }
}

const DRAIN_POLL: Duration = Duration::from_millis(20);
