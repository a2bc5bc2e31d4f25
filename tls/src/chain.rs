//! Whether a trusted authority stands behind a certificate.
//!
//! The judge is webpki. It is stricter than Go about the last certificate of a chain, and more lenient about
//! the first; what Go decides otherwise in either place is looked at here.

use rustls::crypto::WebPkiSupportedAlgorithms;
use rustls::pki_types::{CertificateDer, UnixTime};
use webpki::{EndEntityCert, ExtendedKeyUsageValidator, KeyPurposeIdIter};
use x509_cert::der::oid::ObjectIdentifier;

use crate::certificate::{Parsed, Validity, date};
use crate::failure::{Check, Failure};
use crate::roots::{Root, Roots};

/// What a certificate is used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Usage {
    /// By whoever connects.
    Client,
    /// By whoever is connected to.
    Server,
}

impl Usage {
    pub(crate) fn oid(self) -> ObjectIdentifier {
        match self {
            Self::Client => ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.3.2"),
            Self::Server => ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.3.1"),
        }
    }

    fn parts(self) -> [usize; 9] {
        let last = match self {
            Self::Client => 2,
            Self::Server => 1,
        };
        [1, 3, 6, 1, 5, 5, 7, 3, last]
    }
}

/// A certificate that says nothing is for everything, and so is one that says so.
impl ExtendedKeyUsageValidator for Usage {
    fn validate(&self, usages: KeyPurposeIdIter<'_, '_>) -> Result<(), webpki::Error> {
        let mut restricted = false;
        let any = [2, 5, 29, 37, 0];
        for usage in usages {
            let usage: Vec<usize> = usage?.to_decoded_oid();
            if usage == self.parts() || usage == any {
                return Ok(());
            }
            restricted = true;
        }
        match restricted {
            true => Err(webpki::Error::EmptyEkuExtension),
            false => Ok(()),
        }
    }
}

/// Verifies that `chain`, the certificate and what came with it, leads to one of `roots`.
pub(crate) fn verify(
    roots: &Roots,
    chain: (&CertificateDer<'_>, &[CertificateDer<'_>]),
    usage: Usage,
    now: UnixTime,
    algorithms: &WebPkiSupportedAlgorithms,
) -> Result<Parsed, Failure> {
    let (leaf, intermediates) = chain;
    let Some(parsed) = Parsed::from_der(leaf) else {
        return Err(Failure::new(
            Check::Certificate,
            "tls: failed to parse certificate from client: x509: malformed certificate",
            "the certificate cannot be read: issue a new one",
        ));
    };
    let path = |leaf: EndEntityCert<'_>| {
        let anchors = roots.anchors(now);
        leaf.verify_for_usage(
            algorithms.all,
            &anchors,
            intermediates,
            now,
            usage,
            None,
            None,
        )
        .map(|_| ())
    };
    let error = match EndEntityCert::try_from(leaf).and_then(path) {
        Ok(()) => return Ok(parsed),
        Err(error) => error,
    };
    dates(&parsed, now, "the certificate")?;
    match judged_by_go(roots, leaf, &parsed, now, algorithms) {
        Some(Err(failure)) => return Err(failure),
        Some(Ok(())) if parsed.has_unknown_critical => {
            return Err(explain(&webpki::Error::UnsupportedCriticalExtension));
        }
        Some(Ok(())) if parsed.is_for(usage.oid()) => return Ok(parsed),
        Some(Ok(())) => return Err(explain(&webpki::Error::EmptyEkuExtension)),
        None => {}
    }
    let unjudged = matches!(
        error,
        webpki::Error::CaUsedAsEndEntity | webpki::Error::UnsupportedCertVersion
    );
    if unjudged && intermediates.is_empty() {
        // It came alone, and no trusted authority issued it.
        return Err(explain(&webpki::Error::UnknownIssuer));
    }
    Err(explain(&error))
}

