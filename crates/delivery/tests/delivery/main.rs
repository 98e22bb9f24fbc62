//! Delivery over real sockets on loopback: an upstream that does what a script says, and what comes of it.

#[cfg(test)]
mod upstream;

#[cfg(test)]
mod connections;
#[cfg(test)]
mod dns;
#[cfg(test)]
mod forward;
#[cfg(test)]
mod peer_gateways;
#[cfg(test)]
mod place;
#[cfg(test)]
mod probes;
#[cfg(test)]
mod responses;
#[cfg(test)]
mod setup;
