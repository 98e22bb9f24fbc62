//! The Graph calls API, as far as a bot needs it to take a call: answer, reject, redirect, keep alive, report
//! the recording status, get, hang up. Several requests can come in one batch.

mod action;
mod batch;
mod bearer;
mod body;
mod calls;
mod create;
mod decision;
mod device_quality;
mod headers;
mod live_call;
mod media;
mod operation;
mod participants;
mod refusal;
mod resources;
mod transfer;

pub(crate) use self::{
    batch::Batch,
    bearer::{Gate, Issued},
    calls::Calls,
    create::{CreateRequest, outgoing_document},
    decision::{
        AnswerRequest, BotChange, CallInput, Decision, MediaRequest, OperationEffect, ParticipantChange,
        RecordRequest, StartedOperation,
    },
    device_quality::log_device_quality,
    headers::add_graph_headers,
    live_call::StepRefused,
    refusal::{CODES, unknown_segment, wrong_method},
};
