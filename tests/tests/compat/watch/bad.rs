//! What makes no sense, or goes wrong on the way.

use retcd_tests::grpc::frame;

use super::{Play, Scene, Step, key, range};

pub(super) fn requests() -> Play {
    let scenes = vec![
        Scene::new("an empty range").create(range("b", "a")).create(key("a")).put("a", "1").wait(1),
        Scene::new("a range from a key to itself").create(range("b", "b")),
        Scene::new("a range that ends before the empty key").create(range("", "\0\0")).create(range("x", "\0\0")),
        Scene::new("an empty range with an id").create(range("b", "a").id(4)).create(key("a").id(4)),
        Scene::new("a negative revision (W10)").create(key("a").at_revision(-1)).create(key("b")),
        Scene::new("the most negative revision").create(key("a").at_revision(i64::MIN)),
        Scene::new("a negative revision and an empty range").create(range("b", "a").at_revision(-1)),
        Scene::new("a negative revision and an id in use")
            .create(key("a").id(3))
            .create(key("a").id(3).at_revision(-1)),
        Scene::new("an empty range and an id in use").create(key("a").id(3)).create(range("b", "a").id(3)),
        Scene::new("a request for nothing").step(Step::Nothing).create(key("a")).put("a", "1").wait(1),
        Scene::new("many requests for nothing")
            .step(Step::Raw(frame(b"").repeat(50)))
            .create(key("a"))
            .put("a", "1")
            .wait(1),
        Scene::new("garbage first").step(Step::Raw(frame(b"\xff\xff\xff"))).end(),
        Scene::new("garbage in the middle")
            .create(key("a"))
            .put("a", "1")
            .wait(1)
            .step(Step::Raw(frame(b"\x0a\x7f")))
            .end(),
        Scene::new("a message that is too large").create(key("a")).step(Step::Raw(frame(&vec![0; 3 << 20]))).end(),
        Scene::new("a compressed message without an encoding")
            .create(key("a"))
            .step(Step::Raw(vec![1, 0, 0, 0, 0]))
            .end(),
        Scene::new("half a message and the end")
            .create(key("a"))
            .step(Step::Raw(vec![0, 0, 0, 0, 9, 1]))
            .step(Step::HalfClose)
            .end(),
        Scene::new("the client's side is closed")
            .create(key("a"))
            .step(Step::HalfClose)
            .put("a", "1")
            .wait(1)
            .put("a", "2")
            .wait(1),
        Scene::new("with a leader").header("hasleader", "true").create(key("a")).put("a", "1").wait(1),
        Scene::new("an api version that is no text").header("client-api-version", "3.7").create(key("a")),
        Scene::new("unknown fields")
            .step(Step::Raw(frame(b"\x0a\x06\x0a\x01u\xa8\x06\x01")))
            .wait(1)
            .put("u", "1")
            .wait(1),
    ];
    Play { name: "bad", flags: vec![], scenes }
}
