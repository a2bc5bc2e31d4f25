//! All peers, and the thread that looks after them.

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::sync::Arc;
use std::thread::{JoinHandle, ThreadId};
use std::time::Duration;

use parking_lot::{Mutex, RwLock};
use retcd_proto::raftpb::{self, MessageType};
use slog::{debug, info, warn};
use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;
use tokio::time::sleep;

use super::context::Context;
use super::outbox::Outbox;
use super::peer::Peer;
use super::remotes::{MAX_REMOTES, Remote};
use super::url::PeerUrl;
use super::{Member, Options, hex};
use crate::driver::Transport;

/// Databases are read and written, and names looked up, on threads of their own; so many at most.
const BLOCKING_THREADS: usize = 64;
/// For these threads to end, when all that they wait for has ended already.
const BLOCKING_END: Duration = Duration::from_secs(5);

/// The ways to all other members. Dropping it stops them.
pub struct Peers {
    context: Arc<Context>,
    runtime: Handle,
    /// `None` once it has stopped.
    known: RwLock<Option<Known>>,
    thread: Mutex<Option<Thread>>,
}

#[derive(Default)]
struct Known {
    peers: HashMap<u64, Arc<Peer>>,
    remotes: HashMap<u64, Remote>,
}

struct Thread {
    id: ThreadId,
    stop: oneshot::Sender<()>,
    handle: JoinHandle<()>,
}

impl fmt::Debug for Peers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Peers").field(&self.context.options).finish()
    }
}

impl Peers {
    /// Starts the thread. There are no peers yet.
    ///
    /// # Errors
    /// Those of the operating system when it has no more threads or file descriptors.
    pub fn start(options: Options, member: Arc<dyn Member>) -> io::Result<Arc<Peers>> {
        let runtime = Builder::new_current_thread()
            .enable_all()
            .max_blocking_threads(BLOCKING_THREADS)
            .thread_name("peers-blocking")
            .build()?;
        let context = Arc::new(Context::new(options, member));
        let handle = runtime.handle().clone();
        let (stop, stopped) = oneshot::channel::<()>();
        let thread = std::thread::Builder::new()
            .name("peers".to_owned())
            .spawn(move || {
                // Sent or dropped, both say stop.
                let _ = runtime.block_on(stopped);
                runtime.shutdown_timeout(BLOCKING_END);
            })?;
        let peers = Arc::new(Peers {
            context: context.clone(),
            runtime: handle.clone(),
            known: RwLock::new(Some(Known::default())),
            thread: Mutex::new(Some(Thread {
                id: thread.thread().id(),
                stop,
                handle: thread,
            })),
        });
        let watched = Arc::downgrade(&peers);
        handle.spawn(async move {
            loop {
                sleep(context.options.read_timeout / 3).await;
                let Some(peers) = watched.upgrade() else {
                    return;
                };
                peers.give_up_stalled();
                // Not the last one here: its end waits for this thread.
                peers.let_go();
            }
        });
        Ok(peers)
    }

    fn let_go(self: Arc<Self>) {
        if let Some(last) = Arc::into_inner(self) {
            last.stop();
        }
    }

    pub(super) fn context(&self) -> &Arc<Context> {
        &self.context
    }

    pub(super) fn runtime(&self) -> &Handle {
        &self.runtime
    }

    pub(super) fn peer(&self, id: u64) -> Option<Arc<Peer>> {
        self.known.read().as_ref()?.peers.get(&id).cloned()
    }

    /// An id for metrics: whoever claims an id does not make a new label of it.
    pub(super) fn label(&self, id: u64) -> u64 {
        match &*self.known.read() {
            Some(known) if known.peers.contains_key(&id) || known.remotes.contains_key(&id) => id,
            _ => 0,
        }
    }

    /// Begins to talk to a member. One that is known already stays as it is.
    pub fn add_peer(&self, id: u64, urls: &[String]) {
        let Some(parsed) = self.parse(id, urls) else {
            return;
        };
        let mut known = self.known.write();
        let Some(known) = known.as_mut() else {
            return;
        };
        if id == self.context.options.local_id || known.peers.contains_key(&id) {
            return;
        }
        // It is more than that now.
        known.remotes.remove(&id);
        let peer = Peer::start(&self.context, &self.runtime, id, parsed);
        known.peers.insert(id, Arc::new(peer));
        info!(self.context.options.logger, "added remote peer";
            "local-member-id" => &self.context.local, "remote-peer-id" => hex(id),
            "remote-peer-urls" => ?urls);
    }

    /// A member that the cluster's log, as far as this one has it, does not know yet: it gets
    /// answers, as POSTs.
    pub fn add_remote(&self, id: u64, urls: &[String]) {
        if id == self.context.options.local_id || self.label(id) == id {
            return;
        }
        let Some(parsed) = self.parse(id, urls) else {
            return;
        };
        let mut known = self.known.write();
        let Some(known) = known.as_mut() else {
            return;
        };
        if known.peers.contains_key(&id) || known.remotes.contains_key(&id) {
            return;
        }
        let logger = &self.context.options.logger;
        if known.remotes.len() >= MAX_REMOTES {
            warn!(logger, "too many unknown members ask to be reached";
                "remote-peer-id" => hex(id), "remote-peer-urls" => ?urls);
            return;
        }
        let remote = Remote::start(&self.context, &self.runtime, id, parsed);
        known.remotes.insert(id, remote);
        info!(logger, "added new remote peer"; "local-member-id" => &self.context.local,
            "remote-peer-id" => hex(id), "remote-peer-urls" => ?urls);
    }

