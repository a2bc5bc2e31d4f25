//! What is said over an open websocket.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream;
use http::{HeaderMap, Response};
use http_body_util::BodyExt as _;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _, BufReader};
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::frame::{self, Fault, Message, Reader, code};
use crate::net::body::Body;
use crate::net::gateway::input::{self, Input};
use crate::net::gateway::{failure, respond, route};
use crate::net::site::Site;
use crate::net::threads::Drain;

/// Pings that came and were not answered yet; when there are more, the connection is not read.
const AHEAD: usize = 16;

/// How long a goodbye may take.
const FAREWELL: Duration = Duration::from_secs(1);

/// What the request of the websocket said.
pub(super) struct Request {
    pub(super) remote: SocketAddr,
    pub(super) path: String,
    pub(super) headers: HeaderMap,
}

/// Passes the client's messages to the call and the call's answer to the client, until one of them is done or the member
/// stops.
pub(super) async fn hold(upgrade: OnUpgrade, site: Site, request: Request, mut drain: Drain) {
    let Ok(connection) = upgrade.await else {
        return;
    };
    let (reader, writer) = tokio::io::split(TokioIo::new(connection));
    let max = input::max(&site);
    // One at a time: a message may be large.
    let (sender, messages) = mpsc::channel(1);
    let (pinged, pings) = mpsc::channel(AHEAD);
    let mut writer = Writer::new(writer);
    let ending = {
        let reader = Reader::new(BufReader::new(reader), max);
        let pieces = stream::unfold(messages, |mut messages| async move {
            let piece = messages.recv().await?;
            Some((Ok(piece), messages))
        });
        let input = Input::new(Box::pin(pieces), &site);
        tokio::select! {
            ending = listen(reader, sender, pinged) => ending,
            said = talk(&mut writer, answer(&site, &request, input), pings) => match said {
                Ok(()) => Some(code::NORMAL),
                Err(_) => None,
            },
            () = drain.begun() => Some(code::GOING_AWAY),
        }
    };
    if let Some(code) = ending {
        // Whether the client hears it or not, this is the end.
        let _ = timeout(FAREWELL, writer.close(code)).await;
    }
}

async fn answer(site: &Site, request: &Request, input: Input) -> Response<Body> {
    match route::find(&request.path) {
        Some(method) => respond(site, method, request.remote, &request.headers, input.open()).await,
        None => failure::not_found(),
    }
}

/// Takes what comes until the client is done. Returns the code to say goodbye with.
async fn listen(
    mut reader: Reader<impl AsyncRead + Unpin>,
    messages: mpsc::Sender<Bytes>,
    pings: mpsc::Sender<Vec<u8>>,
) -> Option<u16> {
    loop {
        match reader.next().await {
            Ok(Message::Data(mut message)) => {
                message.push(b'\n');
                // A call that has all it wants takes no more.
                let _ = messages.send(message.into()).await;
            }
            Ok(Message::Ping(payload)) => pings.send(payload).await.ok()?,
            Ok(Message::Close(code)) => return Some(code.unwrap_or(code::NORMAL)),
            Err(Fault::Wrong(code)) => return Some(code),
            Err(Fault::Gone) => return None,
        }
    }
}

/// Sends the lines of an answer, and answers pings meanwhile.
async fn talk(
    writer: &mut Writer<impl AsyncWrite + Unpin>,
    answer: impl Future<Output = Response<Body>>,
    mut pings: mpsc::Receiver<Vec<u8>>,
) -> io::Result<()> {
    let mut answer = std::pin::pin!(answer);
    let mut body = loop {
        tokio::select! {
            Some(payload) = pings.recv() => writer.send(frame::PONG, [&payload[..]]).await?,
            response = &mut answer => break response.into_body(),
        }
    };
    // Of a line that has not come as a whole.
    let mut pending = Vec::new();
    loop {
        let frame = tokio::select! {
            Some(payload) = pings.recv() => {
                writer.send(frame::PONG, [&payload[..]]).await?;
                continue;
            }
            frame = body.frame() => frame,
        };
        let data = match frame {
            Some(Ok(frame)) => frame.into_data().unwrap_or_default(),
            Some(Err(never)) => match never {},
            None => break,
        };
        pending.extend_from_slice(&data);
        if let Some(end) = pending.iter().rposition(|byte| *byte == b'\n') {
            let rest = pending.split_off(end + 1);
            writer.send(frame::TEXT, lines(&pending)).await?;
            pending = rest;
        }
    }
    writer.send(frame::TEXT, lines(&pending)).await
}

/// The lines of a text that are not empty.
fn lines(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    text.split(|byte| *byte == b'\n')
        .filter(|line| !line.is_empty())
}

struct Writer<W> {
    stream: W,
    /// Some frame may be out by half.
    torn: bool,
}

impl<W: AsyncWrite + Unpin> Writer<W> {
    fn new(stream: W) -> Self {
        Self {
            stream,
            torn: false,
        }
    }

    /// Sends a frame for each payload.
    async fn send<'a>(
        &mut self,
        kind: u8,
        payloads: impl IntoIterator<Item = &'a [u8]>,
    ) -> io::Result<()> {
        let mut frames = Vec::new();
        for payload in payloads {
            frame::push(kind, payload, &mut frames);
        }
        self.torn = true;
        self.stream.write_all(&frames).await?;
        self.stream.flush().await?;
        self.torn = false;
        Ok(())
    }

    async fn close(&mut self, code: u16) -> io::Result<()> {
        if !self.torn {
            self.send(frame::CLOSE, [&code.to_be_bytes()[..]]).await?;
        }
        self.stream.shutdown().await
    }
}
