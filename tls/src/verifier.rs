//! What rustls asks about the other side's certificate. One per connection: it remembers why it said no.

use std::fmt;
use std::sync::Arc;

use parking_lot::Mutex;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{
    CryptoProvider, WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature,
};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{CertificateError, DigitallySignedStruct, DistinguishedName, Error, SignatureScheme};

use crate::certificate::{Leaf, Parsed};
use crate::chain::{self, Usage};
use crate::failure::{Check, Failure};
use crate::info::TlsInfo;
use crate::roots::Roots;

/// Who else may be on the other side.
#[derive(Debug, Clone, Default)]
pub(crate) struct Rule {
    cns: Vec<String>,
    hostnames: Vec<String>,
}

impl Rule {
    pub(crate) fn of(info: &TlsInfo) -> Self {
        Self {
            cns: info.allowed_cns.clone(),
            hostnames: info.allowed_hostnames.clone(),
        }
    }

    pub(crate) fn exists(&self) -> bool {
        !self.cns.is_empty() || !self.hostnames.is_empty()
    }

    fn check(&self, leaf: &Leaf) -> Result<(), Failure> {
        const ERROR: &str = "client certificate authentication failed";
        if !self.cns.is_empty() && !self.cns.contains(&leaf.common_name) {
            let advice = format!(
                "the certificate's common name {:?} is none of the allowed ones {:?}: allow it, or issue a certificate with one of them",
                leaf.common_name, self.cns
            );
            return Err(Failure::new(Check::CommonName, ERROR, advice));
        }
        let allowed = |host: &String| leaf.verify_hostname(host).is_ok();
        if !self.hostnames.is_empty() && !self.hostnames.iter().any(allowed) {
            let advice = format!(
                "the certificate (names {:?}, addresses {:?}) is valid for none of the allowed host names {:?}: allow one, or issue a certificate with one of them as alternative name",
                leaf.dns_names, leaf.ip_addresses, self.hostnames
            );
            return Err(Failure::new(Check::Hostname, ERROR, advice));
        }
        Ok(())
    }
}

/// What became of the other side's certificate.
#[derive(Debug, Clone, Default)]
pub(crate) struct Verdict {
    pub(crate) leaf: Option<Leaf>,
    pub(crate) failure: Option<Failure>,
}

/// Judges one certificate.
pub(crate) struct Verifier {
    pub(crate) roots: Arc<Roots>,
    pub(crate) provider: Arc<CryptoProvider>,
    pub(crate) rule: Rule,
    /// `None` when it is not verified who is on the other side.
    pub(crate) usage: Option<Usage>,
    /// Instead of the host dialed.
    pub(crate) server_name: Option<String>,
    pub(crate) verdict: Mutex<Verdict>,
}

impl Verifier {
    fn judge(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
        host: Option<&str>,
    ) -> Result<(), Error> {
        let mut verdict = self.verdict.lock();
        let parsed = Parsed::from_der(leaf);
        verdict.leaf = parsed.map(|parsed| parsed.leaf);
        self.look(leaf, intermediates, now, host)
            .map_err(|failure| {
                let error = alert(failure.check);
                verdict.failure = Some(failure);
                Error::InvalidCertificate(error)
            })
    }

    fn look(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
        host: Option<&str>,
    ) -> Result<(), Failure> {
        let Some(usage) = self.usage else {
            // As in etcd: nobody is verified, so nobody is known to bear an allowed name.
            return match self.rule.exists() {
                true => Err(Failure::new(
                    Check::Local,
                    "client certificate authentication failed",
                    "allowed names cannot be checked where certificates are not verified: name a trusted CA file, or drop the allowed names",
                )),
                false => Ok(()),
            };
        };
        let algorithms = self.algorithms();
        let parsed = chain::verify(&self.roots, (leaf, intermediates), usage, now, algorithms)?;
        if let Some(host) = host {
            let valid = parsed.leaf.verify_hostname(host);
            valid.map_err(|error| {
                let error = format!("tls: failed to verify certificate: {error}");
                let advice = format!(
                    "the certificate of {host} does not name it: issue one with {host} among its alternative names"
                );
                Failure::new(Check::Hostname, error, advice)
            })?;
        }
        self.rule.check(&parsed.leaf)
    }

    fn algorithms(&self) -> &WebPkiSupportedAlgorithms {
        &self.provider.signature_verification_algorithms
    }

    /// Certificates of version 1 are unknown to rustls.
    fn signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Option<Result<HandshakeSignatureValid, Error>> {
        let parsed = Parsed::from_der(certificate).filter(|parsed| parsed.is_version1)?;
        let mapping = self.algorithms().mapping.iter();
        let mut fitting = mapping
            .filter(|(scheme, _)| *scheme == signed.scheme)
            .flat_map(|(_, algorithms)| *algorithms)
            .filter(|algorithm| algorithm.public_key_alg_id().as_ref() == parsed.key_algorithm);
        let valid = fitting.any(|algorithm| {
            let signature = signed.signature();
            algorithm
                .verify_signature(&parsed.key, message, signature)
                .is_ok()
        });
        let wrong = Error::InvalidCertificate(CertificateError::BadSignature);
        Some(valid.then(HandshakeSignatureValid::assertion).ok_or(wrong))
    }

    fn tls12(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.signature(message, certificate, signed)
            .unwrap_or_else(|| {
                verify_tls12_signature(message, certificate, signed, self.algorithms())
            })
    }

    fn tls13(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.signature(message, certificate, signed)
            .unwrap_or_else(|| {
                verify_tls13_signature(message, certificate, signed, self.algorithms())
            })
    }
}

/// So that the other side hears the alert that fits.
fn alert(check: Check) -> CertificateError {
    match check {
        Check::Expired => CertificateError::Expired,
        Check::NotYetValid => CertificateError::NotValidYet,
        Check::Authority => CertificateError::UnknownIssuer,
        Check::Revoked => CertificateError::Revoked,
        // Go says of all the rest that the certificate is bad.
        _ => CertificateError::BadEncoding,
    }
}

impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Verifier")
            .field("usage", &self.usage)
            .finish_non_exhaustive()
    }
}

impl ClientCertVerifier for Verifier {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &self.roots.hints
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        self.judge(end_entity, intermediates, now, None)?;
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.tls12(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.tls13(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms().supported_schemes()
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let dialed = server_name.to_str();
        let host = self.server_name.as_deref().unwrap_or(&dialed);
        self.judge(end_entity, intermediates, now, Some(host))?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.tls12(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.tls13(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms().supported_schemes()
    }
}
