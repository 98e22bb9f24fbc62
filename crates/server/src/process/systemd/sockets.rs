//! The sockets that the service manager passes to the process (socket activation).

use std::{io, net::TcpListener};

/// The listening sockets that the process inherited. Each of them replaces an address of the configuration.
#[derive(Debug, Default)]
pub struct InheritedSockets {
    /// Replaces `listen.address`.
    pub public: Option<TcpListener>,
    /// Replaces `admin.address`.
    pub admin: Option<TcpListener>,
}

/// An inherited socket that the gateway cannot use. Its message names the setting of the socket unit.
#[derive(Debug, thiserror::Error)]
pub enum InvalidSocket {
    /// The variables `LISTEN_FDS` and `LISTEN_FDNAMES` disagree.
    #[error("{sockets} inherited sockets have {names} names (LISTEN_FDS and LISTEN_FDNAMES)")]
    Names {
        /// The number of sockets.
        sockets: usize,
        /// The number of names.
        names: usize,
    },
    /// The name is neither `public` nor `admin`.
    #[error(
        "unknown inherited socket {name:?}: set FileDescriptorName=public or FileDescriptorName=admin in its \
         socket unit"
    )]
    Unknown {
        /// The name.
        name: String,
    },
    /// Two sockets have one name.
    #[error(
        "two inherited sockets are named {name}: keep one ListenStream= and one socket unit of this name"
    )]
    Twice {
        /// The name.
        name: String,
    },
    /// The descriptor is not a TCP socket.
    #[error(
        "inherited socket {name} is not a TCP socket: set ListenStream= to an address and a port in the \
         socket unit with FileDescriptorName={name}"
    )]
    NotTcp {
        /// The name.
        name: String,
        /// The reason.
        source: io::Error,
    },
    /// The socket is a connection.
    #[error(
        "inherited socket {name} does not listen: set Accept=no in the socket unit with \
         FileDescriptorName={name}"
    )]
    NotListening {
        /// The name.
        name: String,
    },
}

impl InheritedSockets {
    /// Takes the sockets that the environment names (`LISTEN_FDS`, `LISTEN_FDNAMES`), if they are for this
    /// process (`LISTEN_PID`).
    ///
    /// Removes variables, so no other thread may run yet.
    ///
    /// # Errors
    ///
    /// A socket is not a listening TCP socket, or its name is unknown.
    #[cfg(target_os = "linux")]
    pub fn take() -> Result<Self, InvalidSocket> {
        let mut descriptors = listenfd::ListenFd::from_env();
        if descriptors.len() == 0 {
            return Ok(Self::default());
        }
        let names = std::env::var("LISTEN_FDNAMES").unwrap_or_default();
        let names: Vec<_> = names.split(':').filter(|name| !name.is_empty()).collect();
        if names.len() != descriptors.len() {
            return Err(InvalidSocket::Names { sockets: descriptors.len(), names: names.len() });
        }
        let mut sockets = Self::default();
        for (index, name) in names.into_iter().enumerate() {
            let slot = sockets.slot(name)?;
            let taken = descriptors.take_tcp_listener(index).and_then(|socket| {
                // Taken once, so it is there.
                socket.ok_or_else(|| io::ErrorKind::NotFound.into())
            });
            let socket = taken.map_err(|source| InvalidSocket::NotTcp { name: name.to_owned(), source })?;
            if !rustix::net::sockopt::socket_acceptconn(&socket).unwrap_or(false) {
                return Err(InvalidSocket::NotListening { name: name.to_owned() });
            }
            if slot.replace(socket).is_some() {
                return Err(InvalidSocket::Twice { name: name.to_owned() });
            }
        }
        Ok(sockets)
    }

    /// Other systems pass no sockets.
    ///
    /// # Errors
    ///
    /// None.
    #[cfg(not(target_os = "linux"))]
    pub fn take() -> Result<Self, InvalidSocket> {
        Ok(Self::default())
    }

    /// The socket with this name.
    #[cfg(target_os = "linux")]
    fn slot(&mut self, name: &str) -> Result<&mut Option<TcpListener>, InvalidSocket> {
        match name {
            "public" => Ok(&mut self.public),
            "admin" => Ok(&mut self.admin),
            _ => Err(InvalidSocket::Unknown { name: name.to_owned() }),
        }
    }
}
