//! What happens while it is watched.

use super::{Play, Scene, key, range};
use crate::requests::{Op as _, delete, delete_range, one, put, txn};

const NOPUT: i32 = 0;
const NODELETE: i32 = 1;

pub(super) fn keys() -> Play {
    let scenes = vec![
        Scene::new("one key").create(key("a")).put("a", "1").wait(1).put("a", "2").wait(1).delete("a").wait(1),
        Scene::new("one key, others change")
            .create(key("a"))
            .put("b", "1")
            .put("aa", "1")
            .put("", "x".repeat(0) + "y")
            .wait(0),
        Scene::new("a key that is put again after its deletion")
            .create(key("again"))
            .put("again", "1")
            .wait(1)
            .delete("again")
            .wait(1)
            .put("again", "2")
            .wait(1),
        Scene::new("deleting what is not there").create(key("none")).delete("none").put("none", "").wait(1),
        Scene::new("a range")
            .create(range("b", "d"))
            .put("a", "")
            .put("b", "")
            .wait(1)
            .put("c", "")
            .wait(1)
            .put("d", ""),
        Scene::new("a prefix")
            .create(range("p/", "p0"))
            .put("p/1", "1")
            .wait(1)
            .put("p", "1")
            .put("p0", "1")
            .put("p/", "1")
            .wait(1),
        Scene::new("everything")
            .create(range("\0", "\0"))
            .put("x", "1")
            .wait(1)
            .put("\0", "1")
            .wait(1)
            .put("\u{7f}", "1")
            .wait(1),
        Scene::new("everything, by an empty key").create(range("", "\0")).put("x", "1").wait(1).put("\0", "1").wait(1),
        Scene::new("an empty key is the smallest one").create(key("")).put("\0", "1").wait(1).put("x", "1"),
        Scene::new("an empty key with an end").create(range("", "b")).put("a", "1").wait(1).put("b", "1"),
        Scene::new("from a key on").create(range("m", "\0")).put("l", "1").put("m", "1").wait(1).put("z", "1").wait(1),
        Scene::new("the same key twice").create(key("t")).create(key("t")).put("t", "1").wait(2).delete("t").wait(2),
        Scene::new("overlapping ranges")
            .create(range("a", "e"))
            .create(range("c", "g"))
            .create(key("d"))
            .create(range("\0", "\0"))
            .put("b", "1")
            .wait(2)
            .put("d", "1")
            .wait(4)
            .put("f", "1")
            .wait(2),
        Scene::new("a range and the deletion of many keys")
            .put("r1", "1")
            .put("r2", "2")
            .put("r3", "3")
            .create(range("r1", "r3"))
            .delete_range("r", "s")
            .wait(2),
        Scene::new("bytes that are no text").create(range(b"\xff", "\0")).put(b"\xff\x00\xfe", b"\x00\xff").wait(1),
        Scene::new("an empty value").create(key("empty")).put("empty", "").wait(1).put("empty", "").wait(1),
    ];
    Play { name: "keys", flags: vec![], scenes: scenes.into_iter().map(without_empty_puts).collect() }
}

/// A put of an empty key would be refused.
fn without_empty_puts(mut scene: Scene) -> Scene {
    scene.steps.retain(|step| !matches!(step, super::Step::Put(key, _) if key.is_empty()));
    scene
}

