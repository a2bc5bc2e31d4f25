//! URLs of peers and clients, with etcd's checks and texts.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;

use retcd_raft_node::transport::socket_file;

/// A URL etcd accepts for a peer or client address: `http`, `https`, `unix` or `unixs`.
///
/// Equality and order are those of its text.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Url {
    text: String,
    scheme: Scheme,
    /// `host:port` of http and https; for sockets whatever stands between `//` and the path.
    authority: String,
}

/// How to talk to a [`Url`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scheme {
    /// Plain TCP.
    Http,
    /// TLS over TCP.
    Https,
    /// A plain Unix socket.
    Unix,
    /// TLS over a Unix socket.
    Unixs,
}

impl Scheme {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
            Self::Unix => "unix",
            Self::Unixs => "unixs",
        }
    }

    /// Whether it means TLS.
    pub(crate) fn is_secure(self) -> bool {
        matches!(self, Self::Https | Self::Unixs)
    }

    pub(crate) fn is_socket(self) -> bool {
        matches!(self, Self::Unix | Self::Unixs)
    }
}

/// Where to listen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// An address of TCP.
    Tcp(SocketAddr),
    /// The file of a Unix socket.
    Unix(PathBuf),
}

impl Place {
    /// The address, unless it is a file.
    pub fn address(&self) -> Option<SocketAddr> {
        match self {
            Self::Tcp(address) => Some(*address),
            Self::Unix(_) => None,
        }
    }
}

impl From<SocketAddr> for Place {
    fn from(address: SocketAddr) -> Self {
        Self::Tcp(address)
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => path.display().fmt(f),
        }
    }
}

/// Why a text is not a [`Url`]. Texts are those of etcd and of Go's URL parser.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UrlError {
    /// The text is no URL at all.
    #[error("parse {url:?}: {reason}")]
    Syntax {
        /// The text as given.
        url: String,
        /// What is wrong with it.
        reason: String,
    },
    /// Another scheme, or none.
    #[error("URL scheme must be http, https, unix, or unixs: {0}")]
    Scheme(String),
    /// Host or port missing.
    #[error("URL address does not have the form \"host:port\": {0}")]
    HostPort(String),
    /// Something follows the port.
    #[error("URL must not contain a path: {0}")]
    Path(String),
}

impl Url {
    /// `http://address`.
    pub fn http(address: SocketAddr) -> Self {
        let authority = address.to_string();
        Self {
            text: format!("http://{authority}"),
            scheme: Scheme::Http,
            authority,
        }
    }

    /// The URL as text, e.g. `http://10.0.0.1:2380`.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// How to talk to it.
    pub fn scheme(&self) -> Scheme {
        self.scheme
    }

    /// `host:port` of http and https.
    pub fn authority(&self) -> &str {
        &self.authority
    }

    /// Host without brackets, and port; `None` for sockets.
    pub fn host_port(&self) -> Option<(&str, &str)> {
        if self.scheme.is_socket() {
            None
        } else {
            split_host_port(&self.authority)
        }
    }

    /// The host to bind: an IP address, or `localhost`, which is 127.0.0.1 here. `None` for anything else.
    pub(super) fn bind_ip(&self) -> Option<IpAddr> {
        match self.host_port()?.0 {
            "localhost" => Some(IpAddr::V4(Ipv4Addr::LOCALHOST)),
            ip => ip.parse().ok(),
        }
    }

    /// The address to bind: an IP address or `localhost`, and a port (0 if there is none). `None` for anything else.
    pub fn bind_address(&self) -> Option<SocketAddr> {
        let ip = self.bind_ip()?;
        let (_, port) = self.host_port()?;
        let port = if port.is_empty() {
            0
        } else {
            port.parse().ok()?
        };
        Some(SocketAddr::new(ip, port))
    }

    /// Where to listen for it, see [`Url::bind_address`]; a socket is a file, named by host and path together as in etcd.
    pub fn place(&self) -> Option<Place> {
        match self.scheme {
            Scheme::Http | Scheme::Https => self.bind_address().map(Place::Tcp),
            Scheme::Unix | Scheme::Unixs => socket_file(&self.text).map(Place::Unix),
        }
    }

