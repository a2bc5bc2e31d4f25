//! `etcdctl watch` of Debian's 3.4 and of 3.7.1, with all its flags, on our server and on genuine etcd: same
//! output, same exit code.

use std::fmt::Write as _;
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::{Duration, Instant};

use retcd_tests::member::{Member, PATIENCE, Setup};
use retcd_tests::{binary, http1, peers};

/// Arguments (`~` stands for a blank inside of one), and what goes to the standard input, after a `<`.
struct Case {
    call: &'static str,
    /// Watchers that the server has then. 0: the command ends by itself.
    watchers: usize,
    /// What is written when they are there, one after the other; the last of it is seen, and the last to be compared.
    writes: &'static [&'static str],
}

impl Case {
    /// Whether a write is among what it watches.
    fn sees(&self, write: &str) -> bool {
        let key = write.split(' ').nth(1).expect("a key");
        let (args, input) = self.call.split_once(" < ").unwrap_or((self.call, ""));
        if !input.is_empty() {
            key == "w" || key == "other" && input.contains("watch~other")
        } else if args.starts_with("watch w/ w0") {
            key.starts_with("w/")
        } else if args.contains("--prefix") {
            args.starts_with("watch ~ ") || key.starts_with('w')
        } else {
            key == "w"
        }
    }
}

