//! Host names of peers, looked up.

use std::collections::HashMap;
use std::fmt;
use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::watch;

/// A lookup occupies a thread, also of those that read and write databases, until the system gives
/// up; its caller does so long before, and asks again. So there is one at a time for each name, and
/// whoever wants to know waits for that one.
pub(super) struct Names {
    lookup: Box<dyn Fn(String, u16) -> Lookup + Send + Sync>,
    under_way: UnderWay,
}

type Name = (String, u16);
type Lookup = Pin<Box<dyn Future<Output = io::Result<Vec<SocketAddr>>> + Send>>;
type UnderWay = Arc<Mutex<HashMap<Name, watch::Receiver<Option<Found>>>>>;
type Found = Result<Vec<SocketAddr>, (io::ErrorKind, String)>;

impl Default for Names {
    fn default() -> Names {
        Names::with(|host, port| {
            Box::pin(async move {
                let found = tokio::net::lookup_host((host, port)).await?;
                Ok(found.collect())
            })
        })
    }
}

impl fmt::Debug for Names {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Names").finish_non_exhaustive()
    }
}

impl Names {
    fn with(lookup: impl Fn(String, u16) -> Lookup + Send + Sync + 'static) -> Names {
        Names {
            lookup: Box::new(lookup),
            under_way: Arc::default(),
        }
    }

    /// The addresses of a host. A lookup goes on when nobody waits for it any more.
    pub(super) async fn addresses(&self, host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
        if let Ok(address) = host.parse::<IpAddr>() {
            return Ok(vec![SocketAddr::new(address, port)]);
        }
        let mut found = self.join(&(host.to_owned(), port));
        match found.wait_for(Option::is_some).await.as_deref() {
            Ok(Some(Ok(addresses))) => Ok(addresses.clone()),
            Ok(Some(Err((kind, text)))) => Err(io::Error::new(*kind, text.clone())),
            // Its runtime has ended.
            Ok(None) | Err(_) => Err(io::Error::other("the lookup of the host broke off")),
        }
    }

    fn join(&self, name: &Name) -> watch::Receiver<Option<Found>> {
        let (sender, receiver) = watch::channel(None);
        {
            let mut under_way = self.under_way.lock();
            if let Some(found) = under_way.get(name) {
                return found.clone();
            }
            under_way.insert(name.clone(), receiver.clone());
        }
        // Not with the lock: a runtime that ends drops the task at once.
        let ends = Ends(self.under_way.clone(), name.clone());
        let lookup = (self.lookup)(name.0.clone(), name.1);
        tokio::spawn(async move {
            let found = lookup.await;
            // First: who comes now begins anew.
            drop(ends);
            sender.send_replace(Some(found.map_err(|e| (e.kind(), e.to_string()))));
        });
        receiver
    }
}

struct Ends(UnderWay, Name);

impl Drop for Ends {
    fn drop(&mut self) {
        self.0.lock().remove(&self.1);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    use tokio::sync::Semaphore;
    use tokio::time::timeout;

    use super::*;

    #[test]
    fn a_name_is_looked_up_once_at_a_time() {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let (begun, may_end) = (Arc::new(AtomicUsize::new(0)), Arc::new(Semaphore::new(0)));
        let (count, gate) = (begun.clone(), may_end.clone());
        let names = Names::with(move |_, port| {
            count.fetch_add(1, Ordering::SeqCst);
            let gate = gate.clone();
            Box::pin(async move {
                gate.acquire().await.unwrap().forget();
                match port {
                    0 => Err(io::Error::new(io::ErrorKind::NotFound, "no such host")),
                    port => Ok(vec![SocketAddr::from(([127, 0, 0, 1], port))]),
                }
            })
        });
        runtime.block_on(async {
            let short = Duration::from_millis(1);
            for _ in 0..5 {
                let asked = timeout(short, names.addresses("dead.test", 1));
                assert!(asked.await.is_err());
            }
            assert_eq!(begun.load(Ordering::SeqCst), 1);
            // Another name does not wait for it, an address needs none.
            let asked = timeout(short, names.addresses("other.test", 0));
            assert!(asked.await.is_err());
            assert_eq!(begun.load(Ordering::SeqCst), 2);
            let found = names.addresses("::1", 7).await.unwrap();
            assert_eq!(
                found,
                [SocketAddr::from((std::net::Ipv6Addr::LOCALHOST, 7))]
            );
            may_end.add_permits(3);
            let (found, error) = tokio::join!(
                names.addresses("dead.test", 1),
                names.addresses("other.test", 0)
            );
            assert_eq!(found.unwrap(), [SocketAddr::from(([127, 0, 0, 1], 1))]);
            assert_eq!(error.unwrap_err().to_string(), "no such host");
            assert_eq!(begun.load(Ordering::SeqCst), 2);
            // And anew.
            names.addresses("dead.test", 1).await.unwrap();
            assert_eq!(begun.load(Ordering::SeqCst), 3);
        });
        drop(runtime);
        assert!(names.under_way.lock().is_empty());
    }
}
