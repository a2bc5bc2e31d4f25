//! How a member that is about to start tells the members it asks who it is, so that they can explain a refusal too.
//!
//! Headers of a `GET /members`. Genuine etcd neither sends nor reads them, but for the first.

use std::collections::BTreeMap;

use http::{HeaderMap, HeaderValue};

use crate::config::{Url, parse_cluster};

const PEER_URLS: &str = "x-peerurls";
const NAME: &str = "x-retcd-name";
const CLUSTER: &str = "x-retcd-initial-cluster";
const DATA: &str = "x-retcd-data-of-cluster";
const ID: &str = "x-server-from";
const STATE: &str = "x-retcd-initial-cluster-state";

/// Longest header that is looked at.
const MAX_HEADER: usize = 16 << 10;

/// A member that is about to start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Introduction {
    /// `--name`.
    pub(crate) name: String,
    /// What it advertises to peers.
    pub(crate) peer_urls: Vec<String>,
    /// `--initial-cluster`, by name.
    pub(crate) cluster: BTreeMap<String, Vec<Url>>,
    /// Its id, where that follows from its flags or its data.
    pub(crate) id: Option<u64>,
    /// Whether it joins, or founds a cluster.
    pub(crate) joins: bool,
    /// The cluster that its data is of; none without data.
    pub(crate) data_of: Option<u64>,
}

impl Introduction {
    pub(super) fn write(&self, headers: &mut HeaderMap) {
        let mut set = |name: &'static str, value: String| {
            if let Ok(value) = HeaderValue::from_str(&value) {
                headers.insert(name, value);
            }
        };
        let pairs = self
            .cluster
            .iter()
            .flat_map(|(name, urls)| urls.iter().map(move |url| format!("{name}={url}")));
        set(CLUSTER, pairs.collect::<Vec<_>>().join(","));
        set(NAME, self.name.clone());
        set(PEER_URLS, self.peer_urls.join(","));
        let state = if self.joins { "existing" } else { "new" };
        set(STATE, state.to_owned());
        for (name, id) in [(DATA, self.data_of), (ID, self.id)] {
            if let Some(id) = id {
                set(name, format!("{id:x}"));
            }
        }
    }

    /// `None` when nobody introduces themselves, or not in words that make sense.
    pub(super) fn read(headers: &HeaderMap) -> Option<Self> {
        let get = |name: &str| {
            let value = headers.get(name)?.to_str().ok()?;
            (value.len() <= MAX_HEADER).then_some(value)
        };
        let id = |name| get(name).and_then(|id| u64::from_str_radix(id, 16).ok());
        let urls = get(PEER_URLS)?.split(',');
        Some(Self {
            name: get(NAME)?.to_owned(),
            peer_urls: urls.map(str::to_owned).collect(),
            cluster: parse_cluster(get(CLUSTER)?).ok()?,
            joins: get(STATE)? == "existing",
            data_of: id(DATA),
            id: id(ID),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let cluster = parse_cluster("b=http://h:2,a=http://h:1,b=http://h:3").unwrap();
        for data_of in [None, Some(0xab)] {
            let introduction = Introduction {
                name: "b".into(),
                peer_urls: vec!["http://h:2".into(), "http://h:3".into()],
                cluster: cluster.clone(),
                joins: data_of.is_none(),
                data_of,
                id: data_of.map(|id| id + 1),
            };
            let mut headers = HeaderMap::new();
            introduction.write(&mut headers);
            assert_eq!(Introduction::read(&headers), Some(introduction));
        }
    }

    #[test]
    fn strangers_say_nothing() {
        let mut headers = HeaderMap::new();
        assert_eq!(Introduction::read(&headers), None);
        headers.insert(PEER_URLS, HeaderValue::from_static("http://h:1"));
        assert_eq!(Introduction::read(&headers), None);
        headers.insert(NAME, HeaderValue::from_static("n"));
        headers.insert(STATE, HeaderValue::from_static("new"));
        headers.insert(CLUSTER, HeaderValue::from_static("n=ftp://x"));
        assert_eq!(Introduction::read(&headers), None);
    }
}