pub(super) fn ids() -> Play {
    let scenes = vec![
        Scene::new("ids count from 0").create(key("a")).create(key("b")).create(key("c")).put("b", "1").wait(1),
        Scene::new("an id of one's own").create(key("a").id(5)).create(key("b")).put("a", "1").wait(1),
        Scene::new("ids in use are skipped")
            .create(key("a").id(1))
            .create(key("b").id(2))
            .create(key("c"))
            .create(key("d"))
            .create(key("e")),
        Scene::new("an id in use").create(key("a").id(5)).create(key("b").id(5)).put("a", "1").wait(1).put("b", "1"),
        Scene::new("an id that the server chose is in use").create(key("a")).create(key("b")).create(key("c").id(1)),
        Scene::new("an id after its cancel")
            .create(key("a").id(5))
            .cancel(5)
            .wait(1)
            .create(key("b").id(5))
            .put("b", "1")
            .wait(1),
        Scene::new("chosen ids are not used again")
            .create(key("a"))
            .cancel(0)
            .wait(1)
            .create(key("a"))
            .put("a", "1")
            .wait(1),
        Scene::new("a negative id").create(key("a").id(-7)).put("a", "1").wait(1).cancel(-7).wait(1),
        Scene::new("a large id").create(key("a").id(i64::MAX)).create(key("b")).put("a", "1").wait(1),
        Scene::new("cancel").create(key("a")).cancel(0).wait(1).put("a", "1"),
        Scene::new("cancel one of two").create(key("a")).create(key("a")).cancel(0).wait(1).put("a", "1").wait(1),
        Scene::new("cancel of the first id (W9)").create(key("a").id(0)).put("a", "1").wait(1).cancel(0).wait(1),
        Scene::new("cancel twice").create(key("a")).cancel(0).wait(1).cancel(0).put("a", "1"),
        Scene::new("cancel of what is not there").cancel(3).create(key("a")).put("a", "1").wait(1),
        Scene::new("cancel before the begin").create(key("a").from(50)).cancel(0).wait(1),
        Scene::new("create and cancel at once").send(key("a")).send(key("b")).cancel(0).wait(3).put("b", "1").wait(1),
    ];
    Play { name: "ids", flags: vec![], scenes }
}

pub(super) fn details() -> Play {
    let writes = |scene: Scene, counts: [usize; 4]| {
        let [first, second, third, fourth] = counts;
        let scene = scene.put("f", "1").wait(first).put("f", "2").wait(second);
        scene.delete("f").wait(third).put("f", "3").wait(fourth)
    };
    let scenes = vec![
        writes(Scene::new("no puts").create(key("f").filter(&[NOPUT])), [0, 0, 1, 0]),
        writes(Scene::new("no deletions").create(key("f").filter(&[NODELETE])), [1, 1, 0, 1]),
        writes(Scene::new("neither").create(key("f").filter(&[NOPUT, NODELETE])), [0; 4]),
        writes(Scene::new("a filter twice").create(key("f").filter(&[NOPUT, NOPUT])), [0, 0, 1, 0]),
        writes(Scene::new("an unknown filter").create(key("f").filter(&[9])), [1; 4]),
        writes(
            Scene::new("an unknown filter and a known one").create(key("f").filter(&[9, -1, NODELETE])),
            [1, 1, 0, 1],
        ),
        writes(Scene::new("before").create(key("f").prev()), [1; 4]),
        writes(Scene::new("before, without puts").create(key("f").prev().filter(&[NOPUT])), [0, 0, 1, 0]),
        writes(Scene::new("before, of a range").create(range("e", "g").prev()), [1; 4]),
        writes(Scene::new("one with and one without").create(key("f").prev()).create(key("f")), [2; 4]),
        Scene::new("before, of many deleted at once")
            .put("d1", "1")
            .put("d2", "2")
            .create(range("d", "e").prev())
            .delete_range("d", "e")
            .wait(2),
        Scene::new("before, of a new key after its deletion")
            .put("n", "1")
            .delete("n")
            .create(key("n").prev())
            .put("n", "2")
            .wait(1),
    ];
    Play { name: "details", flags: vec![], scenes }
}

