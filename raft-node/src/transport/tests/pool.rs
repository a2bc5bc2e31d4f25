//! Requests that share connections.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};

use super::super::url::PeerUrl;
use super::super::{Pool, RequestError};
use super::faults::{Fake, head};

const QUESTION: &[u8] = b"question";
const LONG: Duration = Duration::from_secs(60);

/// Reads a request to its end.
fn question(stream: &mut TcpStream) -> Option<()> {
    head(stream)?;
    let mut body = [0; QUESTION.len()];
    stream.read_exact(&mut body).ok()
}

fn answer(stream: &mut TcpStream) -> Option<()> {
    let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nanswer";
    stream.write_all(answer).ok()
}

/// Answers so many requests of each connection; reads one more, and closes it.
fn answering(each: usize) -> (Fake, Arc<AtomicU64>) {
    let asked = Arc::new(AtomicU64::new(0));
    let count = asked.clone();
    let fake = Fake::start(move |mut stream| {
        let count = count.clone();
        std::thread::spawn(move || {
            for n in 0..=each {
                question(&mut stream)?;
                count.fetch_add(1, Ordering::SeqCst);
                if n < each {
                    answer(&mut stream)?;
                }
            }
            Some(())
        });
        None
    });
    (fake, asked)
}

async fn ask(pool: &Pool, url: &str) -> Result<Response<Bytes>, RequestError> {
    let asked = Request::post("/leases").body(QUESTION.into()).unwrap();
    let answer = pool.request(None, url, asked, LONG, 1000).await;
    if let Ok(answer) = &answer {
        assert_eq!(&answer.body()[..], b"answer");
    }
    answer
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    runtime.unwrap().block_on(future)
}

#[test]
fn a_file_is_dialed_as_a_port_is() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("a b.sock");
    let url = format!("unix://{}/a%20b.sock", dir.path().display());
    block_on(async {
        let pool = Pool::new(LONG);
        let gone = ask(&pool, &url).await.unwrap_err().to_string();
        let dialed = format!("dial unix {}: No such file", file.display());
        assert!(gone.contains(&dialed), "{gone}");
        let listener = UnixListener::bind(&file).unwrap();
        let server = std::thread::spawn(move || {
            let (stream, _) = listener.accept().unwrap();
            let mut stream = TcpStream::from(OwnedFd::from(stream));
            // Two requests over one connection.
            for _ in 0..2 {
                question(&mut stream)?;
                answer(&mut stream)?;
            }
            Some(())
        });
        for _ in 0..2 {
            ask(&pool, &url).await.unwrap();
        }
        assert_eq!(server.join().unwrap(), Some(()));
        // Nobody listens any more, though the file is there.
        let pool = Pool::new(Duration::ZERO);
        let gone = ask(&pool, &url).await.unwrap_err().to_string();
        assert!(gone.contains("Connection refused"), "{gone}");
    });
}

#[test]
fn a_thousand_requests_need_few_connections() {
    let (fake, asked) = answering(usize::MAX);
    let url = fake.url();
    block_on(async {
        let pool = Arc::new(Pool::new(LONG));
        for _ in 0..1000 {
            ask(&pool, &url).await.unwrap();
        }
        // More only where this machine was too slow for the other side.
        assert!(fake.calls() <= 20, "{} connections", fake.calls());
        let mut all = tokio::task::JoinSet::new();
        for _ in 0..200 {
            let (pool, url) = (pool.clone(), url.clone());
            all.spawn(async move { ask(&pool, &url).await.unwrap() });
        }
        all.join_all().await;
        assert!((1..=64).contains(&pool.idle()), "{} are kept", pool.idle());
        assert_eq!(asked.load(Ordering::SeqCst), 1200);
    });
}

#[test]
fn what_was_idle_for_long_is_not_used_again() {
    let (fake, _) = answering(usize::MAX);
    block_on(async {
        let pool = Pool::new(Duration::ZERO);
        for n in 1..=3 {
            ask(&pool, &fake.url()).await.unwrap();
            assert_eq!(fake.calls(), n);
        }
        assert!(pool.idle() <= 1);
    });
}

#[test]
fn what_the_other_side_closed_is_not_used_again() {
    let fake = Fake::start(|mut stream| {
        question(&mut stream).and_then(|()| answer(&mut stream));
        None
    });
    let url = PeerUrl::parse(&fake.url()).unwrap();
    block_on(async {
        let pool = Pool::new(LONG);
        for n in 1..=3 {
            ask(&pool, &fake.url()).await.unwrap();
            assert_eq!(fake.calls(), n);
            let closed = async {
                while let Some(open) = pool.take(&url).await {
                    pool.put(&url, open);
                    tokio::task::yield_now().await;
                }
            };
            tokio::time::timeout(LONG, closed).await.unwrap();
        }
    });
}

/// It may have done what was asked of it.
#[test]
fn a_request_that_was_read_is_not_repeated() {
    let (fake, asked) = answering(1);
    block_on(async {
        let pool = Pool::new(LONG);
        for n in 1..=3 {
            ask(&pool, &fake.url()).await.unwrap();
            let error = ask(&pool, &fake.url()).await.unwrap_err();
            assert!(matches!(error, RequestError::Connection { .. }), "{error}");
            assert_eq!((fake.calls(), asked.load(Ordering::SeqCst)), (n, 2 * n));
        }
    });
}
