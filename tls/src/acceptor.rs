//! Accepting connections.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use rustls::server::{ClientHello, NoServerSessionStorage, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{AlertDescription, PeerIncompatible, ServerConfig};
use slog::Logger;
use tokio::time::timeout;
use tokio_rustls::LazyConfigAcceptor;

use crate::HANDSHAKE_TIMEOUT;
use crate::certificate::Leaf;
use crate::chain::Usage;
use crate::crl::RevocationList;
use crate::failure::{Check, Failure, Refused};
use crate::files::Watched;
use crate::hello;
use crate::info::{TlsInfo, Version};
use crate::keypair;
use crate::metered::{HANDSHAKE_BYTES, HELLO_BYTES, Metered, TOO_MUCH};
use crate::provider::provider;
use crate::remote;
use crate::roots::RootSource;
use crate::setup::SetupError;
use crate::socket::Socket;
use crate::stream::TlsStream;
use crate::verifier::{Rule, Verdict, Verifier};

/// Makes TLS connections of accepted sockets. Cheap to clone.
#[derive(Clone)]
pub struct Acceptor(Arc<Inner>);

struct Inner {
    provider: Arc<CryptoProvider>,
    versions: Vec<&'static rustls::SupportedProtocolVersion>,
    pair: Watched<CertifiedKey>,
    /// `None`: nobody is asked for a certificate.
    roots: Option<RootSource>,
    rule: Rule,
    revoked: Option<RevocationList>,
    verify_san: bool,
}

impl Acceptor {
    /// Reads the files and checks that they can be used.
    ///
    /// # Errors
    /// See [`SetupError`].
    pub fn new(info: &TlsInfo, logger: &Logger) -> Result<Self, SetupError> {
        check(info)?;
        let provider = provider(&info.cipher_suites)?;
        let versions = versions(info, &provider)?;
        let (Some(cert), Some(key)) = (&info.cert_file, &info.key_file) else {
            return Err(half_pair(info));
        };
        let what = "certificate of the listener";
        let files = (cert.clone(), key.clone());
        let pair = keypair::watch(what, files.0, files.1, provider.clone(), logger)?;
        if let (Some(cert), Some(key)) = (&info.client_cert_file, &info.client_key_file) {
            // Of no use here, but a mistake is better found at the start.
            let what = "certificate for dialing";
            keypair::watch(what, cert.clone(), key.clone(), provider.clone(), logger)?;
        }
        let roots = match info.demands_client_certificate() {
            true => Some(RootSource::new(info.trusted_ca_file.as_ref(), logger)?),
            false => None,
        };
        Ok(Self(Arc::new(Inner {
            provider,
            versions,
            pair,
            roots,
            rule: Rule::of(info),
            revoked: info.crl_file.clone().map(RevocationList::new),
            verify_san: info.verify_client_san,
        })))
    }

    /// Shakes hands with whoever connected, and checks who it is.
    ///
    /// Takes [`HANDSHAKE_TIMEOUT`] at most, and as long again where host names have to be looked up.
    /// A connection that has not said anything costs no more than its socket.
    ///
    /// # Errors
    /// [`Refused`] says which check it did not pass; the connection is closed then.
    pub async fn accept(
        &self,
        stream: impl Into<Socket>,
        remote: SocketAddr,
    ) -> Result<TlsStream, Refused> {
        let stream = stream.into();
        let mut refused = Refused {
            remote,
            server_name: String::new(),
            leaf: None,
            failure: deadline(&stream, remote),
        };
        match timeout(HANDSHAKE_TIMEOUT, self.0.handshake(stream, &mut refused)).await {
            Err(_) => Err(refused),
            Ok(Err(failure)) => Err(Refused { failure, ..refused }),
            Ok(Ok(stream)) => match self.0.check(&stream, refused.leaf.as_ref(), remote).await {
                Ok(()) => Ok(TlsStream::new(stream.into(), refused.leaf)),
                Err(failure) => Err(Refused { failure, ..refused }),
            },
        }
    }
}

