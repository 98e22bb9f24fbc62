//! Delivery over real sockets on loopback: an upstream that does what a script says, and what comes of it.

#[cfg(test)]
mod upstream;

#[cfg(test)]
mod answers;
#[cfg(test)]
mod connections;
#[cfg(test)]
mod dns;
#[cfg(test)]
mod forward;
#[cfg(test)]
mod place;
#[cfg(test)]
mod probes;
#[cfg(test)]
mod regions;
#[cfg(test)]
mod setup;
