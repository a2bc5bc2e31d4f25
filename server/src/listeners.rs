//! The sockets of a member: one per address, whatever is spoken there.

use std::net::SocketAddr;

use retcd_tls::{Acceptor, Connector};
use slog::{Logger, info, warn};

use crate::config::{BootstrapError, Place, Resolved, SideTls, Url};
use crate::net::{self, Transport};
use crate::server::StartError;

/// What the listeners speak TLS with; `None` where no URL asks for it.
#[derive(Default)]
pub(crate) struct Acceptors {
    peer: Option<Acceptor>,
    client: Option<Acceptor>,
    metrics: Option<Acceptor>,
}

impl Acceptors {
    /// What peers speak TLS with.
    pub(crate) fn peer(&self) -> Option<&Acceptor> {
        self.peer.as_ref()
    }

    /// Those of given certificates (`automatic`: of certificates that the member makes itself, which
    /// writes to the data directory).
    ///
    /// # Errors
    /// The files cannot be used, or not made.
    pub(crate) fn add(
        &mut self,
        resolved: &Resolved,
        automatic: bool,
        logger: &Logger,
    ) -> Result<(), StartError> {
        let secure = |urls: &[Url]| urls.iter().any(|url| url.scheme().is_secure());
        let acceptor = |side: &SideTls, peer: bool, verify_san: Option<bool>| {
            let info = side.info(logger).map_err(|error| {
                let reason = error.to_string();
                BootstrapError::SelfSigned { peer, reason }
            });
            let mut info = info?;
            info.verify_client_san = verify_san.unwrap_or(info.verify_client_san);
            match Acceptor::new(&info, logger) {
                Ok(acceptor) => Ok((acceptor, info)),
                Err(error) if peer => Err(BootstrapError::PeerCertificate(error.to_string())),
                Err(error) => Err(BootstrapError::ClientCertificate(error.to_string())),
            }
        };
        let (peer, client) = (&resolved.tls.peer, &resolved.tls.client);
        if secure(&resolved.listen_peer_urls) && peer.is_automatic() == automatic {
            let made = acceptor(peer, true, None)?;
            info!(logger, "starting with peer TLS"; "tls-info" => %made.1);
            self.peer = Some(made.0);
        }
        // Other members may have https URLs even if this one has none.
        if !automatic && peer.dials_with_files() {
            Connector::new(peer.given(), logger)
                .map_err(|error| BootstrapError::PeerCertificate(error.to_string()))?;
        }
        if client.is_automatic() != automatic {
            return Ok(());
        }
        if secure(&resolved.listen_client_urls) || secure(&resolved.listen_client_http_urls) {
            let made = acceptor(client, false, None)?;
            info!(logger, "starting with client TLS"; "tls-info" => %made.1);
            self.client = Some(made.0);
        }
        if secure(&resolved.listen_metrics_urls) {
            // As in etcd, whose metrics listener looks at addresses though its client listener does not.
            self.metrics = Some(acceptor(client, false, Some(true))?.0);
        }
        Ok(())
    }
}

/// A bound socket and the URLs it stands for.
pub(crate) struct Bound {
    pub(crate) listener: net::Listener,
    /// Positions in the list of URLs.
    urls: Vec<usize>,
    plain: bool,
    secure: bool,
}

/// The sockets that are served once the member is ready.
pub(crate) struct Sockets {
    pub(crate) clients: Vec<Bound>,
    /// For HTTP alone; if there are any, the others are for gRPC alone.
    pub(crate) http: Vec<Bound>,
    pub(crate) metrics: Vec<Bound>,
}

/// Binds a list of URLs. Two URLs with one address, http and https, share a socket.
///
/// A socket that a service manager opened already is taken as it is.
///
/// # Errors
/// An address that cannot be had.
pub(crate) fn bind(
    urls: &[Url],
    places: &[Place],
    resolved: &Resolved,
    logger: &Logger,
) -> Result<Vec<Bound>, StartError> {
    let mut all: Vec<Bound> = Vec::new();
    for (number, (url, place)) in urls.iter().zip(places).enumerate() {
        let secure = url.scheme().is_secure();
        let any_port = place.address().is_some_and(|address| address.port() == 0);
        let same = |bound: &&mut Bound| !any_port && bound.asked_for(places, place);
        let bound = match all.iter_mut().find(same) {
            Some(bound) => bound,
            None => {
                let failed = |error: &dyn ToString| StartError::Listen(error.to_string());
                let inherited = resolved.inherited.take(place);
                let listener = match inherited.map_err(|error| failed(&error))? {
                    Some(listener) => {
                        info!(logger, "listening on an inherited socket"; "address" => %place);
                        listener
                    }
                    None => {
                        let shared = resolved.socket_reuse_port;
                        let bound = net::Listener::bind_shared(place.clone(), shared);
                        bound.map_err(|error| failed(&error))?
                    }
                };
                all.push(Bound {
                    listener,
                    urls: Vec::new(),
                    plain: false,
                    secure: false,
                });
                let Some(bound) = all.last_mut() else {
                    continue;
                };
                bound
            }
        };
        bound.urls.push(number);
        bound.secure |= secure;
        bound.plain |= !secure;
    }
    Ok(all)
}

