//! The Lease service.
//!
//! Source: api-semantics 8; etcd `server/etcdserver/api/v3rpc/lease.go`.

use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll};

use futures_util::stream::{Fuse, FuturesOrdered};
use futures_util::{Stream, StreamExt as _, future, stream};
use retcd_proto::etcdserverpb as pb;
use tokio::sync::watch;

use super::{Api, Caller};
use crate::error::Error;
use crate::lease::Part;
use crate::member::Member;
use crate::wait::Reply;
use crate::watch::{Host as _, Lost};

/// Renewals of one stream that are under way together. Their answers keep the order of the requests; with more,
/// the client waits.
const AHEAD: usize = 64;

/// A stream of requests for renewals.
pub(crate) type Requests<E> =
    Pin<Box<dyn Stream<Item = Result<pb::LeaseKeepAliveRequest, E>> + Send>>;

impl Api {
    pub(crate) async fn lease_grant(
        &self,
        caller: &Caller,
        mut r: pb::LeaseGrantRequest,
    ) -> Result<pb::LeaseGrantResponse, Error> {
        self.admit(caller)?;
        self.member.choose_lease_id(&mut r);
        let id = r.id;
        let request = pb::InternalRaftRequest {
            lease_grant: Some(r),
            ..Default::default()
        };
        match self.write(request).await? {
            Reply::LeaseGranted { ttl, revision } => Ok(pb::LeaseGrantResponse {
                header: Some(self.member.header_at(revision)),
                id,
                ttl,
                error: String::new(),
            }),
            other => Err(super::unexpected(&other)),
        }
    }

    pub(crate) async fn lease_revoke(
        &self,
        caller: &Caller,
        r: pb::LeaseRevokeRequest,
    ) -> Result<pb::LeaseRevokeResponse, Error> {
        self.admit(caller)?;
        let request = pb::InternalRaftRequest {
            lease_revoke: Some(r),
            ..Default::default()
        };
        match self.write(request).await? {
            Reply::LeaseRevoked { revision } => Ok(pb::LeaseRevokeResponse {
                header: Some(self.member.header_at(revision)),
            }),
            other => Err(super::unexpected(&other)),
        }
    }

    pub(crate) async fn lease_time_to_live(
        &self,
        caller: &Caller,
        r: pb::LeaseTimeToLiveRequest,
    ) -> Result<pb::LeaseTimeToLiveResponse, Error> {
        self.admit(caller)?;
        let mut reply = pb::LeaseTimeToLiveResponse {
            id: r.id,
            ttl: -1,
            ..Default::default()
        };
        match self.member.time_to_live(r.id, r.keys).await {
            Ok(found) => {
                (reply.ttl, reply.granted_ttl) = (found.left, found.granted);
                reply.keys = found.keys;
            }
            Err(Error::LeaseNotFound) => {}
            Err(error) => return Err(error),
        }
        reply.header = Some(self.member.header());
        Ok(reply)
    }

    pub(crate) async fn lease_leases(
        &self,
        caller: &Caller,
        _: pb::LeaseLeasesRequest,
    ) -> Result<pb::LeaseLeasesResponse, Error> {
        self.admit(caller)?;
        let ids = self.member.leases.ids().into_iter();
        Ok(pb::LeaseLeasesResponse {
            header: Some(self.member.header()),
            leases: ids.map(|id| pb::LeaseStatus { id }).collect(),
        })
    }

    /// A stream of renewals. It ends with its requests, with an error, or when the member stops.
    pub(crate) fn lease_keep_alive<E: From<Error> + Send + 'static>(
        &self,
        caller: &Caller,
        requests: Requests<E>,
    ) -> Result<impl Stream<Item = Result<pb::LeaseKeepAliveResponse, E>> + Send + use<E>, Error>
    {
        self.admit_stream(caller)?;
        // Not to keep the member, and its files, open while a stream is idle.
        let replies = Renewals {
            member: Arc::downgrade(&self.member),
            requests: requests.fuse(),
            waiting: FuturesOrdered::new(),
        };
        let stream = KeepAlive {
            replies,
            part: self.member.leases.part(),
            lost: match caller.require_leader {
                true => self.member.without_leader(),
                false => Box::pin(future::pending()),
            },
        };
        Ok(stream::unfold(Some(stream), |stream| async {
            let mut stream = stream?;
            let reply = stream.next().await?;
            let stream = reply.is_ok().then_some(stream);
            Some((reply, stream))
        }))
    }
}

async fn answer<E: From<Error>>(
    member: Weak<Member>,
    request: Result<pb::LeaseKeepAliveRequest, E>,
) -> Result<pb::LeaseKeepAliveResponse, E> {
    let id = request?.id;
    let member = member.upgrade().ok_or(Error::Stopped)?;
    // Before the renewal: whoever reads at its revision may find the lease gone.
    let header = Some(member.header());
    match member.renew(id).await {
        Ok(ttl) => Ok(pb::LeaseKeepAliveResponse { header, id, ttl }),
        Err(Error::LeaseNotFound) => Ok(pb::LeaseKeepAliveResponse { header, id, ttl: 0 }),
        Err(error) => Err(error.into()),
    }
}

type Answer<E> = Result<pb::LeaseKeepAliveResponse, E>;

/// Renewals, in the order of their requests. One that needs not wait is answered at once, without joining those that do.
struct Renewals<E> {
    member: Weak<Member>,
    requests: Fuse<Requests<E>>,
    waiting: FuturesOrdered<Pin<Box<dyn Future<Output = Answer<E>> + Send>>>,
}

impl<E: From<Error> + Send + 'static> Stream for Renewals<E> {
    type Item = Answer<E>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Answer<E>>> {
        while self.waiting.len() < AHEAD {
            let Poll::Ready(Some(request)) = self.requests.poll_next_unpin(context) else {
                break;
            };
            let mut answer = Box::pin(answer(self.member.clone(), request));
            if self.waiting.is_empty()
                && let Poll::Ready(answer) = answer.as_mut().poll(context)
            {
                return Poll::Ready(Some(answer));
            }
            self.waiting.push_back(answer);
        }
        match self.waiting.poll_next_unpin(context) {
            Poll::Ready(None) if !self.requests.is_done() => Poll::Pending,
            answer => answer,
        }
    }
}

/// A stream being answered.
struct KeepAlive<E> {
    replies: Renewals<E>,
    part: watch::Receiver<Part>,
    lost: Lost,
}

impl<E: From<Error> + Send + 'static> KeepAlive<E> {
    async fn next(&mut self) -> Option<Result<pb::LeaseKeepAliveResponse, E>> {
        tokio::select! {
            biased;
            reply = self.replies.next() => reply,
            // An error means that the member is gone.
            _ = self.part.wait_for(|part| *part == Part::Stopped) => Some(Err(Error::Stopped.into())),
            () = &mut self.lost => Some(Err(Error::NoLeader.into())),
        }
    }
}
