//! A snapshot that a leader sends: the message is for raft, the database for the disk.

use std::fmt;
use std::io::{self, Read};

use bytes::{Buf as _, Bytes};
use http::{Response, StatusCode};
use retcd_proto::raftpb;
use slog::{info, warn};
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::codec::{Frame, MessageDecoder, Way, check};
use super::context::{Context, Share};
use super::peers::Peers;
use super::serve::{self, Incoming};
use super::snapshot_send::{human, snapshot_index};
use super::{AnswerBody, ProcessError, hex};

/// Of the message; the database has no limit.
const MAX_MESSAGE: usize = 64 * 1024 * 1024;
/// Pieces that wait for the disk.
const PIECES: usize = 4;

/// A request whose head is in order.
pub(super) async fn receive<B: Incoming>(peers: &Peers, body: B) -> Response<AnswerBody> {
    let context = peers.context();
    let observer = &context.options.observer;
    let begin = Instant::now();
    let mut body = serve::Reading::paced(body, context);
    let (message, rest) = match message(&mut body, context.share()).await {
        Ok(received) => received,
        Err(error) => {
            warn!(context.options.logger, "failed to decode Raft message";
                "local-member-id" => &context.local, "remote-snapshot-sender-id" => "0",
                "error" => &error);
            observer.receive_failed(0);
            observer.snapshot_receive_failed(0);
            let text = format!("failed to decode raft message ({error})");
            return context.error(StatusCode::BAD_REQUEST, &text);
        }
    };
    let label = peers.label(message.from());
    let from = hex(message.from());
    if message.r#type() != raftpb::MessageType::MsgSnap {
        warn!(context.options.logger, "unexpected Raft message type";
            "local-member-id" => &context.local, "remote-snapshot-sender-id" => &from,
            "message-type" => message.r#type().as_str_name());
        observer.snapshot_receive_failed(label);
        return context.error(StatusCode::BAD_REQUEST, "wrong raft message type");
    }
    // What raft would not take needs no room on the disk.
    if let Some(refusal) = refuse(context, &message) {
        observer.snapshot_receive_failed(label);
        return serve::refused(context, &refusal, "failed to process raft message");
    }
    observer.snapshot_receive_begins(label);
    let ends = Ends { context, label };
    let result = database(peers, &message, body, rest, label).await;
    if let Err(answer) = result {
        observer.snapshot_receive_failed(label);
        return answer;
    }
    if let Err(error) = context.member.process(message) {
        if !matches!(error, ProcessError::Removed | ProcessError::Mismatch) {
            warn!(context.options.logger, "failed to process Raft message";
                "local-member-id" => &context.local, "remote-snapshot-sender-id" => &from,
                "error" => %error);
        }
        observer.snapshot_receive_failed(label);
        return serve::refused(context, &error, "failed to process raft message");
    }
    drop(ends);
    observer.snapshot_received(label, begin.elapsed());
    context.no_content()
}

struct Ends<'a> {
    context: &'a Context,
    label: u64,
}

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        let observer = &self.context.options.observer;
        observer.snapshot_receive_ends(self.label);
    }
}

/// What `process` would say of any message from there.
fn refuse(context: &Context, message: &raftpb::Message) -> Option<ProcessError> {
    if context.member.is_removed(message.from()) {
        return Some(ProcessError::Removed);
    }
    (message.to() != context.options.local_id).then_some(ProcessError::Mismatch)
}

/// The message at the front of the body, and what came behind it.
async fn message<B: Incoming>(
    body: &mut serve::Reading<B>,
    mut share: Share<'_>,
) -> Result<(raftpb::Message, Bytes), String> {
    let mut decoder = MessageDecoder::with_limit(MAX_MESSAGE);
    loop {
        let mut piece = match body.next().await {
            Ok(Some(piece)) => piece,
            Ok(None) => return Err("unexpected EOF".to_owned()),
            Err(error) => return Err(error),
        };
        share.grow(piece.len())?;
        let mut input = &*piece;
        match decoder.next(&mut input).map_err(|e| e.to_string())? {
            None => {}
            Some(Frame::Heartbeat) => return Ok((heartbeat(), Bytes::new())),
            Some(Frame::Message(message)) => {
                if message.r#type() == raftpb::MessageType::MsgSnap {
                    check(&message, Way::WithDatabase).map_err(|e| e.to_string())?;
                }
                let used = piece.len() - input.len();
                piece.advance(used);
                return Ok((message, piece));
            }
        }
    }
}

