//! A member of the cluster, and the ways to it.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use parking_lot::Mutex;
use retcd_proto::raftpb::{self, MessageType};
use slog::{info, warn};
use tokio::runtime::Handle;
use tokio::task::AbortHandle;

use super::context::Context;
use super::hex;
use super::outbox::{Kind, Outbox, Pushed};
use super::pipeline::Pipeline;
use super::probe::{self, Way};
use super::reader::Reader;
use super::snapshot_send::SnapshotSender;
use super::status::Status;
use super::url::{PeerUrl, Picker};

pub(super) struct Peer {
    context: Arc<Context>,
    runtime: Handle,
    id: u64,
    pub(super) status: Arc<Status>,
    urls: Arc<Picker>,
    pub(super) append: Arc<Outbox>,
    pub(super) message: Arc<Outbox>,
    pipeline: Arc<Pipeline>,
    snapshots: Arc<SnapshotSender>,
    tasks: Mutex<Tasks>,
}

#[derive(Default)]
struct Tasks {
    running: Vec<AbortHandle>,
    probes: Vec<AbortHandle>,
    snapshot: Option<AbortHandle>,
}

impl Peer {
    pub(super) fn start(
        context: &Arc<Context>,
        runtime: &Handle,
        id: u64,
        urls: Vec<PeerUrl>,
    ) -> Peer {
        let logger = &context.options.logger;
        info!(logger, "starting remote peer"; "remote-peer-id" => hex(id));
        let status = Arc::new(Status::new(context.clone(), id));
        let picker = Arc::new(Picker::new(urls.clone()));
        let outbox = |kind| Arc::new(Outbox::new(context.clone(), id, kind, status.clone()));
        let (append, message) = (outbox(Kind::Append), outbox(Kind::Message));
        let pipeline = Pipeline::new(context.clone(), id, status.clone(), picker.clone());
        let pipeline = Arc::new(pipeline);
        let mut running = pipeline.start(runtime);
        for kind in [Kind::Append, Kind::Message] {
            let reader = Reader {
                context: context.clone(),
                peer: id,
                kind,
                status: status.clone(),
                urls: picker.clone(),
            };
            running.push(runtime.spawn(reader.run()).abort_handle());
        }
        let snapshots = Arc::new(SnapshotSender {
            context: context.clone(),
            peer: id,
            status: status.clone(),
            urls: picker.clone(),
            busy: AtomicBool::new(false),
        });
        let peer = Peer {
            context: context.clone(),
            runtime: runtime.clone(),
            id,
            status,
            urls: picker,
            append,
            message,
            pipeline,
            snapshots,
            tasks: Mutex::new(Tasks {
                running,
                ..Tasks::default()
            }),
        };
        peer.probe(&urls);
        info!(logger, "started remote peer"; "remote-peer-id" => hex(id));
        peer
    }

    pub(super) fn update(&self, urls: Vec<PeerUrl>) {
        self.probe(&urls);
        self.urls.update(urls);
    }

    /// Begins to probe these URLs instead of the ones before.
    fn probe(&self, urls: &[PeerUrl]) {
        let mut tasks = self.tasks.lock();
        tasks.probes.iter().for_each(AbortHandle::abort);
        tasks.probes = [Way::Pipeline, Way::Stream]
            .map(|way| probe::run(self.context.clone(), self.id, urls.to_vec(), way))
            .map(|probe| self.runtime.spawn(probe).abort_handle())
            .into();
    }

    /// Never blocks. Returns the stream that has to be woken.
    pub(super) fn send(&self, message: raftpb::Message) -> Option<&Outbox> {
        let kind = message.r#type();
        if kind == MessageType::MsgSnap {
            if let Some(sending) = self.snapshots.start(message) {
                let task = self.runtime.spawn(sending).abort_handle();
                self.tasks.lock().snapshot = Some(task);
            }
            return None;
        }
        let (message, name) = match self.push(kind, message) {
            Ok(outbox) => return outbox,
            Err(dropped) => dropped,
        };
        warn!(self.context.options.logger,
            "dropped internal Raft message since sending buffer is full";
            "message-type" => kind.as_str_name(), "local-member-id" => &self.context.local,
            "from" => hex(message.from()), "remote-peer-id" => hex(self.id),
            "remote-peer-name" => name, "remote-peer-active" => self.status.since().is_some());
        self.context.member.report_unreachable(self.id);
        self.context.options.observer.send_failed(self.id);
        None
    }

    /// The first way that is open takes it, or nobody.
    #[expect(clippy::result_large_err, reason = "the message is moved once")]
    fn push(
        &self,
        kind: MessageType,
        mut message: raftpb::Message,
    ) -> Result<Option<&Outbox>, (raftpb::Message, &'static str)> {
        let append = (kind == MessageType::MsgApp).then_some((&self.append, Kind::Append));
        let ways = append.into_iter().chain([(&self.message, Kind::Message)]);
        for (outbox, kind) in ways {
            message = match outbox.push(message) {
                Pushed::Queued => return Ok(Some(outbox)),
                Pushed::Full(message) => return Err((message, kind.name())),
                Pushed::NoStream(message) => message,
            };
        }
        self.pipeline
            .push(message)
            .map(|()| None)
            .map_err(|message| (message, "pipeline"))
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let logger = &self.context.options.logger;
        info!(logger, "stopping remote peer"; "remote-peer-id" => hex(self.id));
        let tasks = std::mem::take(&mut *self.tasks.lock());
        let all = tasks.running.iter().chain(&tasks.probes);
        all.chain(&tasks.snapshot).for_each(AbortHandle::abort);
        self.append.close();
        self.message.close();
        self.pipeline.stopped();
        self.status.forget();
        info!(logger, "stopped remote peer"; "remote-peer-id" => hex(self.id));
    }
}
