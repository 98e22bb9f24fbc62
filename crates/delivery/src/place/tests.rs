//! Placing calls at simulated instances, in virtual time: the race, its bounds and the wait.

mod declined;
mod laws;
mod race;
mod simulated;
mod waits;
