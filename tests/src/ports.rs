//! Free loopback ports.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};

use socket2::{Domain, Socket, Type};

/// Below the range from which systems take ports for outgoing connections.
const FIRST: u32 = 12_000;
const COUNT: u32 = 20_000;

/// A port that is kept for a server, also while the server is down.
///
/// The address is held all the time by a socket that never listens. Servers can listen there meanwhile, one at a time;
/// nobody else gets the port, neither by [`Port::take`] in any process nor for an outgoing connection. Whoever connects
/// while no server is there is refused. On a system that does not let them share it, it is only known to have been free.
#[derive(Clone, Debug)]
pub struct Port {
    number: u16,
    _held: Option<Arc<Socket>>,
}

impl Port {
    /// Takes a port that nobody has.
    ///
    /// # Panics
    /// If all are taken.
    #[must_use]
    pub fn take() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let offset = std::process::id().wrapping_mul(131);
        for _ in 0..COUNT {
            let n = NEXT.fetch_add(1, Ordering::Relaxed).wrapping_add(offset) % COUNT;
            let number = u16::try_from(FIRST + n).expect("below 65536");
            if let Some(held) = hold(number) {
                static SHARES: OnceLock<bool> = OnceLock::new();
                let shares = SHARES.get_or_init(|| TcpListener::bind((Ipv4Addr::LOCALHOST, number)).is_ok());
                return Self { number, _held: shares.then(|| Arc::new(held)) };
            }
        }
        panic!("no free port in {FIRST}..{}", FIRST + COUNT);
    }

    /// Its number.
    #[must_use]
    pub const fn number(&self) -> u16 {
        self.number
    }
}

fn hold(number: u16) -> Option<Socket> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    // Without this option it fails if there is anybody on the port, whatever options they have.
    socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, number)).into()).ok()?;
    // With it, servers share the port, which all have the option; others, who have not, do not.
    socket.set_reuse_address(true).ok()?;
    Some(socket)
}

#[test]
fn a_port_is_kept_for_its_server() {
    use std::net::TcpStream;
    let port = Port::take();
    if port._held.is_none() {
        return;
    }
    let address = (Ipv4Addr::LOCALHOST, port.number());
    for _ in 0..3 {
        assert!(TcpStream::connect(address).is_err(), "nobody listens");
        assert!(hold(port.number()).is_none(), "it is taken");
        let server = TcpListener::bind(address).expect("it is free for a server");
        assert!(TcpListener::bind(address).is_err(), "for one");
        let client = TcpStream::connect(address).expect("it listens");
        let (connection, _) = server.accept().expect("a client");
        assert!(hold(port.number()).is_none(), "it is taken");
        // What a server leaves behind that was killed.
        drop((server, connection, client));
    }
}
