//! What the first bytes of a connection give away.

use std::io::{self, Cursor};

/// Whether a connection that begins with these bytes (one is enough) means to speak TLS.
#[must_use]
pub fn is_tls(first: &[u8]) -> bool {
    first.first() == Some(&HANDSHAKE)
}

/// The type of a TLS record that carries handshake messages. No request of HTTP begins like that.
const HANDSHAKE: u8 = 0x16;

/// Record header (5), message header (4), version (2).
const HELLO_VERSION_END: usize = 11;

/// The first message of a TLS client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientHello {
    /// The host it asks for; empty if it does not say.
    pub server_name: String,
}

impl ClientHello {
    /// Reads one from the first bytes of a connection; `None` if they are none, or not all of one.
    #[must_use]
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let mut acceptor = rustls::server::Acceptor::default();
        let mut bytes = Cursor::new(bytes);
        let read: io::Result<usize> = acceptor.read_tls(&mut bytes);
        read.ok()?;
        let accepted = acceptor.accept().ok()??;
        let server_name = accepted
            .client_hello()
            .server_name()
            .unwrap_or_default()
            .to_owned();
        Some(Self { server_name })
    }
}

/// Whether a client names a version below 1.2.
pub(crate) fn is_old(first: &[u8]) -> bool {
    let version = first.get(HELLO_VERSION_END - 2..HELLO_VERSION_END);
    version.is_some_and(|version| version < &[3, 3][..])
}

/// What Go lists as the versions of a client that is too old: those up to the one it names.
pub(crate) fn offered_versions(first: &[u8]) -> String {
    let highest = match first.get(HELLO_VERSION_END - 2..HELLO_VERSION_END) {
        Some(&[major, minor]) => u16::from_be_bytes([major, minor]),
        _ => 0,
    };
    let known: [u16; 3] = [0x303, 0x302, 0x301];
    let offered = known.iter().filter(|version| **version <= highest);
    let offered: Vec<_> = offered.map(|version| format!("{version:x}")).collect();
    offered.join(" ")
}

/// Whether these bytes begin a request of HTTP.
pub(crate) fn looks_like_http(first: &[u8]) -> bool {
    let methods: [&[u8]; 8] = [
        b"GET ",
        b"POST ",
        b"PUT ",
        b"HEAD ",
        b"DELETE ",
        b"OPTIONS ",
        b"PATCH ",
        b"PRI * HTTP/2.0",
    ];
    methods.iter().any(|method| {
        let length = method.len().min(first.len());
        length > 0 && method[..length] == first[..length]
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_listed_as_in_go() {
        let hello = |minor| [0x16, 3, 1, 0, 50, 1, 0, 0, 46, 3, minor];
        assert_eq!(offered_versions(&hello(2)), "302 301");
        assert_eq!(offered_versions(&hello(1)), "301");
        assert_eq!(offered_versions(&hello(3)), "303 302 301");
        assert_eq!(offered_versions(&[0x16]), "");
        assert!(is_old(&hello(2)) && !is_old(&hello(3)) && !is_old(&[0x16]));
    }

    #[test]
    fn http_is_recognised() {
        assert!(looks_like_http(b"GET / HTTP/1.1\r\n"));
        assert!(looks_like_http(b"PRI * HTT"));
        assert!(!looks_like_http(b"SSH-2.0"));
        assert!(!looks_like_http(b""));
        assert!(is_tls(&[0x16, 3, 1]));
        assert!(!is_tls(b"GET"));
    }
}
