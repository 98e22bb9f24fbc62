//! The prompts of a media operation: fetched and checked before they are played.

use std::time::Duration;

use bytes::Bytes;
use http::{Request, StatusCode, header};
use url::Url;

use crate::{
    client::{Client, KeepAlive, SendError},
    operation::OperationResult,
    wav::{self, InvalidSound},
};

/// Fetches all prompts and returns their length.
pub(super) async fn fetch(client: Client, prompts: Vec<Url>) -> Result<Duration, PromptError> {
    let mut length = Duration::ZERO;
    for prompt in prompts {
        let request = Request::get("/").header(header::ACCEPT, "audio/wav, */*;q=0.1").body(Bytes::new());
        let request =
            request.map_err(|_| PromptError::Fetch { prompt: prompt.clone(), error: SendError::BadUrl })?;
        let response = client.send(request, &prompt, FETCH_TIME_MAX, KeepAlive::Off).await;
        let response = response.map_err(|error| PromptError::Fetch { prompt: prompt.clone(), error })?;
        if response.status != StatusCode::OK {
            return Err(PromptError::Status { prompt, status: response.status });
        }
        length += wav::length(&response.body).map_err(|error| PromptError::Sound { prompt, error })?;
    }
    Ok(length)
}

/// A prompt cannot be played.
#[derive(Debug, thiserror::Error)]
pub(super) enum PromptError {
    #[error("{prompt} could not be downloaded: {error}")]
    Fetch { prompt: Url, error: SendError },
    #[error("{prompt} could not be downloaded: the response was {status}")]
    Status { prompt: Url, status: StatusCode },
    #[error("{prompt} cannot be played: {error}")]
    Sound { prompt: Url, error: InvalidSound },
}

impl PromptError {
    /// Returns the result of the operation. Graph does not document the subcodes; Azure Communication
    /// Services documents them for the same media service.
    pub(super) fn result(&self) -> OperationResult {
        let (code, subcode) = match self {
            Self::Fetch { .. } | Self::Status { .. } => (400, 8_536),
            Self::Sound { .. } => (400, 8_535),
        };
        let result = OperationResult::new(code, subcode, format!("Action failed, {self}."));
        OperationResult { reason: Some("playPromptFailed"), ..result }
    }
}

const FETCH_TIME_MAX: Duration = Duration::from_secs(10);
