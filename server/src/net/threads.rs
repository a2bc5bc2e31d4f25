//! The connection threads: one current-thread runtime each.

use std::io;
use std::sync::Arc;
use std::thread::{self, Builder, JoinHandle};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::runtime::{self, Handle, Runtime};
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

/// How long blocking work that a call began may hold up the end of its thread.
const BLOCKING_GRACE: Duration = Duration::from_secs(1);

/// A set of connection threads.
pub(super) struct Threads {
    workers: Vec<Worker>,
    /// Emptied by the first stop. Held while joining, so that a second one waits too.
    joins: Mutex<Vec<JoinHandle<()>>>,
    drain: watch::Sender<Option<Instant>>,
}

impl Threads {
    pub(super) fn start(count: usize) -> io::Result<Self> {
        let mut threads = Self {
            workers: Vec::new(),
            joins: Mutex::default(),
            drain: watch::Sender::new(None),
        };
        for number in 0..count.max(1) {
            let runtime = runtime::Builder::new_current_thread()
                .enable_all()
                .build()?;
            let worker = Worker {
                handle: runtime.handle().clone(),
                load: Arc::new(watch::Sender::new(0)),
            };
            let drain = Drain(threads.drain.subscribe());
            let load = worker.load.subscribe();
            let join = Builder::new()
                .name(format!("retcd-net-{number}"))
                .spawn(move || run(runtime, drain, load))?;
            threads.workers.push(worker);
            threads.joins.get_mut().push(join);
        }
        Ok(threads)
    }

    pub(super) fn workers(&self) -> &[Worker] {
        &self.workers
    }

    pub(super) fn drain(&self) -> Drain {
        Drain(self.drain.subscribe())
    }

    /// Connections that live on the threads.
    #[cfg(test)]
    pub(super) fn connections(&self) -> usize {
        self.workers.iter().map(Worker::load).sum()
    }

    #[cfg(test)]
    pub(super) fn loads(&self) -> Vec<usize> {
        self.workers.iter().map(Worker::load).collect()
    }

    /// Lets connections drain for `grace` at most, then joins the threads.
    pub(super) fn stop(&self, grace: Duration) {
        self.drain.send_if_modified(|deadline| {
            let first = deadline.is_none();
            deadline.get_or_insert_with(|| Instant::now() + grace);
            first
        });
        for join in self.joins.lock().drain(..) {
            if join.thread().id() != thread::current().id() {
                // A thread that panicked has ended as well.
                let _ = join.join();
            }
        }
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        self.stop(Duration::ZERO);
    }
}

/// What a connection thread does: run its tasks until a stop, then until they are done.
fn run(runtime: Runtime, mut drain: Drain, mut load: watch::Receiver<usize>) {
    runtime.block_on(async {
        if let Some(deadline) = drain.deadline().await {
            // Out of time or out of connections: either way the runtime goes.
            let _ = timeout_at(deadline, load.wait_for(|load| *load == 0)).await;
        }
    });
    runtime.shutdown_timeout(BLOCKING_GRACE);
}

/// One connection thread, seen from others.
#[derive(Clone)]
pub(super) struct Worker {
    handle: Handle,
    load: Arc<watch::Sender<usize>>,
}

impl Worker {
    pub(super) fn handle(&self) -> &Handle {
        &self.handle
    }

    pub(super) fn load(&self) -> usize {
        *self.load.borrow()
    }

    /// Counts a connection until the guard is dropped.
    pub(super) fn enter(&self) -> Live {
        self.load.send_modify(|load| *load += 1);
        Live(Arc::clone(&self.load))
    }
}

/// A connection that lives.
pub(super) struct Live(Arc<watch::Sender<usize>>);

impl Drop for Live {
    fn drop(&mut self) {
        self.0.send_modify(|load| *load -= 1);
    }
}

/// Tells when the server begins to stop.
#[derive(Clone)]
pub(super) struct Drain(watch::Receiver<Option<Instant>>);

impl Drain {
    /// Waits for the stop.
    pub(super) async fn begun(&mut self) {
        self.deadline().await;
    }

    /// Waits for the stop; `None` when the server vanished without one.
    async fn deadline(&mut self) -> Option<Instant> {
        let stopping = self.0.wait_for(Option::is_some).await;
        stopping.ok().and_then(|deadline| *deadline)
    }
}
