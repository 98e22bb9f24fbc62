//! The body of a request: bounded in bytes and in time, and all of them together in memory.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::body::Body;

use crate::{
    process::connection::RequestBody,
    request::{reason::Reason, refusal::Refusal},
};

/// The bounds of one body.
#[derive(Debug)]
pub(crate) struct BodyLimits<'g> {
    pub(crate) bytes_max: usize,
    /// From the end of the head to the end of the body.
    pub(crate) time: Duration,
    pub(crate) memory: &'g Arc<BodyMemory>,
    pub(crate) memory_bytes_max: usize,
}

/// The memory of all bodies of the process. It outlives a reload.
#[derive(Debug, Default)]
pub(crate) struct BodyMemory {
    bytes: AtomicUsize,
}

impl BodyMemory {
    /// Returns the bytes of all bodies in memory, those announced by `Content-Length` included.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes.load(Relaxed)
    }
}

/// The memory of one body, until it is dropped.
#[derive(Debug)]
struct Reserved {
    memory: Arc<BodyMemory>,
    bytes: usize,
}

impl Reserved {
    fn new(memory: &Arc<BodyMemory>) -> Self {
        Self { memory: Arc::clone(memory), bytes: 0 }
    }

    /// Reserves `bytes` in all, if no more than `bytes_max` are then reserved for all bodies together.
    fn grow_to(&mut self, bytes: usize, bytes_max: usize) -> Result<(), Refusal> {
        let more = bytes.saturating_sub(self.bytes);
        let before = self.memory.bytes.fetch_add(more, Relaxed);
        self.bytes += more;
        if before.saturating_add(more) > bytes_max {
            // Dropping the value gives the bytes back.
            return Err(Refusal::new(Reason::TooManyBodyBytes));
        }
        Ok(())
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        self.memory.bytes.fetch_sub(self.bytes, Relaxed);
    }
}

/// A body that was read whole. Its memory is reserved until the last clone of its bytes is dropped.
struct WholeBody {
    bytes: Bytes,
    _reserved: Reserved,
}

impl AsRef<[u8]> for WholeBody {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

/// Reads all data frames. Trailers are dropped (RFC 9110 section 6.5.1).
pub(crate) async fn read(body: &mut RequestBody, limits: BodyLimits<'_>) -> Result<Bytes, Refusal> {
    let announced = body.size_hint().lower();
    let announced = usize::try_from(announced).ok().filter(|bytes| *bytes <= limits.bytes_max);
    let announced = announced.ok_or_else(too_large)?;
    if body.is_end_stream() {
        return Ok(Bytes::new());
    }
    let mut reserved = Reserved::new(limits.memory);
    reserved.grow_to(announced, limits.memory_bytes_max)?;
    let read = async {
        // A notification nearly always comes in one frame, which is passed on without a copy.
        let mut first = Bytes::new();
        let mut whole = BytesMut::new();
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|_| Refusal::new(Reason::BodyBrokenOff))?;
            let Ok(data) = frame.into_data() else { continue };
            let bytes = first.len() + whole.len() + data.len();
            if bytes > limits.bytes_max {
                return Err(too_large());
            }
            // A body without `Content-Length` grows as it arrives.
            reserved.grow_to(bytes, limits.memory_bytes_max)?;
            if first.is_empty() && whole.is_empty() {
                first = data;
            } else {
                if whole.is_empty() {
                    // One allocation for a body that announced its length.
                    whole.reserve(announced.max(bytes));
                }
                whole.extend_from_slice(&std::mem::take(&mut first));
                whole.extend_from_slice(&data);
            }
        }
        Ok(if whole.is_empty() { first } else { whole.freeze() })
    };
    // `timeout` polls the body first. If the body came with the head, no timer is armed.
    let bytes = tokio::time::timeout(limits.time, read)
        .await
        .unwrap_or_else(|_| Err(Refusal::new(Reason::BodyTooSlow)))?;
    Ok(Bytes::from_owner(WholeBody { bytes, _reserved: reserved }))
}

fn too_large() -> Refusal {
    Refusal::new(Reason::BodyTooLarge)
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;

    proptest! {
        /// Whatever bodies grow and end, all admitted ones together stay within the bound, and in the end
        /// nothing stays reserved.
        #[test]
        fn all_bodies_together_stay_within_the_bound(steps in vec((0_usize..8, 0_usize..2_000), 1..60)) {
            const BYTES_MAX: usize = 4_000;
            let memory = Arc::new(BodyMemory::default());
            let mut bodies: Vec<Option<Reserved>> = (0..8).map(|_| None).collect();
            for (at, bytes) in steps {
                let mut body = bodies[at].take().unwrap_or_else(|| Reserved::new(&memory));
                // A body of no further bytes ends.
                if bytes > body.bytes && body.grow_to(bytes, BYTES_MAX).is_ok() {
                    bodies[at] = Some(body);
                } else {
                    drop(body);
                }
                let admitted: usize = bodies.iter().flatten().map(|body| body.bytes).sum();
                prop_assert_eq!(memory.bytes(), admitted);
                prop_assert!(admitted <= BYTES_MAX);
            }
            drop(bodies);
            prop_assert_eq!(memory.bytes(), 0);
        }
    }
}
