//! A request of the platform. A test may replace each part of it.

use super::WEBHOOK;

#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) method: String,
    pub(crate) target: String,
    pub(crate) fields: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Request {
    /// A POST like those of the platform.
    pub(crate) fn post(target: &str, token: &str, body: impl Into<Vec<u8>>) -> Self {
        let request =
            Self { method: "POST".into(), target: target.into(), fields: Vec::new(), body: body.into() };
        request
            .with("Host", "emea.bots.example")
            .with("Authorization", &format!("Bearer {token}"))
            .with("User-Agent", "Microsoft-Skype/3.0,(Calling/1.0)")
            .with("Accept", "application/json")
            .with("Content-Type", "application/json")
    }

    pub(crate) fn webhook(token: &str, body: impl Into<Vec<u8>>) -> Self {
        Self::post(WEBHOOK, token, body)
    }

    pub(crate) fn get(target: &str) -> Self {
        let request =
            Self { method: "GET".into(), target: target.into(), fields: Vec::new(), body: Vec::new() };
        request.with("Host", "emea.bots.example")
    }

    pub(crate) fn with(mut self, name: &str, value: &str) -> Self {
        self.fields.push((name.into(), value.into()));
        self
    }

    pub(crate) fn without(mut self, name: &str) -> Self {
        self.fields.retain(|(found, _)| !found.eq_ignore_ascii_case(name));
        self
    }

    pub(crate) fn replace(self, name: &str, value: &str) -> Self {
        self.without(name).with(name, value)
    }

    pub(crate) fn method(mut self, method: &str) -> Self {
        self.method = method.into();
        self
    }

    pub(crate) fn target(mut self, target: &str) -> Self {
        self.target = target.into();
        self
    }

    /// Returns the bytes of the request, with a `Content-Length` unless the test has set the framing itself.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        let framed = |(name, _): &(String, String)| {
            name.eq_ignore_ascii_case("content-length") || name.eq_ignore_ascii_case("transfer-encoding")
        };
        let mut head = format!("{} {} HTTP/1.1\r\n", self.method, self.target);
        for (name, value) in &self.fields {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        if !self.fields.iter().any(framed) && (self.method != "GET" || !self.body.is_empty()) {
            head.push_str(&format!("Content-Length: {}\r\n", self.body.len()));
        }
        head.push_str("\r\n");
        [head.as_bytes(), &self.body].concat()
    }
}