/// Certificates that webpki does not judge: those trusted by themselves, and those of version 1 or of an
/// authority that a trusted one issued directly. `None`: none of these.
fn judged_by_go(
    roots: &Roots,
    leaf: &CertificateDer<'_>,
    parsed: &Parsed,
    now: UnixTime,
    algorithms: &WebPkiSupportedAlgorithms,
) -> Option<Result<(), Failure>> {
    if roots.all.iter().any(|root| root.der == *leaf) {
        return Some(Ok(()));
    }
    let issued = |root: &&Root| root.is_authority() && root.parsed.subject == parsed.issuer;
    let mut issuers = roots.all.iter().filter(issued);
    let issuer = issuers.find(|root| is_signed_by(parsed, &root.parsed, algorithms))?;
    if let Err(failure) = dates(&issuer.parsed, now, "the certificate of the authority") {
        return Some(Err(failure));
    }
    let special = parsed.is_version1 || parsed.is_ca;
    (special && !issuer.parsed.has_name_constraints && !parsed.has_name_constraints)
        .then_some(Ok(()))
}

fn is_signed_by(parsed: &Parsed, issuer: &Parsed, algorithms: &WebPkiSupportedAlgorithms) -> bool {
    algorithms.all.iter().any(|algorithm| {
        algorithm.signature_alg_id().as_ref() == parsed.signature_algorithm
            && algorithm.public_key_alg_id().as_ref() == issuer.key_algorithm
            && algorithm
                .verify_signature(&issuer.key, &parsed.signed, &parsed.signature)
                .is_ok()
    })
}

fn dates(parsed: &Parsed, now: UnixTime, whose: &str) -> Result<(), Failure> {
    let expired =
        "tls: failed to verify certificate: x509: certificate has expired or is not yet valid";
    let now_is = date(std::time::Duration::from_secs(now.as_secs()));
    match parsed.validity(now) {
        Validity::Valid => Ok(()),
        Validity::Over(end) => Err(Failure::new(
            Check::Expired,
            format!("{expired}: current time {now_is} is after {}", date(end)),
            format!(
                "{whose} has expired: issue a new one (or set the clock of this machine right)"
            ),
        )),
        Validity::NotYet(begin) => Err(Failure::new(
            Check::NotYetValid,
            format!("{expired}: current time {now_is} is before {}", date(begin)),
            format!(
                "{whose} is not valid yet: wait, issue another one, or set the clocks of both machines right"
            ),
        )),
    }
}

/// What webpki says, in Go's words and ours.
pub(crate) fn explain(error: &webpki::Error) -> Failure {
    use webpki::Error as E;
    let (check, text, advice) = match error {
        E::UnknownIssuer => (
            Check::Authority,
            "x509: certificate signed by unknown authority",
            "no trusted authority stands behind the certificate: add its authority to the trusted CA file, or use a certificate of a trusted one",
        ),
        E::EndEntityUsedAsCa | E::SignatureAlgorithmMismatch => (
            Check::Authority,
            "x509: certificate signed by unknown authority",
            "what issued the certificate is no certificate authority (CA:TRUE): issue it with one",
        ),
        E::CaUsedAsEndEntity => (
            Check::Certificate,
            "x509: certificate is one of an authority",
            "a certificate of an authority (CA:TRUE) is taken only if a trusted authority issued it directly: issue one without CA:TRUE",
        ),
        E::EmptyEkuExtension | E::RequiredEkuNotFoundContext(_) => (
            Check::Usage,
            "x509: certificate specifies an incompatible key usage",
            "the certificate is for another use: issue one with the extended key usage of this side (clientAuth to connect, serverAuth to be connected to)",
        ),
        E::InvalidSignatureForPublicKey => (
            Check::Authority,
            "x509: certificate signed by unknown authority",
            "an authority of that name is trusted, but its key did not sign the certificate: was the authority made anew?",
        ),
        E::CertExpired { .. } => (
            Check::Expired,
            "x509: certificate has expired or is not yet valid",
            "a certificate of the chain has expired: issue a new one",
        ),
        E::CertNotValidYet { .. } => (
            Check::NotYetValid,
            "x509: certificate has expired or is not yet valid",
            "a certificate of the chain is not valid yet: wait, or set the clocks right",
        ),
        E::UnsupportedCriticalExtension => (
            Check::Certificate,
            "x509: unhandled critical extension",
            "the certificate has a critical extension that cannot be judged: issue one without it",
        ),
        E::NameConstraintViolation => (
            Check::Authority,
            "x509: a root or intermediate certificate is not authorized to sign for this name",
            "the authority may not issue certificates for these names",
        ),
        other => {
            return Failure::new(
                Check::Certificate,
                format!("tls: failed to verify certificate: x509: {other}"),
                "the certificate or its chain cannot be judged: issue a new one",
            );
        }
    };
    Failure::new(
        check,
        format!("tls: failed to verify certificate: {text}"),
        advice,
    )
}
