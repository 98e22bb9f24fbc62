//! The shutdown of a connection, or of all of them.

use std::{
    future::poll_fn,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU8, Ordering::Relaxed},
    },
    task::{Poll, Waker},
};

/// The way in which a connection, or the whole gateway, is asked to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shutdown {
    /// Keep serving.
    None,
    /// Finish the requests in flight, then close.
    Graceful,
    /// Close now.
    Immediate,
}

/// The shutdown that a connection was asked for, and the task that applies it.
#[derive(Debug, Default)]
pub(crate) struct ShutdownRequest {
    strength: AtomicU8,
    is_evicted: AtomicBool,
    waker: Mutex<Option<Waker>>,
}

impl ShutdownRequest {
    /// Asks for a shutdown. A stronger one that was asked for earlier stays in force.
    pub(crate) fn ask(&self, shutdown: Shutdown) {
        let strength = match shutdown {
            Shutdown::None => NONE,
            Shutdown::Graceful => GRACEFUL,
            Shutdown::Immediate => IMMEDIATE,
        };
        self.strength.fetch_max(strength, Relaxed);
        self.wake();
    }

    /// The shutdown that was asked for.
    pub(crate) fn asked(&self) -> Shutdown {
        match self.strength.load(Relaxed) {
            NONE => Shutdown::None,
            GRACEFUL => Shutdown::Graceful,
            _ => Shutdown::Immediate,
        }
    }

    /// Asks the connection to end for another one, unless a request has started meanwhile.
    pub(crate) fn evict(&self) {
        self.is_evicted.store(true, Relaxed);
        self.wake();
    }

    /// Returns true if the connection was asked to end for another one.
    pub(crate) fn is_evicted(&self) -> bool {
        self.is_evicted.load(Relaxed)
    }

    /// Waits until the connection is evicted.
    pub(crate) async fn evicted(&self) {
        poll_fn(|context| {
            self.register(context.waker());
            if self.is_evicted() { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }

    /// Stores the waker of the task that drives the connection.
    pub(crate) fn register(&self, waker: &Waker) {
        let mut slot = self.waker.lock().unwrap_or_else(PoisonError::into_inner);
        if !slot.as_ref().is_some_and(|known| known.will_wake(waker)) {
            *slot = Some(waker.clone());
        }
    }

    /// Wakes the task that drives the connection.
    pub(crate) fn wake(&self) {
        if let Some(waker) = self.waker.lock().unwrap_or_else(PoisonError::into_inner).as_ref() {
            waker.wake_by_ref();
        }
    }
}

// The values of `strength` in its atomic.
const NONE: u8 = 0;
const GRACEFUL: u8 = 1;
const IMMEDIATE: u8 = 2;
