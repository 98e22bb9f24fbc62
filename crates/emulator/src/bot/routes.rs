//! The paths of a bot.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use serde::Serialize;
use tokio::time::sleep;

use super::{behaviour::FailureMode, instance::Instance, page::page, sdk, webhook};
use crate::{
    load::BotIdentity,
    server::{Body, Handle, empty, error_response, hang_up, json_response, method_not_allowed},
};

impl Handle for Instance {
    async fn handle(self: Arc<Self>, request: Request<Bytes>) -> Response<Body> {
        match (request.method(), request.uri().path()) {
            (&Method::POST, "/drain") => drain(&self, true),
            (&Method::POST, "/resume") => drain(&self, false),
            (&Method::POST, path) => match (&self.sdk, path.strip_prefix("/sdk/")) {
                (Some(state), Some(name)) => {
                    sdk::ask(&self, state, name, request.uri().query(), request.body()).await
                }
                _ => notification(&self, &request).await,
            },
            (&Method::GET | &Method::HEAD, "/healthz") => json_response(StatusCode::OK, &self.health()),
            (&Method::GET | &Method::HEAD, "/calls") => document(&self.calls()),
            (&Method::GET | &Method::HEAD, "/life") => {
                document(&BotIdentity { name: self.name.clone(), incarnation: self.incarnation })
            }
            (&Method::GET | &Method::HEAD, "/ledger") => document(&self.ledger().summary()),
            (&Method::GET | &Method::HEAD, "/sdk/calls") if self.sdk.is_some() => {
                json_response(StatusCode::OK, &self.sdk.as_ref().map(|sdk| sdk.show()).unwrap_or_default())
            }
            (&Method::GET | &Method::HEAD, "/") => page(&self.calls()),
            (&Method::GET | &Method::HEAD, _) => error_response(
                StatusCode::NOT_FOUND,
                "notFound",
                "no such path: the paths are /, /calls, /healthz, /ledger and /life",
            ),
            _ => method_not_allowed("GET, POST"),
        }
    }
}

/// Responds to a notification, or fails if the settings ask for it.
async fn notification(bot: &Arc<Instance>, request: &Request<Bytes>) -> Response<Body> {
    // Without a delay a bot acts before it notices that the sender hung up. Most bots do.
    if !bot.behaviour.delay.is_zero() {
        sleep(bot.behaviour.delay).await;
    }
    match bot.next_failure() {
        Some(FailureMode::Status(status)) => error_response(status, "asked", "this bot fails on request"),
        Some(FailureMode::Hang) => {
            sleep(HANG_TIME).await;
            hang_up()
        }
        Some(FailureMode::Reset) => hang_up(),
        None => match &bot.sdk {
            Some(state) => sdk::receive(bot, state, request).await,
            None => webhook::receive(bot, request),
        },
    }
}

fn drain(bot: &Instance, draining: bool) -> Response<Body> {
    bot.set_draining(draining);
    json_response(StatusCode::OK, &bot.health())
}

fn document(value: &impl Serialize) -> Response<Body> {
    match serde_json::to_value(value) {
        Ok(document) => json_response(StatusCode::OK, &document),
        Err(_) => empty(StatusCode::INTERNAL_SERVER_ERROR),
    }
}

/// Longer than the patience of any sender.
const HANG_TIME: Duration = Duration::from_secs(60);