/// Whether places could be listened on. Nobody listens there afterwards.
///
/// # Errors
/// An address that cannot be had.
pub(crate) fn check(resolved: &Resolved, places: &[Place]) -> Result<(), StartError> {
    for place in places.iter().filter(|place| !resolved.inherited.has(place)) {
        net::Listener::bind_shared(place.clone(), resolved.socket_reuse_port)
            .map_err(|error| StartError::Listen(error.to_string()))?;
    }
    Ok(())
}

/// Closes inherited sockets that no URL is for.
pub(crate) fn leave_rest(resolved: &Resolved, logger: &Logger) {
    for socket in resolved.inherited.rest() {
        warn!(logger, "inherited socket is not used: whoever connects to it is not answered";
            "address" => socket,
            "advice" => "give a URL to listen on exactly this address, or take ListenStream= out of the .socket unit");
    }
}

impl Bound {
    fn asked_for(&self, places: &[Place], place: &Place) -> bool {
        let first = self.urls.first().and_then(|number| places.get(*number));
        first == Some(place)
    }

    /// What is spoken on the socket.
    pub(crate) fn transport(&self, acceptor: Option<&Acceptor>) -> Transport {
        Transport {
            plain: self.plain,
            tls: acceptor.filter(|_| self.secure).cloned(),
        }
    }
}

impl Sockets {
    /// Hands each to `serve`, with what is spoken there.
    pub(crate) fn serve(
        self,
        acceptors: &Acceptors,
        mut serve: impl FnMut(net::Listener, Transport, net::Surface) -> Result<(), StartError>,
    ) -> Result<(), StartError> {
        let clients = match self.http.is_empty() {
            true => net::Surface::Client,
            false => net::Surface::Grpc,
        };
        let all = [
            (self.clients, &acceptors.client, clients),
            (self.http, &acceptors.client, net::Surface::Http),
            (self.metrics, &acceptors.metrics, net::Surface::Metrics),
        ];
        for (sockets, acceptor, surface) in all {
            for socket in sockets {
                let transport = socket.transport(acceptor.as_ref());
                serve(socket.listener, transport, surface)?;
            }
        }
        Ok(())
    }
}

/// What is bound for each URL, in their order.
pub(crate) fn places(sockets: &[Bound]) -> Vec<Place> {
    let pairs = sockets.iter().flat_map(|bound| {
        let place = bound.listener.place();
        bound.urls.iter().map(move |number| (*number, place))
    });
    let mut pairs: Vec<_> = pairs.collect();
    pairs.sort_unstable_by_key(|(number, _)| *number);
    pairs.into_iter().map(|(_, place)| place.clone()).collect()
}

/// The addresses bound, without sockets in files, in the order of their URLs.
pub(crate) fn addresses(sockets: &[Bound]) -> Vec<SocketAddr> {
    places(sockets).iter().filter_map(Place::address).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn http_and_https_may_share_an_address() {
        // Whoever else takes ports takes them at another address.
        let free = net::Listener::bind(SocketAddr::from(([127, 77, 0, 1], 0))).expect("a port");
        let port = free.addr().port();
        drop(free);
        let urls: Vec<Url> = [
            format!("http://127.77.0.1:{port}"),
            "https://127.0.0.1:0".to_owned(),
            format!("https://127.77.0.1:{port}"),
            "http://127.0.0.1:0".to_owned(),
        ]
        .iter()
        .map(|url| url.parse().expect("a URL"))
        .collect();
        let wanted: Vec<_> = urls.iter().filter_map(Url::place).collect();
        let resolved = crate::Config::new("/nonexistent").resolve().expect("sound");
        let logger = Logger::root(slog::Discard, slog::o!());
        let bound = bind(&urls, &wanted, &resolved, &logger).expect("bound");
        let speaks: Vec<_> = bound.iter().map(|b| (b.plain, b.secure)).collect();
        assert_eq!(speaks, [(true, true), (false, true), (true, false)]);
        let addresses = addresses(&bound);
        assert_eq!(addresses[0], addresses[2]);
        assert_eq!(addresses[1], bound[1].listener.addr());
        assert_eq!(addresses[3], bound[2].listener.addr());
    }
}
