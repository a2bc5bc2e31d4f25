//! Files that name metrics and give a reason for each.

use std::collections::BTreeMap;
use std::path::Path;

/// Reads `name: reason` lines; `#` begins a comment. A name may end in `*`.
///
/// # Panics
/// If a line is none, or a name is there twice.
pub(crate) fn read(name: &str) -> BTreeMap<String, String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/metrics").join(name);
    let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let mut out = BTreeMap::new();
    for line in text.lines().filter(|line| !line.starts_with('#') && !line.trim().is_empty()) {
        let (name, reason) =
            line.split_once(": ").unwrap_or_else(|| panic!("{}: no reason in {line:?}", path.display()));
        assert!(reason.len() > 10, "{}: what kind of reason is {reason:?}?", path.display());
        let twice = out.insert(name.to_owned(), reason.to_owned()).is_some();
        assert!(!twice, "{}: {name} is there twice", path.display());
    }
    out
}

/// Whether an entry is about a metric.
pub(crate) fn covers(entry: &str, metric: &str) -> bool {
    entry.strip_suffix('*').map_or(entry == metric, |prefix| metric.starts_with(prefix))
}