pub(super) fn progress() -> Play {
    let scenes = vec![
        Scene::new("on request").create(key("a")).progress().wait(1),
        Scene::new("on request, after writes to other keys").create(key("a")).put("b", "1").progress().wait(1),
        Scene::new("on request, after an event (W6)").create(key("a")).put("a", "1").progress().wait(2),
        Scene::new("on request, of a watch that never saw an event (W7)")
            .create(key("never"))
            .put("b", "1")
            .put("b", "2")
            .progress()
            .wait(1),
        Scene::new("twice").create(key("a")).progress().wait(1).put("b", "1").progress().wait(1),
        Scene::new("of three watches").create(key("a")).create(key("b")).create(range("c", "d")).progress().wait(1),
        Scene::new("without a watch").progress().create(key("a")),
        Scene::new("after all are cancelled").create(key("a")).cancel(0).wait(1).progress().put("a", "1"),
        Scene::new("not while one waits for the future").create(key("a").from(100)).progress().put("b", "1"),
        Scene::new("not while one of two waits for the future")
            .create(key("a"))
            .create(key("a").from(100))
            .progress()
            .put("a", "1")
            .wait(1),
        Scene::new("when the future has come").create(key("a").from(2)).put("b", "1").put("b", "2").progress().wait(1),
        Scene::new("of a watch from history").put("a", "1").create(key("a").from(1)).wait(1).progress().wait(1),
        Scene::new("with all filtered").create(key("a").filter(&[NOPUT])).put("a", "1").progress().wait(1),
    ];
    Play { name: "progress", flags: vec![], scenes }
}

pub(super) fn periodic() -> Play {
    let scenes = vec![
        Scene::new("comes by itself").create(key("a").notify()).wait(1),
        Scene::new("with the revision of others' writes").put("b", "1").create(key("a").notify()).wait(1),
        Scene::new("only to who wants it").create(key("a").notify()).create(key("a")).wait(1),
        Scene::new("with its id").create(key("a").notify().id(9)).wait(1),
        Scene::new("not before the begin").create(key("a").notify().from(100)).create(key("b").notify()).wait(1),
        Scene::new("not after the cancel")
            .create(key("a").notify())
            .cancel(0)
            .wait(1)
            .create(key("b").notify())
            .wait(1),
    ];
    Play { name: "periodic", flags: vec!["--watch-progress-notify-interval=300ms"], scenes }
}

pub(super) fn transactions() -> Play {
    let both = || [put("t1", "1").op(), put("t2", "2").op()];
    let scenes = vec![
        Scene::new("all of a transaction at once").create(range("t", "u")).txn(both()).wait(2).txn(both()).wait(2),
        Scene::new("what is watched of it").create(key("t2")).txn(both()).wait(1),
        Scene::new("by two watches").create(key("t2")).create(range("t", "u")).txn(both()).wait(3),
        Scene::new("puts and deletions")
            .put("t1", "0")
            .create(range("t", "u").prev())
            .txn([put("t3", "3").op(), delete("t1").op(), put("t4", "4").op()])
            .wait(3),
        Scene::new("puts of it only")
            .put("t1", "0")
            .create(range("t", "u").filter(&[NODELETE]))
            .txn([put("t3", "3").op(), delete("t1").op()])
            .wait(1),
        Scene::new("a deletion of many within one")
            .put("t5", "0")
            .put("t6", "0")
            .create(range("t5", "t9").prev())
            .txn([put("t7", "3").op(), delete_range("t5", "t7").op()])
            .wait(3),
        Scene::new("nested")
            .create(range("t", "u"))
            .txn([put("t1", "1").op(), txn([], [put("t2", "2").op()], []).op()])
            .wait(2),
        Scene::new("only reads").create(range("t", "u")).txn([one("t1").op()]).put("t1", "9").wait(1),
        Scene::new("nothing to delete").create(range("t", "u")).txn([delete("none").op()]).put("t1", "8").wait(1),
        Scene::new("large")
            .create(range("t", "u"))
            .txn((0..100).map(|n| put(format!("t{n:03}"), format!("{n}")).op()))
            .wait(100),
    ];
    Play { name: "transactions", flags: vec![], scenes }
}
