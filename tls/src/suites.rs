//! Cipher suites by the names that Go gives them.

use rustls::{CipherSuite, SupportedCipherSuite};

/// A chosen set of suites. Those of TLS 1.3 cannot be chosen and are always there.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Suites {
    chosen: Vec<CipherSuite>,
    left_out: Vec<String>,
}

/// A name that no suite has.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unexpected TLS cipher suite {0:?}")]
pub struct UnknownSuite(pub String);

impl Suites {
    /// Reads names, in their order of preference.
    ///
    /// # Errors
    /// For the first name that is not one of Go's.
    pub fn parse<S: AsRef<str>>(names: &[S]) -> Result<Self, UnknownSuite> {
        let mut suites = Self::default();
        for name in names.iter().map(AsRef::as_ref) {
            match NAMES.iter().find(|(known, _)| *known == name) {
                Some((_, Some(suite))) => suites.chosen.push(*suite),
                Some((_, None)) => suites.left_out.push(name.to_owned()),
                None => return Err(UnknownSuite(name.to_owned())),
            }
        }
        Ok(suites)
    }

    /// Whether nothing was chosen, so that all may be used.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.chosen.is_empty() && self.left_out.is_empty()
    }

    /// Names that Go knows and that are not offered here: too weak (RC4, 3DES, CBC, and key exchange
    /// without forward secrecy), or of TLS 1.3.
    #[must_use]
    pub fn left_out(&self) -> &[String] {
        &self.left_out
    }

    /// Of all suites, those that may be used, in the order of preference.
    pub(crate) fn select(&self, all: &[SupportedCipherSuite]) -> Vec<SupportedCipherSuite> {
        if self.is_empty() {
            return all.to_vec();
        }
        let is_13 = |suite: &&SupportedCipherSuite| suite.tls13().is_some();
        let chosen = |name: &CipherSuite| all.iter().find(|suite| suite.suite() == *name);
        let all13 = all.iter().filter(is_13);
        all13
            .chain(self.chosen.iter().filter_map(chosen))
            .copied()
            .collect()
    }
}

/// Go's names. `None`: known, but not offered.
const NAMES: &[(&str, Option<CipherSuite>)] = &[
    (
        "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256",
        Some(CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256),
    ),
    (
        "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384",
        Some(CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384),
    ),
    (
        "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256",
        Some(CipherSuite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256),
    ),
    (
        "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305",
        Some(CipherSuite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256),
    ),
    (
        "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256",
        Some(CipherSuite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256),
    ),
    (
        "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384",
        Some(CipherSuite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384),
    ),
    (
        "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256",
        Some(CipherSuite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256),
    ),
    (
        "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305",
        Some(CipherSuite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256),
    ),
    // Of TLS 1.3: always there, whatever is chosen.
    ("TLS_AES_128_GCM_SHA256", None),
    ("TLS_AES_256_GCM_SHA384", None),
    ("TLS_CHACHA20_POLY1305_SHA256", None),
    // Weak.
    ("TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA", None),
    ("TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA256", None),
    ("TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA", None),
    ("TLS_ECDHE_ECDSA_WITH_RC4_128_SHA", None),
    ("TLS_ECDHE_RSA_WITH_3DES_EDE_CBC_SHA", None),
    ("TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA", None),
    ("TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA256", None),
    ("TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA", None),
    ("TLS_ECDHE_RSA_WITH_RC4_128_SHA", None),
    ("TLS_RSA_WITH_3DES_EDE_CBC_SHA", None),
    ("TLS_RSA_WITH_AES_128_CBC_SHA", None),
    ("TLS_RSA_WITH_AES_128_CBC_SHA256", None),
    ("TLS_RSA_WITH_AES_128_GCM_SHA256", None),
    ("TLS_RSA_WITH_AES_256_CBC_SHA", None),
    ("TLS_RSA_WITH_AES_256_GCM_SHA384", None),
    ("TLS_RSA_WITH_RC4_128_SHA", None),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_gos() {
        let suites = Suites::parse(&[
            "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305",
            "TLS_RSA_WITH_RC4_128_SHA",
        ]);
        let suites = suites.expect("both are known");
        assert_eq!(suites.left_out(), ["TLS_RSA_WITH_RC4_128_SHA"]);
        assert_eq!(suites.chosen.len(), 1);
        let error = Suites::parse(&["FOO"]).expect_err("there is no such suite");
        assert_eq!(error.to_string(), r#"unexpected TLS cipher suite "FOO""#);
    }
}
