//! Listening sockets: bound early, accepted from later.

use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr, TcpListener};
use std::os::unix::net::UnixListener;
use std::time::Duration;

use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};

use super::socket_file::{self, SocketFile};
use crate::config::Place;

/// Connections that the kernel holds for us until they are accepted; more are retried by their
/// clients. The kernel's own limit (`net.core.somaxconn`) may be lower.
const BACKLOG: i32 = 4096;

/// A dead client is noticed after half a minute of silence and nine unanswered probes.
const KEEPALIVE: Duration = Duration::from_secs(30);

/// File descriptors left for files and peers, as etcd reserves them.
const RESERVED_DESCRIPTORS: u64 = 150;

/// A listen address that cannot be had, in Go's words.
#[derive(Debug, thiserror::Error)]
#[error("listen {} {place}: bind: {}", network(place), errno_text(.source))]
pub(crate) struct BindError {
    /// The address asked for.
    place: Place,
    source: io::Error,
}

fn network(place: &Place) -> &'static str {
    match place {
        Place::Tcp(_) => "tcp",
        Place::Unix(_) => "unix",
    }
}

/// The limit of open files leaves no room for connections.
#[derive(Debug, thiserror::Error)]
#[error("file descriptor limit of etcd process is too low; please set higher")]
pub(crate) struct DescriptorLimit {
    /// The soft limit found.
    pub(crate) limit: u64,
    /// What the limit must exceed.
    pub(crate) recommended: u64,
}

/// A bound socket. Connections made before it is served wait in its backlog.
#[derive(Debug)]
pub(crate) struct Listener {
    socket: Bound,
    place: Place,
}

/// A socket that listens.
#[derive(Debug)]
pub(super) enum Bound {
    Tcp(TcpListener),
    /// With its file, which goes when it does, unless somebody else made it.
    Unix(UnixListener, Option<SocketFile>),
}

impl Listener {
    /// Binds a place; port 0 takes a free one. An unspecified address is bound for IPv4 and IPv6
    /// at once, as Go does, where the machine has IPv6. A socket's file that is there already is replaced if
    /// nobody listens on it; any other file is not.
    ///
    /// # Errors
    /// [`BindError`], for example `listen tcp 127.0.0.1:2380: bind: address already in use`.
    #[cfg(test)]
    pub(crate) fn bind(place: impl Into<Place>) -> Result<Self, BindError> {
        Self::bind_shared(place, false)
    }

    /// The same; if `shared`, beside others who bind it so (`--socket-reuse-port`).
    ///
    /// # Errors
    /// As [`Listener::bind`].
    pub(crate) fn bind_shared(place: impl Into<Place>, shared: bool) -> Result<Self, BindError> {
        match place.into() {
            Place::Tcp(addr) => Self::bind_tcp(addr, shared),
            Place::Unix(path) => match socket_file::bind(&path, BACKLOG) {
                Ok((socket, file)) => Ok(Self {
                    socket: Bound::Unix(socket, Some(file)),
                    place: Place::Unix(path),
                }),
                Err(source) => Err(BindError {
                    place: Place::Unix(path),
                    source,
                }),
            },
        }
    }

    fn bind_tcp(addr: SocketAddr, shared: bool) -> Result<Self, BindError> {
        let open = |addr, only_v6| open(addr, only_v6, shared);
        let dual = SocketAddr::new(IpAddr::V6(Ipv6Addr::UNSPECIFIED), addr.port());
        let bound = match addr.ip().is_unspecified() {
            true => match open(dual, false) {
                Err(error) if addr.is_ipv4() && no_ipv6(&error) => open(addr, true),
                other => other,
            },
            false => open(addr, true),
        };
        let bound = bound.and_then(|socket| Ok((socket.local_addr()?, socket)));
        match bound {
            Ok((addr, socket)) => Ok(Self {
                socket: Bound::Tcp(socket),
                place: addr.into(),
            }),
            Err(source) => Err(BindError {
                place: addr.into(),
                source,
            }),
        }
    }

    /// A socket that listens already.
    ///
    /// # Errors
    /// Those of the system.
    pub(crate) fn adopt_tcp(socket: TcpListener) -> io::Result<Self> {
        socket.set_nonblocking(true)?;
        Ok(Self {
            place: socket.local_addr()?.into(),
            socket: Bound::Tcp(socket),
        })
    }

