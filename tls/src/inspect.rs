//! A look at files of certificates before anybody uses them.
//!
//! For whoever plans a member: what is in a file, whether a pair fits, and whether an authority stands behind it, by the
//! same code that judges connections.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustls::pki_types::{CertificateDer, UnixTime};
use slog::Logger;

use crate::certificate::{Leaf, Parsed};
use crate::chain::{Usage, verify};
use crate::failure::{Check, Failure};
use crate::files::{self, Watched};
use crate::keypair;
use crate::provider::provider;
use crate::roots::RootSource;
use crate::setup::SetupError;
use crate::suites::Suites;

/// What a certificate is shown as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// By whoever connects.
    Client,
    /// By whoever is connected to.
    Server,
}

impl Role {
    fn usage(self) -> Usage {
        match self {
            Self::Client => Usage::Client,
            Self::Server => Usage::Server,
        }
    }

    /// The extended key usage that allows it.
    #[must_use]
    pub fn usage_name(self) -> &'static str {
        match self {
            Self::Client => "clientAuth",
            Self::Server => "serverAuth",
        }
    }
}

/// The first certificate of a file, and what came with it.
#[derive(Debug, Clone)]
pub struct CertificateFile {
    path: PathBuf,
    chain: Vec<CertificateDer<'static>>,
    parsed: Parsed,
}

impl CertificateFile {
    /// Reads a file of one certificate or a chain, in PEM.
    ///
    /// # Errors
    /// It cannot be read, or holds no certificate.
    pub fn read(path: &Path) -> Result<Self, SetupError> {
        let content = |reason: String| SetupError::Content {
            path: path.to_owned(),
            reason,
        };
        let bytes = files::content(path).map_err(|source| SetupError::File {
            path: path.to_owned(),
            source,
        })?;
        let chain = keypair::chain(&bytes).map_err(content)?;
        let parsed = chain.first().and_then(|first| Parsed::from_der(first));
        let parsed = parsed.ok_or_else(|| {
            content("the certificate in it cannot be read: issue a new one".to_owned())
        })?;
        Ok(Self {
            path: path.to_owned(),
            chain,
            parsed,
        })
    }

    /// Whose certificate it is.
    #[must_use]
    pub fn leaf(&self) -> &Leaf {
        &self.parsed.leaf
    }

    /// When it begins and when it ends to be valid.
    #[must_use]
    pub fn validity(&self) -> (SystemTime, SystemTime) {
        (
            UNIX_EPOCH + self.parsed.not_before,
            UNIX_EPOCH + self.parsed.not_after,
        )
    }

    /// Whether it may be shown as that.
    #[must_use]
    pub fn is_for(&self, role: Role) -> bool {
        self.parsed.is_for(role.usage().oid())
    }

    /// Whether a trusted authority of `authorities` (`None`: of the system) stands behind it, as of `time`.
    ///
    /// # Errors
    /// As whoever is shown the certificate would refuse it.
    pub fn verify(
        &self,
        authorities: Option<&Path>,
        role: Role,
        time: SystemTime,
    ) -> Result<(), Failure> {
        let local = |error: SetupError| {
            Failure::new(
                Check::Local,
                error.to_string(),
                "put this right first; see the error",
            )
        };
        let provider = provider(&Suites::default()).map_err(local)?;
        let path = authorities.map(Path::to_owned);
        let roots = RootSource::new(path.as_ref(), &silent()).map_err(local)?;
        let since_epoch = time.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
        let (leaf, rest) = match self.chain.split_first() {
            Some((leaf, rest)) => (leaf, rest),
            None => return Ok(()), // there is one, or it would not have been read
        };
        verify(
            &roots.current(),
            (leaf, rest),
            role.usage(),
            UnixTime::since_unix_epoch(since_epoch),
            &provider.signature_verification_algorithms,
        )
        .map(drop)
    }

    /// Whether the key in a file is the one of this certificate.
    ///
    /// # Errors
    /// It is not, or one of the files cannot be used.
    pub fn check_key(&self, key_file: &Path) -> Result<(), SetupError> {
        let provider = provider(&Suites::default())?;
        let watched: Watched<_> = keypair::watch(
            "pair",
            self.path.clone(),
            key_file.to_owned(),
            provider,
            &silent(),
        )?;
        drop(watched);
        Ok(())
    }
}

/// How many certificates of authorities (CA:TRUE) a file holds. Others in it are trusted for themselves alone.
///
/// # Errors
/// The file cannot be read, or holds no certificate at all.
pub fn authorities(path: &Path) -> Result<usize, SetupError> {
    let path = path.to_owned();
    let roots = RootSource::new(Some(&path), &silent())?.current();
    Ok(roots.all.iter().filter(|root| root.is_authority()).count())
}

fn silent() -> Logger {
    Logger::root(slog::Discard, slog::o!())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_made_pair_is_its_own_authority_and_nobody_elses() {
        let dir = tempfile::tempdir().expect("a directory");
        let make = |name: &str| {
            let dir = dir.path().join(name);
            let hosts = ["10.0.0.1".to_owned(), "a.example.com".to_owned()];
            let made = crate::self_signed(&dir, &hosts, 1, &silent()).expect("made");
            let (cert, key) = (made.cert_file, made.key_file);
            (cert.expect("a file"), key.expect("a file"))
        };
        let ((cert, key), (other, other_key)) = (make("a"), make("b"));
        let file = CertificateFile::read(&cert).expect("readable");
        assert_eq!(file.leaf().dns_names, ["a.example.com"]);
        assert_eq!(file.leaf().verify_hostname("10.0.0.1"), Ok(()));
        assert!(file.is_for(Role::Server) && file.is_for(Role::Client));
        let (begin, end) = file.validity();
        assert_eq!(
            end.duration_since(begin).expect("a time").as_secs(),
            365 * 24 * 3600
        );
        assert!(file.check_key(&key).is_ok());
        let error = file.check_key(&other_key).expect_err("another key");
        assert!(error.to_string().contains("does not match"), "{error}");

        let within = begin + Duration::from_secs(60);
        assert_eq!(file.verify(Some(&cert), Role::Client, within), Ok(()));
        let check = |authority: &Path, time| {
            let failure = file.verify(Some(authority), Role::Server, time);
            failure.expect_err("refused").check
        };
        assert_eq!(check(&other, within), Check::Authority);
        let later = end + Duration::from_secs(60);
        assert_eq!(check(&cert, later), Check::Expired);
    }

    #[test]
    fn files_that_hold_no_certificate_are_told() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("x.pem");
        let error = |path: &Path| CertificateFile::read(path).expect_err("none").to_string();
        assert!(error(&path).contains("no such file"), "{}", error(&path));
        std::fs::write(&path, "hello").expect("written");
        assert!(error(&path).contains("failed to find any PEM"));
        assert!(authorities(&path).is_err());
    }
}
