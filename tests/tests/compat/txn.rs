//! `Txn`: conditions, operations, nesting, limits.

use crate::requests::*;
use crate::script::{Call, Script};
use retcd_proto::etcdserverpb::Compare;

fn history(s: &mut Script) {
    s.setup(put("a", "m")); // 2
    s.setup(put("b", "m")); // 3
    s.setup(put("b", "n")); // 4
    s.setup(put("c", "")); // 5
}

/// Answers which branch was taken.
fn test(compare: impl IntoIterator<Item = Compare>) -> TxnRequest {
    txn(compare, [RangeRequest { count_only: true, ..all() }.op()], [])
}

pub(crate) fn conditions() -> Script {
    let mut s = Script::new("txn-conditions");
    history(&mut s);
    let results = [(EQUAL, "="), (GREATER, ">"), (LESS, "<"), (NOT_EQUAL, "!=")];
    for key in ["a", "b", "none"] {
        for (result, sign) in results {
            for n in [0, 1, 2] {
                s.good(format!("version of {key} {sign} {n}"), test([when(key, result, version(n))]));
            }
            for n in [0, 2, 3, 4] {
                s.good(format!("creation of {key} {sign} {n}"), test([when(key, result, created(n))]));
                s.good(format!("change of {key} {sign} {n}"), test([when(key, result, modified(n))]));
            }
            for v in ["", "m", "n"] {
                s.good(format!("value of {key} {sign} {v:?}"), test([when(key, result, value(v))]));
            }
            for n in [0, -1] {
                s.good(format!("lease of {key} {sign} {n}"), test([when(key, result, lease(n))]));
            }
        }
    }
    for (result, sign) in results {
        s.good(
            format!("range {sign} version 1"),
            test([Compare { range_end: bytes("z"), ..when("a", result, version(1)) }]),
        );
        s.good(
            format!("range {sign} value m"),
            test([Compare { range_end: bytes("b"), ..when("a", result, value("m")) }]),
        );
        s.good(
            format!("empty range {sign} version 0"),
            test([Compare { range_end: bytes("zz"), ..when("z", result, version(0)) }]),
        );
        s.good(
            format!("empty range {sign} value empty"),
            test([Compare { range_end: bytes("zz"), ..when("z", result, value("")) }]),
        );
        s.good(
            format!("from key {sign} lease 0"),
            test([Compare { range_end: bytes("\0"), ..when("b", result, lease(0)) }]),
        );
        s.good(
            format!("end before key {sign} version 1"),
            test([Compare { range_end: bytes("a"), ..when("b", result, version(1)) }]),
        );
    }
    s.good("all must hold", test([when("a", EQUAL, version(1)), when("b", EQUAL, version(1))]));
    s.good("both hold", test([when("a", EQUAL, version(1)), when("b", EQUAL, version(2))]));
    for target in [0, 1, 2, 3, 4] {
        s.good(
            format!("target {target} without value"),
            test([Compare { target, target_union: None, ..when("a", EQUAL, version(0)) }]),
        );
        s.good(
            format!("target {target} with another's value"),
            test([Compare { target, ..when("a", EQUAL, if target == 0 { value("m") } else { version(1) }) }]),
        );
    }
    s.bad("unknown result", test([Compare { result: 4, ..when("a", EQUAL, version(77)) }]));
    s.bad("unknown result of a missing key", test([Compare { result: -1, ..when("none", EQUAL, value("x")) }]));
    s.bad("unknown target", test([Compare { target: 5, ..when("a", EQUAL, version(77)) }]));
    s.bad("unknown target, not equal", test([Compare { target: -1, ..when("a", NOT_EQUAL, version(77)) }]));
    s.bad("no key", test([when("", EQUAL, version(0))]));
    s.bad("no key, but an end", test([Compare { range_end: bytes("z"), ..when("", EQUAL, version(0)) }]));
    s.bad("empty condition", test([Compare::default()]));
    s
}

