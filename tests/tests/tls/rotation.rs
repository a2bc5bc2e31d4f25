//! Certificates and authorities replaced under load: nobody notices, and the next connection has the new ones.

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;

use retcd_tests::pki::{Issued, Spec, put};
use retcd_tests::{binary, secure};

use crate::rig::{Endpoint, Rig, flags};

/// Rotations in CI; `RETCD_ROTATIONS` asks for more.
fn rotations() -> usize {
    std::env::var("RETCD_ROTATIONS").ok().and_then(|text| text.parse().ok()).unwrap_or(200)
}

fn authority(name: &str) -> Issued {
    Issued::self_signed(&Spec::new(name).names(&[]).usages(&[]).authority())
}

fn mutual(dir: &Path) -> Vec<String> {
    let file = |name: &str| dir.join(name).to_str().expect("UTF-8").to_owned();
    let (cert, key, ca) = (file("server.pem"), file("server-key.pem"), file("ca.pem"));
    let pairs =
        [("cert-file", cert.as_str()), ("key-file", &key), ("client-cert-auth", "true"), ("trusted-ca-file", &ca)];
    flags(Endpoint::Client, &pairs)
}

#[test]
fn nobody_notices() {
    let dir = tempfile::Builder::new().prefix("retcd-tls-").tempdir().expect("a directory");
    let dir = dir.path();
    let first = authority("first");
    first.put(dir, "ca");
    first.issue(&Spec::new("server")).put(dir, "server");
    let rig = Rig::start(binary::ours(), &mutual(dir), &[]);
    let port = rig.port(Endpoint::Client);

    // What clients use, with its number; and which number each of them has come to.
    let own = Mutex::new((0, first.issue(&Spec::new("client"))));
    let current = || own.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let reached = [AtomicUsize::new(0), AtomicUsize::new(0)];
    let (stop, served) = (AtomicBool::new(false), AtomicUsize::new(0));
    thread::scope(|scope| {
        for reached in &reached {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    let (number, own) = current();
                    // The request before is done.
                    reached.store(number, Ordering::Relaxed);
                    let tried = secure::get(port, "/health", Some(&own), &secure::VERSIONS);
                    if !tried.is_served() {
                        stop.store(true, Ordering::Relaxed);
                        panic!("{tried:?}: {}", rig.member.describe());
                    }
                    served.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        let mut ca = first.clone();
        for round in 0..rotations() {
            if stop.load(Ordering::Relaxed) {
                break;
            }
            // The new authority beside the old one, clients of the new one, the old one gone.
            let next = authority("first");
            put(dir, "ca.pem", [ca.pem(), next.pem()].concat().as_bytes());
            let (_, old_client) = current();
            *own.lock().unwrap_or_else(PoisonError::into_inner) = (round + 1, next.issue(&Spec::new("client")));
            let behind = |reached: &AtomicUsize| reached.load(Ordering::Relaxed) <= round;
            while reached.iter().any(behind) && !stop.load(Ordering::Relaxed) {
                thread::yield_now();
            }
            let server = next.issue(&Spec::new("server"));
            server.put(dir, "server");
            put(dir, "ca.pem", next.pem().as_bytes());
            let tried = secure::get(port, "/health", Some(&current().1), &secure::VERSIONS);
            let good = tried.is_served() && tried.server.as_deref() == Some(server.der());
            let gone = secure::get(port, "/health", Some(&old_client), &secure::VERSIONS);
            if !good || gone.is_served() {
                stop.store(true, Ordering::Relaxed);
                panic!("round {round}: {tried:?} {gone:?}: {}", rig.member.describe());
            }
            ca = next;
        }
        stop.store(true, Ordering::Relaxed);
    });
    assert!(served.into_inner() >= rotations());
}

#[test]
fn what_is_broken_is_not_taken() {
    let dir = tempfile::Builder::new().prefix("retcd-tls-").tempdir().expect("a directory");
    let dir = dir.path();
    let ca = authority("ca");
    ca.put(dir, "ca");
    let first = ca.issue(&Spec::new("server"));
    first.put(dir, "server");
    let rig = Rig::start(binary::ours(), &mutual(dir), &[]);
    let own = ca.issue(&Spec::new("client"));
    let shown = |expected: &Issued, what: &str| {
        let tried = secure::get(rig.port(Endpoint::Client), "/health", Some(&own), &secure::VERSIONS);
        assert!(tried.is_served(), "{what}: {tried:?}: {}", rig.member.describe());
        assert_eq!(tried.server.as_deref(), Some(expected.der()), "{what}: {}", rig.member.describe());
    };
    shown(&first, "at first");
    let second = ca.issue(&Spec::new("server"));
    put(dir, "server.pem", second.pem().as_bytes());
    shown(&first, "certificate without its key");
    put(dir, "server-key.pem", &second.key_pem().as_bytes()[..40]);
    shown(&first, "half a key");
    std::fs::remove_file(dir.join("server-key.pem")).expect("there");
    shown(&first, "no key");
    put(dir, "server-key.pem", second.key_pem().as_bytes());
    shown(&second, "both");
    for bad in [&b"nonsense"[..], b"", &ca.pem().as_bytes()[..100]] {
        put(dir, "ca.pem", bad);
        shown(&second, "bad authority");
    }
    std::fs::remove_file(dir.join("ca.pem")).expect("there");
    shown(&second, "no authority");
    let log = rig.member.log().text();
    let complaints = log.lines().filter(|line| line.contains("going on with what there was before")).count();
    assert!((5..=8).contains(&complaints), "{complaints}:\n{log}");
}
