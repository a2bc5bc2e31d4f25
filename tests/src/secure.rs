//! A client over TLS that verifies nobody, to find out what the other side does.

use std::io::{self, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, ClientConnection, DigitallySignedStruct, SignatureScheme, StreamOwned};

use crate::pki::Issued;

/// A version of TLS.
pub type Version = &'static rustls::SupportedProtocolVersion;

/// Both versions.
pub const VERSIONS: [Version; 2] = [&rustls::version::TLS12, &rustls::version::TLS13];

/// What came of a request.
#[derive(Debug)]
pub struct Tried {
    /// The address it came from.
    pub local: SocketAddr,
    /// The answer; or how it failed.
    pub answer: io::Result<String>,
    /// The certificate of the other side.
    pub server: Option<Vec<u8>>,
}

impl Tried {
    /// Whether the request was answered as it should be.
    #[must_use]
    pub fn is_served(&self) -> bool {
        self.answer.as_ref().is_ok_and(|answer| answer.starts_with("HTTP/1.1 200"))
    }
}

/// Sends `GET path` over TLS on a new connection.
///
/// # Panics
/// If the port cannot be connected to at all.
#[must_use]
pub fn get(port: u16, path: &str, own: Option<&Issued>, versions: &[Version]) -> Tried {
    let mut stream = connect(port, own, versions);
    let local = stream.sock.local_addr().expect("a socket");
    let request = format!("GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: close\r\n\r\n");
    let answer = stream.write_all(request.as_bytes()).and_then(|()| {
        let mut answer = Vec::new();
        match stream.read_to_end(&mut answer) {
            Err(error) if answer.is_empty() => Err(error),
            _ => Ok(String::from_utf8_lossy(&answer).into_owned()),
        }
    });
    let server = stream.conn.peer_certificates().and_then(<[_]>::first).map(|der| der.to_vec());
    Tried { local, answer, server }
}

/// A connection whose handshake begins with the first byte that is sent.
///
/// # Panics
/// If the port cannot be connected to at all.
#[must_use]
pub fn connect(port: u16, own: Option<&Issued>, versions: &[Version]) -> StreamOwned<ClientConnection, TcpStream> {
    let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).expect("somebody listens");
    stream.set_read_timeout(Some(Duration::from_secs(60))).expect("a socket");
    let name = ServerName::try_from("some.server.test").expect("a name");
    let connection = ClientConnection::new(config(own, versions), name).expect("sound");
    StreamOwned::new(connection, stream)
}

fn config(own: Option<&Issued>, versions: &[Version]) -> Arc<ClientConfig> {
    let provider = Arc::new(rustls_graviola::default_provider());
    let builder = ClientConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(versions)
        .expect("suites for them")
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anybody(provider)));
    let config = match own {
        None => builder.with_no_client_auth(),
        Some(own) => {
            let (chain, key) = own.pair();
            builder.with_client_auth_cert(chain, key).expect("a pair")
        }
    };
    Arc::new(config)
}

/// Takes whoever answers.
#[derive(Debug)]
struct Anybody(Arc<CryptoProvider>);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

/// Sends bytes and reads until the other side closes; the address it came from, and what was read.
///
/// # Panics
/// If the port cannot be connected to at all.
#[must_use]
pub fn raw(port: u16, bytes: &[u8]) -> Tried {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).expect("somebody listens");
    stream.set_read_timeout(Some(Duration::from_secs(60))).expect("a socket");
    let local = stream.local_addr().expect("a socket");
    let mut answer = Vec::new();
    let answer = stream.write_all(bytes).and_then(|()| match stream.read_to_end(&mut answer) {
        Err(error) if answer.is_empty() => Err(error),
        _ => Ok(String::from_utf8_lossy(&answer).into_owned()),
    });
    Tried { local, answer, server: None }
}

/// The first message of a client of TLS 1.0 (`minor` 1) or 1.1 (2): no extensions but a curve and a server name,
/// suites that every server of its time had.
#[must_use]
pub fn old_hello(minor: u8) -> Vec<u8> {
    let mut body = vec![3, minor];
    body.extend([7; 32]);
    body.push(0);
    // ECDHE-ECDSA and ECDHE-RSA with AES-128-CBC-SHA, RSA with AES-128-CBC-SHA.
    body.extend([0, 6, 0xc0, 0x09, 0xc0, 0x13, 0x00, 0x2f]);
    body.extend([1, 0]);
    let name = b"some.server.test";
    let length = u8::try_from(name.len()).expect("short");
    let mut extensions = vec![0, 10, 0, 4, 0, 2, 0, 23, 0, 11, 0, 2, 1, 0];
    extensions.extend([0, 0, 0, length + 5, 0, length + 3, 0, 0, length]);
    extensions.extend(name);
    body.extend([0, u8::try_from(extensions.len()).expect("short")]);
    body.extend(extensions);
    let length = u8::try_from(body.len()).expect("short");
    let mut record = vec![0x16, 3, 1, 0, length + 4, 1, 0, 0, length];
    record.extend(body);
    record
}