pub(crate) fn operations() -> Script {
    let mut s = Script::new("txn");
    s.good("nothing", txn([], [], []));
    s.good("only a condition", txn([when("a", EQUAL, version(0))], [], []));
    s.good("only a condition that fails", txn([when("a", GREATER, version(0))], [], []));
    s.good("create", txn([when("a", EQUAL, version(0))], [put("a", "1").op()], [one("a").op()]));
    s.good("create again", txn([when("a", EQUAL, version(0))], [put("a", "1").op()], [one("a").op()]));
    s.good("several puts", batch([put("b", "1").op(), put("c", "1").op(), put("d", "1").op()]));
    s.good("they have one revision", all());
    s.good(
        "previous",
        batch([
            PutRequest { prev_kv: true, ..put("b", "2") }.op(),
            PutRequest { prev_kv: true, ..put("new", "2") }.op(),
        ]),
    );
    s.good(
        "reads its own put",
        batch([one("b").op(), put("b", "3").op(), one("b").op(), RangeRequest { count_only: true, ..all() }.op()]),
    );
    s.good("reads its own deletion", batch([delete("b").op(), one("b").op(), all().op()]));
    s.good(
        "reads the past",
        batch([
            put("x", "1").op(),
            RangeRequest { revision: 2, ..all() }.op(),
            RangeRequest { revision: 3, ..one("b") }.op(),
        ]),
    );
    s.good(
        "reads sorted and cut",
        batch([
            put("x", "2").op(),
            RangeRequest { sort_order: DESCEND, sort_target: MOD, limit: 2, ..all() }.op(),
            RangeRequest { keys_only: true, ..all() }.op(),
        ]),
    );
    s.good("deletes nothing", batch([delete("none").op()]));
    s.good("deletes with previous", batch([DeleteRangeRequest { prev_kv: true, ..delete_range("c", "e") }.op()]));
    s.good("overlapping deletes", batch([delete_range("a", "c").op(), delete_range("a", "z").op()]));
    s.good("delete then put elsewhere", batch([put("a", "1").op(), delete_range("x", "z").op(), put("b", "1").op()]));
    s.good(
        "delete, then the same range reads empty",
        batch([delete_range("a", "b").op(), range("a", "b").op(), put("c", "1").op()]),
    );
    s.good("keep value", batch([PutRequest { ignore_value: true, prev_kv: true, ..put("b", "") }.op()]));
    s.good("only reads", batch([one("a").op(), all().op()]));
    s.good("only reads, serializable", batch([RangeRequest { serializable: true, ..all() }.op()]));
    s.good("reads at the newest revision", batch([RangeRequest { revision: 5, ..all() }.op(), one("b").op()]));
    s.good(
        "nested",
        batch([
            put("n1", "1").op(),
            txn([when("n1", EQUAL, version(0))], [put("n2", "in").op(), one("n1").op()], [put("n3", "in").op()]).op(),
            all().op(),
        ]),
    );
    s.good(
        "nested conditions see the state before",
        batch([
            put("n1", "2").op(),
            txn([when("n1", EQUAL, version(1))], [put("n4", "before").op()], [put("n5", "after").op()]).op(),
        ]),
    );
    s.good(
        "nested twice",
        batch([batch([batch([put("deep", "1").op(), one("deep").op()]).op(), one("deep").op()]).op()]),
    );
    s.good("nested and empty", batch([batch([]).op(), txn([when("deep", EQUAL, version(9))], [], []).op()]));
    s.good("nested, reads only", batch([batch([one("deep").op()]).op()]));
    s.good(
        "branches of a nested one put the same key",
        batch([txn([], [put("same", "1").op()], [put("same", "2").op()]).op()]),
    );
    s.good("both branches of one put the same key", txn([], [put("same", "3").op()], [put("same", "4").op()]));
    s.good(
        "an unknown lease in the branch not taken",
        txn([], [put("same", "5").op()], [PutRequest { lease: 99, ..put("same", "6") }.op()]),
    );
    s.good(
        "a future read in the branch not taken",
        txn([when("same", EQUAL, version(0))], [RangeRequest { revision: 999, ..all() }.op()], [put("same", "7").op()]),
    );
    s.good("everything so far", all());
    s.good("hash", hash_kv(0));

    s.bad("empty operation", batch([no_op()]));
    s.bad("empty operation in the branch not taken", txn([], [], [no_op()]));
    s.bad("empty operation, nested", batch([batch([no_op()]).op()]));
    s.bad("read of no key", batch([one("").op()]));
    s.bad("put of no key", batch([put("", "v").op()]));
    s.bad("delete of no key", batch([delete("").op()]));
    s.bad("no key in the branch not taken", txn([], [], [put("", "v").op()]));
    s.bad("unknown order", batch([RangeRequest { sort_order: 5, ..all() }.op()]));
    s.bad("unknown target", batch([RangeRequest { sort_target: 5, ..all() }.op()]));
    s.bad("value and keep", batch([PutRequest { ignore_value: true, ..put("a", "v") }.op()]));
    s.bad("lease and keep", batch([PutRequest { ignore_lease: true, lease: 3, ..put("a", "v") }.op()]));
    s.bad("keep of no key", batch([put("trace", "1").op(), PutRequest { ignore_value: true, ..put("none", "") }.op()]));
    s.bad(
        "keep of a key put before in it",
        batch([put("fresh", "1").op(), batch([PutRequest { ignore_lease: true, ..put("fresh2", "") }.op()]).op()]),
    );
    s.bad("unknown lease", batch([put("trace", "1").op(), PutRequest { lease: 77, ..put("a", "v") }.op()]));
    s.bad(
        "unknown lease and no key to keep",
        batch([PutRequest { lease: 77, ignore_value: true, ..put("none", "") }.op()]),
    );
    s.bad(
        "no key to keep, then an unknown lease",
        batch([
            PutRequest { ignore_value: true, ..put("none", "") }.op(),
            PutRequest { lease: 77, ..put("b", "v") }.op(),
        ]),
    );
    s.bad(
        "unknown lease, nested",
        batch([put("trace", "1").op(), batch([PutRequest { lease: 77, ..put("b", "v") }.op()]).op()]),
    );
    s.bad("future read", batch([put("trace", "1").op(), RangeRequest { revision: 999, ..all() }.op()]));
    s.bad(
        "read at the revision it makes",
        batch([put("trace", "1").op(), RangeRequest { revision: 22, ..all() }.op()]),
    );
    s.bad("future read alone", batch([RangeRequest { revision: 999, ..all() }.op()]));
    let before = |revision| RangeRequest { revision, ..all() }.op();
    s.good("read at -1 before any compaction", batch([before(-1)]));
    s.bad("read at -2 before any compaction", batch([before(-2)]));
    s.bad("read at -2 beside a put", batch([put("trace", "1").op(), before(-2)]));
    let future = || RangeRequest { revision: 999, ..all() }.op();
    let unleased = || PutRequest { lease: 77, ..put("trace", "1") }.op();
    s.bad("a bad read before a bad put", batch([future(), unleased()]));
    s.bad("a bad put before a bad read", batch([unleased(), future()]));
    s.bad(
        "future read, nested",
        batch([put("trace", "1").op(), batch([RangeRequest { revision: 999, ..all() }.op()]).op()]),
    );
    s.bad("put twice", batch([put("a", "1").op(), put("a", "2").op()]));
    s.bad("put twice in the branch not taken", txn([], [], [put("a", "1").op(), put("a", "2").op()]));
    s.bad("delete and put", batch([delete("a").op(), put("a", "2").op()]));
    s.bad("put and delete", batch([put("a", "2").op(), delete("a").op()]));
    s.bad("put inside a deleted range", batch([delete_range("a", "c").op(), put("b", "2").op()]));
    s.good("put at the end of a deleted range", batch([delete_range("a", "c").op(), put("c", "2").op()]));
    s.bad("put outside and nested", batch([put("a", "1").op(), batch([put("a", "2").op()]).op()]));
    s.bad("put nested and outside", batch([txn([], [], [put("a", "2").op()]).op(), put("a", "1").op()]));
    s.bad("two nested put the same", batch([batch([put("a", "1").op()]).op(), batch([put("a", "2").op()]).op()]));
    s.bad("nested deletes what is put", batch([put("a", "1").op(), batch([delete_range("a", "z").op()]).op()]));
    s.bad("deletes what a nested one puts", batch([batch([put("a", "1").op()]).op(), delete_range("a", "z").op()]));
    s.good("nothing of that left a trace", all());
    s.setup(compact(6));
    s.bad("compacted read", batch([RangeRequest { revision: 5, ..all() }.op()]));
    s.bad("read at -1 after a compaction", batch([RangeRequest { revision: -1, ..all() }.op()]));
    s.bad("compacted read beside a put", batch([put("trace", "1").op(), RangeRequest { revision: 5, ..all() }.op()]));
    s.bad(
        "compacted read, nested",
        batch([put("trace", "1").op(), batch([RangeRequest { revision: 5, ..all() }.op()]).op()]),
    );
    s.good("that left no trace either", all());
    s.good("put inside deleted from key", batch([delete_range("a", "\0").op(), put("b", "2").op()]));
    s
}

