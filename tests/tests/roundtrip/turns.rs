//! Clean stops.

use crate::handover::Handover;
use crate::rig::{Rig, Side, chance, keys};

fn take_turns(test: &str, sides: &[Side], keys: u64) {
    let Some(rig) = Rig::find() else { return };
    let mut house = Handover::begin(&rig, sides[0], chance(test));
    for (turn, side) in sides.iter().enumerate() {
        if turn > 0 {
            house.hand_to(*side);
            house.compare();
        }
        house.write(if turn == 0 { keys } else { keys / 20 + 100 }, 2);
        house.remember();
        house.stop();
        println!("{test}: turn {} of {} ({side:?}) is over", turn + 1, sides.len());
    }
}

#[test]
fn five_turns() {
    take_turns("five_turns", &[Side::Go, Side::Ours, Side::Go, Side::Ours, Side::Go], keys());
}

#[test]
fn begun_by_ours() {
    take_turns("begun_by_ours", &[Side::Ours, Side::Go, Side::Ours, Side::Go], keys() / 4);
}

/// The suite itself: genuine etcd agrees with itself.
#[test]
fn go_alone() {
    take_turns("go_alone", &[Side::Go, Side::Go], 2000);
}
