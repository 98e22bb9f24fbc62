//! Faults on request: their names and values, when they strike, and the responses of a struck endpoint.

mod active;
mod endpoint;
mod name;
mod response;
mod set;
mod value;

pub(crate) use self::{
    active::{ActiveFaults, DeliveryFaults},
    response::{ErrorFormat, regular_or_fault},
    value::{Callee, takes},
};
pub use self::{
    name::FaultName,
    set::{FaultSetting, Faults, InvalidFault},
};
