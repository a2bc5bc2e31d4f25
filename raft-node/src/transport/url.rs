//! The URLs of a peer, and which of them is used.

use std::ffi::OsString;
use std::fmt;
use std::os::unix::ffi::OsStringExt as _;
use std::path::PathBuf;

use parking_lot::Mutex;

/// A URL that cannot be dialed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "peer URL {url:?} is unusable: {why}; it has to be http or https, a host and a port, or unix or unixs and a file"
)]
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
    /// Of a Unix socket: its file, which is dialed instead of the host.
    pub(super) socket: Option<PathBuf>,
    text: String,
}

/// The host of a Unix socket whose URL names none: what its certificate has to be for.
const SOCKET_HOST: &str = "localhost";

/// The file of the socket that a URL of scheme `unix` or `unixs` names: all that stands behind the scheme, as in
/// `unix:///run/etcd/peer.sock`. Without a path, as in `unix://localhost:2380`, it is a file of that name in the current
/// directory; etcd has no other ones for peers. `None` for other schemes, and without a name.
pub fn socket_file(url: &str) -> Option<PathBuf> {
    let (_, authority, path) = socket_parts(url)?;
    let mut name = authority.as_bytes().to_vec();
    unescape(path, &mut name);
    let usable = !name.is_empty() && !name.contains(&0);
    usable.then(|| OsString::from_vec(name).into())
}

/// Whether it means TLS, what stands before the path, and the path.
fn socket_parts(url: &str) -> Option<(bool, &str, &str)> {
    let (scheme, rest) = url.trim().split_once(':')?;
    let tls = match scheme.to_ascii_lowercase().as_str() {
        "unix" => false,
        "unixs" => true,
        _ => return None,
    };
    let rest = rest.split(['#', '?']).next().unwrap_or(rest);
    let Some(rest) = rest.strip_prefix("//") else {
        return Some((tls, "", rest));
    };
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    // A user means nothing here.
    let authority = authority.rsplit('@').next().unwrap_or(authority);
    Some((tls, authority, path))
}

/// Appends a path without its escapes. What is no escape stays as it is.
fn unescape(path: &str, to: &mut Vec<u8>) {
    let mut rest = path.as_bytes();
    while let Some((first, tail)) = rest.split_first() {
        let digit = |at: usize| char::from(*tail.get(at)?).to_digit(16);
        match digit(0).zip(digit(1)) {
            Some((high, low)) if *first == b'%' => {
                to.push((high << 4 | low) as u8);
                rest = &tail[2..];
            }
            _ => {
                to.push(*first);
                rest = tail;
            }
        }
    }
}

impl fmt::Display for PeerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
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
        if let Some((tls, authority, _)) = socket_parts(text) {
            let socket = socket_file(text).ok_or_else(|| bad("it names no file"))?;
            let authority = if authority.is_empty() {
                SOCKET_HOST
            } else {
                authority
            };
            return Ok(PeerUrl {
                tls,
                host: host_of(authority).to_owned(),
                port: 0,
                authority: authority.to_owned(),
                socket: Some(socket),
                text: text.trim().to_owned(),
            });
        }
        let uri: http::Uri = text
            .trim()
            .parse()
            .map_err(|_| bad("it cannot be parsed"))?;
        let tls = match uri.scheme_str() {
            Some("http") => false,
            Some("https") => true,
            _ => return Err(bad("its scheme is another one")),
        };
        let authority = uri.authority().ok_or_else(|| bad("it has no host"))?;
        if authority.as_str().contains('@') {
            return Err(bad("it names a user"));
        }
        let host = host_of(authority.as_str());
        if host.is_empty() {
            return Err(bad("it has no host"));
        }
        let (scheme, default) = if tls { ("https", 443) } else { ("http", 80) };
        Ok(PeerUrl {
            tls,
            host: host.to_owned(),
            port: authority.port_u16().unwrap_or(default),
            authority: authority.as_str().to_owned(),
            socket: None,
            text: format!("{scheme}://{authority}"),
        })
    }

    /// Where a connection goes, in Go's words: `tcp 10.0.0.1:2380` or `unix /run/etcd/peer.sock`.
    pub(super) fn dialed(&self) -> String {
        match &self.socket {
            Some(file) => format!("unix {}", file.display()),
            None => format!("tcp {}", self.authority),
        }
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

/// Without port, and without brackets.
fn host_of(authority: &str) -> &str {
    match authority
        .strip_prefix('[')
        .and_then(|rest| rest.split_once(']'))
    {
        Some((host, _)) => host,
        None => authority
            .rsplit_once(':')
            .map_or(authority, |(host, _)| host),
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
            "unix:",
            "unixs://",
            "unix:///a%00b",
            "ftp://a:1",
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
    fn sockets_are_files() {
        for (text, file, host) in [
            // As in etcd: the name has a colon, and is in the current directory.
            ("unix://localhost:2380", "localhost:2380", "localhost"),
            ("unixs://127.0.0.1:1", "127.0.0.1:1", "127.0.0.1"),
            ("unix://m1", "m1", "m1"),
            (
                "unix:///run/etcd/a%20b.sock",
                "/run/etcd/a b.sock",
                "localhost",
            ),
            ("UNIXS:///run/x.sock?a#b", "/run/x.sock", "localhost"),
            ("unix://run/x.sock", "run/x.sock", "run"),
            ("unix:x%2", "x%2", "localhost"),
        ] {
            let url = PeerUrl::parse(text).expect(text);
            assert_eq!(
                url.socket.as_deref(),
                Some(std::path::Path::new(file)),
                "{text}"
            );
            assert_eq!(url.host, host, "{text}");
            assert_eq!(url.tls, text.to_lowercase().starts_with("unixs"));
            assert_eq!(
                (url.to_string(), url.dialed()),
                (text.to_owned(), format!("unix {file}"))
            );
        }
        assert_eq!(socket_file("http://localhost:2380"), None);
        assert_eq!(socket_file("localhost"), None);
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
