//! `Written`: a default value in the form in which the file would write it.

use std::{net::SocketAddr, time::Duration};

use serde_json::Value;

use super::unit;

/// A default, as the file would write it.
pub(super) trait Written {
    fn written(&self) -> Value;
}

impl Written for bool {
    fn written(&self) -> Value {
        Value::from(*self)
    }
}

impl Written for u32 {
    fn written(&self) -> Value {
        Value::from(*self)
    }
}

impl Written for u64 {
    fn written(&self) -> Value {
        Value::from(*self)
    }
}

impl Written for usize {
    fn written(&self) -> Value {
        Value::from(*self)
    }
}

impl Written for f64 {
    fn written(&self) -> Value {
        Value::from(*self)
    }
}

impl Written for String {
    fn written(&self) -> Value {
        Value::from(self.as_str())
    }
}

impl Written for Box<str> {
    fn written(&self) -> Value {
        Value::from(&**self)
    }
}

impl Written for SocketAddr {
    fn written(&self) -> Value {
        Value::from(self.to_string())
    }
}

impl Written for Duration {
    fn written(&self) -> Value {
        Value::from(unit::show(*self))
    }
}