    /// The same URL on another port; sockets stay as they are.
    pub(super) fn with_port(&self, port: u16) -> Self {
        let Some((host, _)) = self.host_port() else {
            return self.clone();
        };
        let host = if host.contains(':') {
            format!("[{host}]")
        } else {
            host.to_owned()
        };
        let authority = format!("{host}:{port}");
        Self {
            text: format!("{}://{authority}", self.scheme.name()),
            scheme: self.scheme,
            authority,
        }
    }
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl FromStr for Url {
    type Err = UrlError;

    fn from_str(given: &str) -> Result<Self, UrlError> {
        let given = given.trim();
        let fail = |reason: String| UrlError::Syntax {
            url: given.to_owned(),
            reason,
        };
        if given.bytes().any(|b| b < 0x20 || b == 0x7f) {
            return Err(fail("net/url: invalid control character in URL".into()));
        }
        let (scheme, rest) = split_scheme(given).map_err(|reason| fail(reason.into()))?;
        let scheme = scheme.map(str::to_ascii_lowercase);
        let before_fragment = rest.split('#').next().unwrap_or(rest);
        let before_query = before_fragment.split('?').next().unwrap_or(before_fragment);
        let (authority, path) = match before_query.strip_prefix("//") {
            Some(hierarchical) => {
                let slash = hierarchical.find('/').unwrap_or(hierarchical.len());
                hierarchical.split_at(slash)
            }
            None => {
                if scheme.is_none()
                    && before_query
                        .split('/')
                        .next()
                        .is_some_and(|s| s.contains(':'))
                {
                    return Err(fail(
                        "first path segment in URL cannot contain colon".into(),
                    ));
                }
                ("", before_query)
            }
        };
        let host = authority.rsplit('@').next().unwrap_or(authority);
        check_host(host).map_err(fail)?;
        check_escapes(path).map_err(fail)?;
        let scheme = match scheme.as_deref() {
            Some("http") => Scheme::Http,
            Some("https") => Scheme::Https,
            Some("unix") => Scheme::Unix,
            Some("unixs") => Scheme::Unixs,
            _ => return Err(UrlError::Scheme(given.to_owned())),
        };
        if !scheme.is_socket() {
            if split_host_port(host).is_none() {
                return Err(UrlError::HostPort(given.to_owned()));
            }
            if !path.is_empty() {
                return Err(UrlError::Path(given.to_owned()));
            }
        }
        Ok(Self {
            text: format!("{}:{rest}", scheme.name()),
            scheme,
            authority: host.to_owned(),
        })
    }
}

/// A comma-separated list, sorted and without duplicates; an empty text is an empty list.
pub(super) fn parse_list(text: &str) -> Result<Vec<Url>, UrlError> {
    if text.is_empty() {
        return Ok(Vec::new());
    }
    let mut urls = text
        .split(',')
        .map(str::parse)
        .collect::<Result<Vec<Url>, _>>()?;
    urls.sort();
    urls.dedup();
    Ok(urls)
}

/// URLs as one text, separated by commas.
pub(super) fn join(urls: &[Url]) -> String {
    urls.iter().map(Url::as_str).collect::<Vec<_>>().join(",")
}

/// What stands before the first colon, if it can be a scheme, and the rest.
fn split_scheme(text: &str) -> Result<(Option<&str>, &str), &'static str> {
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' => {}
            b'0'..=b'9' | b'+' | b'-' | b'.' if at > 0 => {}
            b':' if at == 0 => return Err("missing protocol scheme"),
            b':' => return Ok((Some(&text[..at]), &text[at + 1..])),
            _ => break,
        }
    }
    Ok((None, text))
}

fn check_host(host: &str) -> Result<(), String> {
    let port = if host.starts_with('[') {
        let end = host.rfind(']').ok_or("missing ']' in host")?;
        &host[end + 1..]
    } else {
        host.find(':').map_or("", |colon| &host[colon..])
    };
    let digits = port.strip_prefix(':').unwrap_or(port);
    let has_colon = port.is_empty() || port.starts_with(':');
    if !has_colon || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return Err(format!("invalid port {port:?} after host"));
    }
    // Only what is not ASCII may be escaped, and the percent sign before a zone.
    for (at, _) in host.match_indices('%') {
        let escape: String = host[at..].chars().take(3).collect();
        if escape != "%25"
            && escape
                .as_bytes()
                .get(1)
                .is_some_and(|digit| (b'0'..b'8').contains(digit))
        {
            return Err(format!("invalid URL escape {escape:?}"));
        }
    }
    check_escapes(host)?;
    let forbidden = |c: &char| matches!(c, ' ' | '\\' | '^' | '`' | '{' | '|' | '}');
    match host.chars().find(forbidden) {
        Some(bad) => Err(format!(
            "invalid character {:?} in host name",
            bad.to_string()
        )),
        None => Ok(()),
    }
}

fn check_escapes(text: &str) -> Result<(), String> {
    let mut rest = text;
    while let Some(at) = rest.find('%') {
        let escape: String = rest[at..].chars().take(3).collect();
        let valid = escape.len() == 3 && escape[1..].bytes().all(|b| b.is_ascii_hexdigit());
        if !valid {
            return Err(format!("invalid URL escape {escape:?}"));
        }
        rest = &rest[at + 1..];
    }
    Ok(())
}

