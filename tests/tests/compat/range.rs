//! `Range` and `RangeStream` with every option.

use crate::requests::*;
use crate::script::{Call, Script};

/// A history in which order by key, creation, change, version and value all differ.
fn history(s: &mut Script) {
    for (key, value) in [("a", "5"), ("b", "3"), ("c", "4"), ("d", "1"), ("e", "2"), ("b", "9"), ("c", "0"), ("c", "7")]
    {
        s.setup(put(key, value)); // revisions 2 to 9
    }
    s.setup(delete("d")); // 10
    s.setup(put("d", "1")); // 11
    s.setup(put("dir/1", "x")); // 12
    s.setup(put("dir/2", "")); // 13
    s.setup(put([0xff, 0xff], [0, 1, 0xfe])); // 14
    s.setup(put([0], "nul")); // 15
    s.setup(delete("e")); // 16
}

pub(crate) fn options() -> Script {
    let mut s = Script::new("range");
    s.good("all of an empty store", all());
    s.good("one of an empty store", one("a"));
    s.good("hash of an empty store", hash_kv(0));
    history(&mut s);
    s.good("one", one("b"));
    s.good("one that is not there", one("zz"));
    s.good("one that was deleted", one("e"));
    s.good("half open", range("a", "c"));
    s.good("prefix", range("dir/", "dir0"));
    s.good("from key", range("d", "\0"));
    s.good("everything", all());
    s.good("end before key", range("c", "a"));
    s.good("end equals key", range("c", "c"));
    s.good("end \\0\\0 is an ordinary end", range([0], [0, 0]));
    s.good("key \\xff to the end", range([0xff], "\0"));
    s.good("serializable", RangeRequest { serializable: true, ..all() });
    for limit in [1, 3, 7, 8, 9, 1000, -1, i64::MIN, i64::MAX] {
        s.good(format!("limit {limit}"), RangeRequest { limit, ..range("a", "e") });
        s.good(format!("limit {limit} of everything"), RangeRequest { limit, ..all() });
    }
    for revision in 1..=16 {
        s.good(format!("at revision {revision}"), RangeRequest { revision, ..all() });
    }
    s.good("at a negative revision", RangeRequest { revision: -7, ..all() });
    s.good("keys only", RangeRequest { keys_only: true, ..all() });
    s.good("keys only, at a revision", RangeRequest { keys_only: true, revision: 9, ..all() });
    s.good("keys only, limit", RangeRequest { keys_only: true, limit: 2, ..all() });
    s.good("keys only by value", RangeRequest { keys_only: true, sort_target: VALUE, sort_order: ASCEND, ..all() });
    s.good("count", RangeRequest { count_only: true, ..all() });
    s.good("count of one", RangeRequest { count_only: true, ..one("a") });
    s.good("count at a revision", RangeRequest { count_only: true, revision: 5, ..all() });
    s.good("count with limit", RangeRequest { count_only: true, limit: 2, ..all() });
    s.good("count and keys only", RangeRequest { count_only: true, keys_only: true, ..all() });
    s.good("count with filter", RangeRequest { count_only: true, min_mod_revision: 9, ..all() });
    for (order, order_name) in [(NONE, "none"), (ASCEND, "ascend"), (DESCEND, "descend")] {
        for (target, target_name) in
            [(KEY, "key"), (VERSION, "version"), (CREATE, "create"), (MOD, "mod"), (VALUE, "value")]
        {
            let sorted = RangeRequest { sort_order: order, sort_target: target, ..all() };
            s.good(format!("{order_name} by {target_name}"), sorted.clone());
            s.good(format!("{order_name} by {target_name}, limit 3"), RangeRequest { limit: 3, ..sorted.clone() });
            s.good(
                format!("{order_name} by {target_name}, keys only, limit 4, at revision 12"),
                RangeRequest { limit: 4, keys_only: true, revision: 12, ..sorted },
            );
        }
    }
    for (name, r) in [
        ("min mod", RangeRequest { min_mod_revision: 9, ..all() }),
        ("max mod", RangeRequest { max_mod_revision: 9, ..all() }),
        ("min create", RangeRequest { min_create_revision: 5, ..all() }),
        ("max create", RangeRequest { max_create_revision: 5, ..all() }),
        ("window of mod", RangeRequest { min_mod_revision: 7, max_mod_revision: 12, ..all() }),
        ("window of create", RangeRequest { min_create_revision: 3, max_create_revision: 11, ..all() }),
        ("empty window", RangeRequest { min_mod_revision: 12, max_mod_revision: 7, ..all() }),
        ("negative filter", RangeRequest { min_mod_revision: -1, max_create_revision: -3, ..all() }),
        ("filter beyond the future", RangeRequest { min_mod_revision: 99, ..all() }),
        (
            "all filters",
            RangeRequest {
                min_mod_revision: 3,
                max_mod_revision: 14,
                min_create_revision: 2,
                max_create_revision: 12,
                ..all()
            },
        ),
    ] {
        s.good(name, r.clone());
        s.good(format!("{name}, limit 1"), RangeRequest { limit: 1, ..r.clone() });
        s.good(
            format!("{name}, limit 2, descending by mod"),
            RangeRequest { limit: 2, sort_order: DESCEND, sort_target: MOD, ..r },
        );
    }
    s
}

