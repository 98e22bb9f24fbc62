//! `ResultInfo`: the result of a call or an operation.

use crate::json::{Malformed, Receive, Value};

/// `resultInfo`. The platform sends the codes as numbers or as strings.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ResultInfo {
    /// `code`
    pub code: Option<i64>,
    /// `subcode`; one published body spells it `subCode`
    pub subcode: Option<i64>,
}

impl<'a> Receive<'a> for ResultInfo {
    fn member(&mut self, name: &str, value: Value<'_, 'a>) -> Result<(), Malformed> {
        match name {
            "code" => self.code = value.integer()?,
            "subcode" | "subCode" => self.subcode = value.integer()?,
            _ => value.skip()?,
        }
        Ok(())
    }
}
