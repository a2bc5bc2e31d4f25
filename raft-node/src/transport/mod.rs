//! How members talk to each other: etcd's rafthttp, byte for byte.
//!
//! ```text
//!            ┌─ msgapp stream ─┐  GET by the receiver, answered with a body that never ends
//!  send() ──▶├─ message stream ┤
//!            ├─ pipeline ──────┤  POST /raft, when there is no stream, and for members not known yet
//!            └─ snapshots ─────┘  POST /raft/snapshot, a message and a database
//! ```
//!
//! [`Peers`] owns one thread, which dials, reads and posts; what others ask for is answered by
//! [`Peers::serve`] on the threads of the listener. Sending is a push into a bounded queue: what
//! finds no room is dropped and reported, and raft sends it again. No peer can hold up another.
//!
//! Source: peer-protocol 1-9; etcd `server/etcdserver/api/rafthttp`.

mod client;
mod codec;
mod context;
mod deadline;
mod names;
mod outbox;
mod peer;
mod peers;
mod pipeline;
mod pool;
mod probe;
mod reader;
mod remotes;
mod request;
mod rfc3339;
mod serve;
mod snapshot_receive;
mod snapshot_send;
mod status;
#[cfg(test)]
mod tests;
mod url;
mod version;

use std::fmt;
use std::future::Future;
use std::io;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use retcd_proto::raftpb;
use retcd_storage::backend::DatabaseCopy;
use retcd_storage::clock::Clock;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

pub use self::codec::fuzz_streams;
pub use self::deadline::WriteDeadline;
pub use self::peers::Peers;
pub use self::pool::Pool;
pub use self::probe::probe_time;
pub use self::request::{RequestError, request};
pub use self::rfc3339::format as rfc3339;
pub use self::url::socket_file;

/// The oldest cluster version that a member of this version can be in, as etcd says it.
pub const MIN_CLUSTER_VERSION: &str = "3.0.0";

/// etcd's deadline for one read, and one write, of a connection between members.
pub const DEFAULT_IO_TIMEOUT: Duration = Duration::from_secs(5);

/// What the transport is told once.
#[derive(Clone)]
pub struct Options {
    /// Own id.
    pub local_id: u64,
    /// The cluster's id; who names another one is refused.
    pub cluster_id: u64,
    /// Own peer URLs, told to others so that they can reach a member that they do not know yet.
    pub peer_urls: Vec<String>,
    /// A full etcd version, such as `3.7.1`.
    pub server_version: String,
    /// For a connection to come about, TLS included. etcd: one second and an election timeout.
    pub dial_timeout: Duration,
    /// A stream that brings nothing for this long is given up. A third of it is the interval of
    /// the heartbeats that keep a stream up. Default: [`DEFAULT_IO_TIMEOUT`].
    pub read_timeout: Duration,
    /// A stream that takes nothing for this long is given up. Default: [`DEFAULT_IO_TIMEOUT`].
    pub write_timeout: Duration,
    /// Opens connections to https and unixs URLs; without it they fail.
    pub connector: Option<Arc<dyn Connector>>,
    /// For "active since" and for the wall clock that others compare theirs with.
    pub clock: Arc<dyn Clock>,
    /// etcd's lines about peers.
    pub logger: slog::Logger,
    /// Is told what there is to count.
    pub observer: Arc<dyn TransportObserver>,
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options")
            .field("local_id", &format_args!("{:x}", self.local_id))
            .field("cluster_id", &format_args!("{:x}", self.cluster_id))
            .field("peer_urls", &self.peer_urls)
            .finish_non_exhaustive()
    }
}

/// A connection.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// What [`Connector::connect`] returns.
pub type Connecting<'a> = Pin<Box<dyn Future<Output = io::Result<Box<dyn Stream>>> + Send + 'a>>;

/// Makes a TLS connection of a plain one; the server hands it in, so that nothing here knows of
/// certificates.
pub trait Connector: Send + Sync {
    /// Does the handshake. `host` is the host of the URL, without brackets; the certificate must
    /// be for it. `tcp` may be a Unix socket: it can do all that such a stream can, but for TCP's options.
    fn connect<'a>(&'a self, tcp: TcpStream, host: &'a str) -> Connecting<'a>;

    /// The address to dial from, with TLS or without; `None` leaves it to the system.
    fn local_address(&self) -> Option<IpAddr> {
        None
    }
}

/// Why a message was not processed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProcessError {
    /// Its sender was removed from the cluster for ever.
    #[error("cannot process message from removed member")]
    Removed,
    /// It is for another member.
    #[error("cannot process message to mismatch member")]
    Mismatch,
    /// The member stops.
    #[error("the member has stopped")]
    Stopped,
    /// Anything else, such as a queue without room.
    #[error("{0}")]
    Refused(String),
}

