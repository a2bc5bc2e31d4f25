//! A client of a member in the same process: no socket, no TLS, no encoding of requests.

mod cluster;
mod lease;
mod maintenance;
mod recipes;
mod watch;

use std::sync::Weak;

use bytes::Bytes;
use futures_util::{Stream, StreamExt as _};
use prost::Message;
use retcd_proto::etcdserverpb as pb;
use retcd_proto::mvccpb::KeyValue;

use crate::api::{Api, Caller};
use crate::error::Error;
use crate::member::Member;

pub use lease::KeepAliveStream;
pub use recipes::ObserveStream;
pub use watch::WatchStream;

/// Calls the services of a member directly. Cheap to clone; usable from any tokio runtime.
///
/// The calls, their errors and their effects are those of the gRPC services. After the member
/// has stopped, every call answers [`Error::Stopped`].
#[derive(Clone, Debug)]
pub struct Client {
    member: Weak<Member>,
    caller: Caller,
}

impl Client {
    pub(crate) fn new(member: Weak<Member>) -> Self {
        Self {
            member,
            caller: Caller::default(),
        }
    }

    /// A client whose calls need a leader, as those with etcd's metadata `hasleader: true`.
    ///
    /// While this member knows of no leader, its calls answer [`Error::NoLeader`] at once, serializable reads too, and
    /// its streams of watches and renewals end with that error after three election timeouts.
    ///
    /// ```no_run
    /// # use retcd_proto::etcdserverpb::WatchCreateRequest;
    /// # async fn run(client: retcd::Client) -> Result<(), retcd::Error> {
    /// // Instead of waiting on a member that was cut off, the watch ends and can go on elsewhere.
    /// let mut watch = client.with_require_leader().watch(WatchCreateRequest {
    ///     key: "config".into(),
    ///     ..Default::default()
    /// })?;
    /// # while let Some(reply) = watch.next().await { reply?; }
    /// # Ok(()) }
    /// ```
    #[must_use]
    pub fn with_require_leader(&self) -> Self {
        let mut with = self.clone();
        with.caller.require_leader = true;
        with
    }

    /// The services, as long as the member runs.
    fn api(&self) -> Result<Api, Error> {
        self.member.upgrade().map(Api::new).ok_or(Error::Stopped)
    }

    /// Stores `value` under `key`; returns the new revision.
    ///
    /// # Errors
    /// As `KV.Put`.
    pub async fn put(&self, key: impl Into<Bytes>, value: impl Into<Bytes>) -> Result<i64, Error> {
        let request = pb::PutRequest {
            key: key.into(),
            value: value.into(),
            ..Default::default()
        };
        Ok(revision(self.put_request(request).await?.header))
    }

    /// The newest pair under `key`, by a linearizable read.
    ///
    /// # Errors
    /// As `KV.Range`.
    pub async fn get(&self, key: impl Into<Bytes>) -> Result<Option<KeyValue>, Error> {
        let request = pb::RangeRequest {
            key: key.into(),
            ..Default::default()
        };
        Ok(self.range(request).await?.kvs.into_iter().next())
    }

    /// Deletes `key`; returns whether it existed.
    ///
    /// # Errors
    /// As `KV.DeleteRange`.
    pub async fn delete(&self, key: impl Into<Bytes>) -> Result<bool, Error> {
        let request = pb::DeleteRangeRequest {
            key: key.into(),
            ..Default::default()
        };
        Ok(self.delete_range(request).await?.deleted > 0)
    }

    /// `KV.Range`.
    ///
    /// # Errors
    /// As the service.
    pub async fn range(&self, r: pb::RangeRequest) -> Result<pb::RangeResponse, Error> {
        decode(&self.api()?.range(&self.caller, r).await?)
    }

    /// `KV.RangeStream`: a range in messages of some pairs each, all of one revision, that of the first. Only the last
    /// one has `header`, `more` and `count`.
    ///
    /// A message is read when it is asked for. In between the stream holds nothing of the member, so a compaction may
    /// pass it by: then it ends with [`Error::Compacted`]. It ends with [`Error::Stopped`] when the member stops.
    ///
    /// # Errors
    /// As `KV.Range`; `StreamSortOrder` and `StreamRevisionFilter` for what cannot be told before all is read.
    pub async fn range_stream(
        &self,
        r: pb::RangeRequest,
    ) -> Result<
        impl Stream<Item = Result<pb::RangeStreamResponse, Error>> + Send + Unpin + use<>,
        Error,
    > {
        let messages = self.api()?.range_stream(&self.caller, r).await?;
        let decoded = messages.map(|message| decode::<pb::RangeStreamResponse>(&message?));
        Ok(decoded.boxed())
    }

    /// `KV.Put`.
    ///
    /// # Errors
    /// As the service.
    pub async fn put_request(&self, r: pb::PutRequest) -> Result<pb::PutResponse, Error> {
        decode(&self.api()?.put(&self.caller, r).await?)
    }

    /// `KV.DeleteRange`.
    ///
    /// # Errors
    /// As the service.
    pub async fn delete_range(
        &self,
        r: pb::DeleteRangeRequest,
    ) -> Result<pb::DeleteRangeResponse, Error> {
        decode(&self.api()?.delete_range(&self.caller, r).await?)
    }

    /// `KV.Txn`.
    ///
    /// # Errors
    /// As the service.
    pub async fn txn(&self, r: pb::TxnRequest) -> Result<pb::TxnResponse, Error> {
        decode(&self.api()?.txn(&self.caller, r).await?)
    }

    /// `KV.Compact`.
    ///
    /// # Errors
    /// As the service.
    pub async fn compact(&self, r: pb::CompactionRequest) -> Result<pb::CompactionResponse, Error> {
        self.api()?.compact(&self.caller, r).await
    }
}

fn revision(header: Option<pb::ResponseHeader>) -> i64 {
    header.map_or(0, |header| header.revision)
}

/// The reply with its stored pairs decoded.
fn decode<T: Message + Default>(reply: &impl Message) -> Result<T, Error> {
    T::decode(Bytes::from(reply.encode_to_vec()))
        .map_err(|error| Error::Internal(format!("a stored pair cannot be decoded: {error}")))
}
