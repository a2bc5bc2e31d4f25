//! Sockets that a service manager opened before it started this process (systemd's socket activation).
//!
//! etcd 3.7 has no such thing. Source: sd_listen_fds(3), systemd.socket(5).

use std::fmt;
use std::io;
use std::net::TcpListener;
use std::os::fd::AsFd;
use std::os::unix::net::UnixListener;
use std::path::absolute;
use std::sync::Arc;

use listenfd::ListenFd;
use parking_lot::Mutex;
use socket2::SockRef;

use crate::config::Place;
use crate::net::Listener;

/// Each is listened on for the URL that has its address. Clones share them: a socket is had once.
#[derive(Debug, Clone, Default)]
pub struct Inherited {
    sockets: Arc<Mutex<Vec<Inheritance>>>,
}

#[derive(Debug)]
enum Inheritance {
    Tcp(TcpListener),
    Unix(UnixListener),
    /// Nothing to listen on; why.
    Useless(String),
}

impl Inherited {
    /// Those that the environment tells of (`LISTEN_FDS`, `LISTEN_PID`), which is taken out of it: children
    /// of this process inherit nothing. To be called before there are other threads.
    #[must_use]
    pub fn from_env() -> Self {
        let mut given = ListenFd::from_env();
        let sockets = (0..given.len()).filter_map(|number| adopt(&mut given, number));
        Self {
            sockets: Arc::new(Mutex::new(sockets.collect())),
        }
    }

    /// Whether one of them is for this place.
    pub(crate) fn has(&self, place: &Place) -> bool {
        self.sockets
            .lock()
            .iter()
            .any(|socket| socket.is_for(place))
    }

    /// The one for this place, if there is one.
    ///
    /// # Errors
    /// Those of the system.
    pub(crate) fn take(&self, place: &Place) -> io::Result<Option<Listener>> {
        let socket = {
            let mut sockets = self.sockets.lock();
            let at = sockets.iter().position(|socket| socket.is_for(place));
            at.map(|at| sockets.remove(at))
        };
        Ok(match socket {
            Some(Inheritance::Tcp(listener)) => Some(Listener::adopt_tcp(listener)?),
            Some(Inheritance::Unix(listener)) => {
                Some(Listener::adopt_unix(listener, place.clone())?)
            }
            Some(Inheritance::Useless(_)) | None => None,
        })
    }

    /// Those that no URL asked for. They are closed, but for what is no socket that connections come through.
    pub(crate) fn rest(&self) -> Vec<String> {
        let rest = std::mem::take(&mut *self.sockets.lock());
        rest.iter().map(ToString::to_string).collect()
    }
}

fn adopt(given: &mut ListenFd, number: usize) -> Option<Inheritance> {
    let socket = match given.take_tcp_listener(number) {
        Ok(tcp) => tcp.map(Inheritance::Tcp),
        Err(_) => match given.take_unix_listener(number) {
            Ok(unix) => unix.map(Inheritance::Unix),
            Err(error) => Some(Inheritance::Useless(error.to_string())),
        },
    }?;
    let listens = match &socket {
        Inheritance::Tcp(listener) => listens(listener),
        Inheritance::Unix(listener) => listens(listener),
        Inheritance::Useless(_) => return Some(socket),
    };
    Some(match listens {
        true => socket,
        false => Inheritance::Useless(format!("{socket}, a connection (Accept=yes)")),
    })
}

fn listens(socket: &impl AsFd) -> bool {
    SockRef::from(socket).is_listener().unwrap_or(false)
}

impl Inheritance {
    fn is_for(&self, place: &Place) -> bool {
        match (self, place) {
            (Self::Tcp(listener), Place::Tcp(wanted)) => {
                listener.local_addr().is_ok_and(|own| {
                    // An unspecified address means all of them, in IPv4 or IPv6.
                    let both = own.ip().is_unspecified() && wanted.ip().is_unspecified();
                    own == *wanted || (both && own.port() == wanted.port())
                })
            }
            (Self::Unix(listener), Place::Unix(wanted)) => {
                let own = listener.local_addr();
                own.is_ok_and(|own| {
                    own.as_pathname().map(absolute).and_then(Result::ok) == absolute(wanted).ok()
                })
            }
            _ => false,
        }
    }
}

impl fmt::Display for Inheritance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(listener) => match listener.local_addr() {
                Ok(address) => address.fmt(f),
                Err(error) => error.fmt(f),
            },
            Self::Unix(listener) => match listener.local_addr() {
                Ok(address) => match address.as_pathname() {
                    Some(path) => path.display().fmt(f),
                    None => f.write_str("a socket without a file"),
                },
                Err(error) => error.fmt(f),
            },
            Self::Useless(why) => f.write_str(why),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv6Addr, SocketAddr};

    use super::*;

    fn of(sockets: Vec<Inheritance>) -> Inherited {
        Inherited {
            sockets: Arc::new(Mutex::new(sockets)),
        }
    }

    #[test]
    fn a_socket_is_had_by_its_address_and_once() {
        let tcp = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = tcp.local_addr().expect("bound");
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("s.sock");
        let unix = UnixListener::bind(&path).expect("bound");
        let all = of(vec![Inheritance::Tcp(tcp), Inheritance::Unix(unix)]);
        let other = SocketAddr::from(([127, 0, 0, 2], address.port()));
        assert!(!all.has(&other.into()));
        assert!(all.take(&other.into()).expect("nothing to do").is_none());
        let taken = all.clone().take(&address.into()).expect("taken");
        assert_eq!(taken.expect("it is there").place(), &Place::Tcp(address));
        assert!(!all.has(&address.into()));
        assert_eq!(all.rest(), [path.display().to_string()]);
        assert!(all.rest().is_empty());
    }

    #[test]
    fn all_addresses_are_all_addresses() {
        let tcp = TcpListener::bind("0.0.0.0:0").expect("a port");
        let port = tcp.local_addr().expect("bound").port();
        let all = of(vec![Inheritance::Tcp(tcp)]);
        assert!(all.has(&SocketAddr::from((Ipv6Addr::UNSPECIFIED, port)).into()));
        assert!(!all.has(&SocketAddr::from(([127, 0, 0, 1], port)).into()));
    }

    #[test]
    fn the_file_of_a_socket_stays_when_it_is_anothers() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("s.sock");
        let unix = UnixListener::bind(&path).expect("bound");
        let all = of(vec![Inheritance::Unix(unix)]);
        let place = Place::Unix(path.clone());
        drop(all.take(&place).expect("taken").expect("it is there"));
        assert!(path.exists());
    }
}