const fn case(call: &'static str, watchers: usize, writes: &'static [&'static str]) -> Case {
    Case { call, watchers, writes }
}

/// Its last write is seen by all that watch `w`, a prefix of it, or all keys.
const WRITES: &[&str] =
    &["put w MARK", "put w MARK", "put w/a MARK", "put other MARK", "del w", "del w/a", "put w MARK"];
/// The same for a range within `w/`.
const BELOW: &[&str] = &["put w/a MARK", "put w/b MARK", "del w/ --prefix", "put w MARK", "put w/a MARK"];

const CASES: &[Case] = &[
    case("watch w", 1, WRITES),
    case("watch w -w json", 1, WRITES),
    case("watch w -w fields", 1, WRITES),
    case("watch w -w protobuf", 1, WRITES),
    case("watch w --hex", 1, WRITES),
    case("watch w --prev-kv", 1, WRITES),
    case("watch w --prev-kv -w json", 1, WRITES),
    case("watch w --prev-kv -w fields", 1, WRITES),
    case("watch w --prefix", 1, WRITES),
    case("watch w --prefix --prev-kv -w json", 1, WRITES),
    case("watch ~ --prefix", 1, WRITES),
    case("watch ~ --prefix -w json", 1, WRITES),
    case("watch w/ w0", 1, BELOW),
    case("watch w/ w0 --prev-kv", 1, BELOW),
    case("watch w/ w0 -w json", 1, BELOW),
    case("watch w --rev=2", 1, WRITES),
    case("watch w --rev=3 --prev-kv -w json", 1, WRITES),
    case("watch w --prefix --rev=2 --prev-kv", 1, WRITES),
    case("watch w --rev=-1", 0, &[]),
    case("watch w --rev=nonsense", 0, &[]),
    case("watch w --progress-notify", 1, WRITES),
    case("watch w -- echo changed", 1, WRITES),
    case("watch w -- sh -c echo~$ETCD_WATCH_EVENT_TYPE~$ETCD_WATCH_KEY~$ETCD_WATCH_VALUE", 1, WRITES),
    case("watch w --prefix -- sh -c echo~$ETCD_WATCH_REVISION~$ETCD_WATCH_KEY~$ETCD_WATCH_VALUE", 1, WRITES),
    case("watch", 0, &[]),
    case("watch w x --prefix", 0, &[]),
    case("watch w --nonsense", 0, &[]),
    case("watch b a", 0, &[]),
    case("watch -i < watch~w\n", 1, WRITES),
    case("watch -i < watch~w~--prev-kv\nwatch~other\n", 2, WRITES),
    case("watch -i < watch~--rev=2~w\n", 1, WRITES),
    case("watch -i < watch~w~--~echo~changed\n", 1, WRITES),
    case("watch -i < nonsense\n", 0, &[]),
    case("watch --interactive < watch~w\nprogress\n", 1, WRITES),
    case("compaction 6", 0, &[]),
    case("watch w --rev=2", 0, &[]),
    case("watch w --rev=2 -w json", 0, &[]),
    case("watch w --rev=6", 1, WRITES),
];

const WATCHERS: &str = "etcd_debugging_mvcc_watcher_total";

/// A running etcdctl.
struct Watching {
    child: Child,
    output: Receiver<Vec<u8>>,
    seen: Vec<u8>,
}

fn command(etcdctl: &Path, member: &Member, args: &str) -> Command {
    let mut command = Command::new(etcdctl);
    command
        .arg(format!("--endpoints=127.0.0.1:{}", member.port()))
        // Five seconds by itself, which a busy machine may stand still for.
        .arg("--command-timeout=60s")
        .args(args.split(' ').map(|arg| if arg == "~" { String::new() } else { arg.replace('~', " ") }))
        .env_clear()
        .env("ETCDCTL_API", "3")
        .env("PATH", "/usr/bin:/bin");
    command
}

/// Nothing is left running by a test that fails.
impl Drop for Watching {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Watching {
    fn start(etcdctl: &Path, member: &Member, call: &str) -> Self {
        let (args, input) = call.split_once(" < ").unwrap_or((call, ""));
        let mut child = command(etcdctl, member, args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("etcdctl runs");
        let mut stdin = child.stdin.take().expect("piped");
        // It may end without reading. The input stays open as long as the command should go on.
        let _ = stdin.write_all(input.replace('~', " ").as_bytes());
        if !input.starts_with("watch") {
            drop(stdin);
        } else {
            child.stdin = Some(stdin);
        }
        let (send, output) = mpsc::channel();
        let mut stdout = child.stdout.take().expect("piped");
        thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(n @ 1..) = stdout.read(&mut buffer) {
                if send.send(buffer[..n].to_vec()).is_err() {
                    return;
                }
            }
        });
        Self { child, output, seen: Vec::new() }
    }

    /// Waits until the output holds one of `texts`, and says where.
    fn wait_for(&mut self, texts: &[String]) -> usize {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let place = |text: &String| self.seen.windows(text.len()).position(|w| w == text.as_bytes());
            if let Some(place) = texts.iter().filter_map(place).min() {
                return place;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            match self.output.recv_timeout(left) {
                Ok(more) => self.seen.extend(more),
                Err(e) => panic!("no {texts:?} ({e}) in {}", String::from_utf8_lossy(&self.seen)),
            }
        }
    }

    /// How many deletions it has shown.
    fn deletions(&self) -> usize {
        let text = String::from_utf8_lossy(&self.seen);
        text.matches("DELETE").count() + text.matches("\"type\":1").count()
    }

    /// Waits until it has shown so many deletions.
    fn wait_for_deletions(&mut self, n: usize) {
        let deadline = Instant::now() + PATIENCE;
        while self.deletions() < n {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.output.recv_timeout(left) {
                Ok(more) => self.seen.extend(more),
                Err(e) => panic!("no {n} deletions ({e}) in {}", String::from_utf8_lossy(&self.seen)),
            }
        }
    }

    /// Waits until it watches, or has ended, which is told.
    fn ends_early(&mut self, member: &Member) -> bool {
        let deadline = Instant::now() + PATIENCE;
        while watchers(member) == 0 {
            if self.child.try_wait().expect("a child").is_some() {
                return true;
            }
            assert!(Instant::now() < deadline, "it neither watches nor ends");
            thread::sleep(Duration::from_millis(5));
        }
        false
    }

    /// What it showed up to `end`, and what it complained of. It is killed.
    fn until(mut self, end: usize) -> String {
        self.child.kill().expect("it runs");
        let stderr = self.stderr();
        self.seen.truncate(end);
        shown(&self.seen) + &stderr
    }

    /// Exit code and everything it said, when it has ended by itself.
    fn finish(mut self, call: &str) -> String {
        let deadline = Instant::now() + PATIENCE;
        while self.child.try_wait().expect("a child").is_none() {
            assert!(Instant::now() < deadline, "{call} does not end");
            thread::sleep(Duration::from_millis(5));
        }
        let status = self.child.wait().expect("it ends");
        let stderr = self.stderr();
        while let Ok(more) = self.output.recv_timeout(PATIENCE) {
            self.seen.extend(more);
        }
        format!("exit {status}\n{}{stderr}", shown(&self.seen))
    }

    /// All of it, without the log of etcdctl's own client.
    fn stderr(&mut self) -> String {
        let mut stderr = String::new();
        self.child.stderr.take().expect("piped").read_to_string(&mut stderr).expect("text");
        stderr.lines().filter(|l| !l.starts_with("{\"level\":")).map(|l| format!("\nstderr: {l}")).collect()
    }
}

/// As text, or with escapes where it is none.
fn shown(output: &[u8]) -> String {
    match std::str::from_utf8(output) {
        Ok(text) => text.to_owned(),
        Err(_) => output.escape_ascii().to_string(),
    }
}

fn gauge(member: &Member, name: &str) -> usize {
    let metrics = http1::get(member.port(), "/metrics").expect("metrics").text();
    let line = metrics.lines().find_map(|l| l.strip_prefix(name)?.strip_prefix(' '));
    line.and_then(|n| n.parse().ok()).unwrap_or_default()
}

fn wait_for_gauge(member: &Member, name: &str, n: usize) {
    let deadline = Instant::now() + PATIENCE;
    while gauge(member, name) != n {
        assert!(Instant::now() < deadline, "{name} is {}, not {n}", gauge(member, name));
        thread::sleep(Duration::from_millis(5));
    }
}

fn watchers(member: &Member) -> usize {
    gauge(member, WATCHERS)
}

fn wait_for_watchers(member: &Member, n: usize) {
    wait_for_gauge(member, WATCHERS, n);
}

fn write(etcdctl: &Path, member: &Member, call: &str) {
    let output = command(etcdctl, member, call).output().expect("etcdctl runs");
    assert!(output.status.success(), "{call}: {output:?}");
}

/// Of five ASCII characters.
fn base64(text: &str) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let bits = text.bytes().chain([0]).fold(0u64, |bits, b| bits << 8 | u64::from(b));
    let digits = (0..7).map(|n| char::from(DIGITS[(bits >> (42 - 6 * n) & 63) as usize]));
    digits.collect::<String>() + "="
}

