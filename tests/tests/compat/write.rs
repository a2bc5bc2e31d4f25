//! `Put`, `DeleteRange` and `Compact`.

use crate::requests::*;
use crate::script::Script;

pub(crate) fn put_and_delete() -> Script {
    let mut s = Script::new("write");
    s.good("first put", put("a", "1"));
    s.good("put again", put("a", "2"));
    s.good("previous", PutRequest { prev_kv: true, ..put("a", "3") });
    s.good("no previous", PutRequest { prev_kv: true, ..put("b", "1") });
    s.good("empty value", put("e", ""));
    s.good("previous with empty value", PutRequest { prev_kv: true, ..put("e", "") });
    s.good("keep the value", PutRequest { ignore_value: true, ..put("a", "") });
    s.good("keep the value, previous", PutRequest { ignore_value: true, prev_kv: true, ..put("a", "") });
    s.good("keep the lease", PutRequest { ignore_lease: true, ..put("a", "4") });
    s.good("keep both", PutRequest { ignore_lease: true, ignore_value: true, ..put("a", "") });
    s.good("binary", put([0, 0xff, 0x80], [0xc3, 0x28, 0]));
    s.good("read it all", all());
    s.bad("no key", put("", "v"));
    s.bad("no key and no value", put("", ""));
    s.bad("keep the value, but one is given", PutRequest { ignore_value: true, ..put("a", "v") });
    s.bad("keep the lease, but one is given", PutRequest { ignore_lease: true, lease: 7, ..put("a", "v") });
    s.bad("keep the value of no key", PutRequest { ignore_value: true, ..put("none", "") });
    s.bad("keep the lease of no key", PutRequest { ignore_lease: true, ..put("none", "v") });
    s.bad("keep both of no key", PutRequest { ignore_lease: true, ignore_value: true, ..put("none", "") });
    s.bad("unknown lease", PutRequest { lease: 0x1234, ..put("a", "v") });
    s.bad("negative lease", PutRequest { lease: -5, ..put("a", "v") });
    s.bad("unknown lease goes before no key to keep", PutRequest { lease: 9, ignore_value: true, ..put("none", "") });
    s.bad("no key goes before value", PutRequest { ignore_value: true, ..put("", "v") });
    s.good("nothing of that left a trace", all());

    s.good("delete none", delete("none"));
    s.good("delete one", delete("e"));
    s.good("delete it again", delete("e"));
    s.good("delete with previous", DeleteRangeRequest { prev_kv: true, ..delete("b") });
    s.good("delete none with previous", DeleteRangeRequest { prev_kv: true, ..delete("b") });
    for key in ["p/1", "p/2", "p/3", "q/1", "q/2"] {
        s.setup(put(key, key));
    }
    s.good("delete a prefix", delete_range("p/", "p0"));
    s.good("what is left", all());
    s.good("delete with end before key", delete_range("z", "a"));
    s.good("delete with end equal to key", delete_range("q/1", "q/1"));
    s.good("delete from key", DeleteRangeRequest { prev_kv: true, ..delete_range("q/2", "\0") });
    s.good("delete everything", DeleteRangeRequest { prev_kv: true, ..delete_range("\0", "\0") });
    s.good("nothing is left", all());
    s.good("but the past is", RangeRequest { revision: 14, ..all() });
    s.good("a new generation", PutRequest { prev_kv: true, ..put("a", "new") });
    s.good("reads as such", one("a"));
    s.bad("delete no key", delete(""));
    s.bad("delete no key, but an end", delete_range("", "z"));
    s.bad("delete no key, from key", delete_range("", "\0"));
    s.good("hash", hash_kv(0));
    s
}

pub(crate) fn compaction() -> Script {
    let mut s = Script::new("compact");
    s.bad("negative", compact(-1));
    s.bad("future of an empty store", compact(2));
    for n in 0..10 {
        s.setup(put("k", n.to_string())); // 2 to 11
        s.setup(put(format!("k{n}"), "v")); // 3 to 21
    }
    s.bad("future", compact(22));
    s.bad("last revision there can be", compact(i64::MAX));
    s.bad("future, physical", CompactionRequest { revision: 22, physical: true });
    s.good("1", compact(1));
    s.good("in the middle", compact(8));
    s.good("reads at it", RangeRequest { revision: 8, ..all() });
    s.bad("reads below it", RangeRequest { revision: 7, ..all() });
    s.bad("twice", compact(8));
    s.bad("below", compact(7));
    s.bad("below, physical", CompactionRequest { revision: 3, physical: true });
    s.bad("negative after all", compact(i64::MIN));
    s.bad("0", compact(0));
    s.good("physical", CompactionRequest { revision: 12, physical: true });
    s.good("to the newest", CompactionRequest { revision: 21, physical: true });
    s.good("reads the newest", all());
    s.good("reads at the newest", RangeRequest { revision: 21, ..all() });
    s.good("hash", hash_kv(0));
    s.setup(delete("k"));
    s.good("to a deletion", CompactionRequest { revision: 22, physical: true });
    s.good("what was deleted stays so", one("k"));
    s.good("hash after it", hash_kv(0));
    s.good("a put after it", put("k", "again"));
    s.good("is a new generation", one("k"));
    s.good("defragment", DefragmentRequest {});
    s.good("reads after it", all());
    s.good("hash after that", hash_kv(0));
    s
}

/// Revision 0 may be compacted, once.
pub(crate) fn compaction_of_nothing() -> Script {
    let mut s = Script::new("compact-zero");
    s.good("0 on a fresh store", compact(0));
    s.bad("0 again", compact(0));
    s.setup(put("a", "1"));
    s.bad("0 later", compact(0));
    s.good("reads", all());
    s.good("hash at a revision", hash_kv(2));
    s.good("compaction after it", CompactionRequest { revision: 2, physical: true });
    s
}
