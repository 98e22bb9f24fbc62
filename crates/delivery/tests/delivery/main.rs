//! Delivery over real sockets on loopback, with scripted instances.

#[cfg(test)]
mod upstream;

#[cfg(test)]
mod authority;
#[cfg(test)]
mod connections;
#[cfg(test)]
mod dns;
#[cfg(test)]
mod dns_server;
#[cfg(test)]
mod durations;
#[cfg(test)]
mod forward;
#[cfg(test)]
mod incarnations;
#[cfg(test)]
mod names;
#[cfg(test)]
mod peer_gateways;
#[cfg(test)]
mod place;
#[cfg(test)]
mod probes;
#[cfg(test)]
mod responses;
#[cfg(test)]
mod scripted_dns;
#[cfg(test)]
mod setup;
#[cfg(test)]
mod tls;
#[cfg(test)]
mod tls_failures;
