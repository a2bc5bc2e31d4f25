//! Status, alarms and upkeep of the member in the same process.

use futures_util::{Stream, StreamExt as _};
use retcd_proto::etcdserverpb as pb;
use retcd_proto::etcdserverpb::alarm_request::AlarmAction;

use super::Client;
use crate::error::Error;

impl Client {
    /// `Maintenance.Status`: versions, who leads (0: nobody), indexes, and the bytes of the database.
    ///
    /// # Errors
    /// As the service.
    pub async fn status(&self) -> Result<pb::StatusResponse, Error> {
        self.api()?.status(&self.caller, pb::StatusRequest {}).await
    }

    /// `Maintenance.Alarm`: the alarms that are raised, whichever member they are of.
    ///
    /// # Errors
    /// As the service.
    pub async fn alarms(&self) -> Result<Vec<pb::AlarmMember>, Error> {
        self.alarm(AlarmAction::Get, 0, pb::AlarmType::None).await
    }

    /// `Maintenance.Alarm`: ends an alarm of a member. Returns what was ended: nothing, if it was not raised.
    ///
    /// It is raised again as soon as its reason is there again.
    ///
    /// # Errors
    /// As the service.
    pub async fn alarm_disarm(
        &self,
        member_id: u64,
        alarm: pb::AlarmType,
    ) -> Result<Vec<pb::AlarmMember>, Error> {
        self.alarm(AlarmAction::Deactivate, member_id, alarm).await
    }

    async fn alarm(
        &self,
        action: AlarmAction,
        member_id: u64,
        alarm: pb::AlarmType,
    ) -> Result<Vec<pb::AlarmMember>, Error> {
        let request = pb::AlarmRequest {
            action: action as i32,
            member_id,
            alarm: alarm as i32,
        };
        Ok(self.api()?.alarm(&self.caller, request).await?.alarms)
    }

    /// `Maintenance.Defragment`: gives the free pages of this member's database back to the file system. Reads and
    /// writes go on meanwhile.
    ///
    /// # Errors
    /// `Internal` when the database cannot be written anew.
    pub async fn defragment(&self) -> Result<(), Error> {
        let request = pb::DefragmentRequest {};
        self.api()?.defragment(&self.caller, request).await?;
        Ok(())
    }

    /// `Maintenance.Hash`: of all buckets of this member's database. Two members of one cluster need not have the
    /// same; see [`hash_kv`](Self::hash_kv).
    ///
    /// # Errors
    /// As the service.
    pub async fn hash(&self) -> Result<pb::HashResponse, Error> {
        self.api()?.hash(&self.caller, pb::HashRequest {}).await
    }

    /// `Maintenance.HashKV`; revision 0 is the newest. Members that have the same revision, and compacted the same
    /// one, have the same hash.
    ///
    /// # Errors
    /// `Compacted`, `FutureRev`.
    pub async fn hash_kv(&self, revision: i64) -> Result<pb::HashKvResponse, Error> {
        let request = pb::HashKvRequest { revision };
        self.api()?.hash_kv(&self.caller, request).await
    }

    /// `Maintenance.MoveLeader`: this member, which has to lead, hands over to another voter. Returns when that one
    /// leads.
    ///
    /// # Errors
    /// `NotLeader`; `BadLeaderTransferee` for a learner or for nobody; `TimeoutLeaderTransfer`.
    pub async fn move_leader(&self, target_id: u64) -> Result<(), Error> {
        let request = pb::MoveLeaderRequest { target_id };
        self.api()?.move_leader(&self.caller, request).await?;
        Ok(())
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
}
