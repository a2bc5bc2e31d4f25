//! Raised alarms and their bucket.
//!
//! Source: api-semantics 9.2, disk-format 6 (bucket `alarm`: key is the encoded `AlarmMember`).

use std::collections::BTreeSet;

use prost::Message as _;
use retcd_proto::etcdserverpb::alarm_request::AlarmAction;
use retcd_proto::etcdserverpb::{AlarmMember, AlarmRequest, AlarmType};
use retcd_storage::backend::{self, Bucket, Reader, Writer};

/// The alarms of the cluster: (member id, kind).
#[derive(Clone, Debug, Default)]
pub(crate) struct Alarms {
    raised: BTreeSet<(i32, u64)>,
}

impl Alarms {
    /// Reads what was raised before a restart.
    pub(crate) fn load(backend: &Reader) -> Result<Self, backend::Error> {
        let mut raised = BTreeSet::new();
        for (key, _) in backend.scan(Bucket::Alarm, &[], None, usize::MAX)? {
            if let Ok(alarm) = AlarmMember::decode(key) {
                raised.insert((alarm.alarm, alarm.member_id));
            }
        }
        Ok(Self { raised })
    }

    pub(crate) fn is_raised(&self, alarm: AlarmType) -> bool {
        self.raised.iter().any(|(kind, _)| *kind == alarm as i32)
    }

    /// All alarms of one kind; of every kind when it is `None`.
    pub(crate) fn list(&self, alarm: AlarmType) -> Vec<AlarmMember> {
        self.raised
            .iter()
            .filter(|(kind, _)| alarm == AlarmType::None || *kind == alarm as i32)
            .map(|&(alarm, member_id)| AlarmMember { member_id, alarm })
            .collect()
    }

    /// Applies a request that came through the log; returns the alarms that it concerns.
    pub(crate) fn apply(&mut self, backend: &mut Writer, r: &AlarmRequest) -> Vec<AlarmMember> {
        let alarm = AlarmMember {
            member_id: r.member_id,
            alarm: r.alarm,
        };
        let entry = (r.alarm, r.member_id);
        match r.action() {
            AlarmAction::Get => self.list(r.alarm()),
            AlarmAction::Activate if r.alarm == AlarmType::None as i32 => Vec::new(),
            AlarmAction::Activate => {
                if self.raised.insert(entry) {
                    backend.put(Bucket::Alarm, alarm.encode_to_vec(), Vec::new());
                }
                vec![alarm]
            }
            AlarmAction::Deactivate if self.raised.remove(&entry) => {
                backend.delete(Bucket::Alarm, alarm.encode_to_vec());
                vec![alarm]
            }
            AlarmAction::Deactivate => Vec::new(),
        }
    }
}
