//! What is logged of connections that are not served.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use retcd_tls::{ClientHello, Refused};
use slog::{Logger, debug, warn};
use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::time::timeout;

use super::site::Surface;

/// How long the rest of a client's first message is waited for, and how long it may be.
const HELLO_TIMEOUT: Duration = Duration::from_secs(1);
const HELLO_BYTES: u64 = 16 << 10;

/// Logs a connection that TLS refused: etcd's line, and what to do.
pub(super) fn log(logger: &Logger, surface: Surface, refused: &Refused) {
    let Refused {
        remote,
        server_name,
        leaf,
        failure,
    } = refused;
    let message = message(surface);
    let (check, advice) = (failure.check.name(), &failure.advice);
    if refused.is_quiet() {
        debug!(logger, "{}", message; "remote-addr" => %remote, "server-name" => server_name,
            "error" => &failure.error, "check" => check, "advice" => advice);
    } else if leaf.is_some() {
        let ips: Vec<String> = refused
            .ip_addresses()
            .iter()
            .map(IpAddr::to_string)
            .collect();
        warn!(logger, "{}", message; "remote-addr" => %remote, "server-name" => server_name,
            "ip-addresses" => slog::Serde(ips), "dns-names" => slog::Serde(refused.dns_names()),
            "error" => &failure.error, "check" => check, "advice" => advice);
    } else {
        warn!(logger, "{}", message; "remote-addr" => %remote, "server-name" => server_name,
            "error" => &failure.error, "check" => check, "advice" => advice);
    }
}

/// Logs a connection that speaks TLS to a port that does not. `read` is how it began.
pub(super) async fn log_tls(
    logger: &Logger,
    surface: Surface,
    remote: SocketAddr,
    read: &[u8],
    reader: impl AsyncRead + Unpin,
) {
    let mut hello = read.to_vec();
    let mut reader = reader.take(HELLO_BYTES);
    let rest = async {
        while ClientHello::parse(&hello).is_none() {
            if reader.read_buf(&mut hello).await? == 0 {
                break;
            }
        }
        Ok::<_, io::Error>(())
    };
    // Whatever came is enough for a line.
    let _ = timeout(HELLO_TIMEOUT, rest).await;
    let server_name = ClientHello::parse(&hello).map(|hello| hello.server_name);
    warn!(logger, "{}", message(surface);
        "remote-addr" => %remote,
        "server-name" => server_name.unwrap_or_default(),
        "error" => "a TLS handshake on a port that speaks plain HTTP",
        "check" => "tls-on-plain",
        "advice" => "use http:// in the client's endpoint, or make this URL https:// and give the member a certificate");
}

/// etcd's.
fn message(surface: Surface) -> &'static str {
    match surface {
        Surface::Peer => "rejected connection on peer endpoint",
        Surface::Client | Surface::Grpc | Surface::Http | Surface::Metrics => {
            "rejected connection on client endpoint"
        }
    }
}
