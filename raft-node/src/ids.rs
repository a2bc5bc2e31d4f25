//! Identifiers of members, clusters and requests, derived as etcd derives them.

use std::sync::atomic::{AtomicU64, Ordering};

use sha1::{Digest, Sha1};

/// The id of a member: SHA-1 over its sorted peer URLs, the cluster token and, for a member that
/// was added at run time, the decimal Unix seconds. The first eight bytes, big endian.
///
/// `token` is the initial cluster token for a member of the initial cluster, empty otherwise.
/// URLs are in canonical form (`http://host:port`). Source: etcd's `membership` package.
pub fn member_id(peer_urls: &[String], token: &str, unix_seconds: Option<i64>) -> u64 {
    let mut urls: Vec<&str> = peer_urls.iter().map(String::as_str).collect();
    urls.sort_unstable();
    let mut sha = Sha1::new();
    for url in urls {
        sha.update(url.as_bytes());
    }
    sha.update(token.as_bytes());
    if let Some(seconds) = unix_seconds {
        sha.update(seconds.to_string().as_bytes());
    }
    first_eight(sha)
}

/// The id of a cluster: SHA-1 over its members' ids in ascending order, eight bytes each, big
/// endian. Computed once, when the cluster is created.
pub fn cluster_id(member_ids: &[u64]) -> u64 {
    let mut ids = member_ids.to_vec();
    ids.sort_unstable();
    let mut sha = Sha1::new();
    for id in ids {
        sha.update(id.to_be_bytes());
    }
    first_eight(sha)
}

fn first_eight(sha: Sha1) -> u64 {
    let digest = sha.finalize();
    let mut first = [0; 8];
    first.copy_from_slice(&digest[..8]);
    u64::from_be_bytes(first)
}

/// An identifier as etcd prints it: lower-case hexadecimal without leading zeros.
pub fn format_id(id: u64) -> String {
    format!("{id:x}")
}

/// Ids of requests: 16 bits of the member's id, 40 bits of the millisecond it started at, and a
/// counter. So ids differ between members and between runs of one member without any coordination.
#[derive(Debug)]
pub struct RequestIds {
    prefix: u64,
    suffix: AtomicU64,
}

const SUFFIX_MASK: u64 = (1 << 48) - 1;

impl RequestIds {
    /// `unix_millis` is the time of start.
    pub fn new(member: u64, unix_millis: u64) -> RequestIds {
        RequestIds {
            prefix: (member & 0xffff) << 48,
            suffix: AtomicU64::new((unix_millis & ((1 << 40) - 1)) << 8),
        }
    }

    /// The next id. Never blocks.
    pub fn next(&self) -> u64 {
        let suffix = self.suffix.fetch_add(1, Ordering::Relaxed).wrapping_add(1);
        self.prefix | (suffix & SUFFIX_MASK)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(urls: &[&str], token: &str) -> Vec<u64> {
        urls.iter()
            .map(|url| member_id(&[(*url).to_owned()], token, None))
            .collect()
    }

    /// Ids that published tutorials print, and that etcd itself was seen to print.
    #[test]
    fn ids_are_those_of_etcd() {
        type Case = (
            &'static [&'static str],
            &'static str,
            &'static [u64],
            Option<u64>,
        );
        let cases: &[Case] = &[
            (
                &["http://localhost:2380"],
                "etcd-cluster",
                &[0x8e9e05c52164694d],
                Some(0xcdf818194e3a8c32),
            ),
            (
                &[
                    "https://192.168.111.201:2380",
                    "https://192.168.111.202:2380",
                    "https://192.168.111.203:2380",
                ],
                "etcd-cluster",
                &[0x22f69347520bc065, 0x31f594e98f861eb7, 0x54e5fbcfbe557469],
                Some(0xf44ba854c1b9bc45),
            ),
            (
                &[
                    "http://192.168.0.91:2380",
                    "http://192.168.0.92:2380",
                    "http://192.168.0.93:2380",
                ],
                "etcd-cluster",
                &[0x06c70a880257288f, 0x5bbe42788a239cc6, 0x3f7336e156287ed0],
                Some(0xa03ca7b6ecf1d2d4),
            ),
            (
                &[
                    "http://192.168.0.41:2380",
                    "http://192.168.0.42:2380",
                    "http://192.168.0.43:2380",
                ],
                "etcd-cluster",
                &[0xadff72f24ac33f4b, 0xc96f41ba37a00a16, 0xc883f9e325d8667d],
                None,
            ),
            (
                &[
                    "https://192.168.61.11:2380",
                    "https://192.168.61.12:2380",
                    "https://192.168.61.13:2380",
                ],
                "etcd-cluster-1",
                &[0x99a756f799eb4163, 0x4f2f99d70000fc19, 0xa9aff19397de2e4e],
                None,
            ),
            (
                &[
                    "http://192.168.111.201:2380",
                    "http://192.168.111.202:2380",
                    "http://192.168.111.203:2380",
                ],
                "etcd-cluster",
                &[0xc8ce807d8f2a76b5, 0x25519943d29a878b, 0xbaf1a8d9278e8680],
                Some(0x8109f2a339f32b2a),
            ),
            (
                &["http://127.0.0.1:17001"],
                "etcd-cluster",
                &[0x2230a4884aafd724],
                Some(0x6bb4e41ee36a84b2),
            ),
            (
                &[
                    "http://127.0.0.1:18001",
                    "http://127.0.0.1:18011",
                    "http://127.0.0.1:18021",
                ],
                "etcd-cluster",
                &[0xb5471a96ca7562ca, 0xfdb9506cbb623fcd, 0xc00190ca0f548647],
                Some(0xd15091cab87d889f),
            ),
        ];
        for (urls, token, members, cluster) in cases {
            let got = ids(urls, token);
            assert_eq!(got, *members, "{urls:?}");
            if let Some(cluster) = cluster {
                assert_eq!(cluster_id(&got), *cluster, "{urls:?}");
            }
        }
    }

    #[test]
    fn the_order_of_urls_and_members_does_not_matter() {
        let a = "http://a:1".to_owned();
        let b = "http://b:1".to_owned();
        assert_eq!(
            member_id(&[a.clone(), b.clone()], "t", None),
            member_id(&[b, a], "t", None)
        );
        assert_eq!(cluster_id(&[1, 2, 3]), cluster_id(&[3, 1, 2]));
    }

    #[test]
    fn the_time_of_an_addition_changes_the_id() {
        let url = ["http://a:1".to_owned()];
        assert_ne!(member_id(&url, "", Some(1)), member_id(&url, "", Some(2)));
    }

    #[test]
    fn ids_are_printed_without_leading_zeros() {
        assert_eq!(format_id(0x06c70a880257288f), "6c70a880257288f");
    }

    #[test]
    fn request_ids_carry_member_and_time_and_wrap_in_48_bits() {
        let ids = RequestIds::new(0x12_3456, 0x0123_4567_89ab);
        assert_eq!(ids.next(), 0x3456_2345_6789_ab01);
        assert_eq!(ids.next(), 0x3456_2345_6789_ab02);
        let last = RequestIds::new(1, (1 << 40) - 1);
        for _ in 0..255 {
            last.next();
        }
        assert_eq!(last.next(), 1 << 48);
    }
}
