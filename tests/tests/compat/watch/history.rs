//! What happened before it is watched.

use super::{Play, Scene, key, range};
use crate::requests::{Op as _, put};

pub(super) fn starts() -> Play {
    let written = |name| Scene::new(name).put("h", "1").put("i", "1").put("h", "2").delete("h").put("h", "3");
    let scenes = vec![
        written("from the first").create(key("h").from(1)).wait(4),
        written("from the middle").create(key("h").from(3)).wait(3),
        written("from where another key changed").create(key("h").from(2)).wait(3),
        written("from the last").create(key("h").from(5)).wait(1),
        written("from the next").create(key("h").from(6)).put("h", "4").wait(1),
        written("from now on").create(key("h")).put("h", "4").wait(1),
        written("from the future")
            .create(key("h").from(8))
            .put("h", "4")
            .put("h", "5")
            .put("h", "6")
            .wait(1)
            .put("h", "7")
            .wait(1),
        written("from the far future").create(key("h").at_revision(i64::MAX)).put("h", "4"),
        written("all keys").create(range("\0", "\0").from(1)).wait(5),
        written("what was before").create(key("h").from(1).prev()).wait(4),
        written("what was before the first of them").create(key("h").from(3).prev()).wait(3),
        written("only deletions").create(key("h").from(1).filter(&[0])).wait(1),
        written("nothing of it is wanted").create(key("h").from(1).filter(&[0, 1])).put("i", "2"),
        written("nothing of it is watched").create(key("none").from(1)).put("none", "1").wait(1),
        written("and then on").create(key("h").from(4)).wait(2).put("h", "4").wait(1).delete("h").wait(1),
        written("at once by three")
            .create(key("h").from(1))
            .wait(4)
            .create(key("h").from(3))
            .wait(3)
            .create(key("h").from(5))
            .wait(1),
        Scene::new("a transaction")
            .txn((0..50).map(|n| put(format!("x{n:02}"), "1").op()))
            .create(range("x", "y").from(1))
            .wait(50),
        Scene::new("cancelled before it is read")
            .put("q", "1")
            .send(key("q").from(1))
            .cancel(0)
            .wait(2)
            .cancel(0)
            .brief_history(),
        (0..60)
            .fold(Scene::new("many revisions"), |scene, n| scene.put("m", format!("{n}")))
            .create(key("m").from(1))
            .wait(60),
    ];
    Play { name: "starts", flags: vec![], scenes }
}

impl Scene {
    /// Whether its events come before the cancel is chance: they are kept out.
    fn brief_history(mut self) -> Self {
        self.steps.clear();
        self.put("q", "1").create(key("q").from(50)).cancel(0).wait(1)
    }
}

pub(super) fn compacted() -> Play {
    let written = |name| {
        Scene::new(name).put("c", "1").put("c", "2").put("d", "1").put("c", "3").delete("d").put("c", "4").compact(4)
    };
    let scenes = vec![
        written("before the compacted revision").create(key("c").from(1)).wait(1),
        written("just before it").create(key("c").from(3)).wait(1),
        written("at it").create(key("c").from(4)).wait(2),
        written("at it, all keys").create(range("c", "e").from(4)).wait(3),
        written("behind it").create(key("c").from(5)).wait(1),
        written("what was before is compacted").create(key("c").from(4).prev()).wait(2),
        written("what was before is there").create(key("c").from(6).prev()).wait(1),
        written("what was before a deletion is compacted").create(key("d").from(4).prev()).wait(1),
        written("by an id").create(key("c").id(9).from(1)).wait(1).cancel(9).wait(1),
        written("its id stays in use").create(key("c").id(9).from(1)).wait(1).create(key("c").id(9)),
        written("its id after the cancel")
            .create(key("c").id(9).from(1))
            .wait(1)
            .cancel(9)
            .wait(1)
            .create(key("c").id(9))
            .put("c", "5")
            .wait(1),
        written("two of three")
            .create(key("c").from(1))
            .wait(1)
            .create(key("c"))
            .create(key("c").from(2))
            .wait(1)
            .put("c", "5")
            .wait(1),
        written("progress of the others")
            .create(key("c").from(1))
            .wait(1)
            .create(key("c"))
            .progress()
            .put("c", "5")
            .wait(1)
            .differs("etcd never reports progress again on a stream that had a watch behind a compaction"),
        Scene::new("an up-to-date watch")
            .create(key("c"))
            .put("c", "1")
            .wait(1)
            .put("c", "2")
            .wait(1)
            .compact(2)
            .put("c", "3")
            .wait(1),
        Scene::new("a watch of the future")
            .create(key("c").from(4))
            .put("c", "1")
            .put("c", "2")
            .compact(2)
            .put("c", "3")
            .put("c", "4")
            .wait(1),
        Scene::new("all was deleted (W15)")
            .put("c", "1")
            .delete("c")
            .compact(2)
            .create(range("\0", "\0").from(2))
            .wait(1),
        Scene::new("a tombstone at the compacted revision (W5)")
            .put("w5", "1")
            .delete("w5")
            .put("other", "1")
            .compact(2)
            .create(key("w5").from(2))
            .wait(1)
            .put("w5", "2")
            .wait(1),
        Scene::new("revision 1").create(key("c").at_revision(1)).wait(1),
    ];
    Play { name: "compacted", flags: vec![], scenes }
}

pub(super) fn fragments() -> Play {
    let large =
        |scene: Scene, n: usize| (0..n).fold(scene, |scene, n| scene.put(format!("l{n}"), vec![b'x'; 400_000])).brief();
    let scenes = vec![
        large(Scene::new("small replies are whole").create(range("l", "m").fragment()), 1).wait(1),
        large(Scene::new("a large reply without fragments"), 6)
            .create(range("l", "m").prev())
            .delete_range("l", "m")
            .wait(6),
        large(Scene::new("a large reply in fragments"), 6)
            .create(range("l", "m").prev().fragment())
            .delete_range("l", "m")
            .wait(6),
        large(Scene::new("a very large reply in fragments"), 14)
            .create(range("l", "m").prev().fragment())
            .delete_range("l", "m")
            .wait(14),
        large(Scene::new("one large event"), 1)
            .create(key("l0").prev().fragment())
            .put("l0", vec![b'y'; 1_400_000])
            .wait(1),
    ];
    Play { name: "fragments", flags: vec![], scenes }
}
