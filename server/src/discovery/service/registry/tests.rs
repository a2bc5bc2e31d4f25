use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;

use slog::o;
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::*;

/// An etcd in memory. Members may register by themselves, and anything may fail so often.
#[derive(Clone, Default)]
struct Shelf(Rc<RefCell<Inside>>);

#[derive(Default)]
struct Inside {
    pairs: Vec<Pair>,
    revision: i64,
    watchers: Vec<mpsc::UnboundedSender<Result<Vec<Pair>, ClientError>>>,
    failures: VecDeque<ClientError>,
    reads: usize,
}

fn gone() -> ClientError {
    ClientError::Unreachable {
        endpoint: "e".into(),
        reason: "gone".into(),
    }
}

impl Shelf {
    fn sized(size: &str) -> Self {
        let shelf = Self::default();
        shelf.put(&size_key("t"), size);
        shelf
    }

    fn put(&self, key: &str, value: &str) {
        let mut inside = self.0.borrow_mut();
        inside.revision += 1;
        let created = match inside.pairs.iter().find(|pair| pair.key == key) {
            Some(old) => old.created,
            None => inside.revision,
        };
        let pair = Pair {
            key: key.into(),
            value: value.into(),
            created,
        };
        inside.pairs.retain(|pair| pair.key != key);
        inside.pairs.push(pair.clone());
        inside.pairs.sort_by(|a, b| a.key.cmp(&b.key));
        if key.starts_with(&members_key("t")) {
            inside
                .watchers
                .retain(|watcher| watcher.send(Ok(vec![pair.clone()])).is_ok());
        }
    }

    fn member(&self, id: &str, value: &str) {
        self.put(&path(&["t", "members", id]), value);
    }

    fn get(&self, key: &str) -> Option<String> {
        let inside = self.0.borrow();
        let pair = inside.pairs.iter().find(|pair| pair.key == key);
        pair.map(|pair| pair.value.clone())
    }

    fn fail(&self, times: usize) {
        self.0
            .borrow_mut()
            .failures
            .extend((0..times).map(|_| gone()));
    }

    fn attempt(&self) -> Result<(), ClientError> {
        self.0.borrow_mut().failures.pop_front().map_or(Ok(()), Err)
    }

    /// Ends all watches.
    fn cut(&self) {
        for watcher in self.0.borrow_mut().watchers.drain(..) {
            let _ = watcher.send(Err(gone()));
        }
    }

    fn watched(&self) -> bool {
        !self.0.borrow().watchers.is_empty()
    }
}

impl Store for Shelf {
    type Watch = mpsc::UnboundedReceiver<Result<Vec<Pair>, ClientError>>;

    async fn read(&mut self, key: &str, prefix: bool) -> Result<(Vec<Pair>, i64), ClientError> {
        self.attempt()?;
        let mut inside = self.0.borrow_mut();
        inside.reads += 1;
        let fits = |pair: &&Pair| pair.key == key || prefix && pair.key.starts_with(key);
        let pairs = inside.pairs.iter().filter(fits).cloned().collect();
        Ok((pairs, inside.revision))
    }

    async fn write(&mut self, key: &str, value: &str) -> Result<(), ClientError> {
        self.attempt()?;
        self.put(key, value);
        Ok(())
    }

    async fn watch(&mut self, key: &str, from: i64) -> Result<Self::Watch, ClientError> {
        self.attempt()?;
        let mut inside = self.0.borrow_mut();
        assert_eq!(
            (key, from),
            ("/_etcd/registry/t/members", inside.revision + 1)
        );
        let (sender, receiver) = mpsc::unbounded_channel();
        inside.watchers.push(sender);
        Ok(receiver)
    }
}

impl Changes for mpsc::UnboundedReceiver<Result<Vec<Pair>, ClientError>> {
    async fn next(&mut self) -> Result<Vec<Pair>, ClientError> {
        self.recv().await.expect("the shelf stays")
    }
}

const OWN: u64 = 0xabc;

/// Member `m`, with id abc, joins.
async fn join(shelf: &Shelf) -> Result<String, DiscoveryError> {
    let logger = Logger::root(slog::Discard, o!());
    let mut registry = Registry::new(shelf.clone(), "t", OWN, &logger);
    registry.join("m=http://m:1").await
}

/// Lets the others go on until something holds.
async fn until(holds: impl Fn() -> bool) {
    while !holds() {
        sleep(Duration::from_millis(1)).await;
    }
}

#[test]
fn keys_are_those_of_etcd() {
    assert_eq!(size_key("t"), "/_etcd/registry/t/_config/size");
    assert_eq!(members_key("t"), "/_etcd/registry/t/members");
    // As Go's path.Join has it.
    assert_eq!(
        size_key("/a//b/./c/../d/"),
        "/_etcd/registry/a/b/d/_config/size"
    );
}

#[tokio::test(start_paused = true)]
async fn a_member_alone_is_a_cluster() {
    let shelf = Shelf::sized("1");
    assert_eq!(join(&shelf).await, Ok("m=http://m:1".into()));
    let key = "/_etcd/registry/t/members/abc";
    assert_eq!(shelf.get(key).as_deref(), Some("m=http://m:1"));
    // It may come back, as long as nobody else took its place.
    assert_eq!(join(&shelf).await, Ok("m=http://m:1".into()));
}

