//! Tells systemd that the member is ready, as `Type=notify` of a unit wants it.
//!
//! Source: config-and-ops 7; sd_notify(3).

use std::ffi::OsStr;
use std::io;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};

use slog::{Logger, error, info};

/// Says so to the socket that the environment names, if it does.
pub(crate) fn notify(logger: &Logger) {
    info!(logger, "notifying init daemon");
    let told = match std::env::var_os("NOTIFY_SOCKET") {
        Some(socket) if !socket.is_empty() => ready(&socket),
        _ => Ok(()),
    };
    match told {
        Ok(()) => info!(logger, "successfully notified init daemon"),
        Err(error) => error!(logger, "failed to notify systemd for readiness"; "error" => %error),
    }
}

fn ready(socket: &OsStr) -> io::Result<()> {
    let address = match socket.as_bytes().strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name)?,
        None => SocketAddr::from_pathname(socket)?,
    };
    UnixDatagram::unbound()?.send_to_addr(b"READY=1", &address)?;
    Ok(())
}