fn puts(from: usize, count: usize) -> Vec<retcd_proto::etcdserverpb::RequestOp> {
    (from..from + count).map(|n| put(format!("k{n:03}"), "v").op()).collect()
}

pub(crate) fn limits() -> Script {
    let mut s = Script::new("txn-limits");
    let conditions = |n| (0..n).map(|_| when("k000", GREATER, version(-1)));
    for n in [127, 128] {
        s.good(format!("{n} conditions"), txn(conditions(n), [], []));
        s.good(format!("{n} operations"), batch(puts(0, n)));
        s.good(format!("{n} operations otherwise"), txn([], [], puts(0, n)));
        s.good(format!("{n} of all"), txn(conditions(n), puts(0, n), puts(0, n)));
    }
    s.bad("129 conditions", txn(conditions(129), [], []));
    s.bad("129 operations", batch(puts(0, 129)));
    s.bad("129 operations otherwise", txn([], [], puts(0, 129)));
    s.bad("129 reads", batch((0..129).map(|_| one("k").op())));
    s.bad("too many goes before no key", txn(conditions(129), [one("").op()], []));
    // A nested transaction may have what its parent leaves.
    let nested = |outer: usize, inner: usize| {
        let mut operations = puts(0, outer - 1);
        operations.push(batch(puts(500, inner)).op());
        batch(operations)
    };
    s.good("100 with one that has 27", nested(100, 27));
    s.good("100 with one that has 28", nested(100, 28));
    s.bad("100 with one that has 29", nested(100, 29));
    s.good("128 with an empty one", nested(128, 0));
    s.bad("128 with one that has 1", nested(128, 1));
    s.good("1 with one that has 127", nested(1, 127));
    s.bad("1 with one that has 128", nested(1, 128));
    s.bad("the budget shrinks level by level", batch([batch([batch(puts(0, 127)).op()]).op()]));
    s.good("down to the last", batch([batch([batch(puts(0, 126)).op()]).op()]));
    s.good("two nested ones have a budget each", batch([batch(puts(0, 100)).op(), batch(puts(100, 100)).op()]));
    s
}

