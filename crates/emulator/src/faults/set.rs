//! A set of faults, and the text that changes one of them.

use std::{collections::HashMap, str::FromStr};

use super::{
    name::FaultName,
    value::{FaultValue, takes},
};

/// The faults that a platform has. None by default.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Faults(HashMap<FaultName, FaultValue>);

impl Faults {
    /// Sets one fault; [`FaultName`] describes the values.
    ///
    /// # Errors
    /// The fault does not take the value.
    pub fn set(&mut self, name: FaultName, value: &str) -> Result<(), InvalidFault> {
        self.0.insert(name, parse(name, value)?);
        Ok(())
    }

    /// Ends one fault.
    pub fn clear(&mut self, name: FaultName) {
        self.0.remove(&name);
    }

    /// Returns the value of one fault as text; `None` if it is not set, or has ended.
    pub fn value(&self, name: FaultName) -> Option<String> {
        self.get(name).map(ToString::to_string)
    }

    pub(super) fn get(&self, name: FaultName) -> Option<&FaultValue> {
        self.0.get(&name)
    }

    /// Counts one strike of a fault, and ends it after the last one.
    pub(super) fn spend(&mut self, name: FaultName) {
        if self.0.get_mut(&name).is_some_and(|value| !value.spend()) {
            self.clear(name);
        }
    }

    /// Returns true if the fault of an issuer is one of its key set only, which leaves its metadata alone.
    pub(crate) fn is_of_keys(&self, issuer: FaultName) -> bool {
        matches!(self.get(issuer), Some(FaultValue::Endpoint(fault)) if fault.value.is_of_keys())
    }
}

/// One fault as `NAME=VALUE`, like `graph=429:2` or `drop=0.1`.
#[derive(Clone, Debug, PartialEq)]
pub struct FaultSetting {
    name: FaultName,
    value: FaultValue,
}

impl FaultSetting {
    /// Sets the fault in a set of faults.
    pub fn apply(&self, faults: &mut Faults) {
        faults.0.insert(self.name, self.value.clone());
    }
}

impl FromStr for FaultSetting {
    type Err = InvalidFault;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (name, value) = text.split_once('=').ok_or(InvalidFault::NoPair)?;
        let name = name.parse().map_err(|_| InvalidFault::Name)?;
        Ok(Self { name, value: parse(name, value)? })
    }
}

fn parse(name: FaultName, value: &str) -> Result<FaultValue, InvalidFault> {
    let shown = || value.chars().take(VALUE_LETTERS_SHOWN).collect();
    FaultValue::parse(name, value).ok_or_else(|| InvalidFault::Value { name, value: shown() })
}

/// The text is not a fault.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidFault {
    /// There is no `=`.
    #[error("a fault is NAME=VALUE, like graph=429:2; the names are {}", FaultName::WORDS.join(", "))]
    NoPair,
    /// No fault has this name.
    #[error("no such fault: the names are {}", FaultName::WORDS.join(", "))]
    Name,
    /// The fault does not take this value.
    #[error("{name} does not take {value:?}; it takes {}", takes(*.name))]
    Value {
        /// The name of the fault.
        name: FaultName,
        /// The value, shortened.
        value: String,
    },
}

impl InvalidFault {
    /// Returns a stable name for logs.
    pub fn label(&self) -> &'static str {
        match self {
            Self::NoPair => "no_pair",
            Self::Name => "name",
            Self::Value { .. } => "value",
        }
    }
}

const VALUE_LETTERS_SHOWN: usize = 60;

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(setting: &str, expected: Result<&str, &str>) {
        let result = setting.parse::<FaultSetting>().map(|setting| {
            let mut faults = Faults::default();
            setting.apply(&mut faults);
            faults.value(setting.name).expect("a fault that was set has a value")
        });
        match (result, expected) {
            (Ok(value), Ok(expected)) => assert_eq!(value, expected),
            (Err(error), Err(expected)) => assert!(error.to_string().contains(expected), "{error}"),
            (result, expected) => panic!("{setting}: {result:?} instead of {expected:?}"),
        }
    }

    #[test]
    fn a_value_is_shown_as_it_was_written() {
        for setting in [
            "skype=down",
            "skype=slow:2s",
            "entra=no-keys*3",
            "entra=503:7",
            "login=7000215",
            "login=429:2*2",
            "graph=429:2.128",
            "graph=7504",
            "graph=lost*1",
            "clock=+10m",
            "clock=-90s",
            "token=expired",
            "token=unsigned",
            "drop=0.1",
            "drop=1*2",
            "delay=100ms..2s",
        ] {
            check(setting, Ok(setting.split_once('=').unwrap().1));
        }
    }

    #[test]
    fn an_invalid_fault_is_rejected_with_the_valid_values() {
        check("graph", Err("a fault is NAME=VALUE, like graph=429:2"));
        check("grahp=500", Err("the names are skype, entra, login, graph, clock, callee, token, drop"));
        for value in [
            "", "0", "200", "429:", "429:x", "429:-1", "500*0", "500*", "500*+1", "slow", "slow:2", "no-keys",
        ] {
            check(&format!("graph={value}"), Err("it takes one of down, hang, lost, html"));
            check(&format!("graph={value}"), Err("drip, slow:DURATION, a status like 500"));
        }
        check("skype=lost", Err("no-keys, wrong-keys, redirect, slow:DURATION, or a status like 500"));
        check("skype=7504", Err("skype does not take \"7504\""));
        check("clock=10m", Err("a sign and a duration, like +10m or -6m"));
        check("token=bad", Err("it takes one of none, forged, unknown-key, unsigned"));
        for value in ["2", "-0.1", "NaN", "1e-1", "0.1*0", "10%"] {
            check(&format!("drop={value}"), Err("a share from 0 to 1"));
        }
        check("delay=2s..1s", Err("a range like 100ms..2s"));
        check("delay=1h", Err("at most 5m"));
    }
}
