//! Certificates of a cluster whose members, and clients, have to show one.

use std::fmt::{self, Debug, Formatter};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use rustls::pki_types::CertificateDer;
use rustls::{ClientConfig, RootCertStore};

use crate::pki::{Issued, Spec, put};

/// An authority for clients and one for peers, and what they issued, as files in a directory.
pub struct Secrets {
    dir: PathBuf,
    clients: Issued,
    peers: Mutex<Issued>,
    client: Arc<ClientConfig>,
}

impl Debug for Secrets {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.debug_struct("Secrets").field("dir", &self.dir).finish_non_exhaustive()
    }
}

fn authority(name: &str) -> Issued {
    Issued::self_signed(&Spec::new(name).names(&[]).usages(&[]).authority())
}

fn file_of_peer(name: &str) -> String {
    format!("peer-{name}")
}

impl Secrets {
    /// Makes both authorities, and a certificate for a client.
    ///
    /// # Panics
    /// If that cannot be.
    pub(super) fn make(dir: &Path) -> Self {
        let (clients, peers) = (authority("clients"), authority("peers"));
        put(dir, "ca.pem", clients.pem().as_bytes());
        put(dir, "peer-ca.pem", peers.pem().as_bytes());
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from(clients.der().to_vec())).expect("an authority");
        let (chain, key) = clients.issue(&Spec::new("client")).pair();
        let mut client = ClientConfig::builder_with_provider(Arc::new(rustls_graviola::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("suites for them")
            .with_root_certificates(roots)
            .with_client_auth_cert(chain, key)
            .expect("a pair");
        client.alpn_protocols = vec![b"h2".to_vec()];
        Self { dir: dir.to_owned(), clients, peers: Mutex::new(peers), client: Arc::new(client) }
    }

    /// Certificates for a member, one for each side.
    pub(super) fn issue(&self, name: &str, address: IpAddr) {
        let spec = Spec::new(name).names(&[&address.to_string()]);
        self.clients.issue(&spec).put(&self.dir, name);
        let peers = self.peers.lock().unwrap_or_else(PoisonError::into_inner);
        peers.issue(&spec).put(&self.dir, &file_of_peer(name));
    }

    /// The flags of a member.
    pub(super) fn flags(&self, name: &str) -> Vec<String> {
        let file = |name: &str| self.dir.join(name).display().to_string();
        let one_side = |prefix: &str, ca: &str, pair: &str| {
            [
                format!("--{prefix}cert-file={}", file(&format!("{pair}.pem"))),
                format!("--{prefix}key-file={}", file(&format!("{pair}-key.pem"))),
                format!("--{prefix}trusted-ca-file={}", file(ca)),
                format!("--{prefix}client-cert-auth=true"),
            ]
        };
        [one_side("", "ca.pem", name), one_side("peer-", "peer-ca.pem", &file_of_peer(name))].concat()
    }

    /// What a client of this cluster trusts and shows.
    #[must_use]
    pub fn client(&self) -> Arc<ClientConfig> {
        Arc::clone(&self.client)
    }

    /// Replaces authority, certificates and keys of all peers in the way of an operator: the new authority beside the
    /// old one, new pairs, the old authority gone. Returns the new pairs.
    ///
    /// # Panics
    /// If a file cannot be written.
    pub fn renew_peers(&self, members: &[(String, IpAddr)]) -> Vec<Issued> {
        let mut peers = self.peers.lock().unwrap_or_else(PoisonError::into_inner);
        let next = authority("peers");
        put(&self.dir, "peer-ca.pem", [peers.pem(), next.pem()].concat().as_bytes());
        let renew = |(name, address): &(String, IpAddr)| {
            let pair = next.issue(&Spec::new(name).names(&[&address.to_string()]));
            pair.put(&self.dir, &file_of_peer(name));
            pair
        };
        let pairs = members.iter().map(renew).collect();
        put(&self.dir, "peer-ca.pem", next.pem().as_bytes());
        *peers = next;
        pairs
    }
}
