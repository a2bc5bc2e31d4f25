//! What members complain of in their logs, and what of it members of a purely genuine cluster complain of too.

use std::collections::BTreeSet;
use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use retcd_tests::nodes::{Kind, Node, lines};

/// Recorded from runs of genuine members alone: level and message, one a line.
fn list() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/mixed/complaints.txt")
}

/// How many databases were sent as snapshots, and what nobody of a purely genuine cluster would have said at level error or
/// above. Warnings are shown but do not count: which ones come is a matter of time, and genuine members have many.
pub(crate) fn read(nodes: &[Node]) -> (String, Vec<String>) {
    static LIST: Mutex<()> = Mutex::new(());
    let _one_at_a_time = LIST.lock().expect("nobody panics meanwhile");
    let entries = |path: PathBuf| fs::read_to_string(path).unwrap_or_default();
    let known: BTreeSet<String> = entries(list()).lines().map(str::to_owned).collect();
    let allowed = entries(list().with_file_name("allowed.txt"));
    let pure = nodes.iter().flat_map(Node::logs).all(|(kind, _)| *kind != Kind::Ours);
    let (mut sent, mut received) = (0, 0);
    let (mut unknown, mut seen) = (Vec::new(), known.clone());
    for node in nodes {
        for (kind, log) in node.logs() {
            let log = log.whole();
            sent += usize::from(*kind != Kind::Ours) * log.matches(r#""sent database snapshot""#).count();
            received += usize::from(*kind != Kind::Ours) * log.matches("received and saved database snapshot").count();
            for line in lines(&log) {
                let entry = format!("{}\t{}", line.level, line.message);
                if !allowed.lines().any(|known| known == entry) && seen.insert(entry) {
                    let text = format!("{} ({kind:?}): {}", node.name, line.whole);
                    if line.level == "warn" && !pure {
                        println!("unusual: {text}");
                    } else {
                        unknown.push(text);
                    }
                }
            }
        }
    }
    if pure && env::var_os("RETCD_REWRITE").is_some() {
        let text: String = seen.iter().map(|entry| format!("{entry}\n")).collect();
        fs::write(list(), text).expect("the list can be written");
        unknown.clear();
    }
    (format!("genuine members sent {sent} snapshots and received {received}"), unknown)
}
