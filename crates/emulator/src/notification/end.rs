//! The body that ends a call, with its result.

use serde_json::{Value, json};

use super::{
    ids::CallIds,
    parts::{item, object, result_info},
};
use crate::operation::OperationResult;

/// The end of a call, as `resultInfo` describes it (Graph reference, "call: delete").
#[derive(Clone, Debug)]
pub(crate) enum ResultInfo {
    OtherSideEnded,
    EndedByBot,
    NotAnswered,
    RejectedByBot,
    /// The callee of the bot's call is busy. The reference has no code for it: this one is SIP's.
    CalleeBusy,
    CalleeRejected,
    CalleeSilent,
    CalleeNotFound,
    /// Another user has the call now. The published sample says only that the call ended.
    RedirectedByBot,
    /// The bot handed the call to another callee.
    Transferred,
    /// A script gives the values.
    Scripted {
        code: u32,
        subcode: u32,
        message: String,
    },
}

impl ResultInfo {
    /// Returns the result as that of an operation.
    pub(crate) fn operation_result(&self) -> OperationResult {
        let (code, subcode, message) = self.parts();
        OperationResult::new(code, subcode, message)
    }

    fn to_json(&self) -> Value {
        let (code, subcode, message) = self.parts();
        result_info(code, subcode, message)
    }

    fn parts(&self) -> (u32, u32, &str) {
        match self {
            Self::OtherSideEnded => (200, 4_521, "The other side ended the call."),
            Self::EndedByBot => (200, 10_550, "The call was ended by the bot."),
            Self::NotAnswered => (408, 8_544, "Callee could not be reached."),
            Self::RejectedByBot => (603, 0, "The call was rejected."),
            Self::CalleeBusy => (486, 0, "The callee is busy."),
            Self::CalleeRejected => (603, 0, "The call was rejected by the callee."),
            Self::CalleeSilent => (408, 10_057, "Call timed out due to no signaling from callee endpoints."),
            Self::CalleeNotFound => (480, 10_037, "No callee endpoints were found."),
            Self::RedirectedByBot => (200, 0, "The call was redirected by the bot."),
            Self::Transferred => (0, 7_015, "GracefulTransferCompleted"),
            Self::Scripted { code, subcode, message } => (*code, *subcode, message.as_str()),
        }
    }
}

/// The body that reports the end of a call.
pub(crate) fn terminated(ids: &CallIds, result: &ResultInfo) -> Value {
    let mut resource =
        object(json!({"@odata.type": "#microsoft.graph.call", "resultInfo": result.to_json()}));
    match result {
        // The published sample of a rejected call has no state.
        ResultInfo::RejectedByBot => {}
        ResultInfo::OtherSideEnded
        | ResultInfo::EndedByBot
        | ResultInfo::NotAnswered
        | ResultInfo::RedirectedByBot
        | ResultInfo::Transferred
        | ResultInfo::CalleeBusy
        | ResultInfo::CalleeRejected
        | ResultInfo::CalleeSilent
        | ResultInfo::CalleeNotFound
        | ResultInfo::Scripted { .. } => {
            resource.insert("state".to_owned(), "terminated".into());
        }
    }
    item("deleted", ids, "", Value::Object(resource))
}
