//! The requests of a bot in its calls, from code: operations, transfers, and new calls.

use std::time::SystemTime;

use serde::Serialize;
use tokio::time::Instant;
use uuid::Uuid;

use super::Calls;
use crate::{
    CallbackUri, CreatedCall, GraphCallId, GraphError, GraphMethod, GraphOperation, GraphRefusal, NewCall,
    Operation, ParticipantId, Transfer, address::calls_url, call_request::CallRequest,
    refusal::BODY_BYTES_MAX,
};

impl Calls {
    /// Starts an operation in the call. It does not wait for the end: Graph notifies the bot of that.
    ///
    /// # Errors
    ///
    /// As for [`Calls::act`].
    pub async fn operate(
        &self,
        tenant: Uuid,
        call: &GraphCallId,
        operation: &Operation,
        deadline: Instant,
        now: SystemTime,
    ) -> Result<GraphOperation, GraphError> {
        let path = operation.path();
        let request = self.request(GraphMethod::Post, call, Some(&path), json(operation));
        let response = self.send(tenant, &request, deadline, now).await?;
        Ok(GraphOperation::read(response.whole_body(BODY_BYTES_MAX)))
    }

    /// Transfers the call.
    ///
    /// # Errors
    ///
    /// As for [`Calls::act`].
    pub async fn transfer(
        &self,
        tenant: Uuid,
        call: &GraphCallId,
        transfer: &Transfer,
        deadline: Instant,
        now: SystemTime,
    ) -> Result<(), GraphError> {
        let request = self.request(GraphMethod::Post, call, Some("transfer"), json(transfer));
        self.send(tenant, &request, deadline, now).await.map(|_| ())
    }

    /// Removes a participant from the call.
    ///
    /// # Errors
    ///
    /// As for [`Calls::act`].
    pub async fn remove_participant(
        &self,
        tenant: Uuid,
        call: &GraphCallId,
        participant: &ParticipantId,
        deadline: Instant,
        now: SystemTime,
    ) -> Result<(), GraphError> {
        let path = participant.path();
        let request = self.request(GraphMethod::Delete, call, Some(&path), Vec::new());
        self.send(tenant, &request, deadline, now).await.map(|_| ())
    }

    /// Places a call, or joins a meeting, in `tenant`. The platform posts the notifications of the call to
    /// `callback`. The request is not repeated if its outcome is unknown: a person would be called twice.
    ///
    /// # Errors
    ///
    /// As for [`Calls::act`], and if the response contains no id of a call.
    pub async fn create(
        &self,
        tenant: Uuid,
        new: &NewCall,
        callback: &CallbackUri,
        deadline: Instant,
        now: SystemTime,
    ) -> Result<CreatedCall, GraphError> {
        let body = new.body(callback, tenant).to_string().into_bytes();
        let request = CallRequest::new(GraphMethod::Post, calls_url(&self.endpoint), body);
        let response = self.send(tenant, &request, deadline, now).await?;
        let created = CreatedCall::read(&response, BODY_BYTES_MAX);
        created.ok_or_else(|| GraphError::Refused(GraphRefusal::unexpected(&response)))
    }
}

/// Returns `request` as JSON.
fn json(request: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(request).expect("the requests have string keys only, and their values never fail")
}
