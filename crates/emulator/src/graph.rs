//! The Graph calls API, as far as a bot needs it to take a call: answer, reject, redirect, keep alive, report
//! the recording status, get, hang up.

mod action;
mod bearer;
mod body;
mod calls;
mod decision;
mod device_quality;
mod live_call;
mod media;
mod operation;
mod refusal;
mod response_ids;

pub(crate) use self::{
    bearer::Issued,
    calls::{Calls, Gate},
    decision::{
        AnswerRequest, CallInput, Decision, MediaRequest, OperationEffect, RecordRequest, StartedOperation,
    },
    device_quality::{is_device_quality, log_device_quality},
    live_call::StepRefused,
    refusal::CODES,
};
