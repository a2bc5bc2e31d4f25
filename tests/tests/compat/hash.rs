//! `HashKV` at every revision of a long history.

use crate::requests::*;
use crate::script::Script;
use retcd_tests::random::Random;

const REVISIONS: i64 = 300;

/// Changes that each make one revision: puts, deletions, transactions.
fn changes(s: &mut Script, random: &mut Random, count: usize) {
    for n in 0..count {
        let key = |random: &mut Random| format!("key/{:02}", random.within(0, 24));
        let fresh =
            put(key(random), format!("{n:0width$}", width = usize::try_from(random.within(1, 60)).expect("small")));
        match random.within(0, 10) {
            // A deletion that finds nothing makes no revision, so each comes with a put.
            0..=1 => s.setup(batch([delete(key(random)).op(), put(format!("mark/{}", n % 7), "").op()])),
            2 => s.setup(batch([delete_range("key/05", "key/15").op(), put(format!("mark/{}", n % 5), "x").op()])),
            3 => s.setup(txn(
                [when("mark/0", GREATER, version(2))],
                [fresh.op(), delete("mark/0").op()],
                [put("mark/0", "+").op()],
            )),
            4 => s.setup(batch([fresh.op(), put("other", n.to_string()).op(), batch([put("deep", "d").op()]).op()])),
            _ => s.setup(fresh),
        };
    }
}

fn hashes(s: &mut Script, name: &str, from: i64) {
    for revision in from..=REVISIONS + 1 {
        s.setup(hash_kv(revision));
    }
    s.good(format!("hash of the newest, {name}"), hash_kv(0));
    s.bad(format!("hash of the future, {name}"), hash_kv(REVISIONS + 2));
    s.bad(format!("hash of a negative revision, {name}"), hash_kv(-1))
        .differs("below 0 is the newest, as for a range; Go hashes nothing");
}

pub(crate) fn history() -> Script {
    let mut s = Script::new("hash");
    let count = usize::try_from(REVISIONS).expect("small");
    changes(&mut s, &mut Random::new(37), count);
    s.good("the history", RangeRequest { count_only: true, ..all() });
    hashes(&mut s, "whole", 1);
    for revision in [1, 77, 78, 150, 299, 301] {
        s.good(format!("compact to {revision}"), CompactionRequest { revision, physical: true });
        hashes(&mut s, &format!("compacted to {revision}"), revision);
        s.bad(format!("hash before {revision}"), hash_kv(revision - 1));
    }
    s.good("everything deleted", delete_range("\0", "\0"));
    s.good("hash of nothing", hash_kv(0));
    s.good("compact the deletion", CompactionRequest { revision: 302, physical: true });
    s.good("hash after that", hash_kv(0));
    s.good("and once more", hash_kv(302));
    s
}
