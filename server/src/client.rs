//! A client of a member in the same process: no socket, no TLS, no encoding of requests.

mod lease;
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

    /// `Maintenance.Status`.
    ///
    /// # Errors
    /// As the service.
    pub async fn status(&self) -> Result<pb::StatusResponse, Error> {
        self.api()?.status(&self.caller, pb::StatusRequest {}).await
    }

    /// `Maintenance.HashKV`; revision 0 is the newest.
    ///
    /// # Errors
    /// As the service.
    pub async fn hash_kv(&self, revision: i64) -> Result<pb::HashKvResponse, Error> {
        let request = pb::HashKvRequest { revision };
        self.api()?.hash_kv(&self.caller, request).await
    }

    /// `Maintenance.Snapshot`: the database as of now in blobs of 32 KiB, then the 32 bytes of its
    /// SHA-256. Written one after the other they are the file that `etcdctl snapshot save` makes.
    ///
    /// Only a few blobs are in memory at a time. The stream must be read on: while it lives, the
    /// database cannot use again what it holds. It ends with [`Error::Stopped`] when the member
    /// stops.
    ///
    /// # Errors
    /// As the service.
    pub async fn snapshot(
        &self,
    ) -> Result<impl Stream<Item = Result<pb::SnapshotResponse, Error>> + Send + Unpin + use<>, Error>
    {
        let request = pb::SnapshotRequest {};
        Ok(self.api()?.snapshot(&self.caller, request).await?.boxed())
    }

    /// `Cluster.MemberList`.
    ///
    /// # Errors
    /// As the service.
    pub async fn member_list(&self) -> Result<pb::MemberListResponse, Error> {
        let request = pb::MemberListRequest { linearizable: true };
        self.api()?.member_list(&self.caller, request).await
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
