//! The emulator over real sockets: its documents, its tokens, its calls, its bot and its binary.

// `cfg(test)` is always true here; clippy lets helpers below it unwrap.
#[cfg(test)]
mod batch;
#[cfg(test)]
mod binary;
#[cfg(test)]
mod bot;
#[cfg(test)]
mod calls;
#[cfg(test)]
mod control;
#[cfg(test)]
mod documents;
#[cfg(test)]
mod established;
#[cfg(test)]
mod faults;
#[cfg(test)]
mod graph;
#[cfg(test)]
mod https;
#[cfg(test)]
mod identity;
#[cfg(test)]
mod load;
#[cfg(test)]
mod login;
#[cfg(test)]
mod media;
#[cfg(test)]
mod operations;
#[cfg(test)]
mod outgoing;
#[cfg(test)]
#[cfg(unix)]
mod page;
#[cfg(test)]
mod recording;
#[cfg(test)]
mod sdk;
#[cfg(test)]
mod sdk_bot;
#[cfg(test)]
mod support;
#[cfg(test)]
mod tls;
#[cfg(test)]
mod tokens;
#[cfg(test)]
mod transfer;
#[cfg(test)]
#[cfg(unix)]
mod up;
