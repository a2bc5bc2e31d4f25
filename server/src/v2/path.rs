//! Paths of the tree, and the keys of the v3 store under which it is kept.

use bytes::Bytes;

/// Before the path of each node. A path begins with a slash.
const NODES: &str = "_retcd/v2/node";
/// Before the deadline and the path of each node that ends by itself.
const DEADLINES: &str = "_retcd/v2/ttl/";
/// What the newest removal was.
pub(super) const REMOVAL: &[u8] = b"_retcd/v2/removal";
/// The newest name that was made in order.
pub(super) const ORDER: &[u8] = b"_retcd/v2/order";

/// Levels that a path may have: answers are nested as deep.
pub(super) const MAX_DEPTH: usize = 256;

/// Nanoseconds of a deadline as text: so many digits that texts sort as numbers do.
const DIGITS: usize = 20;

/// Where a node is: `/`, or names that each follow a slash.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Path(String);

impl Path {
    pub(super) fn root() -> Self {
        Self("/".to_owned())
    }

    /// Reads a path as etcd cleans it: empty names and `.` do not count, `..` takes the name before it away.
    pub(super) fn of(text: &str) -> Self {
        let mut names: Vec<&str> = Vec::new();
        for name in text.split('/') {
            match name {
                "" | "." => {}
                ".." => drop(names.pop()),
                _ => names.push(name),
            }
        }
        Self(format!("/{}", names.join("/")))
    }

    /// The path of a node's key; `None` for keys that are none.
    pub(super) fn of_key(key: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(key).ok()?.strip_prefix(NODES)?;
        let path = Self::of(text);
        (path.0 == text && !path.is_root() && path.depth() <= MAX_DEPTH).then_some(path)
    }

    pub(super) fn as_str(&self) -> &str {
        &self.0
    }

    /// As answers show it: the root has no name.
    pub(super) fn shown(&self) -> &str {
        if self.is_root() { "" } else { &self.0 }
    }

    pub(super) fn is_root(&self) -> bool {
        self.0 == "/"
    }

    /// Names in it.
    pub(super) fn depth(&self) -> usize {
        if self.is_root() {
            return 0;
        }
        self.0.matches('/').count()
    }

    /// The directory that it is in; the root is in itself.
    pub(super) fn parent(&self) -> Self {
        match self.0.rsplit_once('/') {
            Some((parent, _)) if !parent.is_empty() => Self(parent.to_owned()),
            _ => Self::root(),
        }
    }

    /// A name in this directory.
    pub(super) fn child(&self, name: &str) -> Self {
        Self(format!("{}{name}", self.with_slash()))
    }

    /// All directories on the way from below the root, and the path itself; nothing for the root.
    pub(super) fn way(&self) -> Vec<Self> {
        if self.is_root() {
            return Vec::new();
        }
        let ends = self.0.match_indices('/').skip(1).map(|(at, _)| at);
        let ends = ends.chain([self.0.len()]);
        ends.map(|end| Self(self.0[..end].to_owned())).collect()
    }

    /// What is behind this path in a longer one, without a slash before it; `None` if that is not below this.
    pub(super) fn rest<'a>(&self, longer: &'a Self) -> Option<&'a str> {
        let rest = longer.0.strip_prefix(&*self.with_slash())?;
        (!rest.is_empty()).then_some(rest)
    }

    /// Whether a path below this one goes through a hidden name, or ends with one.
    pub(super) fn hides(&self, below: &Self) -> bool {
        let names = self.rest(below).unwrap_or_default();
        names.split('/').any(|name| name.starts_with('_'))
    }

    fn with_slash(&self) -> String {
        if self.is_root() {
            "/".to_owned()
        } else {
            format!("{}/", self.0)
        }
    }

    /// The key of the node.
    pub(super) fn key(&self) -> Bytes {
        format!("{NODES}{}", self.0).into()
    }

    /// The keys of all nodes below: first, and the first one behind.
    pub(super) fn below(&self) -> (Bytes, Bytes) {
        let first = format!("{NODES}{}", self.with_slash());
        // The slash is followed by the zero.
        let end = format!("{}0", &first[..first.len() - 1]);
        (first.into(), end.into())
    }

    /// The keys of the node itself and of all nodes below, and some that are neither.
    pub(super) fn around(&self) -> (Bytes, Bytes) {
        if self.is_root() {
            return self.below();
        }
        (self.key(), self.below().1)
    }
}

/// The key that says when a node ends.
pub(super) fn deadline_key(nanos: i64, path: &Path) -> Bytes {
    format!("{DEADLINES}{nanos:0DIGITS$}{}", path.0).into()
}

