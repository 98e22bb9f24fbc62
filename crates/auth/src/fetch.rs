//! All that this crate asks of the network.

use std::pin::Pin;

use bytes::Bytes;
use url::Url;

/// All that this crate asks of the network: one GET. The implementation follows no redirects, checks the
/// certificate, returns only the body of a 200, reads at most `bytes_max` bytes, and gives up after its own
/// time limits.
pub trait Fetch: Send + Sync + 'static {
    /// The body at `url`.
    fn get(
        &self,
        url: &Url,
        bytes_max: usize,
    ) -> Pin<Box<dyn Future<Output = Result<Bytes, FetchError>> + Send + '_>>;
}

/// Why a fetch failed: `kind` is a stable label for metrics ("connect", "status", …), `detail` is for the
/// log.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{detail}")]
pub struct FetchError {
    /// A stable label.
    pub kind: &'static str,
    /// For the log; no text from the network unescaped.
    pub detail: String,
}
