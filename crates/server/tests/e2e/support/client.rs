//! The platform's end of a connection: bytes go out as they are given, answers are read to their end.

use std::{net::SocketAddr, time::Duration};

use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader},
    net::TcpStream,
    time::Instant,
};

use super::{
    http::{Kind, Message},
    soon,
};

pub(crate) type Response = Message;

#[derive(Debug)]
pub(crate) struct Client<S = TcpStream> {
    stream: BufReader<S>,
    opened: Instant,
}

impl Client {
    pub(crate) async fn connect(address: SocketAddr) -> Self {
        let stream = soon("connect", TcpStream::connect(address)).await.unwrap();
        stream.set_nodelay(true).unwrap();
        Self::over(stream)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Client<S> {
    pub(crate) fn over(stream: S) -> Self {
        Self { stream: BufReader::new(stream), opened: Instant::now() }
    }

    /// An error is no failure here: whoever refuses a request may close before it was read whole.
    pub(crate) async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        let sent = async {
            self.stream.write_all(bytes.as_ref()).await?;
            self.stream.flush().await
        };
        let _ = soon("send", sent).await;
    }

    #[track_caller]
    pub(crate) fn answer(&mut self) -> impl Future<Output = Response> {
        let caller = std::panic::Location::caller();
        async move { self.answer_or_end().await.unwrap_or_else(|| panic!("closed without an answer ({caller})")) }
    }

    /// `None` if the connection was closed without an answer. `100 Continue` is passed over.
    pub(crate) async fn answer_or_end(&mut self) -> Option<Response> {
        loop {
            let answer =
                soon("answer", Message::read(&mut self.stream, Kind::Response)).await.ok().flatten()?;
            if answer.status() != 100 {
                return Some(answer);
            }
        }
    }

    /// The next answer, `100 Continue` too.
    pub(crate) async fn any_answer(&mut self) -> Response {
        soon("answer", Message::read(&mut self.stream, Kind::Response)).await.unwrap().unwrap()
    }

    pub(crate) async fn exchange(&mut self, bytes: impl AsRef<[u8]>) -> Response {
        self.send(bytes).await;
        self.answer().await
    }

    /// Reads until the other side closes; how long after the connection was opened that was, and what still came.
    pub(crate) async fn closed(&mut self) -> (Duration, Vec<u8>) {
        let mut rest = Vec::new();
        // A reset is an end, too.
        let _ = soon("the end of the connection", self.stream.read_to_end(&mut rest)).await;
        (self.opened.elapsed(), rest)
    }

    pub(crate) fn into_inner(self) -> S {
        self.stream.into_inner()
    }
}
