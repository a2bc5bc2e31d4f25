//! The request target: a path as Go's mux sees it, and the query.

use std::borrow::Cow;

/// The path under today's name: what etcd 3.3 called `/v3beta/` is `/v3/`.
pub(super) fn renamed(path: &str) -> Cow<'_, str> {
    match path.strip_prefix("/v3beta/") {
        Some(rest) => Cow::Owned(format!("/v3/{rest}")),
        None => Cow::Borrowed(path),
    }
}

/// The path without `//`, `/./` and `/../`, if that is another one.
pub(super) fn cleaned(path: &str) -> Option<String> {
    let rest = path.strip_prefix('/')?;
    let inner = rest.strip_suffix('/').unwrap_or(rest);
    let plain = |part: &str| !matches!(part, "" | "." | "..");
    if rest.is_empty() || inner.split('/').all(plain) {
        return None;
    }
    let mut parts = Vec::new();
    for part in rest.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            _ => parts.push(part),
        }
    }
    let mut clean = String::with_capacity(path.len());
    for part in &parts {
        clean.push('/');
        clean.push_str(part);
    }
    if clean.is_empty() || rest.ends_with('/') {
        clean.push('/');
    }
    Some(clean)
}

/// The decoded pairs of a query string.
pub(super) struct Query(Vec<(String, String)>);

impl Query {
    /// Pairs that are not valid are left out, as Go does.
    pub(super) fn of(query: &str) -> Self {
        let pairs = query
            .split('&')
            .filter(|pair| !pair.is_empty() && !pair.contains(';'));
        Self(
            pairs
                .filter_map(|pair| {
                    let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
                    Some((decoded(name)?, decoded(value)?))
                })
                .collect(),
        )
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.first(name).is_some()
    }

    pub(super) fn first(&self, name: &str) -> Option<&str> {
        let mut pairs = self.0.iter();
        pairs
            .find(|(n, _)| n == name)
            .map(|(_, value)| value.as_str())
    }

    pub(super) fn all(&self, name: &str) -> Vec<String> {
        let pairs = self.0.iter().filter(|(n, _)| n == name);
        pairs.map(|(_, value)| value.clone()).collect()
    }
}

fn decoded(text: &str) -> Option<String> {
    let mut bytes = text.bytes();
    let mut out = Vec::with_capacity(text.len());
    while let Some(byte) = bytes.next() {
        out.push(match byte {
            b'+' => b' ',
            b'%' => hex(bytes.next()?)? << 4 | hex(bytes.next()?)?,
            other => other,
        });
    }
    Some(String::from_utf8_lossy(&out).into_owned())
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).map(|value| value as u8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_cleaned() {
        for path in ["/", "/health", "/livez/", "/a/b/", "", "*"] {
            assert_eq!(cleaned(path), None, "{path}");
        }
        for (path, clean) in [
            ("//", "/"),
            ("//health", "/health"),
            ("/a//b/", "/a/b/"),
            ("//nope/../x", "/x"),
            ("/./health", "/health"),
            ("/../..", "/"),
        ] {
            assert_eq!(cleaned(path).as_deref(), Some(clean), "{path}");
        }
    }

    #[test]
    fn queries_are_decoded() {
        let query = Query::of("exclude=A&verbose&exclude=%42+c&bad=%4&x;y=1&&serializable=true");
        assert_eq!(query.all("exclude"), ["A", "B c"]);
        assert!(query.has("verbose"));
        assert!(!query.has("bad"));
        assert_eq!(query.first("serializable"), Some("true"));
        assert_eq!(query.first("nothing"), None);
    }
}
