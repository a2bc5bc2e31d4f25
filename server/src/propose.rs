//! The one way into the log: size limit, back-pressure, request id, wait for the outcome.
//!
//! Source: raft-log 2.1; etcd `server/etcdserver/v3_server.go`.

use std::time::Duration;

use prost::Message as _;
use retcd_proto::etcdserverpb::{InternalRaftRequest, RequestHeader};
use retcd_raft_node::ProposeError;
use tokio::time::{Instant, sleep, timeout_at};

use crate::error::Error;
use crate::member::Member;
use crate::metrics::Op;
use crate::wait::{Outcome, Reply};

/// No new work while more entries than this are committed and not yet applied; etcd's value.
const MAX_APPLY_LAG: u64 = 5000;

/// How long new work waits for that to end before it is refused. etcd refuses it at once, so that a burst becomes errors of
/// its clients.
const LAG_PATIENCE: Duration = Duration::from_secs(1);

/// Before a leader is asked again that had no room, or was just about to lead no more.
const REST: Duration = Duration::from_millis(50);

impl Member {
    /// Sends a request through the log and waits until it is applied here.
    ///
    /// Once proposed, it takes effect even if the caller goes away.
    pub(crate) async fn propose(&self, request: InternalRaftRequest) -> Result<Reply, Error> {
        let started = Instant::now();
        let op = Op::of(&request);
        let result = self.propose_until(request, started).await;
        let server = &self.metrics.server;
        let failed = matches!(
            result,
            Err(Error::Timeout
                | Error::TimeoutDueToLeaderFail
                | Error::TimeoutDueToConnectionLost
                | Error::NeverProposed)
        );
        if failed {
            server.proposals_failed.inc();
        }
        // As in etcd, success means that it was applied, whatever came of that; what is turned away does not count.
        let applied = !failed && !matches!(result, Err(Error::RequestTooLarge | Error::Stopped));
        if !matches!(result, Err(Error::TooManyRequests)) {
            let took = started.elapsed().as_secs_f64();
            server.request_duration.observe(op, applied, took);
        }
        result
    }

    async fn propose_until(
        &self,
        mut request: InternalRaftRequest,
        started: Instant,
    ) -> Result<Reply, Error> {
        loop {
            let enough = self.node().status().committed.saturating_sub(MAX_APPLY_LAG);
            if self.applied() >= enough {
                break;
            }
            timeout_at(started + LAG_PATIENCE, self.applied_up_to(enough))
                .await
                .map_err(|_| Error::TooManyRequests)??;
        }
        let id = self.request_ids.next();
        request.header = Some(RequestHeader {
            id,
            ..RequestHeader::default()
        });
        let size = request.encoded_len();
        if size > self.limits.max_request_bytes {
            return Err(Error::RequestTooLarge);
        }
        let mut data = Vec::with_capacity(size);
        request.encode(&mut data).expect("a vector grows as needed");
        let data = bytes::Bytes::from(data);

        let deadline = started + self.limits.request_timeout;
        let mut leader = self.leader.subscribe();
        loop {
            leader.mark_unchanged();
            let mut waiter = self.waiters.register(id);
            match self.node().propose(data.clone()) {
                Ok(()) => {}
                Err(ProposeError::TooLarge(_)) => return Err(Error::RequestTooLarge),
                Err(ProposeError::Full) => return Err(Error::TooManyRequests),
                Err(ProposeError::Stopped) => return Err(Error::Stopped),
            }
            let outcome = timeout_at(deadline, waiter.outcome())
                .await
                .map_err(|_| self.timeout_error(started))??;
            match outcome {
                Outcome::Applied(result) => return result,
                // Not in any log: propose again, as soon as there is a leader.
                Outcome::Dropped if leader.borrow().id != 0 => {
                    timeout_at(deadline, sleep(REST))
                        .await
                        .map_err(|_| self.timeout_error(started))?;
                }
                Outcome::Dropped => {
                    timeout_at(deadline, leader.wait_for(|l| l.id != 0))
                        .await
                        .map_err(|_| Error::NeverProposed)?
                        .map_err(|_| Error::Stopped)?;
                }
            }
        }
    }

    /// Why a request that started then got no answer in time.
    ///
    /// Source: etcd `parseProposeCtxErr`.
    pub(crate) fn timeout_error(&self, started: Instant) -> Error {
        let leader = *self.leader.borrow();
        let lost = 2 * self.limits.election_timeout;
        if let Some(elected) = leader.elected
            && started < elected
            && started + lost > elected
        {
            return Error::TimeoutDueToLeaderFail;
        }
        let waited = started.elapsed();
        let connected = if leader.id == 0 {
            true
        } else if leader.id == self.id {
            let cluster = self.cluster.load();
            let all = cluster.members().len();
            let reached = cluster
                .members()
                .filter(|m| self.connected_for(m.id, waited));
            reached.count() > all / 2
        } else {
            self.connected_for(leader.id, waited)
        };
        match connected {
            true => Error::Timeout,
            false => Error::TimeoutDueToConnectionLost,
        }
    }
}