#[tokio::test(start_paused = true)]
async fn who_comes_first_waits_for_the_others() {
    let shelf = Shelf::sized("3");
    let others = async {
        until(|| shelf.watched()).await;
        shelf.member("1", "b=http://b:1,b=http://b:2");
        // What is no list of URLs does not count, nor does a member that registers again.
        shelf.member("2", "nonsense");
        shelf.member("1", "b=http://b:3");
        shelf.member("abc", "m=http://m:9");
        shelf.member("0", "c=http://c:1");
    };
    let (joined, ()) = tokio::join!(join(&shelf), others);
    // In the order in which they came.
    let all = "m=http://m:1,b=http://b:1,b=http://b:2,c=http://c:1";
    assert_eq!(joined, Ok(all.into()));
    // Whoever looks later finds what was written last.
    let joined = join(&shelf).await;
    assert_eq!(joined, Ok("m=http://m:1,b=http://b:3,c=http://c:1".into()));
}

#[tokio::test(start_paused = true)]
async fn a_full_cluster_takes_nobody() {
    let shelf = Shelf::sized("2");
    shelf.member("f", "b=http://b:1");
    shelf.member("0", "c=http://c:1");
    assert_eq!(join(&shelf).await, Err(DiscoveryError::Full));
    assert_eq!(
        shelf.get("/_etcd/registry/t/members/abc"),
        None,
        "it leaves nothing behind"
    );
}

#[tokio::test(start_paused = true)]
async fn of_two_that_register_at_once_the_later_one_is_out() {
    let shelf = Shelf::sized("1");
    let logger = Logger::root(slog::Discard, o!());
    let mut registry = Registry::new(shelf.clone(), "t", OWN, &logger);
    registry.look().await.expect("there is room");
    shelf.member("1", "b=http://b:1");
    registry.register("m=http://m:1").await.expect("registered");
    assert_eq!(registry.look().await.map(|_| ()), Err(DiscoveryError::Full));
    // The other one does not mind.
    let mut other = Registry::new(shelf.clone(), "t", 1, &logger);
    assert_eq!(other.join("b=http://b:1").await, Ok("b=http://b:1".into()));
}

#[tokio::test(start_paused = true)]
async fn the_size_has_to_be_one() {
    assert_eq!(
        join(&Shelf::default()).await,
        Err(DiscoveryError::SizeNotFound)
    );
    for bad in ["", "0", "-1", "3x", " 3", "3.0", "99999999999999999999"] {
        let joined = join(&Shelf::sized(bad)).await;
        assert_eq!(joined, Err(DiscoveryError::BadSize(bad.into())), "{bad:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn urls_that_are_none_are_named() {
    let shelf = Shelf::sized("2");
    shelf.member("1", "b=ftp://b");
    let all = "b=ftp://b,m=http://m:1";
    assert_eq!(
        join(&shelf).await,
        Err(DiscoveryError::InvalidUrl(all.into()))
    );
}

#[tokio::test(start_paused = true)]
async fn a_registry_that_is_away_is_waited_for() {
    let shelf = Shelf::sized("1");
    shelf.fail(11);
    let begun = Instant::now();
    assert_eq!(join(&shelf).await, Ok("m=http://m:1".into()));
    // 2, 4, 8 and so on up to 256 seconds, and then no more.
    let rests: u64 = (1..=8).map(|n| 1 << n).sum::<u64>() + 3 * 256;
    assert_eq!(begun.elapsed().as_secs(), rests);
}

#[tokio::test(start_paused = true)]
async fn it_may_go_away_at_any_time() {
    // The size, the members, the registration, the two of the second look, and the watch.
    for before in 0..6 {
        let shelf = Shelf::sized("2");
        let mut failing = shelf.clone();
        let others = async {
            until(|| shelf.watched()).await;
            shelf.cut();
            until(|| shelf.watched()).await;
            shelf.member("1", "b=http://b:1");
        };
        let late = Late {
            shelf: &mut failing,
            before,
        };
        let logger = Logger::root(slog::Discard, o!());
        let mut registry = Registry::new(late, "t", OWN, &logger);
        let begun = Instant::now();
        let (joined, ()) = tokio::join!(registry.join("m=http://m:1"), others);
        assert_eq!(joined, Ok("m=http://m:1,b=http://b:1".into()), "{before}");
        // Two seconds for each failure, as each follows a success.
        assert_eq!(begun.elapsed().as_secs(), 4, "{before}");
    }
}

/// A shelf that fails once, after so many calls.
struct Late<'a> {
    shelf: &'a mut Shelf,
    before: i32,
}

impl Late<'_> {
    fn attempt(&mut self) -> Result<(), ClientError> {
        self.before -= 1;
        if self.before == -1 {
            Err(gone())
        } else {
            Ok(())
        }
    }
}

impl Store for Late<'_> {
    type Watch = <Shelf as Store>::Watch;

    async fn read(&mut self, key: &str, prefix: bool) -> Result<(Vec<Pair>, i64), ClientError> {
        self.attempt()?;
        self.shelf.read(key, prefix).await
    }

    async fn write(&mut self, key: &str, value: &str) -> Result<(), ClientError> {
        self.attempt()?;
        self.shelf.write(key, value).await
    }

    async fn watch(&mut self, key: &str, from: i64) -> Result<Self::Watch, ClientError> {
        self.attempt()?;
        self.shelf.watch(key, from).await
    }
}

#[tokio::test(start_paused = true)]
async fn a_user_that_is_not_let_in_is_told_at_once() {
    let shelf = Shelf::sized("1");
    let refusal = ClientError::Login("etcdserver: authentication failed".into());
    shelf.0.borrow_mut().failures.push_back(refusal);
    let error = join(&shelf).await.expect_err("not let in");
    assert_eq!(
        error,
        DiscoveryError::Login("etcdserver: authentication failed".into())
    );
}
