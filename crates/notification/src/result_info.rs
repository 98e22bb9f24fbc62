//! `ResultInfo`: the result of a call or an operation.

use serde::de::MapAccess;

use crate::json::{self, Receive};

/// `resultInfo`. The platform sends the codes as numbers or as strings.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ResultInfo {
    /// `code`
    pub code: Option<i64>,
    /// `subcode`; one published body spells it `subCode`
    pub subcode: Option<i64>,
}

impl<'de> Receive<'de> for ResultInfo {
    fn member<M: MapAccess<'de>>(&mut self, name: &str, map: &mut M) -> Result<(), M::Error> {
        match name {
            "code" => self.code = json::integer(map)?,
            "subcode" | "subCode" => self.subcode = json::integer(map)?,
            _ => json::skip(map)?,
        }
        Ok(())
    }
}
