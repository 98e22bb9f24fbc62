//! One connection of the public listener: its protocol, its activity, its time limits and its shutdown.

mod activity;
mod drive;
pub(crate) mod protocol;
mod shutdown;
mod timeouts;

pub use self::timeouts::Timeouts;
pub(crate) use self::{
    activity::{Activity, OpenRequest},
    drive::{ConnectionEnd, ObservedStream, drive},
    shutdown::Shutdown,
};