    /// The URLs of a member have changed. One that could not be reached by those before is begun to
    /// talk to now.
    pub fn update_peer(&self, id: u64, urls: &[String]) {
        let Some(peer) = self.peer(id) else {
            return self.add_peer(id, urls);
        };
        let Some(parsed) = self.parse(id, urls) else {
            return;
        };
        peer.update(parsed);
        info!(self.context.options.logger, "updated remote peer";
            "local-member-id" => &self.context.local, "updated-remote-peer-id" => hex(id),
            "updated-remote-peer-urls" => ?urls);
    }

    /// Talks to a member no more.
    pub fn remove_peer(&self, id: u64) {
        let removed = match self.known.write().as_mut() {
            Some(known) => {
                let remote = known.remotes.remove(&id);
                (known.peers.remove(&id), remote)
            }
            None => return,
        };
        let logger = &self.context.options.logger;
        if removed.0.is_some() {
            drop(removed);
            info!(logger, "removed remote peer"; "local-member-id" => &self.context.local,
                "removed-remote-peer-id" => hex(id));
        } else {
            warn!(logger, "skipped removing already removed peer";
                "local-member-id" => &self.context.local, "removed-remote-peer-id" => hex(id));
        }
    }

    /// To whom it talks as a member.
    pub fn ids(&self) -> Vec<u64> {
        let known = self.known.read();
        let peers = known.iter().flat_map(|known| known.peers.keys());
        peers.copied().collect()
    }

    /// Talks to nobody any more; members may be added again.
    pub fn remove_all(&self) {
        for id in self.ids() {
            self.remove_peer(id);
        }
    }

    /// Since when this peer can be reached, by the clock of the options; `None` when it cannot.
    pub fn active_since(&self, id: u64) -> Option<Duration> {
        self.peer(id)?.status.since()
    }

    /// How many peers can be reached.
    pub fn active_peers(&self) -> usize {
        let known = self.known.read();
        let peers = known.iter().flat_map(|known| known.peers.values());
        peers.filter(|peer| peer.status.since().is_some()).count()
    }

    /// Ends all connections and waits for the thread, unless it is the one that calls. Nothing is
    /// sent or answered afterwards.
    pub fn stop(&self) {
        let known = self.known.write().take();
        drop(known);
        let Some(thread) = self.thread.lock().take() else {
            return;
        };
        let _ = thread.stop.send(());
        if thread.id != std::thread::current().id() {
            // A panic has no more to say than that the thread is gone.
            let _ = thread.handle.join();
        }
    }

    fn parse(&self, id: u64, urls: &[String]) -> Option<Vec<PeerUrl>> {
        PeerUrl::parse_all(urls)
            .inspect_err(|error| {
                warn!(self.context.options.logger, "a member cannot be reached";
                    "remote-peer-id" => hex(id), "remote-peer-urls" => ?urls, "error" => %error);
            })
            .ok()
    }

    fn give_up_stalled(&self) {
        let peers: Vec<Arc<Peer>> = match &*self.known.read() {
            Some(known) => known.peers.values().cloned().collect(),
            None => return,
        };
        for peer in peers {
            peer.append.give_up_stalled();
            peer.message.give_up_stalled();
        }
    }
}

impl Drop for Peers {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Transport for Peers {
    fn send(&self, mut messages: Vec<raftpb::Message>) {
        drop_superseded(&mut messages);
        let known = self.known.read();
        let Some(known) = known.as_ref() else {
            return;
        };
        let mut filled: Vec<&Outbox> = Vec::new();
        for message in messages {
            let to = message.to();
            if let Some(peer) = known.peers.get(&to) {
                if message.r#type() == MessageType::MsgApp {
                    self.context.options.observer.append_sent(to);
                }
                if let Some(outbox) = peer.send(message)
                    && !filled.iter().any(|other| std::ptr::eq(*other, outbox))
                {
                    filled.push(outbox);
                }
            } else if let Some(remote) = known.remotes.get(&to) {
                remote.send(message);
            } else if to != 0 {
                debug!(self.context.options.logger,
                    "ignored message send request; unknown remote peer target";
                    "type" => message.r#type().as_str_name(),
                    "unknown-target-peer-id" => hex(to));
            }
        }
        // Once all is there, so that it leaves in one write.
        filled.into_iter().for_each(Outbox::wake);
    }
}

/// Of several acknowledgements the last says what the others do.
pub(super) fn drop_superseded(messages: &mut Vec<raftpb::Message>) {
    let is_ack = |m: &raftpb::Message| m.r#type() == MessageType::MsgAppResp && !m.reject();
    if messages.iter().filter(|m| is_ack(m)).count() < 2 {
        return;
    }
    let mut best: HashMap<(u64, u64), u64> = HashMap::new();
    for m in messages.iter().filter(|m| is_ack(m)) {
        let index = best.entry((m.to(), m.term())).or_default();
        *index = m.index().max(*index);
    }
    let mut sent: Vec<(u64, u64)> = Vec::new();
    messages.retain(|m| {
        if !is_ack(m) {
            return true;
        }
        let whom = (m.to(), m.term());
        let keep = best.get(&whom) == Some(&m.index()) && !sent.contains(&whom);
        if keep {
            sent.push(whom);
        }
        keep
    });
}
