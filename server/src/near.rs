//! What may have been meant.

use strsim::osa_distance;

/// Nothing that has a name here is longer.
const LONGEST: usize = 100;

/// The candidate that differs least from `typed`, if any is close.
pub(crate) fn nearest<'a>(
    typed: &str,
    candidates: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    let plain = |text: &str| -> String {
        let letters = text.chars().take(LONGEST).filter(|c| c.is_alphanumeric());
        letters.flat_map(char::to_lowercase).collect()
    };
    let wanted = plain(typed);
    let limit = 1 + wanted.chars().count() / 6;
    let distances = candidates.into_iter().filter(|name| *name != typed);
    let distances = distances.map(|name| (osa_distance(&wanted, &plain(name)), name));
    let (distance, name) = distances.min_by_key(|(distance, _)| *distance)?;
    // Of short names, all are near each other.
    let close = distance <= limit && 3 * distance <= wanted.chars().count();
    (close && !wanted.is_empty()).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::nearest;

    /// With the slips of the tutorials.
    #[test]
    fn near_misses_are_found_and_others_are_not() {
        let flags = ["key-file", "name", "peer-key-file", "cert-file", "data-dir"];
        assert_eq!(nearest("keyfile", flags), Some("key-file"));
        assert_eq!(nearest("cert_file", flags), Some("cert-file"));
        assert_eq!(nearest("data-dri", flags), Some("data-dir"));
        assert_eq!(nearest("proxy-read-timeout", flags), None);
        assert_eq!(nearest("proxy-read-timeout", ["raft-read-timeout"]), None);
        assert_eq!(nearest("nmae", flags), Some("name"));
        assert_eq!(nearest("", flags), None);
        assert_eq!(nearest("etcd4", ["etcd1", "node"]), Some("etcd1"));
        assert_eq!(nearest("k83", ["k8s"]), Some("k8s"));
        assert_eq!(nearest("m4", ["m1"]), None);
    }
}