/// `host:port` or `[v6]:port`; neither may be missing its colon, both may be empty.
pub(super) fn split_host_port(text: &str) -> Option<(&str, &str)> {
    if let Some(rest) = text.strip_prefix('[') {
        let (host, port) = rest.split_once(']')?;
        return Some((host, port.strip_prefix(':')?));
    }
    let (host, port) = text.rsplit_once(':')?;
    (!host.contains(':')).then_some((host, port))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(text: &str) -> String {
        text.parse::<Url>().expect_err(text).to_string()
    }

    #[test]
    fn good_urls_keep_their_text() {
        for text in [
            "http://localhost:2379",
            "https://[::1]:2379",
            "http://:2379",
            "unix://foo:1",
            "unixs:///run/x.sock",
        ] {
            assert_eq!(text.parse::<Url>().expect(text).as_str(), text);
        }
        assert_eq!(
            "HTTP://10.0.0.1:1"
                .parse::<Url>()
                .expect("upper case")
                .as_str(),
            "http://10.0.0.1:1"
        );
    }

    /// Texts printed by etcd 3.7.1.
    #[test]
    fn bad_urls_are_refused_with_etcds_texts() {
        for (url, text) in [
            (
                "ftp://127.0.0.1:1",
                "URL scheme must be http, https, unix, or unixs: ftp://127.0.0.1:1",
            ),
            ("foo", "URL scheme must be http, https, unix, or unixs: foo"),
            (
                "localhost:2379",
                "URL scheme must be http, https, unix, or unixs: localhost:2379",
            ),
            (
                "http://127.0.0.1",
                "URL address does not have the form \"host:port\": http://127.0.0.1",
            ),
            (
                "http://::1:2379",
                "parse \"http://::1:2379\": invalid port \"::1:2379\" after host",
            ),
            (
                "http://a%41:1",
                "parse \"http://a%41:1\": invalid URL escape \"%41\"",
            ),
            (
                "http://a b:1",
                "parse \"http://a b:1\": invalid character \" \" in host name",
            ),
            (
                "http://127.0.0.1:2/",
                "URL must not contain a path: http://127.0.0.1:2/",
            ),
            (
                "127.0.0.1:2379",
                "parse \"127.0.0.1:2379\": first path segment in URL cannot contain colon",
            ),
            (
                "http://127.0.0.1:23x",
                "parse \"http://127.0.0.1:23x\": invalid port \":23x\" after host",
            ),
            ("%zz", "parse \"%zz\": invalid URL escape \"%zz\""),
            (
                "http://[::1:2",
                "parse \"http://[::1:2\": missing ']' in host",
            ),
            (":x", "parse \":x\": missing protocol scheme"),
        ] {
            assert_eq!(error(url), text);
        }
    }

    #[test]
    fn only_addresses_and_localhost_can_be_bound() {
        let bind = |text: &str| text.parse::<Url>().expect(text).bind_address();
        assert_eq!(
            bind("http://localhost:2379"),
            Some(([127, 0, 0, 1], 2379).into())
        );
        assert_eq!(
            bind("http://[::]:0"),
            Some("[::]:0".parse().expect("address"))
        );
        assert_eq!(bind("http://foo.bar:1"), None);
        assert_eq!(bind("http://:1"), None);
        assert_eq!(bind("unix://foo:1"), None);
    }

    #[test]
    fn sockets_are_files() {
        for (url, path) in [
            ("unix:///run/etcd/client.sock", "/run/etcd/client.sock"),
            ("unixs:///tmp/a%20b?x#y", "/tmp/a b"),
            ("unix://localhost:2379", "localhost:2379"),
            ("unix://here/there", "here/there"),
            ("unix:/run/x", "/run/x"),
        ] {
            let place = url.parse::<Url>().expect(url).place();
            assert_eq!(place, Some(Place::Unix(path.into())), "{url}");
        }
    }

    #[test]
    fn lists_are_sorted_sets() {
        assert_eq!(
            join(&parse_list("http://b:1,http://a:1,http://b:1").expect("list")),
            "http://a:1,http://b:1"
        );
        assert_eq!(parse_list(""), Ok(vec![]));
        assert!(parse_list("http://a:1,").is_err());
    }

    #[test]
    fn the_port_can_be_replaced() {
        assert_eq!(
            "http://[::1]:0"
                .parse::<Url>()
                .expect("url")
                .with_port(7)
                .as_str(),
            "http://[::1]:7"
        );
    }
}
