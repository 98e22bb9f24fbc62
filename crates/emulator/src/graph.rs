//! The Graph calls API, as far as a bot needs it to take a call: answer, reject, redirect, keep alive, report
//! the recording status, get, hang up.

mod action;
mod bearer;
mod body;
mod calls;
mod decision;
mod live_call;
mod refusal;

pub(crate) use self::{
    bearer::Issued,
    calls::{Calls, Gate},
    decision::{AnswerRequest, CallInput, Decision},
    live_call::StepRefused,
    refusal::CODES,
};
