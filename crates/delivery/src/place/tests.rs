//! Placing calls at simulated instances, in virtual time: the race, its bounds and the wait.

mod laws;
mod race;
mod simulated;
mod waits;