pub(crate) fn narrow() -> Script {
    let mut s = Script::new("narrow").flags(&["--max-txn-ops=2", "--max-request-bytes=1024"]);
    s.good("2 operations", batch(puts(0, 2)));
    s.bad("3 operations", batch(puts(0, 3)));
    s.bad("nested, too many", batch([batch(puts(0, 2)).op()]));
    s.good("nested, just enough", batch([batch(puts(0, 1)).op()]));
    for (at, size) in [("-1", 1023), ("", 1024), ("+1", 1025)] {
        let at_limit = move |ids| sized_put(size, ids);
        if size <= 1024 {
            s.good(format!("limit{at}"), Call::of(at_limit));
        } else {
            s.bad(format!("limit{at}"), Call::of(at_limit));
        }
    }
    s.bad("a transaction beyond the limit", batch([put("k", "v".repeat(2000)).op()]));
    s.bad("a delete beyond the limit", delete("k".repeat(2000)));
    s.good("a read is not proposed", one("k".repeat(2000)));
    s.good("nor a transaction that reads", batch([one("k".repeat(2000)).op()]));
    s
}

/// A put whose proposal, with the header that the member adds, has exactly this many bytes.
pub(crate) fn sized_put(size: usize, ids: crate::rpc::Ids) -> PutRequest {
    use prost::Message as _;
    // The request's id starts with the low 16 bits of the member's.
    let id = prost::encoding::encoded_len_varint((ids.member & 0xffff) << 48 | 1 << 40);
    let header = 2 + 1 + 1 + id;
    let whole = |p: &PutRequest| 1 + prost::length_delimiter_len(p.encoded_len()) + p.encoded_len() + header;
    let mut request = put("k", vec![b'v'; size]);
    while whole(&request) > size {
        request.value.truncate(request.value.len() - 1);
    }
    assert_eq!(whole(&request), size);
    request
}
