//! The authorities that are trusted.

use std::path::PathBuf;

use rustls::DistinguishedName;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, TrustAnchor, UnixTime};
use slog::Logger;

use crate::certificate::{Parsed, Validity};
use crate::files::Watched;
use crate::setup::SetupError;

/// One trusted certificate.
#[derive(Debug)]
pub(crate) struct Root {
    pub(crate) der: CertificateDer<'static>,
    pub(crate) parsed: Parsed,
    anchor: Option<TrustAnchor<'static>>,
}

impl Root {
    fn new(der: CertificateDer<'static>) -> Option<Self> {
        let parsed = Parsed::from_der(&der)?;
        // Other certificates are trusted too, but only for themselves.
        let signs = (parsed.is_ca && parsed.may_sign_certificates) || parsed.is_version1;
        let anchor = match signs {
            true => Some(webpki::anchor_from_trusted_cert(&der).ok()?.to_owned()),
            false => None,
        };
        Some(Self {
            der,
            parsed,
            anchor,
        })
    }

    /// Whether it can vouch for others.
    pub(crate) fn is_authority(&self) -> bool {
        self.anchor.is_some()
    }
}

/// All of them.
#[derive(Debug)]
pub(crate) struct Roots {
    pub(crate) all: Vec<Root>,
    /// Their names, sent to whoever has to show a certificate.
    pub(crate) hints: Vec<DistinguishedName>,
}

impl Roots {
    fn new(all: Vec<Root>) -> Self {
        let anchors = all.iter().filter_map(|root| root.anchor.as_ref());
        let hints = anchors.map(|anchor| DistinguishedName::in_sequence(&anchor.subject));
        Self {
            hints: hints.collect(),
            all,
        }
    }

    /// Those that are valid now.
    pub(crate) fn anchors(&self, now: UnixTime) -> Vec<TrustAnchor<'_>> {
        let valid = |root: &&Root| root.parsed.validity(now) == Validity::Valid;
        let anchors = self.all.iter().filter(valid);
        anchors.filter_map(|root| root.anchor.clone()).collect()
    }
}

/// Where they come from.
pub(crate) enum RootSource {
    File(Watched<Roots>),
    System(std::sync::Arc<Roots>),
}

impl RootSource {
    pub(crate) fn new(file: Option<&PathBuf>, logger: &Logger) -> Result<Self, SetupError> {
        let Some(path) = file else {
            return Self::of_the_system();
        };
        let in_error = path.clone();
        let parse = Box::new(move |contents: &[&[u8]]| {
            let all = contents.concat();
            parse(&all).map_err(|reason| SetupError::Content {
                path: in_error.clone(),
                reason,
            })
        });
        let paths = vec![path.clone()];
        let watched = Watched::new("trusted authorities", paths, logger.clone(), parse)?;
        Ok(Self::File(watched))
    }

    fn of_the_system() -> Result<Self, SetupError> {
        let found = rustls_native_certs::load_native_certs();
        let roots: Vec<Root> = found.certs.into_iter().filter_map(Root::new).collect();
        if roots.is_empty() {
            let why = found
                .errors
                .first()
                .map_or("none found".into(), ToString::to_string);
            return Err(SetupError::NoSystemRoots(why));
        }
        Ok(Self::System(Roots::new(roots).into()))
    }

    pub(crate) fn current(&self) -> std::sync::Arc<Roots> {
        match self {
            Self::File(watched) => watched.current(),
            Self::System(roots) => roots.clone(),
        }
    }
}

fn parse(pem: &[u8]) -> Result<Roots, String> {
    let mut roots = Vec::new();
    for certificate in CertificateDer::pem_slice_iter(pem) {
        let certificate = certificate.map_err(|error| format!("not PEM: {error}"))?;
        let number = roots.len() + 1;
        let root = Root::new(certificate)
            .ok_or_else(|| format!("certificate {number} in it cannot be read: write it anew"))?;
        roots.push(root);
    }
    if roots.is_empty() {
        return Err("no certificate in it: it has to hold at least one in PEM (-----BEGIN CERTIFICATE-----)".into());
    }
    Ok(Roots::new(roots))
}
