//! Without the flag there is nothing, as in etcd 3.6, but whoever asks is told of it; with it, a warning says what to use.

use retcd_tests::member::{Member, Setup};
use retcd_tests::{binary, http1};

const PATHS: &[&str] = &["/v2/keys", "/v2/keys/foo", "/v2/members", "/v2/machines", "/v2/stats/self"];

#[test]
fn without_the_flag_there_is_nothing() {
    let mut member = Member::start(Setup::new(binary::ours()));
    for path in PATHS {
        let answer = http1::get(member.port(), path).expect("an answer");
        assert_eq!(answer.status, 404, "{path}");
        let text = answer.text();
        assert!(text.starts_with("404 page not found") && text.contains("--enable-v2"), "{path}: {text}");
    }
    member.terminate();
    member.set_flags(["--enable-v2=true"]);
    member.restart();
    member.wait_for_log("--enable-v2 serves the API of etcd 2");
    for path in PATHS.iter().filter(|path| !path.ends_with("foo")) {
        let answer = http1::get(member.port(), path).expect("an answer");
        assert_eq!(answer.status, 200, "{path}");
    }
}