impl Inner {
    async fn handshake(
        &self,
        stream: Socket,
        seen: &mut Refused,
    ) -> Result<tokio_rustls::server::TlsStream<Metered>, Failure> {
        let mut first = [0; 16];
        let length = stream
            .peek(&mut first)
            .await
            .map_err(|error| broken(&error))?;
        let first = &first[..length];
        if first.is_empty() {
            return Err(broken(&io::ErrorKind::UnexpectedEof.into()));
        }
        if !hello::is_tls(first) {
            return Err(not_tls(first));
        }
        let hello = LazyConfigAcceptor::new(
            rustls::server::Acceptor::default(),
            Metered::new(stream, HELLO_BYTES),
        );
        let hello = hello.await.map_err(|error| self.explain(&error, first))?;
        let name = hello
            .client_hello()
            .server_name()
            .unwrap_or_default()
            .to_owned();
        seen.server_name = name;
        let (config, verifier) = self.config().map_err(|error| {
            let advice = "TLS cannot be configured; see the error";
            Failure::new(Check::Local, error.to_string(), advice)
        })?;
        let mut accept = hello.into_stream(config);
        if let Some(stream) = accept.get_mut() {
            stream.allow(Some(HANDSHAKE_BYTES));
        }
        let result = accept.await;
        let verdict = verifier.map(|verifier| verifier.verdict.lock().clone());
        let Verdict { leaf, failure } = verdict.unwrap_or_default();
        seen.leaf = leaf;
        match (result, failure) {
            (Ok(stream), _) => Ok(stream),
            (Err(_), Some(failure)) => Err(failure),
            (Err(error), None) => Err(self.explain(&error, first)),
        }
    }

    /// For one connection, from the newest files.
    fn config(&self) -> Result<(Arc<ServerConfig>, Option<Arc<Verifier>>), rustls::Error> {
        let builder = ServerConfig::builder_with_provider(self.provider.clone())
            .with_protocol_versions(&self.versions)?;
        let verifier = self.roots.as_ref().map(|roots| {
            Arc::new(Verifier {
                roots: roots.current(),
                provider: self.provider.clone(),
                rule: self.rule.clone(),
                usage: Some(Usage::Client),
                server_name: None,
                verdict: Default::default(),
            })
        });
        let builder = match &verifier {
            Some(verifier) => builder.with_client_cert_verifier(verifier.clone()),
            None => builder.with_no_client_auth(),
        };
        let mut config = builder.with_cert_resolver(Arc::new(Resolver(self.pair.current())));
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        Ok((Arc::new(config), verifier))
    }

    /// What is checked of a connection that has shaken hands.
    async fn check(
        &self,
        stream: &tokio_rustls::server::TlsStream<Metered>,
        leaf: Option<&Leaf>,
        remote: SocketAddr,
    ) -> Result<(), Failure> {
        let Some(chain) = stream.get_ref().1.peer_certificates() else {
            return Ok(());
        };
        if self.verify_san
            && let Some(leaf) = leaf
        {
            remote::check(leaf, remote.ip().to_canonical()).await?;
        }
        match &self.revoked {
            Some(revoked) => revoked.check(chain),
            None => Ok(()),
        }
    }

    fn explain(&self, error: &io::Error, first: &[u8]) -> Failure {
        let Some(tls) = error.get_ref().and_then(|error| error.downcast_ref()) else {
            return broken(error);
        };
        explain(tls, first, &self.versions)
    }
}

/// One certificate for whoever asks.
#[derive(Debug)]
struct Resolver(Arc<CertifiedKey>);

impl ResolvesServerCert for Resolver {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.clone())
    }
}

