mod backlog;
mod changes;
mod crash;
mod rig;
mod running;
mod script;
mod transfer;

use retcd_proto::raftpb::{self, MessageType};
use retcd_storage::backend::DatabaseCopy;

use self::rig::{Rig, disk, leader};
use self::script::Script;

/// A member that has heard everything up to where `script` ends.
fn ahead(script: &Script) -> Rig {
    let mut rig = Rig::start(&disk(), 1).unwrap();
    let (before, entries) = script.behind(script::FOUNDED);
    rig.tell(before, entries);
    rig.apply(script.last());
    rig
}

/// The snapshot that `from` sends to member 2 in the leader's name.
fn snapshot_of(from: &Rig) -> (raftpb::Message, Vec<u8>) {
    let asked = raftpb::Message {
        r#type: Some(MessageType::MsgSnap as i32),
        to: Some(rig::id(2)),
        from: Some(leader()),
        term: Some(rig::TERM),
        snapshot: Some(raftpb::Snapshot::default()),
        ..Default::default()
    };
    let (message, copy) = from.member.database_to_send(asked).unwrap();
    let DatabaseCopy { len, mut bytes } = copy;
    let mut database = Vec::new();
    bytes.read_to_end(&mut database).unwrap();
    assert_eq!(database.len() as u64, len);
    (message, database)
}

fn index_of(message: &raftpb::Message) -> u64 {
    let snapshot = message.snapshot.clone().unwrap();
    snapshot.metadata.unwrap().index()
}
