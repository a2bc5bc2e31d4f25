//! The URLs of a peer, and which of them is used.

use std::fmt;

use parking_lot::Mutex;

/// A URL that cannot be dialed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("peer URL {url:?} is unusable: {why}; it has to be http or https, a host and a port")]
pub struct BadUrl {
    url: String,
    why: &'static str,
}

/// A peer URL, taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct PeerUrl {
    pub(super) tls: bool,
    /// Without brackets.
    pub(super) host: String,
    pub(super) port: u16,
    /// As in the URL, for the header `Host`.
    pub(super) authority: String,
}

impl fmt::Display for PeerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.tls { "https" } else { "http" };
        write!(f, "{scheme}://{}", self.authority)
    }
}

impl PeerUrl {
    /// # Errors
    /// Another scheme, no host, no port. A path is ignored: etcd refuses it in its flags.
    pub(super) fn parse(text: &str) -> Result<PeerUrl, BadUrl> {
        let bad = |why| BadUrl {
            url: text.to_owned(),
            why,
        };
        let uri: http::Uri = text
            .trim()
            .parse()
            .map_err(|_| bad("it cannot be parsed"))?;
        let tls = match uri.scheme_str() {
            Some("http") => false,
            Some("https") => true,
            _ => return Err(bad("its scheme is neither http nor https")),
        };
        let authority = uri.authority().ok_or_else(|| bad("it has no host"))?;
        if authority.as_str().contains('@') {
            return Err(bad("it names a user"));
        }
        let host = authority.host();
        let host = host
            .strip_prefix('[')
            .and_then(|host| host.strip_suffix(']'))
            .unwrap_or(host);
        if host.is_empty() {
            return Err(bad("it has no host"));
        }
        let default = if tls { 443 } else { 80 };
        Ok(PeerUrl {
            tls,
            host: host.to_owned(),
            port: authority.port_u16().unwrap_or(default),
            authority: authority.as_str().to_owned(),
        })
    }

    pub(super) fn parse_all<S: AsRef<str>>(texts: &[S]) -> Result<Vec<PeerUrl>, BadUrl> {
        let urls: Vec<PeerUrl> = texts
            .iter()
            .map(|text| PeerUrl::parse(text.as_ref()))
            .collect::<Result<_, _>>()?;
        if urls.is_empty() {
            return Err(BadUrl {
                url: String::new(),
                why: "there is none",
            });
        }
        Ok(urls)
    }
}

/// The URLs of one peer in turn: the same one until it fails.
#[derive(Debug)]
pub(super) struct Picker(Mutex<(Vec<PeerUrl>, usize)>);

impl Picker {
    /// `urls` is not empty.
    pub(super) fn new(urls: Vec<PeerUrl>) -> Picker {
        Picker(Mutex::new((urls, 0)))
    }

    pub(super) fn update(&self, urls: Vec<PeerUrl>) {
        *self.0.lock() = (urls, 0);
    }

    pub(super) fn pick(&self) -> PeerUrl {
        let state = self.0.lock();
        state.0[state.1].clone()
    }

    /// Turns to the next one, if nobody did since `url` was picked.
    pub(super) fn unreachable(&self, url: &PeerUrl) {
        let mut state = self.0.lock();
        if state.0[state.1] == *url {
            state.1 = (state.1 + 1) % state.0.len();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_taken_apart() {
        let url = PeerUrl::parse("https://[::1]:2380").unwrap();
        assert_eq!((url.tls, url.host.as_str(), url.port), (true, "::1", 2380));
        assert_eq!(url.to_string(), "https://[::1]:2380");
        let url = PeerUrl::parse("http://infra0.example:2380").unwrap();
        assert_eq!((url.tls, url.host.as_str()), (false, "infra0.example"));
        for bad in [
            "",
            "unix://a:1",
            "http://",
            "10.0.0.1:2380",
            "http://a b:1",
            "http://u@h:1",
        ] {
            assert!(PeerUrl::parse(bad).is_err(), "{bad}");
        }
        assert!(PeerUrl::parse_all::<&str>(&[]).is_err());
    }

    #[test]
    fn a_failed_url_is_left_once() {
        let urls = PeerUrl::parse_all(&["http://a:1", "http://b:1"]).unwrap();
        let picker = Picker::new(urls.clone());
        let first = picker.pick();
        assert_eq!(first, urls[0]);
        picker.unreachable(&first);
        // Two streams fail at the same URL: that is one failure.
        picker.unreachable(&first);
        assert_eq!(picker.pick(), urls[1]);
        picker.unreachable(&urls[1]);
        assert_eq!(picker.pick(), urls[0]);
        picker.update(urls[1..].to_vec());
        picker.unreachable(&urls[1]);
        assert_eq!(picker.pick(), urls[1]);
    }
}
