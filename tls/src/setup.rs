//! Why TLS cannot be set up.

use std::io;
use std::path::PathBuf;

/// A configuration that cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SetupError {
    /// Only one of certificate and key is named.
    #[error("KeyFile and CertFile must both be present[key: {key}, cert: {cert}]")]
    HalfPair {
        /// The key file, or nothing.
        key: String,
        /// The certificate file, or nothing.
        cert: String,
    },
    /// The same of what is shown when dialing.
    #[error(
        "ClientKeyFile and ClientCertFile must both be present or both absent: key: {key}, cert: {cert}]"
    )]
    HalfClientPair {
        /// The key file, or nothing.
        key: String,
        /// The certificate file, or nothing.
        cert: String,
    },
    /// Two rules of which only one can be.
    #[error(
        "AllowedCNs and AllowedHostnames are mutually exclusive (cns={cns:?}, hostnames={hostnames:?})"
    )]
    TwoRules {
        /// Common names.
        cns: Vec<String>,
        /// Host names.
        hostnames: Vec<String>,
    },
    /// A file cannot be read. In Go's words.
    #[error("open {}: {}", path.display(), errno_text(source))]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file is of no use.
    #[error("{}: {reason}", path.display())]
    Content {
        /// Which.
        path: PathBuf,
        /// What is wrong, and what to do.
        reason: String,
    },
    /// The authorities of the system are needed, and there are none.
    #[error(
        "no certificate authorities: name a file of them (trusted CA), or install those of the system ({0})"
    )]
    NoSystemRoots(String),
    /// Nothing is left of the suites chosen.
    #[error(
        "none of the chosen cipher suites can be used (not offered: {}): name one of TLS 1.2 with ECDHE and GCM or ChaCha20, or choose none",
        .0.join(",")
    )]
    NoSuite(Vec<String>),
    /// The lowest version is above the highest.
    #[error("no TLS version is left between the lowest and the highest configured")]
    NoVersion,
    /// The CPU cannot run the cryptography.
    #[error(
        "this CPU lacks {}, which the built-in cryptography needs: build with `--features ring` (it needs a C compiler), or use http URLs",
        missing.join(", ")
    )]
    Cpu {
        /// Instruction sets.
        missing: Vec<&'static str>,
    },
    /// The TLS library refuses.
    #[error("TLS cannot be set up: {0}")]
    Library(#[from] rustls::Error),
}

/// The system's text as Go prints it: lower case and without the number.
pub(crate) fn errno_text(error: &io::Error) -> String {
    let text = error.to_string();
    let text = text.split(" (os error").next().unwrap_or_default();
    let mut chars = text.chars();
    match chars.next() {
        Some(first) => first.to_lowercase().chain(chars).collect(),
        None => String::new(),
    }
}