/// The deadline and the node of such a key; `None` for keys that are none.
pub(super) fn of_deadline_key(key: &[u8]) -> Option<(i64, Path)> {
    let text = std::str::from_utf8(key).ok()?.strip_prefix(DEADLINES)?;
    let (nanos, path) = text.split_at_checked(DIGITS)?;
    let nanos = nanos.parse().ok()?;
    let node = Path::of(path);
    (node.0 == path && deadline_key(nanos, &node) == key).then_some((nanos, node))
}

/// The keys of all deadlines up to one: first, and the first one behind.
pub(super) fn deadlines_until(nanos: i64) -> (Bytes, Bytes) {
    let end = format!("{DEADLINES}{:0DIGITS$}", nanos.saturating_add(1).max(0));
    (DEADLINES.into(), end.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_cleaned() {
        for (text, path, depth) in [
            ("", "/", 0),
            ("/", "/", 0),
            ("//", "/", 0),
            ("/..", "/", 0),
            ("/foo", "/foo", 1),
            ("/foo/", "/foo", 1),
            ("/foo//bar/./baz", "/foo/bar/baz", 3),
            ("/foo/../bar", "/bar", 1),
            ("/a b/ö", "/a b/ö", 2),
        ] {
            assert_eq!(Path::of(text).as_str(), path, "{text}");
            assert_eq!(Path::of(text).depth(), depth, "{text}");
        }
        assert_eq!(Path::of("/").shown(), "");
        assert_eq!(Path::of("/a").shown(), "/a");
    }

    #[test]
    fn a_path_knows_its_way() {
        let way = |text: &str| Path::of(text).way();
        assert!(way("/").is_empty());
        assert_eq!(way("/a"), [Path::of("/a")]);
        let deep = ["/a", "/a/bc", "/a/bc/d"].map(Path::of);
        assert_eq!(way("/a/bc/d"), deep);
        assert_eq!(Path::of("/a/bc").parent(), Path::of("/a"));
        assert_eq!(Path::of("/a").parent(), Path::root());
        assert_eq!(Path::root().parent(), Path::root());
        assert_eq!(Path::root().child("a"), Path::of("/a"));
        assert_eq!(Path::of("/a").child("b"), Path::of("/a/b"));
    }

    #[test]
    fn hidden_is_what_goes_through_an_underscore_further_down() {
        let hides = |above: &str, path: &str| Path::of(above).hides(&Path::of(path));
        assert!(hides("/", "/_a"));
        assert!(hides("/", "/a/_b/c"));
        assert!(hides("/a", "/a/b/_c"));
        assert!(!hides("/_a", "/_a/b"));
        assert!(!hides("/", "/a_/b"));
        assert!(!hides("/a", "/ab/_c"), "not below at all");
        assert!(!hides("/_a", "/_a"));
    }

    #[test]
    fn keys_are_read_back_and_sort_as_paths() {
        for text in ["/a", "/a/b", "/ö/ /x", "/_h"] {
            let path = Path::of(text);
            assert_eq!(Path::of_key(&path.key()), Some(path.clone()));
            let key = deadline_key(7, &path);
            assert_eq!(of_deadline_key(&key), Some((7, path)));
        }
        for key in [
            &b"_retcd/v2/node"[..],
            b"_retcd/v2/node/",
            b"_retcd/v2/nodes",
            b"_retcd/v2/node/a/",
            b"_retcd/v2/node/a//b",
            b"_retcd/v2/node/\xff",
            b"x",
            b"",
        ] {
            assert_eq!(Path::of_key(key), None, "{key:?}");
        }
        for key in [
            &b"_retcd/v2/ttl/"[..],
            b"_retcd/v2/ttl/7/a",
            b"_retcd/v2/ttl/0000000000000000000x/a",
            b"_retcd/v2/ttl/+0000000000000000007/a",
            b"_retcd/v2/ttl/00000000000000000007",
            b"_retcd/v2/ttl/00000000000000000007/a/",
        ] {
            assert_eq!(of_deadline_key(key), None, "{key:?}");
        }
        let deep = format!("/{}", vec!["x"; MAX_DEPTH + 1].join("/"));
        assert_eq!(Path::of_key(&Path::of(&deep).key()), None);

        let (first, end) = Path::of("/a").below();
        let inside = |text: &str| (&first..&end).contains(&&Path::of(text).key());
        assert!(inside("/a/b") && inside("/a/\u{10ffff}") && inside("/a/b/c"));
        assert!(!inside("/a") && !inside("/a-b") && !inside("/a0") && !inside("/ab"));
        let (first, end) = Path::root().below();
        assert!((&first..&end).contains(&&Path::of("/a").key()));
        assert!(!(&first..&end).contains(&&Bytes::from_static(REMOVAL)));

        let (first, end) = deadlines_until(9);
        let due = |nanos| (&first..&end).contains(&&deadline_key(nanos, &Path::of("/x")));
        assert!(due(0) && due(9) && !due(10) && !due(i64::MAX));
    }
}
