//! Certificates that were revoked.

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer};
use x509_cert::crl::CertificateList;
use x509_cert::der::Decode as _;

use crate::certificate::{Parsed, without_zeros};
use crate::failure::{Check, Failure};
use crate::files::MAX_BYTES;
use crate::setup::errno_text;

type Serials = Arc<HashSet<Vec<u8>>>;

/// A list in a file, looked at for every connection.
///
/// Unlike a certificate, an old list is no substitute for one that cannot be read: whoever put the
/// new one there wants somebody kept out.
pub(crate) struct RevocationList {
    path: PathBuf,
    /// The file as last read, so that an unchanged one is not parsed again.
    last: Mutex<Option<(Vec<u8>, Serials)>>,
}

impl RevocationList {
    pub(crate) fn new(path: PathBuf) -> Self {
        Self {
            path,
            last: Mutex::new(None),
        }
    }

    /// Refuses a chain of which any certificate is in the list.
    pub(crate) fn check(&self, chain: &[CertificateDer<'_>]) -> Result<(), Failure> {
        let revoked = self.serials().map_err(|error| {
            let advice = format!(
                "write a certificate revocation list, DER or PEM, to {}: without one nobody who shows a certificate is let in",
                self.path.display()
            );
            Failure::new(Check::RevocationList, error, advice)
        })?;
        for certificate in chain {
            let Some(parsed) = Parsed::from_der(certificate) else {
                continue;
            };
            if revoked.contains(&parsed.leaf.serial) {
                return Err(Failure::new(
                    Check::Revoked,
                    format!(
                        "transport: certificate serial {} revoked",
                        parsed.leaf.serial_hex()
                    ),
                    format!(
                        "the certificate was revoked in {}: give the client a new one",
                        self.path.display()
                    ),
                ));
            }
        }
        Ok(())
    }

    fn serials(&self) -> Result<Serials, String> {
        let content = read(&self.path)?;
        let mut last = self.last.lock();
        if let Some((old, serials)) = &*last
            && *old == content
        {
            return Ok(Arc::clone(serials));
        }
        let serials = Arc::new(parse(&content)?);
        *last = Some((content, Arc::clone(&serials)));
        Ok(serials)
    }
}

fn read(path: &Path) -> Result<Vec<u8>, String> {
    let fail = |error| format!("open {}: {}", path.display(), errno_text(&error));
    let length = fs::metadata(path).map_err(fail)?.len();
    if length > MAX_BYTES {
        return Err(format!("{}: longer than {MAX_BYTES} bytes", path.display()));
    }
    fs::read(path).map_err(fail)
}

fn parse(content: &[u8]) -> Result<HashSet<Vec<u8>>, String> {
    let text = content.trim_ascii_start().starts_with(b"-----BEGIN");
    let list = match text {
        true => CertificateRevocationListDer::from_pem_slice(content)
            .map_err(|error| format!("x509: malformed crl: {error}"))?,
        false => CertificateRevocationListDer::from(content.to_vec()),
    };
    let list: CertificateList = CertificateList::from_der(&list)
        .map_err(|error| format!("x509: malformed crl: {error}"))?;
    let revoked = list.tbs_cert_list.revoked_certificates.unwrap_or_default();
    let serials = revoked
        .iter()
        .map(|entry| without_zeros(entry.serial_number.as_bytes()));
    Ok(serials.collect())
}
