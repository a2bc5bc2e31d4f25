//! TLS for listeners and dialers, with the checks that etcd makes of certificates.
//!
//! ```text
//!                    ┌─ provider (cryptography)      files, read again when they change
//! TlsInfo ──▶ Acceptor ──▶ accept(socket)  ──▶ TlsStream, or Refused: which check, why, what to do
//!        └──▶ Connector ─▶ connect(socket) ──▶ TlsStream, or Failure
//! ```
//!
//! Every connection is verified anew (there is no session resumption), so that what an operator
//! revokes or replaces counts from the next connection on. Certificates, keys and authorities are
//! read again when their files change; as long as the new ones cannot be used, the old ones stay.
//!
//! Nothing here knows what is said over the connections, and nothing is global.

mod acceptor;
mod certificate;
mod chain;
mod connector;
mod crl;
mod failure;
mod files;
mod hello;
mod info;
mod inspect;
mod keypair;
mod metered;
mod p521;
mod provider;
mod remote;
mod roots;
mod rsa;
mod self_signed;
mod setup;
mod socket;
mod stream;
mod suites;
mod verifier;

pub use acceptor::Acceptor;
pub use certificate::Leaf;
pub use connector::Connector;
pub use failure::{Check, Failure, Refused};
pub use hello::{ClientHello, is_tls};
pub use info::{TlsInfo, Version};
pub use inspect::{CertificateFile, Role, authorities};
pub use self_signed::{SelfSignedError, self_signed};
pub use setup::SetupError;
pub use socket::Socket;
pub use stream::TlsStream;
pub use suites::{Suites, UnknownSuite};

/// Time for a handshake, from the first wait for the other side to its last word.
pub const HANDSHAKE_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(10);
