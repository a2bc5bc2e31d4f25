//! Accepts connections and deals them to the threads.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use slog::warn;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::sleep;

use super::connection;
use super::listen::{self, Listener};
use super::site::Site;
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
        listener: TcpListener::from_std(listener.into_std())?,
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

struct Acceptor {
    listener: TcpListener,
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
            let accepted = self.listener.accept().await;
            match accepted.and_then(|(stream, _)| stream.into_std()) {
                Ok(stream) => {
                    pause = FIRST_PAUSE;
                    self.deal(stream, permit);
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
    fn deal(&mut self, stream: std::net::TcpStream, permit: OwnedSemaphorePermit) {
        if listen::tune(&stream).is_err() {
            // Closed already.
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
            if let Ok(stream) = TcpStream::from_std(stream) {
                connection::serve(stream, site, drain).await;
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
