//! Free loopback ports.

use std::net::{Ipv4Addr, TcpListener};
use std::sync::atomic::{AtomicU32, Ordering};

/// Below the range from which systems take ports for outgoing connections, so that a member that is
/// down for a moment finds its port free when it comes back.
const FIRST: u32 = 12_000;
const COUNT: u32 = 20_000;

/// A port kept free for somebody until it is released.
#[derive(Debug)]
pub struct Port {
    number: u16,
    held: Option<TcpListener>,
}

impl Port {
    /// Takes a port that nobody listens on and this process has not handed out before.
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
            if let Ok(listener) = TcpListener::bind((Ipv4Addr::LOCALHOST, number)) {
                return Self { number, held: Some(listener) };
            }
        }
        panic!("no free port in {FIRST}..{}", FIRST + COUNT);
    }

    /// The same one for somebody else, after its release.
    #[must_use]
    pub const fn again(&self) -> Self {
        Self { number: self.number, held: None }
    }

    /// Its number.
    #[must_use]
    pub const fn number(&self) -> u16 {
        self.number
    }

    /// Lets go of it: whoever it was kept for binds it now.
    pub fn release(&mut self) {
        self.held = None;
    }
}
