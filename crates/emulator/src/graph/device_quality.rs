//! `logTeleconferenceDeviceQuality`: a report about a call that names no call in its path.

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use serde_json::Value;

use super::{
    bearer::{BearerApp, Gate},
    refusal::{self, GraphRefusal},
};
use crate::server::{Body, empty};

/// Accepts a report (Graph reference, "call: logTeleconferenceDeviceQuality").
pub(crate) fn log_device_quality(request: &Request<Bytes>, gate: Gate<'_>) -> Response<Body> {
    if request.method() != Method::POST {
        return refusal::wrong_method(request, "POST", gate.now);
    }
    match read(request, gate) {
        Ok(()) => empty(StatusCode::OK),
        Err(refusal) => refusal.response(request, gate.now),
    }
}

fn read(request: &Request<Bytes>, gate: Gate<'_>) -> Result<(), GraphRefusal> {
    if let Some(issued) = gate.issued {
        BearerApp::read(request.headers(), issued, gate.now)?;
    }
    let body: Value =
        serde_json::from_slice(request.body()).map_err(|error| GraphRefusal::BadBody(error.to_string()))?;
    match body.get("quality") {
        Some(Value::Object(_)) => Ok(()),
        _ => {
            let what = "quality must be a teleconferenceDeviceQuality object".to_owned();
            Err(GraphRefusal::BadBody(what))
        }
    }
}
