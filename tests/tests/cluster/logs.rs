//! What the logs say, as tools and people look for it in etcd's.

use retcd_tests::cluster::wait_for;
use retcd_tests::nodes::lines;

use super::three;

#[test]
fn lines_have_the_texts_and_levels_of_etcd() {
    let Some(mut cluster) = three(&[]) else { return };
    let leader = cluster.leader();
    cluster.put(leader, "a", "1");
    // Changes of the membership while other entries are under way.
    let _ = wait_for("learner", || {
        let url = "--peer-urls=http://127.0.0.1:1";
        cluster.ctl_at(leader, &["member", "add", "m4", "--learner", url]).ok()
    });
    cluster.put(leader, "b", "2");
    let list = cluster.at(leader, &["member", "list"]);
    let line = list.lines().find(|line| line.contains("unstarted")).expect("it was added");
    let id = line.split(',').next().expect("a first column").to_owned();
    let _ = cluster.at(leader, &["member", "remove", &id]);
    cluster.put(leader, "c", "3");

    let own = cluster.id(leader);
    for member in &mut cluster.members {
        member.terminate();
        let log = member.log().whole();
        let line =
            |text: &str| log.lines().find(|line| line.contains(text)).unwrap_or_else(|| panic!("{text}:\n{log}"));
        let insecure = line("serving client traffic insecurely; this is strongly discouraged!");
        assert!(insecure.contains(r#""level":"info""#), "{insecure}");
        // It was elected when nobody led, or a moment after somebody else.
        let led = [format!("elected leader {own} at term "), format!(" to {own} at term ")];
        assert!(led.iter().any(|text| log.contains(text)), "{log}");
        line("ready to serve client requests");
        line("closed etcd server");
        for complaint in lines(&log) {
            assert_eq!(complaint.level, "warn", "{}", complaint.whole);
            assert!(!complaint.message.contains("uncommitted size"), "{}", complaint.whole);
        }
    }
}
