//! Members that this one does not know yet: POSTs reach them at the URLs that they told.

use std::sync::Arc;

use retcd_proto::raftpb;
use slog::warn;
use tokio::runtime::Handle;
use tokio::task::AbortHandle;

use super::context::Context;
use super::hex;
use super::pipeline::Pipeline;
use super::status::Status;
use super::url::{PeerUrl, Picker};

/// Who claims to be one costs memory.
pub(super) const MAX_REMOTES: usize = 128;

pub(super) struct Remote {
    context: Arc<Context>,
    runtime: Handle,
    id: u64,
    status: Arc<Status>,
    pipeline: Arc<Pipeline>,
    tasks: Vec<AbortHandle>,
}

impl Remote {
    pub(super) fn start(
        context: &Arc<Context>,
        runtime: &Handle,
        id: u64,
        urls: Vec<PeerUrl>,
    ) -> Remote {
        let urls = Arc::new(Picker::new(urls));
        let status = Arc::new(Status::new(context.clone(), id));
        let pipeline = Arc::new(Pipeline::new(context.clone(), id, status.clone(), urls));
        let tasks = pipeline.start(runtime);
        Remote {
            context: context.clone(),
            runtime: runtime.clone(),
            id,
            status,
            pipeline,
            tasks,
        }
    }

    pub(super) fn send(&self, message: raftpb::Message) {
        let snapshot = message.r#type() == raftpb::MessageType::MsgSnap;
        if snapshot {
            // As in etcd, a snapshot needs a peer. Not from here: this is the raft thread, and the
            // report goes to it.
            let (member, id) = (self.context.member.clone(), self.id);
            // Nor from the thread of all peers: it would wait for the raft thread.
            self.runtime
                .spawn_blocking(move || member.report_snapshot(id, false));
            return;
        }
        if let Err(message) = self.pipeline.push(message) {
            warn!(self.context.options.logger,
                "dropped internal Raft message since sending buffer is full (overloaded network)";
                "message-type" => message.r#type().as_str_name(),
                "local-member-id" => &self.context.local, "from" => hex(message.from()),
                "remote-peer-id" => hex(self.id),
                "remote-peer-active" => self.status.since().is_some());
            self.context.options.observer.send_failed(self.id);
        }
    }
}

impl Drop for Remote {
    fn drop(&mut self) {
        self.tasks.iter().for_each(AbortHandle::abort);
        self.status.forget();
        self.pipeline.stopped();
    }
}
