//! The services of the etcd API, one method per call, free of any transport.
//!
//! The gRPC listener and the in-process client call the same methods.

pub(crate) mod check;
mod cluster;
mod health;
mod kv;
mod lease;
mod maintenance;
mod recipes;
mod snapshot;
mod variables;
mod watch;

use std::sync::Arc;

use crate::error::Error;
use crate::member::Member;
use crate::wait::Reply;

/// What may come on top of `--max-request-bytes` in a message.
pub(crate) const OVERHEAD_BYTES: usize = 512 * 1024;

/// What the transport knows of a caller.
#[derive(Clone, Debug, Default)]
pub(crate) struct Caller {
    /// The metadata `hasleader: true` was sent: refuse the call while there is no leader.
    pub(crate) require_leader: bool,
    /// The metadata `client-api-version`, already checked to be UTF-8.
    pub(crate) api_version: Option<String>,
}

/// The services of one member.
#[derive(Clone, Debug)]
pub(crate) struct Api {
    member: Arc<Member>,
}

impl Api {
    pub(crate) fn new(member: Arc<Member>) -> Self {
        Self { member }
    }

    /// The member behind the services.
    pub(crate) fn member(&self) -> &Arc<Member> {
        &self.member
    }

    /// What is checked before every call (api-semantics 5.1).
    fn admit(&self, caller: &Caller) -> Result<(), Error> {
        if self.member.is_learner() {
            return Err(Error::NotSupportedForLearner);
        }
        self.admit_anywhere(caller)
    }

    /// The same for the few calls that learners serve.
    fn admit_anywhere(&self, caller: &Caller) -> Result<(), Error> {
        let version = caller.api_version.as_deref();
        self.member.metrics.server.count_request(version);
        self.check_state(caller)
    }

    /// The same for what is no call of a client.
    fn admit_own(&self) -> Result<(), Error> {
        if self.member.is_learner() {
            return Err(Error::NotSupportedForLearner);
        }
        self.check_state(&Caller::default())
    }

    /// What is checked before every call with a stream.
    fn admit_stream(&self, caller: &Caller) -> Result<(), Error> {
        if self.member.is_learner() {
            return Err(Error::NotSupportedForLearner);
        }
        self.admit_stream_anywhere(caller)
    }

    /// The same for the few calls that learners serve.
    fn admit_stream_anywhere(&self, caller: &Caller) -> Result<(), Error> {
        let version = caller.api_version.as_deref();
        self.member.metrics.server.count_stream(version);
        self.check_state(caller)
    }

    fn check_state(&self, caller: &Caller) -> Result<(), Error> {
        if self.member.has_failed() {
            return Err(Error::Stopped);
        }
        if caller.require_leader && !self.member.has_leader() {
            return Err(Error::NoLeader);
        }
        Ok(())
    }

    /// The largest request on the wire: `--max-request-bytes` and 512 KiB for what wraps it.
    pub(crate) fn max_receive_bytes(&self) -> usize {
        self.member.limits.max_request_bytes + OVERHEAD_BYTES
    }

    /// The versions of server, cluster and storage; the last two are `not_decided` and `unknown` at first.
    pub(crate) fn version(&self) -> (String, String, String) {
        let cluster = self.member.cluster.load();
        let storage = self.member.storage_version();
        (
            crate::config::ETCD_VERSION.to_owned(),
            cluster.version().unwrap_or("not_decided").to_owned(),
            if storage.is_empty() {
                "unknown".to_owned()
            } else {
                storage
            },
        )
    }

    /// The metrics in Prometheus' text format.
    pub(crate) fn metrics(&self) -> String {
        self.member.render_metrics()
    }
}

fn unexpected(reply: &Reply) -> Error {
    Error::Internal(format!("a request got another one's reply: {reply:?}"))
}

/// Runs work that may take long away from the threads that serve connections.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Error> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|error| Error::Internal(error.to_string()))
}

/// `3.7` of `3.7.0`.
pub(crate) fn major_minor(version: &str) -> String {
    version.split('.').take(2).collect::<Vec<_>>().join(".")
}
