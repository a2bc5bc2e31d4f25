//! `kill -9` while writes are in flight and a compaction deletes.

use std::path::Path;

use retcd_tests::state::{Load, Which, same_lines};
use retcd_tests::tree::copy_dir;

use crate::files;
use crate::handover::Handover;
use crate::rig::{Rig, Side, chance, keys};

/// Each dies under load; its own recovery and, on a copy, that of the next one come to the same.
fn die_in_turns(test: &str, sides: &[Side], keys: u64) {
    let Some(rig) = Rig::find() else { return };
    let mut house = Handover::begin(&rig, sides[0], chance(test));
    house.write(keys, 1);
    for (turn, next) in sides.iter().skip(1).enumerate() {
        house.remember();
        let (acks, copy) = (house.folder("acks"), house.folder("copy"));
        let acknowledged = kill_under_load(&mut house, &acks);
        files::check(&house.rig, &house.database()).unwrap_or_else(|why| panic!("{}", house.trouble(&why)));
        copy_dir(house.member.dir(), &copy);

        house.hand_to(house.side);
        let found = verify(&house, &acks);
        let before = house.expected.clone().expect("remembered above");
        let which = house.samples(Some(before.revision));
        let recovered = house.show(&which);
        same_lines(&before.keys_at(before.revision), &recovered.keys_at(before.revision))
            .unwrap_or_else(|why| panic!("{}", house.trouble(&why)));
        house.member.kill();

        house.put_back(&copy);
        house.hand_to(*next);
        verify(&house, &acks);
        let shown = house.show(&Which::These { revs: recovered.revs.clone(), keys_at: Some(before.revision) });
        let recovered = recovered.completed_by(Some(&before));
        shown.compare(&recovered, house.side.skip()).unwrap_or_else(|why| panic!("{}", house.trouble(&why)));
        shown.remove();
        house.expect(recovered);
        println!("{test}: {acknowledged} calls, {found} effects survive death {} with {next:?}", turn + 1);
        house.write(keys / 20 + 100, 1);
    }
    house.remember();
    house.stop();
}

/// Ends the member in the middle of writes, a compaction too; returns how many calls were acknowledged.
fn kill_under_load(house: &mut Handover, acks: &Path) -> u64 {
    let mut load = Load { keys: 500, ops: 0, compactions: 0, leases: 10, users: 2, ..house.load.clone() };
    let target = house.random.within(500, 4000);
    let writing = house.rig.state.load_until_gone(&house.member, house.side.skip(), &load, acks);
    let mut writing = writing.unwrap_or_else(|why| panic!("{}", house.trouble(&why)));
    writing.wait(target).unwrap_or_else(|why| panic!("{}", house.trouble(&why)));
    assert!(house.member.running(), "{}", house.trouble("it ended by itself"));
    house.member.kill();
    let loaded = writing.finish(&mut load).unwrap_or_else(|why| panic!("{}", house.trouble(&why)));
    house.load = load;
    loaded.operations
}

fn verify(house: &Handover, acks: &Path) -> u64 {
    let found = house.rig.state.verify(&house.member, house.side.skip(), acks);
    let found = found.unwrap_or_else(|why| panic!("{}", house.trouble(&why)));
    assert!(found > 500, "{}", house.trouble(&format!("only {found} acknowledged effects could be looked for")));
    found
}

#[test]
fn killed_in_turns() {
    die_in_turns("killed_in_turns", &[Side::Go, Side::Ours, Side::Go, Side::Ours, Side::Go], keys() / 4);
}

#[test]
fn killed_go_alone() {
    die_in_turns("killed_go_alone", &[Side::Go, Side::Go], 1000);
}
