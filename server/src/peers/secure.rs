//! TLS to other members.

use std::fmt;
use std::io;
use std::sync::{Arc, OnceLock};

use retcd_raft_node::transport::{self, Connecting};
use retcd_tls::{Connector, TlsInfo};
use slog::Logger;
use tokio::net::TcpStream;

use crate::config::SideTls;

/// Shakes hands with peers, as the flags for peers say. Files are looked at when the first https URL is dialed.
pub(crate) struct Secure {
    side: SideTls,
    /// There is no data directory yet that a certificate could be made in.
    early: bool,
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
    pub(crate) fn new(side: &SideTls, early: bool, logger: &Logger) -> Arc<Self> {
        Arc::new(Self {
            side: side.clone(),
            early,
            logger: logger.clone(),
            connector: OnceLock::new(),
        })
    }

    fn connector(&self) -> io::Result<Connector> {
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
}
