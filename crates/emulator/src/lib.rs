//! The calling platform on your own machine.
