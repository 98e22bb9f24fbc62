//! The faults of a running platform: which of them strike now.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime},
};

use super::{
    endpoint::EndpointFault,
    name::FaultName,
    set::Faults,
    value::{Callee, FaultValue},
};
use crate::token::{Flaw, TokenChoice, TokenKind};

/// The faults of a running platform.
#[derive(Debug)]
pub(crate) struct ActiveFaults(Mutex<Faults>);

/// The faults that strike one notification.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct DeliveryFaults {
    /// The notification is never posted, and the platform does not notice.
    pub(crate) drop: bool,
    /// The notification is posted twice under one message id.
    pub(crate) duplicate: bool,
    /// The notification is held back until the next one of the call was posted.
    pub(crate) reorder: bool,
    /// The time that the notification is held back.
    pub(crate) delay: Duration,
}

impl ActiveFaults {
    pub(crate) fn new(faults: Faults) -> Self {
        Self(Mutex::new(faults))
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, Faults> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the fault that strikes a request to an endpoint, and counts it.
    pub(crate) fn strike(&self, endpoint: FaultName) -> Option<EndpointFault> {
        let mut faults = self.lock();
        let Some(FaultValue::Endpoint(fault)) = faults.get(endpoint) else { return None };
        let fault = fault.value.clone();
        faults.spend(endpoint);
        Some(fault)
    }

    /// Decides at random for one notification, once for all its attempts.
    pub(crate) fn delivery(&self) -> DeliveryFaults {
        let mut faults = self.lock();
        let delay = match faults.get(FaultName::Delay) {
            Some(FaultValue::Delay(delay)) => delay.draw(),
            _ => Duration::ZERO,
        };
        let mut roll = |name: FaultName| {
            let share = faults.get(name);
            let strikes = matches!(share, Some(FaultValue::Share(share)) if share.value.strikes());
            if strikes {
                faults.spend(name);
            }
            strikes
        };
        // A dropped notification is neither duplicated nor late: counted faults wait for the next one.
        let drop = roll(FaultName::Drop);
        let duplicate = !drop && roll(FaultName::Duplicate);
        let reorder = !drop && roll(FaultName::Reorder);
        DeliveryFaults { drop, duplicate, reorder, delay }
    }

    /// Returns how the callee of a bot's call behaves, and counts it; `None` if the callee answers.
    pub(crate) fn callee(&self) -> Option<Callee> {
        let mut faults = self.lock();
        let Some(FaultValue::Callee(callee)) = faults.get(FaultName::Callee) else { return None };
        let callee = callee.value;
        faults.spend(FaultName::Callee);
        Some(callee)
    }

    /// Returns the time of the platform's clock.
    pub(crate) fn clock(&self, now: SystemTime) -> SystemTime {
        match self.lock().get(FaultName::Clock) {
            Some(FaultValue::Clock(offset)) => offset.apply(now),
            _ => now,
        }
    }

    /// Returns the token of a call: `wanted`, with the flaw of the fault unless the call names one itself.
    pub(crate) fn token_choice(&self, wanted: TokenChoice) -> TokenChoice {
        let flaw = match self.lock().get(FaultName::Token) {
            Some(FaultValue::Token(flaw)) if wanted.flaw == Flaw::None => *flaw,
            _ => return wanted,
        };
        match (flaw, wanted.kind) {
            (Flaw::OtherCloud | Flaw::ConsumerKey, TokenKind::Skype | TokenKind::SkypeSlash) => {
                TokenChoice { kind: TokenKind::EntraV2, flaw }
            }
            (flaw, kind) => TokenChoice { kind, flaw },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_counted_fault_strikes_as_often_as_its_count() {
        let mut faults = Faults::default();
        faults.set(FaultName::Graph, "500*2").unwrap();
        faults.set(FaultName::Drop, "1*1").unwrap();
        let faults = ActiveFaults::new(faults);
        let struck: Vec<bool> = (0..3).map(|_| faults.strike(FaultName::Graph).is_some()).collect();
        assert_eq!(struck, [true, true, false]);
        assert_eq!([faults.delivery().drop, faults.delivery().drop], [true, false]);
        assert_eq!(*faults.lock(), Faults::default());
    }

    #[test]
    fn a_share_strikes_about_that_share_of_notifications() {
        let mut faults = Faults::default();
        faults.set(FaultName::Duplicate, "0.5").unwrap();
        faults.set(FaultName::Reorder, "0").unwrap();
        faults.set(FaultName::Delay, "1ms..2ms").unwrap();
        let faults = ActiveFaults::new(faults);
        let rolled: Vec<DeliveryFaults> = (0..1_000).map(|_| faults.delivery()).collect();
        let duplicated = rolled.iter().filter(|delivery| delivery.duplicate).count();
        // Twelve standard deviations: fails once in 10^32 runs.
        assert!((300..700).contains(&duplicated), "{duplicated}");
        assert!(rolled.iter().all(|delivery| !delivery.reorder && !delivery.drop));
        assert!(rolled.iter().all(|delivery| (1..=2).contains(&delivery.delay.as_millis())));
    }

    #[test]
    fn the_flaw_of_a_call_has_precedence_over_the_fault() {
        let faults = ActiveFaults::new(Faults::default());
        let choice = |text: &str| faults.token_choice(text.parse().unwrap()).to_string();
        assert_eq!(choice("entra-v1"), "entra-v1");
        faults.lock().set(FaultName::Token, "consumer-key").unwrap();
        assert_eq!(choice("skype"), "entra-v2+consumer-key");
        assert_eq!(choice("entra-v1"), "entra-v1+consumer-key");
        assert_eq!(choice("expired"), "skype+expired");
    }
}
