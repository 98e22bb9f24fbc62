//! A request and its response.

use std::sync::{Arc, atomic::AtomicBool};

use bytes::Bytes;
use http::Response;

use super::{
    connection::{SendError, UpstreamConnection},
    response_body::{ResponseBody, StreamedBody, release},
    response_head::{BodyLength, ResponseHead},
    slots::Slot,
};
use crate::headers::UpstreamRequest;

/// Sends a request, and waits for the head of the response.
///
/// `written` is set when the first byte is written. The connection returns to `slot` once the response is
/// read whole, if the upstream keeps it open. Dropping the future, or the body before its end, closes it.
pub(crate) async fn exchange(
    mut connection: UpstreamConnection,
    request: UpstreamRequest,
    written: &AtomicBool,
    slot: Option<&Arc<Slot>>,
) -> Result<Response<ResponseBody>, SendError> {
    let ResponseHead { status, headers, length, idle } = connection.send(request, written).await?;
    let body = match arrived_whole(&mut connection, length) {
        Some(bytes) => {
            release(connection, slot, idle);
            ResponseBody::Whole(bytes)
        }
        None => ResponseBody::Streamed(Box::new(StreamedBody::new(connection, length, slot.cloned(), idle))),
    };
    let mut response = Response::new(body);
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    Ok(response)
}

/// The body, if it arrived together with its head.
fn arrived_whole(connection: &mut UpstreamConnection, length: BodyLength) -> Option<Bytes> {
    let received = connection.received();
    match length {
        BodyLength::Exact(0) => Some(Bytes::new()),
        BodyLength::Exact(bytes) => {
            let bytes = usize::try_from(bytes).ok().filter(|bytes| *bytes <= received.len())?;
            Some(received.split_to(bytes).freeze())
        }
        BodyLength::Chunked | BodyLength::UntilClose => None,
    }
}

#[cfg(test)]
mod tests;
