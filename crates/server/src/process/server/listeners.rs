//! The listening sockets of the process: bound by it, or inherited.

use std::{
    io,
    net::{SocketAddr, TcpListener as StdListener},
};

use tokio::net::TcpListener;

/// A listening socket.
#[derive(Debug)]
pub(super) struct Listener {
    pub(super) socket: TcpListener,
    /// The service manager has the socket, too, and passes it to the next process.
    pub(super) is_inherited: bool,
}

impl Listener {
    /// Opens the listener `name`: the inherited socket if there is one, else a socket that is bound to the
    /// `address` of `setting`.
    pub(super) async fn open(
        name: &'static str,
        setting: &'static str,
        address: SocketAddr,
        inherited: Option<StdListener>,
    ) -> Result<Self, ListenError> {
        let Some(inherited) = inherited else {
            let socket = TcpListener::bind(address).await;
            let socket = socket.map_err(|source| ListenError::Bind { setting, address, source })?;
            return Ok(Self { socket, is_inherited: false });
        };
        let opened = inherited.set_nonblocking(true).and_then(|()| TcpListener::from_std(inherited));
        let opened = opened.and_then(|socket| Ok((socket.local_addr()?, socket)));
        let (bound, socket) = opened.map_err(|source| ListenError::Inherited { name, source })?;
        tracing::info!(
            socket = name,
            setting,
            configured = %address,
            address = %bound,
            "inherited socket replaces a configured address"
        );
        Ok(Self { socket, is_inherited: true })
    }
}

/// A listener that cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// An address cannot be bound.
    #[error("cannot listen on {address} ({setting})")]
    Bind {
        /// The setting that names the address.
        setting: &'static str,
        /// The address.
        address: SocketAddr,
        /// The error of the operating system.
        source: io::Error,
    },
    /// An inherited socket cannot be used.
    #[error("cannot use the inherited socket {name}")]
    Inherited {
        /// The name of the socket.
        name: &'static str,
        /// The error of the operating system.
        source: io::Error,
    },
}
