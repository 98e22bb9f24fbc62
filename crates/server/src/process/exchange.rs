//! One exchange on the public listener: limits, the handler, the response, and the log event.

use std::{
    convert::Infallible,
    future::{Future, poll_fn},
    panic::{AssertUnwindSafe, catch_unwind},
    pin::{Pin, pin},
    sync::Arc,
    task::Poll,
};

use http::{HeaderValue, Request, Response, header::CONNECTION};
use hyper::body::Incoming;
use tokio::time::Instant;

use crate::{
    process::{
        connection::{OpenRequest, RequestBody, closes_after},
        state::ProcessState,
    },
    request::{
        client_address::client_address, handle::handle, reason::Reason, received::Received, record::Record,
        refusal::Refusal, reply::ReplyBody, sender::Sender,
    },
    wall_clock::wall_clock,
};

/// Responds to one request of a connection from `address`, and logs it. A panic ends this request and no
/// other.
///
/// It owns its arguments, and is the service of hyper as it is: hyper moves the future, so a future around it
/// would be copied for each request.
pub(crate) async fn respond(
    state: Arc<ProcessState>,
    request: Request<Incoming>,
    open: OpenRequest,
    sender: Sender,
) -> Result<Response<ReplyBody>, Infallible> {
    let (parts, incoming) = request.into_parts();
    let mut body = RequestBody::new(incoming, &parts);
    let gateway = state.gateway.load_full();
    let sender = sender.seen_by(gateway.proxies.as_ref());
    let client = client_address(gateway.proxies.as_ref(), sender.address, &parts.headers);
    let mut received = Received::new(parts, &mut body, sender, Instant::now(), wall_clock());
    let mut record =
        Record::new(Arc::clone(&gateway.metrics), Arc::clone(&gateway.observed), &received, client);
    if let Some(tracer) = &gateway.tracer {
        record.trace(tracer, &mut received);
    }
    let in_flight = gateway.metrics.start_request();
    let handled = if in_flight.count() > gateway.limits.in_flight {
        Err(Refusal::new(Reason::TooManyInFlight))
    } else {
        catch_panic(pin!(handle(&gateway, received, &mut record))).await
    };
    let (outcome, refusal) = match &handled {
        Ok(reply) => (reply.outcome(), reply.reason().map(|reason| (reason, None))),
        Err(refusal) => (refusal.outcome, Some((refusal.reason, refusal.message().map(str::to_owned)))),
    };
    let mut response = match handled {
        Ok(reply) => reply.into_response(),
        Err(refusal) => refusal.into_response(),
    };
    record.share(&mut response, outcome, refusal.as_ref().map(|(reason, _)| *reason));
    record.echo(response.headers_mut());
    if record.is_authenticated() {
        open.authenticate();
    }
    if closes_after(response.status(), &mut body, &open).await || gateway.is_draining() {
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    response.body_mut().hold(open, in_flight);
    let refusal = refusal.as_ref().map(|(reason, text)| (*reason, text.as_deref()));
    record.finish(response.status().as_u16(), outcome, refusal);
    Ok(response)
}

/// Runs a handler. A panic in it becomes a refusal; the panic hook has logged its place.
async fn catch_panic<T>(
    mut handler: Pin<&mut impl Future<Output = Result<T, Refusal>>>,
) -> Result<T, Refusal> {
    poll_fn(|context| {
        catch_unwind(AssertUnwindSafe(|| handler.as_mut().poll(context)))
            .unwrap_or_else(|_| Poll::Ready(Err(Refusal::new(Reason::Panic))))
    })
    .await
}
