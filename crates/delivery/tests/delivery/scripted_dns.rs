//! A DNS server that does as a script says, over UDP.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
};

use hickory_server::proto::{
    op::{Message, OpCode, ResponseCode},
    rr::{DNSClass, RData, Record, RecordType},
};
use tokio::{net::UdpSocket, task::JoinHandle};

/// A query as it arrived.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct DnsQuery {
    /// The name in lower case, with its final dot.
    pub(crate) name: String,
    pub(crate) kind: RecordType,
    /// True if it has an OPT record.
    pub(crate) edns: bool,
}

/// The action on a query.
#[derive(Clone, Debug)]
pub(crate) enum DnsReply {
    /// These records, with this TTL.
    Records(u32, Vec<RData>),
    /// This code, and no record.
    Code(ResponseCode),
    /// A header with this code, without the question.
    HeaderOnly(ResponseCode),
    /// No response.
    Silence,
}

/// A listening DNS server. Stops when it is dropped.
pub(crate) struct ScriptedDns {
    pub(crate) address: SocketAddr,
    asked: Arc<Mutex<Vec<DnsQuery>>>,
    task: JoinHandle<()>,
}

impl ScriptedDns {
    pub(crate) async fn new(script: impl Fn(&DnsQuery) -> DnsReply + Send + Sync + 'static) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let address = socket.local_addr().unwrap();
        let asked = Arc::new(Mutex::default());
        let task = tokio::spawn(serve(socket, script, Arc::clone(&asked)));
        Self { address, asked, task }
    }

    pub(crate) fn asked(&self) -> Vec<DnsQuery> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for ScriptedDns {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(
    socket: UdpSocket,
    script: impl Fn(&DnsQuery) -> DnsReply + Send + 'static,
    asked: Arc<Mutex<Vec<DnsQuery>>>,
) {
    let mut buffer = [0; 4096];
    loop {
        let (length, sender) = socket.recv_from(&mut buffer).await.unwrap();
        let query = Message::from_vec(&buffer[..length]).unwrap();
        let question = query.queries[0].clone();
        let seen = DnsQuery {
            name: question.name().to_ascii().to_lowercase(),
            kind: question.query_type(),
            edns: query.edns.is_some(),
        };
        let reply = script(&seen);
        asked.lock().unwrap_or_else(PoisonError::into_inner).push(seen);
        let mut response = Message::response(query.id, OpCode::Query);
        match reply {
            DnsReply::Records(ttl, records) => {
                for data in records {
                    let mut record = Record::from_rdata(question.name().clone(), ttl, data);
                    record.dns_class = DNSClass::IN;
                    response.add_answer(record);
                }
                response.add_query(question);
            }
            DnsReply::Code(code) => {
                response.metadata.response_code = code;
                response.add_query(question);
            }
            DnsReply::HeaderOnly(code) => response.metadata.response_code = code,
            DnsReply::Silence => continue,
        }
        let _ = socket.send_to(&response.to_vec().unwrap(), sender).await;
    }
}
