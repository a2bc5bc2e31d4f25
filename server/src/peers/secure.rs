//! TLS to other members.

use std::fmt;
use std::io;
use std::net::IpAddr;
use std::sync::{Arc, OnceLock};

use retcd_raft_node::transport::{self, Connecting};
use retcd_tls::{Connector, TlsInfo};
use slog::Logger;
use tokio::net::TcpStream;

use crate::config::{Scheme, SideTls, Url};

/// Shakes hands with peers, as the flags for peers say. Files are looked at when the first https URL is dialed.
pub(crate) struct Secure {
    side: SideTls,
    /// There is no data directory yet that a certificate could be made in.
    early: bool,
    /// To dial from.
    local: Option<IpAddr>,
    logger: Logger,
    connector: OnceLock<Connector>,
}

impl fmt::Debug for Secure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Secure").finish_non_exhaustive()
    }
}

impl Secure {
    /// `early`: before the data directory is this member's.
    pub(crate) fn new(
        side: &SideTls,
        local: Option<IpAddr>,
        early: bool,
        logger: &Logger,
    ) -> Arc<Self> {
        Arc::new(Self {
            side: side.clone(),
            early,
            local,
            logger: logger.clone(),
            connector: OnceLock::new(),
        })
    }

    /// Why peers that compare certificates with addresses refuse this member, which advertises these URLs; in one
    /// sentence with what to do. Without a certificate of its own there is nothing to find.
    pub(super) async fn misfit(&self, urls: &[String]) -> Option<String> {
        let file = self.side.dialing_certificate()?;
        let connector = self.connector().ok()?;
        for url in urls {
            let parsed = url.parse::<Url>().ok();
            let https = parsed.as_ref().filter(|url| url.scheme() == Scheme::Https);
            // A name may stand for any address; its peers look it up.
            let address: Option<IpAddr> = https.and_then(|url| url.host_port()?.0.parse().ok());
            let Some(address) = address else {
                continue;
            };
            if let Err(failure) = connector.belongs_to(address).await {
                return Some(format!(
                    "the peers compare a member's certificate with the address it comes from, and that of this member \
                     does not pass this check ({}) for {url}: {failure}; `openssl x509 -noout -ext subjectAltName -in \
                     {}` shows what it is for: issue it again with {address} among its alternative addresses, and start \
                     this member again",
                    failure.check.name(),
                    file.display(),
                ));
            }
        }
        None
    }

    /// What dials; made when it is asked for first.
    pub(crate) fn connector(&self) -> io::Result<Connector> {
        if let Some(connector) = self.connector.get() {
            return Ok(connector.clone());
        }
        let info = if self.early && self.side.is_automatic() {
            // Whoever makes certificates by itself asks for none, and verifies none.
            TlsInfo {
                insecure_skip_verify: true,
                ..TlsInfo::default()
            }
        } else {
            self.side.info(&self.logger).map_err(io::Error::other)?
        };
        // A failure is no verdict: the files may be put right.
        let made = Connector::new(&info, &self.logger).map_err(io::Error::other)?;
        Ok(self.connector.get_or_init(|| made).clone())
    }
}

impl transport::Connector for Secure {
    fn connect<'a>(&'a self, tcp: TcpStream, host: &'a str) -> Connecting<'a> {
        Box::pin(async move {
            let connector = self.connector()?;
            let stream = connector.connect(tcp, host).await;
            let stream = stream.map_err(io::Error::other)?;
            Ok(Box::new(stream) as Box<dyn transport::Stream>)
        })
    }

    fn local_address(&self) -> Option<IpAddr> {
        self.local
    }
}
