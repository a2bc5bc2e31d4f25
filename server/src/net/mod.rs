//! The listeners: sockets, connection threads, gRPC and plain HTTP.
//!
//! ```text
//! Listener::bind ── Net::serve ──▶ accept ──▶ the thread with the fewest connections
//!                                               └─ connection ─┬─ HTTP/2: grpc ──▶ Services::call
//!                                                              └─ HTTP/1: http ─┬▶ health, version …
//!                                                                               └▶ gateway ──▶ Services::call
//! ```
//!
//! A connection lives on one thread from accept to close, and so do its calls. Nothing here is
//! global: a process may run many.

mod accept;
mod authority;
mod body;
mod connection;
mod cork;
mod gateway;
mod grpc;
mod http;
mod incoming;
mod listen;
mod observe;
mod pings;
mod refused;
mod site;
mod socket_file;
mod table;
mod threads;

use std::sync::Arc;
use std::time::Duration;
use std::{io, thread};

use parking_lot::Mutex;
use tokio::sync::watch;

pub(crate) use self::body::Body;
pub(crate) use self::grpc::Method;
pub(crate) use self::incoming::Incoming;
pub(crate) use self::listen::Listener;
use self::listen::{DescriptorLimit, connection_limit};
pub(crate) use self::observe::{CallObserver, NoObserver};
use self::site::Site;
pub(crate) use self::site::{Boxed, Legacy, Services, Surface, Transport};
use self::threads::Threads;

/// How the listeners behave.
pub(crate) struct Settings {
    /// Connection threads, at least one. Default: one per core.
    pub(crate) threads: usize,
    /// Connections that one listener holds; further ones wait in its backlog. Default: the limit
    /// of open files less 150, see [`connection_limit`].
    pub(crate) connection_limit: usize,
    /// `--max-concurrent-streams`: calls at once on one connection.
    pub(crate) max_concurrent_streams: u32,
    /// `--grpc-keepalive-min-time`: a client that pings more often is sent away.
    pub(crate) keepalive_min_time: Duration,
    /// `--grpc-keepalive-interval`: after this long without a frame a client is pinged.
    pub(crate) keepalive_interval: Duration,
    /// `--grpc-keepalive-timeout`: a ping unanswered for this long ends the connection.
    pub(crate) keepalive_timeout: Duration,
    /// Time for a client to say what it speaks, and for the headers of an HTTP/1 request.
    pub(crate) header_timeout: Duration,
    /// `--cors`: origins whose pages may read answers; `*` or none at all for every origin.
    pub(crate) cors: Vec<String>,
    /// `--host-whitelist`: host names a plain HTTP request may be for; `*` or none for all.
    pub(crate) host_whitelist: Vec<String>,
    /// `--enable-v2`: who answers `/v2/` on client URLs; nobody by default.
    pub(crate) v2: Option<Arc<dyn Legacy>>,
    /// `--enable-grpc-gateway`: whether calls may come as JSON.
    pub(crate) gateway: bool,
    /// `--enable-pprof`: whether `/debug/pprof` says what there is in place of Go's profiles.
    pub(crate) profiles: bool,
    /// Time for one write to a peer to make progress.
    pub(crate) peer_write_timeout: Duration,
    /// `--warning-unary-request-duration`: a unary call that takes longer is logged.
    pub(crate) warning_unary_duration: Duration,
    /// Told of every call.
    pub(crate) observer: Arc<dyn CallObserver>,
    /// Where trouble with accepting connections is reported.
    pub(crate) logger: slog::Logger,
    /// The log whose level may be changed over HTTP; `None` on ports that are not for that.
    pub(crate) log: Option<crate::log::Log>,
}

impl Settings {
    /// etcd's defaults.
    ///
    /// # Errors
    /// [`DescriptorLimit`] when there may be no connections at all.
    pub(crate) fn new(logger: slog::Logger) -> Result<Self, DescriptorLimit> {
        Ok(Self {
            threads: thread::available_parallelism().map_or(1, usize::from),
            connection_limit: connection_limit()?,
            max_concurrent_streams: u32::MAX,
            keepalive_min_time: Duration::from_secs(5),
            keepalive_interval: Duration::from_secs(2 * 60 * 60),
            keepalive_timeout: Duration::from_secs(20),
            header_timeout: Duration::from_secs(5 * 60),
            peer_write_timeout: Duration::from_secs(5),
            cors: vec!["*".to_owned()],
            host_whitelist: vec!["*".to_owned()],
            v2: None,
            warning_unary_duration: Duration::from_millis(300),
            gateway: true,
            profiles: false,
            observer: Arc::new(NoObserver),
            logger,
            log: None,
        })
    }
}

/// The running listeners of one member.
pub(crate) struct Net {
    settings: Arc<Settings>,
    threads: Threads,
    /// Whether `grpc.health.v1` says SERVING. Gone once the server stops, which ends its watches.
    serving: Mutex<Option<watch::Sender<bool>>>,
    health: watch::Receiver<bool>,
}

impl Net {
    /// Starts the connection threads; nothing is accepted before [`Net::serve`].
    ///
    /// # Errors
    /// The system refuses a thread or an event queue.
    pub(crate) fn start(settings: Settings) -> io::Result<Self> {
        let threads = Threads::start(settings.threads)?;
        let (serving, health) = watch::channel(true);
        Ok(Self {
            settings: Arc::new(settings),
            threads,
            serving: Mutex::new(Some(serving)),
            health,
        })
    }

    /// Begins to accept from a listener that speaks plain HTTP.
    ///
    /// # Errors
    /// The system refuses to watch the socket.
    #[cfg(test)]
    pub(crate) fn serve(
        &self,
        listener: Listener,
        surface: Surface,
        services: Arc<dyn Services>,
    ) -> io::Result<()> {
        self.serve_over(listener, Transport::plain(), surface, services)
    }

    /// Begins to accept from a listener.
    ///
    /// # Errors
    /// The system refuses to watch the socket.
    pub(crate) fn serve_over(
        &self,
        listener: Listener,
        transport: Transport,
        surface: Surface,
        services: Arc<dyn Services>,
    ) -> io::Result<()> {
        let site = Site {
            transport,
            surface,
            max_receive_bytes: services.max_receive_bytes(),
            services,
            settings: Arc::clone(&self.settings),
            serving: self.health.clone(),
        };
        accept::start(&self.threads, listener, Arc::new(site))
    }

    /// Connections open now.
    #[cfg(test)]
    pub(crate) fn connections(&self) -> usize {
        self.threads.connections()
    }

    /// Stops: health says NOT_SERVING, listeners close, clients are told to go away, calls in
    /// flight may end within `grace`, then whatever is left is dropped and the threads are joined.
    ///
    /// Blocks until then; may be called again, and by several threads. Not to be called from a
    /// connection thread, where it would wait for itself.
    pub(crate) fn stop(&self, grace: Duration) {
        if let Some(sender) = self.serving.lock().take() {
            sender.send_replace(false);
        }
        self.threads.stop(grace);
    }
}

impl Drop for Net {
    fn drop(&mut self) {
        self.stop(Duration::ZERO);
    }
}

#[cfg(test)]
mod tests;
