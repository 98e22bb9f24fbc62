//! The `Fetch` trait: the network as this crate sees it.

use std::pin::Pin;

use bytes::Bytes;
use url::Url;

/// The network as this crate sees it: one GET at a time. An implementation follows no redirects, checks the
/// certificate, returns the body of a 200 only, reads at most `bytes_max` bytes, and has time limits of its
/// own.
pub trait Fetch: Send + Sync + 'static {
    /// Returns the body at `url`.
    ///
    /// # Errors
    ///
    /// There is no complete body of a 200 within the limits.
    fn get(
        &self,
        url: &Url,
        bytes_max: usize,
    ) -> Pin<Box<dyn Future<Output = Result<Bytes, FetchError>> + Send + '_>>;
}

/// An error of a fetch. `kind` is for metrics ("connect", "status", …), `detail` is for the log.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{detail}")]
pub struct FetchError {
    /// A stable label. [`FetchError::UNTRUSTED`] has a meaning here; the others are the implementation's.
    pub kind: &'static str,
    /// The text for the log. Text from the network in it is escaped.
    pub detail: String,
}

impl FetchError {
    /// The kind of a fetch that failed because no trusted authority vouches for the endpoint. If the
    /// authorities have changed, the keys that the former ones vouched for are then dropped.
    pub const UNTRUSTED: &'static str = "untrusted";
}
