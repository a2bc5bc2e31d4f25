//! A certificate and its key, from files.

use std::path::PathBuf;
use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use slog::Logger;

use crate::files::Watched;
use crate::setup::SetupError;

/// Watches a pair of files.
pub(crate) fn watch(
    what: &'static str,
    cert_file: PathBuf,
    key_file: PathBuf,
    provider: Arc<CryptoProvider>,
    logger: &Logger,
) -> Result<Watched<CertifiedKey>, SetupError> {
    let paths = vec![cert_file.clone(), key_file.clone()];
    let parse = Box::new(move |contents: &[&[u8]]| {
        let [cert, key] = contents else {
            return Err(SetupError::NoVersion);
        };
        let fail = |path: &PathBuf| {
            let path = path.clone();
            move |reason: String| SetupError::Content { path, reason }
        };
        let chain = chain(cert).map_err(fail(&cert_file))?;
        let key = load(key, &provider).map_err(fail(&key_file))?;
        let pair = CertifiedKey::new(chain, key);
        pair.keys_match().map_err(|error| SetupError::Content {
            path: key_file.clone(),
            reason: match error {
                rustls::Error::InconsistentKeys(_) => format!(
                    "tls: private key does not match public key of {}",
                    cert_file.display()
                ),
                other => format!(
                    "the certificate in {} cannot be used: {other}",
                    cert_file.display()
                ),
            },
        })?;
        Ok(pair)
    });
    Watched::new(what, paths, logger.clone(), parse)
}

/// The certificates of a file in PEM, at least one.
pub(crate) fn chain(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    let chain = chain.map_err(|error| format!("not PEM: {error}"))?;
    if chain.is_empty() {
        return Err("tls: failed to find any PEM data in certificate input".into());
    }
    Ok(chain)
}

fn load(
    pem: &[u8],
    provider: &CryptoProvider,
) -> Result<Arc<dyn rustls::sign::SigningKey>, String> {
    let key = PrivateKeyDer::from_pem_slice(pem).map_err(|_| {
        "tls: failed to find a private key in it: it has to hold one in PEM, not encrypted"
            .to_owned()
    })?;
    let loaded = provider.key_provider.load_private_key(key);
    loaded.map_err(|error| {
        format!("this kind of key cannot be used ({error}): RSA of 2048 to 8192 bits, ECDSA P-256, P-384, P-521, and Ed25519 can")
    })
}