/// What can be checked without a file.
pub(crate) fn check(info: &TlsInfo) -> Result<(), SetupError> {
    if info.cert_file.is_some() != info.key_file.is_some() {
        return Err(half_pair(info));
    }
    if info.client_cert_file.is_some() != info.client_key_file.is_some() {
        let (key, cert) = (name(&info.client_key_file), name(&info.client_cert_file));
        return Err(SetupError::HalfClientPair { key, cert });
    }
    if !info.allowed_cns.is_empty() && !info.allowed_hostnames.is_empty() {
        return Err(SetupError::TwoRules {
            cns: info.allowed_cns.clone(),
            hostnames: info.allowed_hostnames.clone(),
        });
    }
    Ok(())
}

fn half_pair(info: &TlsInfo) -> SetupError {
    SetupError::HalfPair {
        key: name(&info.key_file),
        cert: name(&info.cert_file),
    }
}

fn name(path: &Option<std::path::PathBuf>) -> String {
    path.as_ref()
        .map(|path| path.display().to_string())
        .unwrap_or_default()
}

/// The versions configured, as far as there are suites for them.
pub(crate) fn versions(
    info: &TlsInfo,
    provider: &CryptoProvider,
) -> Result<Vec<&'static rustls::SupportedProtocolVersion>, SetupError> {
    let lowest = info.min_version.unwrap_or(Version::Tls12);
    let highest = info.max_version.unwrap_or(Version::Tls13);
    let versions = Version::ALL
        .into_iter()
        .filter(|v| (lowest..=highest).contains(v));
    let versions: Vec<_> = versions.map(Version::supported).collect();
    if versions.is_empty() {
        return Err(SetupError::NoVersion);
    }
    let suites = &provider.cipher_suites;
    let usable = |version: &&rustls::SupportedProtocolVersion| {
        suites.iter().any(|suite| *suite.version() == **version)
    };
    if !versions.iter().all(usable) {
        return Err(SetupError::NoSuite(info.cipher_suites.left_out().to_vec()));
    }
    Ok(versions)
}

fn deadline(stream: &Socket, remote: SocketAddr) -> Failure {
    let local = stream.local();
    Failure::new(
        Check::Deadline,
        format!("read tcp {local}->{remote}: i/o timeout"),
        format!(
            "it connected and did not complete a TLS handshake within {} s: something that probes ports, or a network that loses packets",
            HANDSHAKE_TIMEOUT.as_secs()
        ),
    )
}

fn not_tls(first: &[u8]) -> Failure {
    let advice = if hello::looks_like_http(first) {
        "it sent a plain HTTP request to a port that speaks TLS: use https:// in its endpoint (etcdctl: --endpoints=https://..., with --cacert)"
    } else {
        "this port speaks TLS, and the first byte was not TLS: check what connects here"
    };
    let error = "tls: first record does not look like a TLS handshake";
    Failure::new(Check::NotTls, error, advice)
}

/// The connection itself failed.
pub(crate) fn broken(error: &io::Error) -> Failure {
    if error.kind() == io::ErrorKind::FileTooLarge {
        let advice = "nothing that connects here needs that many bytes for a handshake";
        return Failure::new(Check::Size, format!("tls: {TOO_MUCH}"), advice);
    }
    let text = match error.kind() {
        io::ErrorKind::UnexpectedEof => "EOF".to_owned(),
        _ => format!("read tcp: {}", crate::setup::errno_text(error)),
    };
    let advice = "the other side closed the connection before the handshake was over: it may be a port probe, or its own log says why";
    Failure::new(Check::Closed, text, advice)
}

