//! The body of a request: bounded in bytes and in time, and all of them together in memory.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use bytes::Bytes;
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

impl BodyLimits<'_> {
    /// Makes a further body of `bytes` bytes, such as a part of one that was read. Its memory is reserved
    /// first, and until the last clone of the body is dropped.
    ///
    /// # Errors
    ///
    /// All bodies together would have too many bytes.
    pub(crate) fn make(&self, bytes: usize, make: impl FnOnce() -> Vec<u8>) -> Result<Bytes, Refusal> {
        let mut reserved = Reserved::new(self.memory);
        reserved.grow_to(bytes, self.memory_bytes_max)?;
        Ok(Bytes::from_owner(WholeBody { bytes: make().into(), _reserved: reserved }))
    }
}

/// The memory of all bodies of the process. It outlives a reload.
#[derive(Debug, Default)]
pub(crate) struct BodyMemory {
    bytes: AtomicUsize,
}

impl BodyMemory {
    /// Returns the bytes that all bodies take in memory, those announced by `Content-Length` included.
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
    let mut collected = CollectedBody::new(&limits, announced)?;
    let read = async {
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|_| Refusal::new(Reason::BodyBrokenOff))?;
            if let Ok(data) = frame.into_data() {
                collected.push(data)?;
            }
        }
        Ok(())
    };
    // `timeout` polls the body first. If the body came with the head, no timer is armed.
    let read = tokio::time::timeout(limits.time, read).await;
    read.unwrap_or_else(|_| Err(Refusal::new(Reason::BodyTooSlow)))?;
    Ok(collected.finish())
}

/// The frames of a body that have arrived. All memory that it allocates is reserved first.
struct CollectedBody<'g> {
    limits: &'g BodyLimits<'g>,
    announced: usize,
    /// A notification nearly always comes in one frame, which is passed on without a copy.
    first: Bytes,
    /// All frames, if there are more.
    whole: Vec<u8>,
    reserved: Reserved,
}

impl<'g> CollectedBody<'g> {
    /// A body of `announced` bytes, or of 0 if it does not announce its length.
    fn new(limits: &'g BodyLimits<'g>, announced: usize) -> Result<Self, Refusal> {
        let mut reserved = Reserved::new(limits.memory);
        reserved.grow_to(announced, limits.memory_bytes_max)?;
        Ok(Self { limits, announced, first: Bytes::new(), whole: Vec::new(), reserved })
    }

    fn push(&mut self, data: Bytes) -> Result<(), Refusal> {
        let bytes = self.first.len() + self.whole.len() + data.len();
        if bytes > self.limits.bytes_max {
            return Err(too_large());
        }
        if self.first.is_empty() && self.whole.is_empty() {
            self.reserved.grow_to(bytes, self.limits.memory_bytes_max)?;
            self.first = data;
            return Ok(());
        }
        if bytes > self.whole.capacity() {
            // One allocation for a body that announced its length. Twice the room for another one, so that it
            // is not copied for each frame, but no more than it may have: one body always fits.
            let room = self.whole.capacity().saturating_mul(2).max(bytes);
            let room = room.min(self.limits.bytes_max).max(self.announced);
            self.reserved.grow_to(room, self.limits.memory_bytes_max)?;
            self.whole.reserve_exact(room.saturating_sub(self.whole.len()));
        }
        self.whole.extend_from_slice(&std::mem::take(&mut self.first));
        self.whole.extend_from_slice(&data);
        Ok(())
    }

    fn finish(self) -> Bytes {
        let bytes = if self.whole.is_empty() { self.first } else { self.whole.into() };
        Bytes::from_owner(WholeBody { bytes, _reserved: self.reserved })
    }
}

fn too_large() -> Refusal {
    Refusal::new(Reason::BodyTooLarge)
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;

    proptest! {
        /// Whatever frames a body comes in, the memory that it takes is reserved, it is within the bound of
        /// one body, and its bytes are those of the frames.
        #[test]
        fn a_body_reserves_all_memory_that_it_takes(
            frames in vec(0_usize..300, 0..40),
            is_announced in any::<bool>(),
            bytes_max in 1_000_usize..8_000,
        ) {
            let memory = Arc::new(BodyMemory::default());
            let time = Duration::ZERO;
            // A single body always fits.
            let limits = BodyLimits { bytes_max, time, memory: &memory, memory_bytes_max: bytes_max };
            let sum: usize = frames.iter().sum();
            let announced = if is_announced { sum.min(bytes_max) } else { 0 };
            let mut body = CollectedBody::new(&limits, announced).unwrap();
            let mut expected = Vec::new();
            for (frame, byte) in frames.into_iter().zip(0..) {
                let data = vec![byte; frame];
                if expected.len() + frame > bytes_max {
                    prop_assert!(body.push(data.into()).is_err());
                    break;
                }
                expected.extend_from_slice(&data);
                prop_assert!(body.push(data.into()).is_ok());
                prop_assert!(memory.bytes() >= body.whole.capacity().max(body.first.len()));
                prop_assert!(memory.bytes() <= bytes_max);
            }
            let bytes = body.finish();
            prop_assert_eq!(&bytes, &expected);
            prop_assert!(memory.bytes() >= bytes.len());
            let clone = bytes.clone();
            drop(bytes);
            prop_assert!(memory.bytes() >= clone.len());
            drop(clone);
            prop_assert_eq!(memory.bytes(), 0);
        }

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