/// What the transport needs of the member. Called on the transport's threads, those of the
/// listener, and `report_unreachable` also on the raft thread, within [`Peers`]'s `send`: must not
/// call [`Peers`]. Only the two `database` calls may block, they are made on threads of their own.
pub trait Member: Send + Sync {
    /// A message from another member, of a type that members send each other.
    ///
    /// # Errors
    /// The sender of a POST is told, that of a stream is not.
    fn process(&self, message: raftpb::Message) -> Result<(), ProcessError>;

    /// Was this member removed from the cluster for ever?
    fn is_removed(&self, id: u64) -> bool;

    /// Something for this member was lost.
    fn report_unreachable(&self, id: u64);

    /// Nobody listens at this member's address: its process has ended. Said again with every
    /// attempt to reach it.
    fn report_gone(&self, id: u64) {
        let _ = id;
    }

    /// A snapshot for this member arrived there, or did not.
    fn report_snapshot(&self, id: u64, sent: bool);

    /// A peer says that this member was removed from the cluster for ever.
    fn removed(&self, by: u64);

    /// A raft snapshot message is to be sent: the message to send instead (fresh index, document,
    /// conf state) and the database that goes with it. May block.
    ///
    /// # Errors
    /// A sentence for the log.
    fn database_to_send(
        &self,
        message: raftpb::Message,
    ) -> Result<(raftpb::Message, DatabaseCopy), String>;

    /// A database arrives for the snapshot of this index; returns its length once it is durable in
    /// the snapshot directory. May block. `body` fails when the sender breaks off.
    ///
    /// # Errors
    /// A sentence for the log and for the sender.
    fn database_received(&self, index: u64, body: &mut dyn io::Read) -> Result<u64, String>;
}

/// Is told what etcd's metrics `etcd_network_*` count. Ids are those of peers; 0 is a sender that
/// is none.
pub trait TransportObserver: Send + Sync {
    /// `etcd_network_peer_sent_bytes_total`.
    fn sent(&self, to: u64, bytes: u64) {
        let _ = (to, bytes);
    }

    /// `etcd_network_peer_received_bytes_total`.
    fn received(&self, from: u64, bytes: u64) {
        let _ = (from, bytes);
    }

    /// A message with log entries, or one that asks how far a log is, is on its way to a peer.
    fn append_sent(&self, to: u64) {
        let _ = to;
    }

    /// `etcd_network_peer_sent_failures_total`.
    fn send_failed(&self, to: u64) {
        let _ = to;
    }

    /// `etcd_network_peer_received_failures_total`.
    fn receive_failed(&self, from: u64) {
        let _ = from;
    }

    /// `etcd_network_active_peers` goes to 1 or 0; with 0, `etcd_network_disconnected_peers_total`
    /// goes up.
    fn active(&self, peer: u64, active: bool) {
        let _ = (peer, active);
    }

    /// `etcd_network_peer_round_trip_time_seconds`.
    fn round_trip(&self, to: u64, took: Duration) {
        let _ = (to, took);
    }

    /// `etcd_network_snapshot_send_inflights_total` goes up.
    fn snapshot_send_begins(&self, to: u64) {
        let _ = to;
    }

    /// `..._send_inflights_total` goes down; `..._send_success` and
    /// `..._send_total_duration_seconds`, or with `None` `..._send_failures`, go up.
    fn snapshot_send_ends(&self, to: u64, took: Option<Duration>) {
        let _ = (to, took);
    }

    /// `etcd_network_snapshot_receive_inflights_total` goes up.
    fn snapshot_receive_begins(&self, from: u64) {
        let _ = from;
    }

    /// `..._receive_inflights_total` goes down; see [`snapshot_receive_failed`] for failures.
    ///
    /// [`snapshot_receive_failed`]: TransportObserver::snapshot_receive_failed
    fn snapshot_receive_ends(&self, from: u64) {
        let _ = from;
    }

    /// `etcd_network_snapshot_receive_success` and `..._receive_total_duration_seconds`.
    fn snapshot_received(&self, from: u64, took: Duration) {
        let _ = (from, took);
    }

    /// `etcd_network_snapshot_receive_failures`.
    fn snapshot_receive_failed(&self, from: u64) {
        let _ = from;
    }
}

/// Counts nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoObserver;

impl TransportObserver for NoObserver {}

/// The body of an answer.
pub type AnswerBody =
    Pin<Box<dyn hyper::body::Body<Data = Bytes, Error = std::convert::Infallible> + Send>>;

/// An id as etcd writes it.
fn hex(id: u64) -> String {
    format!("{id:x}")
}

/// What etcd's parser of ids takes: hexadecimal digits, nothing around them.
fn parse_id(text: &str) -> Option<u64> {
    if text.is_empty() || !text.bytes().all(|b| b.is_ascii_hexdigit()) {
        return None;
    }
    u64::from_str_radix(text, 16).ok()
}
