//! Accepts connections and deals them to the threads.

use std::io;
use std::os::unix::net::UnixStream as StdUnixStream;
use std::sync::Arc;
use std::time::Duration;

use retcd_tls::Socket;
use slog::warn;
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::sleep;

use super::connection;
use super::listen::{self, Bound, Listener};
use super::site::Site;
use super::socket_file::SocketFile;
use super::threads::{Drain, Threads, Worker};

/// Pauses after a failed accept, as Go's: doubled from the first to the last.
const FIRST_PAUSE: Duration = Duration::from_millis(5);
const LAST_PAUSE: Duration = Duration::from_secs(1);

/// Accepts from `listener` until the threads stop.
pub(super) fn start(threads: &Threads, listener: Listener, site: Arc<Site>) -> io::Result<()> {
    let Some(home) = threads.workers().first() else {
        return Ok(());
    };
    let limit = site.settings.connection_limit;
    let _runtime = home.handle().enter();
    let acceptor = Acceptor {
        listener: Door::new(listener.into_bound())?,
        site,
        room: Arc::new(Semaphore::new(limit.min(Semaphore::MAX_PERMITS))),
        workers: threads.workers().to_vec(),
        dealt: 0,
        drain: threads.drain(),
    };
    let mut drain = threads.drain();
    home.handle().spawn(async move {
        tokio::select! {
            biased;
            () = drain.begun() => {}
            () = acceptor.run() => {}
        }
    });
    Ok(())
}

/// What connections come through.
enum Door {
    Tcp(TcpListener),
    Unix(
        UnixListener,
        #[expect(dead_code, reason = "removed when it is dropped")] Option<SocketFile>,
    ),
}

/// A connection on its way to its thread.
enum Caller {
    Tcp(std::net::TcpStream),
    Unix(StdUnixStream),
}

impl Door {
    fn new(bound: Bound) -> io::Result<Self> {
        Ok(match bound {
            Bound::Tcp(listener) => Self::Tcp(TcpListener::from_std(listener)?),
            Bound::Unix(listener, file) => Self::Unix(UnixListener::from_std(listener)?, file),
        })
    }

    async fn accept(&self) -> io::Result<Caller> {
        match self {
            Self::Tcp(listener) => Ok(Caller::Tcp(listener.accept().await?.0.into_std()?)),
            Self::Unix(listener, _) => Ok(Caller::Unix(listener.accept().await?.0.into_std()?)),
        }
    }
}

impl Caller {
    /// False if it has hung up already.
    fn tune(&self) -> bool {
        match self {
            Self::Tcp(stream) => listen::tune(stream).is_ok(),
            Self::Unix(_) => true,
        }
    }

    fn into_socket(self) -> io::Result<Socket> {
        Ok(match self {
            Self::Tcp(stream) => TcpStream::from_std(stream)?.into(),
            Self::Unix(stream) => UnixStream::from_std(stream)?.into(),
        })
    }
}

struct Acceptor {
    listener: Door,
    site: Arc<Site>,
    /// One permit per connection this listener may still have.
    room: Arc<Semaphore>,
    workers: Vec<Worker>,
    dealt: usize,
    drain: Drain,
}

impl Acceptor {
    async fn run(mut self) {
        let mut pause = FIRST_PAUSE;
        loop {
            let Ok(permit) = Arc::clone(&self.room).acquire_owned().await else {
                return;
            };
            match self.listener.accept().await {
                Ok(caller) => {
                    pause = FIRST_PAUSE;
                    self.deal(caller, permit);
                }
                Err(error) if concerns_one_connection(&error) => {}
                Err(error) => {
                    warn!(self.site.settings.logger, "failed to accept a connection";
                        "error" => %error, "retry-in" => ?pause);
                    sleep(pause).await;
                    pause = (pause * 2).min(LAST_PAUSE);
                }
            }
        }
    }

    /// Hands a connection to the thread with the fewest; of equals, to the next in turn.
    fn deal(&mut self, caller: Caller, permit: OwnedSemaphorePermit) {
        if !caller.tune() {
            return;
        }
        let count = self.workers.len();
        let turns = (0..count).map(|turn| &self.workers[(self.dealt + turn) % count]);
        let Some(worker) = turns.min_by_key(|worker| worker.load()) else {
            return;
        };
        let live = worker.enter();
        let site = Arc::clone(&self.site);
        let drain = self.drain.clone();
        worker.handle().spawn(async move {
            let _held = (live, permit);
            if let Ok(socket) = caller.into_socket() {
                connection::serve(socket, site, drain).await;
            }
        });
        self.dealt += 1;
    }
}

/// The client gave up while it was in the backlog.
fn concerns_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    matches!(
        error.kind(),
        ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted
    )
}
