//! A way to a server on which bytes take their time, and which can be cut.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread;
use std::time::{Duration, Instant};

/// Listens on a port of its own and passes everything on. Closed when dropped.
#[derive(Debug)]
pub struct Link {
    port: u16,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    target: u16,
    /// For how many milliseconds what the server says is under way.
    delay: AtomicU64,
    cut: AtomicBool,
    closed: AtomicBool,
    open: Mutex<Vec<TcpStream>>,
}

impl Link {
    /// A way to a loopback port, fast at first.
    ///
    /// # Panics
    /// If there is no free port.
    #[must_use]
    pub fn new(target: u16) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        let port = listener.local_addr().expect("it is bound").port();
        let shared = Arc::new(Shared {
            target,
            delay: AtomicU64::new(0),
            cut: AtomicBool::new(false),
            closed: AtomicBool::new(false),
            open: Mutex::default(),
        });
        let accepting = shared.clone();
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                if accepting.closed.load(Ordering::SeqCst) {
                    return;
                }
                accepting.pass_on(stream);
            }
        });
        Self { port, shared }
    }

    /// The port to use in place of the server's own.
    #[must_use]
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// From now on what the server says takes so long.
    ///
    /// # Panics
    /// If it is longer than a test may last.
    pub fn slow_down(&self, delay: Duration) {
        let millis = delay.as_millis().try_into().expect("not that long");
        self.shared.delay.store(millis, Ordering::SeqCst);
    }

    /// Ends all connections, and refuses others; what was under way is lost.
    pub fn cut(&self) {
        self.shared.cut.store(true, Ordering::SeqCst);
        self.shared.end_all();
    }

    /// Ends a cut.
    pub fn mend(&self) {
        self.shared.cut.store(false, Ordering::SeqCst);
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.shared.closed.store(true, Ordering::SeqCst);
        self.cut();
        // Wakes the thread that accepts.
        let _ = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port));
    }
}

impl Shared {
    fn pass_on(self: &Arc<Self>, client: TcpStream) {
        if self.cut.load(Ordering::SeqCst) {
            return;
        }
        let Ok(server) = TcpStream::connect((Ipv4Addr::LOCALHOST, self.target)) else {
            return;
        };
        let copies = || Some((client.try_clone().ok()?, client.try_clone().ok()?, server.try_clone().ok()?));
        let Some((kept, to_client, from_client_to)) = copies() else {
            return;
        };
        let Ok(also_kept) = server.try_clone() else {
            return;
        };
        {
            let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
            open.extend([kept, also_kept]);
        }
        if self.cut.load(Ordering::SeqCst) {
            // It came between the two.
            self.end_all();
        }
        let shared = self.clone();
        pump(client, from_client_to, || Duration::ZERO);
        pump(server, to_client, move || Duration::from_millis(shared.delay.load(Ordering::SeqCst)));
    }

    fn end_all(&self) {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        for stream in open.drain(..) {
            // It may have ended by itself.
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

/// Passes bytes on, each piece that long after it came, until one of the two ends.
fn pump(mut from: TcpStream, mut to: TcpStream, delay: impl Fn() -> Duration + Send + 'static) {
    let (pieces, under_way) = mpsc::channel::<(Instant, Vec<u8>)>();
    thread::spawn(move || {
        let mut buffer = vec![0; 64 << 10];
        while let Ok(len @ 1..) = from.read(&mut buffer) {
            if pieces.send((Instant::now() + delay(), buffer[..len].to_vec())).is_err() {
                break;
            }
        }
    });
    thread::spawn(move || {
        for (due, piece) in under_way {
            thread::sleep(due.saturating_duration_since(Instant::now()));
            if to.write_all(&piece).is_err() {
                break;
            }
        }
        let _ = to.shutdown(Shutdown::Both);
    });
}
