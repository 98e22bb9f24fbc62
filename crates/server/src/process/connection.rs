//! One connection of the public listener: its protocol, its activity, its time limits and its shutdown.

mod activity;
mod close;
mod counted_line;
mod drive;
mod idle;
mod linger;
pub(crate) mod protocol;
mod proxy_header;
mod proxy_log;
mod request_body;
mod shutdown;
mod slot_log;
mod slots;
mod stream;
mod timeouts;

pub use self::timeouts::Timeouts;
pub(crate) use self::{
    activity::{Activity, OpenRequest},
    close::closes_after,
    drive::{ConnectionEnd, ObservedStream, drive},
    idle::drive_http1,
    proxy_header::{ProxyHeaderError, read_proxy_header},
    proxy_log::ProxyLog,
    request_body::RequestBody,
    shutdown::Shutdown,
    slots::{NoSlot, Slot, Slots, source_of},
    stream::PublicStream,
};
