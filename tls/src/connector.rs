//! Dialing.

use std::net::IpAddr;
use std::sync::Arc;

use rustls::ClientConfig;
use rustls::client::{ResolvesClientCert, Resumption};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::ServerName;
use rustls::sign::CertifiedKey;
use slog::Logger;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use crate::HANDSHAKE_TIMEOUT;
use crate::acceptor::{broken, check, explain, versions};
use crate::certificate::Parsed;
use crate::chain::Usage;
use crate::failure::{Check, Failure};
use crate::files::Watched;
use crate::info::TlsInfo;
use crate::keypair;
use crate::metered::{HANDSHAKE_BYTES, Metered};
use crate::provider::provider;
use crate::remote;
use crate::roots::{RootSource, Roots};
use crate::setup::SetupError;
use crate::socket::Socket;
use crate::stream::TlsStream;
use crate::verifier::{Rule, Verdict, Verifier};

/// Makes TLS connections of sockets that were connected. Cheap to clone.
#[derive(Clone)]
pub struct Connector {
    inner: Arc<Inner>,
    /// What is offered to be spoken over TLS; empty for whatever comes.
    protocols: Arc<[Vec<u8>]>,
}

struct Inner {
    provider: Arc<CryptoProvider>,
    versions: Vec<&'static rustls::SupportedProtocolVersion>,
    pair: Option<Watched<CertifiedKey>>,
    /// `None`: whoever answers is taken for the one dialed.
    roots: Option<RootSource>,
    rule: Rule,
    server_name: Option<String>,
}

impl Connector {
    /// Reads the files and checks that they can be used.
    ///
    /// # Errors
    /// See [`SetupError`].
    pub fn new(info: &TlsInfo, logger: &Logger) -> Result<Self, SetupError> {
        check(info)?;
        let provider = provider(&info.cipher_suites)?;
        let versions = versions(info, &provider)?;
        let own = info
            .client_cert_file
            .as_ref()
            .zip(info.client_key_file.as_ref());
        let pair = own.or_else(|| info.cert_file.as_ref().zip(info.key_file.as_ref()));
        let pair = match pair {
            None => None,
            Some((cert, key)) => {
                let what = "certificate for dialing";
                let (cert, key) = (cert.clone(), key.clone());
                Some(keypair::watch(what, cert, key, provider.clone(), logger)?)
            }
        };
        let roots = match info.insecure_skip_verify {
            true => None,
            false => Some(RootSource::new(info.trusted_ca_file.as_ref(), logger)?),
        };
        let inner = Inner {
            provider,
            versions,
            pair,
            roots,
            rule: Rule::of(info),
            server_name: info.server_name.clone(),
        };
        Ok(Self {
            inner: Arc::new(inner),
            protocols: Arc::new([]),
        })
    }

    /// The same for connections over which these protocols are offered (ALPN), for example `h2`.
    #[must_use]
    pub fn speaking(mut self, protocols: &[&[u8]]) -> Self {
        self.protocols = protocols.iter().map(|one| one.to_vec()).collect();
        self
    }

    /// What a listener that compares names with addresses would say of this side's certificate if it came from
    /// `address`. Nothing when there is none to show.
    ///
    /// # Errors
    /// [`Check::Address`].
    pub async fn belongs_to(&self, address: IpAddr) -> Result<(), Failure> {
        let Some(pair) = &self.inner.pair else {
            return Ok(());
        };
        let pair = pair.current();
        match pair.cert.first().and_then(|cert| Parsed::from_der(cert)) {
            Some(parsed) => remote::check(&parsed.leaf, address.to_canonical()).await,
            // It can be read, or it would not be here.
            None => Ok(()),
        }
    }