fn heartbeat() -> raftpb::Message {
    raftpb::Message {
        r#type: Some(raftpb::MessageType::MsgHeartbeat as i32),
        ..raftpb::Message::default()
    }
}

async fn database<B: Incoming>(
    peers: &Peers,
    message: &raftpb::Message,
    mut body: serve::Reading<B>,
    rest: Bytes,
    label: u64,
) -> Result<(), Response<AnswerBody>> {
    let context = peers.context();
    let index = snapshot_index(message);
    let from = hex(message.from());
    let logger = &context.options.logger;
    let begin = Instant::now();
    let size = prost::Message::encoded_len(message) as u64;
    context.options.observer.received(label, size);
    info!(logger, "receiving database snapshot"; "local-member-id" => &context.local,
        "remote-snapshot-sender-id" => &from, "incoming-snapshot-index" => index,
        "incoming-snapshot-message-size-bytes" => size,
        "incoming-snapshot-message-size" => human(size));
    let saved = match context.receiving.clone().try_acquire_owned() {
        Err(_) => Err("too many snapshots are being received".to_owned()),
        Ok(_permit) => {
            let (sender, pieces) = mpsc::channel(PIECES);
            let member = context.member.clone();
            let mut reader = PieceReader::new(pieces);
            let saving = peers
                .runtime()
                .spawn_blocking(move || member.database_received(index, &mut reader));
            pump(&mut body, rest, sender).await;
            saving
                .await
                .unwrap_or_else(|_| Err("the member broke off".to_owned()))
        }
    };
    match saved {
        Ok(bytes) => {
            context.options.observer.received(label, bytes);
            info!(logger, "received and saved database snapshot";
                "local-member-id" => &context.local, "remote-snapshot-sender-id" => &from,
                "incoming-snapshot-index" => index, "incoming-snapshot-size-bytes" => bytes,
                "incoming-snapshot-size" => human(bytes), "download-took" => ?begin.elapsed());
            Ok(())
        }
        Err(error) => {
            warn!(logger, "failed to save incoming database snapshot";
                "local-member-id" => &context.local, "remote-snapshot-sender-id" => &from,
                "incoming-snapshot-index" => index, "error" => &error);
            let text = format!("failed to save KV snapshot ({error})");
            Err(context.error(StatusCode::INTERNAL_SERVER_ERROR, &text))
        }
    }
}

/// From the connection to the disk. A sender that is dropped before it said that this is all, as
/// when the connection ends, is an error to the reader.
async fn pump<B: Incoming>(body: &mut serve::Reading<B>, rest: Bytes, sender: mpsc::Sender<Piece>) {
    if !rest.is_empty() && sender.send(Piece::Data(rest)).await.is_err() {
        return;
    }
    loop {
        let piece = match body.next().await {
            Ok(Some(piece)) => Piece::Data(piece),
            Ok(None) => Piece::End,
            Err(error) => Piece::Broken(error),
        };
        let last = !matches!(piece, Piece::Data(_));
        // Nobody takes it: saving has failed, and says why.
        if sender.send(piece).await.is_err() || last {
            return;
        }
    }
}

enum Piece {
    Data(Bytes),
    End,
    Broken(String),
}

/// The other end of [`pump`], for a thread that may block.
struct PieceReader {
    pieces: mpsc::Receiver<Piece>,
    current: Bytes,
    ended: bool,
}

impl PieceReader {
    fn new(pieces: mpsc::Receiver<Piece>) -> PieceReader {
        PieceReader {
            pieces,
            current: Bytes::new(),
            ended: false,
        }
    }
}

fn broken(text: impl fmt::Display) -> io::Error {
    io::Error::new(io::ErrorKind::UnexpectedEof, text.to_string())
}

impl Read for PieceReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.current.is_empty() {
            if self.ended || buffer.is_empty() {
                return Ok(0);
            }
            match self.pieces.blocking_recv() {
                Some(Piece::Data(piece)) => self.current = piece,
                Some(Piece::End) => self.ended = true,
                Some(Piece::Broken(error)) => return Err(broken(error)),
                None => return Err(broken("the sender broke off")),
            }
        }
        let len = buffer.len().min(self.current.len());
        self.current.copy_to_slice(&mut buffer[..len]);
        Ok(len)
    }
}