fn run(etcdctl: &Path, member: &Member, number: usize, case: &Case) -> String {
    let mut watching = Watching::start(etcdctl, member, case.call);
    // An old one may not know a flag.
    let ends = case.watchers == 0 || case.call.contains("--progress-notify") && watching.ends_early(member);
    if ends {
        return watching.finish(case.call);
    }
    wait_for_watchers(member, case.watchers);
    if case.call.contains("progress\n") {
        // It tells the revision before the writes.
        watching.wait_for(&["progress notify".to_owned()]);
    }
    // Those that begin in the past have it.
    wait_for_gauge(member, "etcd_debugging_mvcc_slow_watcher_total", 0);
    let mut end = 0;
    // What belongs to an event may follow its value. All of it is there when the next event is: the last one comes twice.
    for (n, call) in case.writes.iter().chain(case.writes.last()).enumerate() {
        // Not to be mistaken for another mark; the same for both servers.
        let mark = format!("M{n:02}{number:02}");
        let deletions = watching.deletions() + if call.contains("--prefix") { 2 } else { 1 };
        write(etcdctl, member, &call.replace("MARK", &mark));
        if !case.sees(call) {
            continue;
        }
        // Events that wait for a slow client may come to it as one reply, which shows.
        if call.starts_with("put") {
            let hexadecimal = mark.bytes().map(|b| format!("\\x{b:02x}")).collect();
            end = watching.wait_for(&[base64(&mark), hexadecimal, mark]);
        } else if case.call.contains("protobuf") {
            // A reply is written in one piece, and in the end shows which kinds there were.
            let more = watching.output.recv_timeout(PATIENCE).expect("a deletion");
            watching.seen.extend(more);
        } else {
            watching.wait_for_deletions(deletions);
        }
    }
    let text = watching.until(end);
    wait_for_watchers(member, 0);
    text
}

fn compare(etcdctl: Option<PathBuf>) {
    let (Some(etcdctl), Some(go)) = (etcdctl, peers::go_etcd()) else {
        return;
    };
    let play = |member: &Member| {
        for n in 0..6 {
            write(&etcdctl, member, &format!("put w {n}"));
        }
        CASES.iter().enumerate().map(|(n, case)| run(&etcdctl, member, n, case)).collect::<Vec<_>>()
    };
    let member = Member::start(Setup::new(go));
    let theirs = play(&member);
    let member = member.replaced(Setup::new(binary::ours()));
    let ours = play(&member);
    let mut wrong = String::new();
    for ((case, theirs), ours) in CASES.iter().zip(theirs).zip(ours) {
        if ours != theirs {
            let _ = write!(wrong, "\n--- {}\n etcd: {theirs}\n ours: {ours}", case.call);
        }
    }
    assert!(wrong.is_empty(), "{} shows otherwise on our server:{wrong}", etcdctl.display());
}

#[test]
fn debians_3_4() {
    compare(peers::debian_etcdctl());
}

#[test]
fn of_3_7() {
    compare(peers::go_etcdctl());
}
