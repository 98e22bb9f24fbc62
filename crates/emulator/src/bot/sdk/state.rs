//! The state of a bot on the calling SDK.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde_json::Value;
use url::Url;

use super::{calls::SdkCalls, request::Arguments, token::TokenValidator};
use crate::{
    bot::behaviour::{ClientCredentials, SdkBehaviour},
    client::Client,
};

/// The calls, the validator and the settings.
#[derive(Debug)]
pub(in crate::bot) struct SdkState {
    calls: Mutex<SdkCalls>,
    pub(super) validator: Arc<TokenValidator>,
    pub(super) client: Client,
    pub(super) platform: Url,
    pub(super) app: String,
    /// The names of the requests that follow when a call is established.
    pub(super) then: Vec<String>,
    pub(super) arguments: Arguments,
}

impl SdkState {
    pub(in crate::bot) fn new(
        behaviour: &SdkBehaviour,
        credentials: Option<&ClientCredentials>,
        platform: Url,
        client: Client,
    ) -> Self {
        let app = credentials.map(|credentials| credentials.app.clone()).unwrap_or_default();
        Self {
            calls: Mutex::default(),
            validator: Arc::new(TokenValidator::new(app.clone(), platform.clone(), client.clone())),
            client,
            platform,
            app,
            then: behaviour.then.clone(),
            arguments: behaviour.arguments.clone(),
        }
    }

    /// The calls that the SDK knows, as `GET /sdk/calls` shows them.
    pub(in crate::bot) fn show(&self) -> Value {
        self.calls().show()
    }

    pub(super) fn calls(&self) -> MutexGuard<'_, SdkCalls> {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