    /// The same, of a file that stays.
    ///
    /// # Errors
    /// Those of the system.
    pub(crate) fn adopt_unix(socket: UnixListener, place: Place) -> io::Result<Self> {
        socket.set_nonblocking(true)?;
        Ok(Self {
            socket: Bound::Unix(socket, None),
            place,
        })
    }

    /// What is bound, with its real port.
    pub(crate) fn place(&self) -> &Place {
        &self.place
    }

    /// The address bound, with its real port.
    #[cfg(test)]
    pub(crate) fn addr(&self) -> SocketAddr {
        self.place.address().expect("a listener of TCP")
    }

    pub(super) fn into_bound(self) -> Bound {
        self.socket
    }
}

fn open(addr: SocketAddr, only_v6: bool, shared: bool) -> io::Result<TcpListener> {
    let domain = Domain::for_address(addr);
    let socket = Socket::new(domain, Type::STREAM.nonblocking(), Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    if shared {
        socket.set_reuse_port(true)?;
    }
    if addr.is_ipv6() {
        socket.set_only_v6(only_v6)?;
    }
    socket.bind(&addr.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

fn no_ipv6(error: &io::Error) -> bool {
    use rustix::io::Errno;
    let errno = error.raw_os_error();
    errno == Some(Errno::AFNOSUPPORT.raw_os_error())
        || errno == Some(Errno::ADDRNOTAVAIL.raw_os_error())
}

/// Sets up a connection: small writes leave at once, dead peers are noticed.
pub(super) fn tune(stream: &std::net::TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let keepalive = TcpKeepalive::new()
        .with_time(KEEPALIVE)
        .with_interval(KEEPALIVE);
    SockRef::from(stream).set_tcp_keepalive(&keepalive)
}

/// How many connections one listener may have: the soft limit of open files less 150.
///
/// # Errors
/// [`DescriptorLimit`] when that is none.
pub(crate) fn connection_limit() -> Result<usize, DescriptorLimit> {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    let limit = limit.unwrap_or(u64::MAX);
    match limit.checked_sub(RESERVED_DESCRIPTORS) {
        None | Some(0) => Err(DescriptorLimit {
            limit,
            recommended: RESERVED_DESCRIPTORS,
        }),
        Some(room) => Ok(usize::try_from(room).unwrap_or(usize::MAX)),
    }
}

/// The system's text as Go prints it: lower case and without the number.
fn errno_text(error: &io::Error) -> String {
    let text = error.to_string();
    let text = text.split(" (os error").next().unwrap_or_default();
    let mut chars = text.chars();
    match chars.next() {
        Some(first) => first.to_lowercase().chain(chars).collect(),
        None => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_taken_address_is_reported_in_gos_words() {
        let first = Listener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
        let error = Listener::bind(first.addr()).unwrap_err();
        let expected = format!("listen tcp {}: bind: address already in use", first.addr());
        assert_eq!(error.to_string(), expected);
    }

    #[test]
    fn those_who_share_an_address_share_it_with_nobody_else() {
        let first = Listener::bind_shared(SocketAddr::from(([127, 0, 0, 1], 0)), true).unwrap();
        let _second = Listener::bind_shared(first.addr(), true).unwrap();
        Listener::bind(first.addr()).unwrap_err();
    }

    #[test]
    fn a_foreign_address_is_reported_in_gos_words() {
        // TEST-NET-1: no machine has it.
        let error = Listener::bind(SocketAddr::from(([192, 0, 2, 1], 2379))).unwrap_err();
        assert_eq!(
            error.to_string(),
            "listen tcp 192.0.2.1:2379: bind: cannot assign requested address"
        );
    }

    #[test]
    fn a_taken_file_is_reported_in_gos_words() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("peer:2380");
        let first = Listener::bind(Place::Unix(path.clone())).unwrap();
        assert_eq!(first.place(), &Place::Unix(path.clone()));
        let error = Listener::bind(Place::Unix(path.clone())).unwrap_err();
        let place = path.display();
        let expected = format!("listen unix {place}: bind: address already in use");
        assert_eq!(error.to_string(), expected);
    }

    #[test]
    fn an_unspecified_address_takes_ipv4() {
        let listener = Listener::bind(SocketAddr::from(([0, 0, 0, 0], 0))).unwrap();
        std::net::TcpStream::connect(("127.0.0.1", listener.addr().port())).unwrap();
    }
}