/// What rustls says, in Go's words and ours.
pub(crate) fn explain(
    error: &rustls::Error,
    first: &[u8],
    versions: &[&rustls::SupportedProtocolVersion],
) -> Failure {
    use rustls::Error as E;
    let too_old = || {
        let ours: Vec<_> = versions
            .iter()
            .map(|v| format!("{:?}", v.version))
            .collect();
        let offered = hello::offered_versions(first);
        Failure::new(
            Check::Version,
            format!("tls: client offered only unsupported versions: [{offered}]"),
            format!(
                "its TLS is too old, or --tls-min-version / --tls-max-version leave no common version; spoken here: {}",
                ours.join(", ")
            ),
        )
    };
    match error {
        // It lacks much of what a newer client says.
        E::PeerIncompatible(_) if hello::is_old(first) => too_old(),
        E::NoCertificatesPresented => Failure::new(
            Check::NoCertificate,
            "tls: client didn't provide a certificate",
            "this port demands a client certificate: give the client one of a trusted authority (etcdctl: --cert and --key)",
        ),
        E::PeerIncompatible(
            PeerIncompatible::Tls12NotOffered
            | PeerIncompatible::Tls12NotOfferedOrEnabled
            | PeerIncompatible::SupportedVersionsExtensionRequired
            | PeerIncompatible::ServerDoesNotSupportTls12Or13
            | PeerIncompatible::ServerTlsVersionIsDisabledByOurConfig,
        ) => too_old(),
        E::PeerIncompatible(why) => Failure::new(
            Check::Parameters,
            match why {
                PeerIncompatible::NoCipherSuitesInCommon => {
                    "tls: no cipher suite supported by both client and server".to_owned()
                }
                other => format!("tls: {other:?}"),
            },
            "both sides have no common algorithms: check --cipher-suites, and whether the other side knows ECDHE with GCM or ChaCha20",
        ),
        E::NoApplicationProtocol => Failure::new(
            Check::Parameters,
            "tls: client requested unsupported application protocols",
            "HTTP/2 and HTTP/1.1 are spoken here; the client wants something else: is it an etcd client?",
        ),
        E::AlertReceived(alert) => Failure::new(
            Check::RefusedByPeer,
            format!("remote error: tls: {}", alert_text(*alert)),
            match alert {
                AlertDescription::UnknownCA => {
                    "the other side does not trust the authority of our certificate: give it our CA file (etcdctl: --cacert)"
                }
                AlertDescription::BadCertificate | AlertDescription::CertificateUnknown => {
                    "the other side refused our certificate: its log says why (unknown authority, or a name or address it does not have)"
                }
                AlertDescription::CertificateExpired => {
                    "the other side finds our certificate expired: renew it, or set its clock right"
                }
                AlertDescription::ProtocolVersion => {
                    "the other side does not speak a TLS version that is allowed here"
                }
                _ => "the other side broke off; its log says why",
            },
        ),
        E::InvalidCertificate(error) => Failure::new(
            Check::Signature,
            format!("tls: invalid signature by the certificate: {error}"),
            "the other side does not have the key of the certificate that it shows",
        ),
        other => Failure::new(
            Check::Malformed,
            format!("tls: {other}"),
            "what was sent is no proper TLS handshake: check what connects here",
        ),
    }
}

/// As Go names it.
fn alert_text(alert: AlertDescription) -> String {
    let text = match alert {
        AlertDescription::BadCertificate => "bad certificate",
        AlertDescription::UnknownCA => "unknown certificate authority",
        AlertDescription::CertificateUnknown => "unknown certificate",
        AlertDescription::CertificateExpired => "expired certificate",
        AlertDescription::CertificateRevoked => "revoked certificate",
        AlertDescription::CertificateRequired => "certificate required",
        AlertDescription::UnsupportedCertificate => "unsupported certificate",
        AlertDescription::HandshakeFailure => "handshake failure",
        AlertDescription::ProtocolVersion => "protocol version not supported",
        AlertDescription::DecryptError => "error decrypting message",
        AlertDescription::InternalError => "internal error",
        AlertDescription::UserCanceled => "user canceled",
        AlertDescription::NoApplicationProtocol => "no application protocol",
        AlertDescription::IllegalParameter => "illegal parameter",
        AlertDescription::AccessDenied => "access denied",
        other => return format!("{other:?}"),
    };
    text.to_owned()
}
