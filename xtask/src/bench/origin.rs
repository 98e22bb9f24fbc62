//! A server on loopback that is both the issuer of the tokens and the bot: it serves key documents, and
//! responds to each POST with 202.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    thread,
};

use serde_json::json;

/// The server. Its threads end with this process.
pub(super) struct Origin {
    pub(super) address: SocketAddr,
}

impl Origin {
    /// Binds a free port and serves it.
    pub(super) fn start() -> Result<Self, String> {
        let text = |error: std::io::Error| format!("cannot serve on loopback: {error}");
        let listener = TcpListener::bind(("127.0.0.1", 0)).map_err(text)?;
        let address = listener.local_addr().map_err(text)?;
        thread::spawn(move || {
            while let Ok((stream, _)) = listener.accept() {
                // A connection that fails is closed, and its request fails at the sender.
                thread::spawn(move || serve(stream, address));
            }
        });
        Ok(Self { address })
    }
}

/// Responds to the requests of one connection. `None` is its end.
fn serve(stream: TcpStream, address: SocketAddr) -> Option<()> {
    stream.set_nodelay(true).ok()?;
    let mut stream = BufReader::new(stream);
    let (mut line, mut body) = (String::new(), Vec::new());
    loop {
        line.clear();
        stream.read_line(&mut line).ok().filter(|count| *count > 0)?;
        let mut words = line.split(' ');
        let (method, target) = (words.next()?.to_owned(), words.next()?.to_owned());
        let mut length = 0;
        loop {
            line.clear();
            stream.read_line(&mut line).ok().filter(|count| *count > 0)?;
            let Some((name, value)) = line.split_once(':') else { break };
            if name.eq_ignore_ascii_case("content-length") {
                length = value.trim().parse().ok()?;
            }
        }
        body.resize(length, 0);
        stream.read_exact(&mut body).ok()?;
        let response = if method == "POST" { ACCEPTED.to_owned() } else { document(&target, address) };
        stream.get_mut().write_all(response.as_bytes()).ok()?;
    }
}

/// The response to a request for metadata or keys.
fn document(target: &str, address: SocketAddr) -> String {
    let text = match target {
        "/skype/keys" => SKYPE_KEYS.to_owned(),
        "/entra/keys" => ENTRA_KEYS.to_owned(),
        "/skype/metadata" => metadata("https://api.botframework.com", "skype", address),
        "/entra/metadata" => metadata("https://login.microsoftonline.com/{tenantid}/v2.0", "entra", address),
        _ => return "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n".to_owned(),
    };
    let length = text.len();
    format!("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n{text}")
}

fn metadata(issuer: &str, trust: &str, address: SocketAddr) -> String {
    json!({
        "issuer": issuer,
        "jwks_uri": format!("http://{address}/{trust}/keys"),
        "id_token_signing_alg_values_supported": ["RS256"],
    })
    .to_string()
}

const ACCEPTED: &str = "HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n";
const SKYPE_KEYS: &str = include_str!("../../../fixtures/jwks/skype.json");
const ENTRA_KEYS: &str = include_str!("../../../fixtures/jwks/entra.json");
