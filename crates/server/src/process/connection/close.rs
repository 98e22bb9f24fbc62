//! The decision after each response: whether the connection closes.

use http::StatusCode;

use crate::process::connection::{activity::OpenRequest, request_body::RequestBody};

/// Returns true if the connection closes after the response with `status`, which then has to announce it.
pub(crate) async fn closes_after(status: StatusCode, body: &mut RequestBody, open: &OpenRequest) -> bool {
    // A client without an authenticated sender so far, which has just sent a wrong request, keeps no slot. An
    // error of the gateway is not its fault.
    let is_unwelcome = status.is_client_error() && !open.is_authenticated();
    if is_unwelcome || !body.discard_arrived().await {
        open.close_connection();
        return true;
    }
    open.is_last()
}