    /// Shakes hands with `host`, a name or an address without port, and checks that it is the one.
    ///
    /// Takes [`HANDSHAKE_TIMEOUT`] at most.
    ///
    /// # Errors
    /// [`Failure`] says which check it did not pass; the connection is closed then.
    pub async fn connect(
        &self,
        stream: impl Into<Socket>,
        host: &str,
    ) -> Result<TlsStream, Failure> {
        let stream = stream.into();
        let handshake = self.inner.handshake(stream, host, &self.protocols);
        timeout(HANDSHAKE_TIMEOUT, handshake).await.unwrap_or_else(|_| {
            let advice = format!(
                "{host} took the connection and did not answer the TLS handshake: does it speak TLS there, and is it alive?"
            );
            Err(Failure::new(Check::Deadline, "net/http: TLS handshake timeout", advice))
        })
    }
}

impl Inner {
    async fn handshake(
        &self,
        stream: Socket,
        host: &str,
        protocols: &[Vec<u8>],
    ) -> Result<TlsStream, Failure> {
        let bare = host
            .strip_prefix('[')
            .and_then(|host| host.strip_suffix(']'));
        let bare = bare.unwrap_or(host);
        let name = match bare.parse::<IpAddr>() {
            Ok(ip) => ServerName::from(ip),
            Err(_) => ServerName::try_from(bare.to_owned()).map_err(|_| {
                let advice = "a host is a name or an address, without scheme and port";
                Failure::new(Check::Local, format!("invalid host {host:?}"), advice)
            })?,
        };
        let (config, verifier) = self.config(protocols).map_err(|error| {
            let advice = "TLS cannot be configured; see the error";
            Failure::new(Check::Local, error.to_string(), advice)
        })?;
        let stream = Metered::new(stream, HANDSHAKE_BYTES);
        let result = TlsConnector::from(config).connect(name, stream).await;
        let Verdict { leaf, failure } = verifier.verdict.lock().clone();
        match (result, failure) {
            (Ok(stream), _) => Ok(TlsStream::new(stream.into(), leaf)),
            (Err(_), Some(failure)) => Err(failure),
            (Err(error), None) => Err(self.explain(&error, host)),
        }
    }

    fn explain(&self, error: &std::io::Error, host: &str) -> Failure {
        let tls = error
            .get_ref()
            .and_then(|error| error.downcast_ref::<rustls::Error>());
        match tls {
            None => broken(error),
            Some(rustls::Error::InvalidMessage(_)) => Failure::new(
                Check::NotTls,
                "tls: first record does not look like a TLS handshake",
                format!("{host} does not speak TLS there: is its URL meant to be http://?"),
            ),
            Some(error) => explain(error, &[], &self.versions),
        }
    }

    /// For one connection, from the newest files.
    fn config(
        &self,
        protocols: &[Vec<u8>],
    ) -> Result<(Arc<ClientConfig>, Arc<Verifier>), rustls::Error> {
        let builder = ClientConfig::builder_with_provider(self.provider.clone())
            .with_protocol_versions(&self.versions)?;
        let none = || {
            Arc::new(Roots {
                all: Vec::new(),
                hints: Vec::new(),
            })
        };
        let verifier = Arc::new(Verifier {
            roots: self.roots.as_ref().map_or_else(none, RootSource::current),
            provider: self.provider.clone(),
            rule: self.rule.clone(),
            usage: self.roots.is_some().then_some(Usage::Server),
            server_name: self.server_name.clone(),
            verdict: Default::default(),
        });
        let builder = builder
            .dangerous()
            .with_custom_certificate_verifier(verifier.clone());
        let mut config = match &self.pair {
            Some(pair) => builder.with_client_cert_resolver(Arc::new(Resolver(pair.current()))),
            None => builder.with_no_client_auth(),
        };
        config.resumption = Resumption::disabled();
        config.alpn_protocols = protocols.to_vec();
        Ok((Arc::new(config), verifier))
    }
}

/// One certificate for whoever asks.
#[derive(Debug)]
struct Resolver(Arc<CertifiedKey>);

impl ResolvesClientCert for Resolver {
    fn resolve(
        &self,
        _root_hint_subjects: &[&[u8]],
        _sigschemes: &[rustls::SignatureScheme],
    ) -> Option<Arc<CertifiedKey>> {
        Some(self.0.clone())
    }

    fn has_certs(&self) -> bool {
        true
    }
}