pub(crate) fn bad() -> Script {
    let mut s = Script::new("range-bad");
    history(&mut s);
    s.bad("no key", one(""));
    s.bad("no key, but an end", range("", "z"));
    s.bad("no key, from key", range("", "\0"));
    s.bad("nothing at all", RangeRequest::default());
    s.bad("order 3", RangeRequest { sort_order: 3, ..all() });
    s.bad("order -1", RangeRequest { sort_order: -1, ..all() });
    s.bad("target 5", RangeRequest { sort_target: 5, ..all() });
    s.bad("target -1", RangeRequest { sort_target: -1, ..all() });
    s.bad("target of 32 bits", RangeRequest { sort_target: i32::MAX, sort_order: ASCEND, ..all() });
    s.bad("no key goes before unknown order", RangeRequest { sort_order: 9, ..one("") });
    s.bad("unknown order goes before future", RangeRequest { sort_order: 9, revision: 99, ..all() });
    s.bad("next revision", RangeRequest { revision: 17, ..all() });
    s.bad("last revision there can be", RangeRequest { revision: i64::MAX, ..all() });
    s.bad("future, serializable", RangeRequest { revision: 17, serializable: true, ..all() });
    s.bad("future, count", RangeRequest { revision: 17, count_only: true, ..all() });
    s.bad("future, one that is not there", RangeRequest { revision: 17, ..one("zz") });
    s.setup(compact(9));
    s.bad("compacted", RangeRequest { revision: 8, ..all() });
    s.bad("compacted, the first", RangeRequest { revision: 1, ..one("a") });
    s.bad("compacted, keys only", RangeRequest { revision: 8, keys_only: true, ..all() });
    s.bad("compacted, count", RangeRequest { revision: 8, count_only: true, ..all() });
    s.bad("compacted, serializable", RangeRequest { revision: 8, serializable: true, ..all() });
    s.good("at the compacted revision", RangeRequest { revision: 9, ..all() });
    s.good("after the compacted revision", RangeRequest { revision: 10, ..all() });
    s.good("negative revision after compaction", RangeRequest { revision: -1, ..all() });
    s
}

pub(crate) fn stream() -> Script {
    let mut s = Script::new("range-stream");
    s.good("empty store", Call::stream(&all()));
    history(&mut s);
    s.good("one", Call::stream(&one("b")));
    s.good("one that is not there", Call::stream(&one("zz")));
    s.good("everything", Call::stream(&all()));
    s.good("limit", Call::stream(&RangeRequest { limit: 3, ..all() }));
    s.good("at a revision", Call::stream(&RangeRequest { revision: 9, ..all() }));
    s.good("keys only", Call::stream(&RangeRequest { keys_only: true, ..all() }));
    s.good("count", Call::stream(&RangeRequest { count_only: true, ..all() }));
    s.good("ascending by key", Call::stream(&RangeRequest { sort_order: ASCEND, ..all() }));
    s.good("none by value", Call::stream(&RangeRequest { sort_target: VALUE, ..all() }));
    s.good("serializable", Call::stream(&RangeRequest { serializable: true, ..all() }));
    for n in 0..40 {
        s.setup(put(format!("many/{n:03}"), "v".repeat(n)));
    }
    for limit in [0, 9, 10, 11, 19, 20, 29, 30, 31] {
        s.good(format!("chunks, limit {limit}"), Call::stream(&RangeRequest { limit, ..all() }));
    }
    s.good("chunks, keys only", Call::stream(&RangeRequest { keys_only: true, ..all() }));
    s.good("chunks at a revision", Call::stream(&RangeRequest { revision: 30, ..all() }));
    s.bad("no key", Call::stream(&one("")));
    s.bad("order 7", Call::stream(&RangeRequest { sort_order: 7, ..all() }));
    s.bad("descending", Call::stream(&RangeRequest { sort_order: DESCEND, ..all() }));
    s.bad("ascending by value", Call::stream(&RangeRequest { sort_order: ASCEND, sort_target: VALUE, ..all() }));
    s.bad("filter", Call::stream(&RangeRequest { min_mod_revision: 3, ..all() }));
    s.bad("max create filter", Call::stream(&RangeRequest { max_create_revision: 3, ..all() }));
    s.bad("negative filter", Call::stream(&RangeRequest { max_mod_revision: -3, ..all() }));
    s.bad("future", Call::stream(&RangeRequest { revision: 99, ..all() }));
    s.bad("future count", Call::stream(&RangeRequest { revision: 99, count_only: true, ..all() }));
    s.setup(compact(9));
    s.bad("compacted", Call::stream(&RangeRequest { revision: 8, ..all() }));
    s
}
