//! `etcdctl lease`, `lock` and `elect` of Debian's 3.4 and of 3.7.1 on our server and on genuine etcd: same output,
//! same exit code. Ids that a server chose are told by their order.

use std::fmt::Write as _;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use retcd_tests::member::{Member, PATIENCE, Setup};
use retcd_tests::{binary, peers};
use rustix::process::{Pid, Signal, kill_process};

/// Arguments as in a shell without quotes; `~` stands for a blank inside of one, `%1` for the first id that was
/// chosen, in hex.
const CALLS: &[&str] = &[
    "lease list",
    "lease list -w json",
    "lease grant 1000",
    "lease grant 2000 -w json",
    "lease grant 3000 -w fields",
    "lease grant 4000 -w table",
    "lease grant 5000 -w protobuf",
    "lease grant -1",
    "lease grant -- -1",
    "lease grant 9000000001",
    "lease grant nonsense",
    "lease grant",
    "lease grant 1 2",
    "lease timetolive %1",
    "lease timetolive %1 -w json",
    "lease timetolive %1 -w fields",
    "lease timetolive %1 -w table",
    "lease timetolive %1 --keys",
    "put a 1 --lease=%1",
    "put b 2 --lease=%1 --prev-kv",
    "put c 3 --lease=%2 -w json",
    "get a -w json",
    "get a -w fields",
    "lease timetolive %2 --keys",
    "lease timetolive %2 --keys -w json",
    "lease timetolive %2 --keys -w fields",
    "lease timetolive 77",
    "lease timetolive 77 -w json",
    "lease timetolive nonsense",
    "lease timetolive",
    "lease keep-alive %1 --once",
    "lease keep-alive %1 --once -w json",
    "lease keep-alive %1 --once -w fields",
    "lease keep-alive 77 --once",
    "lease keep-alive 77",
    "lease keep-alive nonsense",
    "lease keep-alive",
    "txn < \nput~t~1~--lease=%1\n\n\n",
    "put d 1 --lease=77",
    "put d 1 --lease=nonsense",
    "lease revoke %1",
    "lease revoke %1",
    "lease revoke 77",
    "lease revoke nonsense",
    "lease revoke",
    "lease revoke %2 -w json",
    "lease revoke %3 -w fields",
    "lease timetolive %1",
    "get ~ --prefix -w json",
    "lease nonsense",
    "lock l echo held",
    "lock l --ttl 30 echo held",
    "lock l -- sh -c echo~$ETCD_LOCK_KEY",
    "lock l false",
    "lock l nonsense-program",
    "lock",
    "lock ~ echo held",
    "elect",
    "elect e",
    "elect -l e x",
];

fn command(etcdctl: &Path, member: &Member, args: &str) -> Command {
    let mut command = Command::new(etcdctl);
    command
        .arg(format!("--endpoints=127.0.0.1:{}", member.port()))
        // Five seconds by itself, which a busy machine may stand still for.
        .arg("--command-timeout=60s")
        .args(args.split(' ').map(|arg| if arg == "~" { String::new() } else { arg.replace('~', " ") }))
        .env_clear()
        .env("ETCDCTL_API", "3")
        .env("PATH", "/usr/bin:/bin")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

/// The ids that a server chose, in the order in which they were seen.
#[derive(Default)]
struct Chosen(Vec<u64>);

impl Chosen {
    /// Replaces ids, in hex and in decimal, and what depends on when it was asked.
    fn mask(&mut self, text: &str) -> String {
        let mut out = String::new();
        let mut word = String::new();
        for c in text.chars().chain(['\0']) {
            if c.is_ascii_alphanumeric() {
                word.push(c);
                continue;
            }
            out += &self.name(&word);
            word.clear();
            if c != '\0' {
                out.push(c);
            }
        }
        seconds(&out)
    }

    fn name(&mut self, word: &str) -> String {
        let hex = (12..=16).contains(&word.len()).then(|| u64::from_str_radix(word, 16).ok()).flatten();
        let decimal = (17..=19).contains(&word.len()).then(|| word.parse().ok()).flatten();
        // What is in JSON or fields as a number may have sixteen digits only if it is small, which no chosen id is.
        let Some(id) = hex.or(decimal).filter(|id| *id >= 1 << 40) else { return word.to_owned() };
        let at = self.0.iter().position(|known| *known == id).unwrap_or_else(|| {
            self.0.push(id);
            self.0.len() - 1
        });
        format!("ID{}", at + 1)
    }

    fn fill(&self, call: &str) -> String {
        let mut call = call.to_owned();
        for (n, id) in self.0.iter().enumerate() {
            call = call.replace(&format!("%{}", n + 1), &format!("{id:x}"));
        }
        call
    }
}

/// Whether it is a little less than whole thousands, in which seconds are granted.
fn near(word: &str) -> bool {
    word.parse::<u64>().is_ok_and(|n| n % 1000 >= 940 && n < 6000)
}

/// Seconds that are left: 999 of 1000 on a quick machine.
fn seconds(text: &str) -> String {
    let mut out = Vec::new();
    for line in text.lines() {
        let mut line = line.to_owned();
        for before in ["remaining(", "\"ttl\":", "\"TTL\" : "] {
            let Some(at) = line.find(before).map(|at| at + before.len()) else { continue };
            let digits = line[at..].chars().take_while(char::is_ascii_digit).count();
            if near(&line[at..at + digits]) {
                line.replace_range(at..at + digits, "LEFT");
            }
        }
        out.push(line);
    }
    out.join("\n")
}

fn text(output: &[u8]) -> String {
    match std::str::from_utf8(output) {
        Ok(text) => text.to_owned(),
        Err(_) => "(bytes)".to_owned(),
    }
}

/// In a table the seconds and ids are words between bars, as wide as they are.
fn plain_table(text: &str) -> String {
    let is_frame = |line: &str| !line.is_empty() && line.chars().all(|c| "+-─┌┬┐├┼┤└┴┘".contains(c));
    let lines = text.lines().filter(|line| !is_frame(line)).map(|line| {
        let words: Vec<_> = line.split_whitespace().collect();
        match line.starts_with(['|', '│']) {
            true => words.iter().map(|w| if near(w) { "LEFT" } else { w }).collect::<Vec<_>>().join(" "),
            false => line.to_owned(),
        }
    });
    lines.collect::<Vec<_>>().join("\n")
}

fn run(etcdctl: &Path, member: &Member, chosen: &mut Chosen, call: &str) -> String {
    use std::io::Write as _;
    let call = chosen.fill(call);
    let (args, input) = call.split_once(" < ").unwrap_or((&call, ""));
    let mut child = command(etcdctl, member, args).spawn().expect("etcdctl runs");
    // It may end without reading.
    let _ = child.stdin.take().expect("piped").write_all(input.replace('~', " ").as_bytes());
    let output = child.wait_with_output().expect("etcdctl ends");
    let mut all = format!("exit {}\n{}", output.status, plain_table(&chosen.mask(&text(&output.stdout))));
    for line in text(&output.stderr).lines().filter(|l| !l.starts_with("{\"level\":")) {
        let _ = write!(all, "\nstderr: {}", chosen.mask(line));
    }
    all
}

/// A command that goes on until it is told to end.
struct Running(Child);

impl Running {
    fn start(etcdctl: &Path, member: &Member, args: &str) -> Self {
        Self(command(etcdctl, member, args).spawn().expect("etcdctl runs"))
    }

    /// The next lines that it says.
    fn lines(&mut self, n: usize) -> String {
        let stdout = self.0.stdout.as_mut().expect("piped");
        let (mut out, mut byte) = (Vec::new(), [0]);
        while out.iter().filter(|b| **b == b'\n').count() < n {
            assert!(stdout.read(&mut byte).expect("readable") == 1, "it ended after {:?}", text(&out));
            out.push(byte[0]);
        }
        text(&out)
    }

    /// As Ctrl-C does; how it ended, and the rest.
    fn interrupt(&mut self) -> String {
        kill_process(Pid::from_child(&self.0), Signal::INT).expect("it runs");
        self.end()
    }

    fn end(&mut self) -> String {
        let deadline = Instant::now() + PATIENCE;
        let status = loop {
            if let Some(status) = self.0.try_wait().expect("a child") {
                break status;
            }
            assert!(Instant::now() < deadline, "it does not end");
            thread::sleep(Duration::from_millis(5));
        };
        let mut rest = String::new();
        self.0.stdout.take().expect("piped").read_to_string(&mut rest).expect("text");
        self.0.stderr.take().expect("piped").read_to_string(&mut rest).expect("text");
        rest.lines().filter(|l| !l.starts_with("{\"level\":")).fold(status.to_string(), |all, l| all + "\n" + l)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Waits until so many keys are below a prefix.
fn wait_for_keys(etcdctl: &Path, member: &Member, prefix: &str, n: usize) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let output = command(etcdctl, member, &format!("get {prefix} --prefix --keys-only")).output().expect("runs");
        let found = text(&output.stdout).lines().filter(|l| !l.is_empty()).count();
        if found == n {
            return;
        }
        assert!(Instant::now() < deadline, "{found} keys below {prefix}, not {n}");
        thread::sleep(Duration::from_millis(20));
    }
}

/// Commands that wait for each other.
fn together(etcdctl: &Path, member: &Member, chosen: &mut Chosen) -> Vec<String> {
    let mut out = Vec::new();
    let mut holder = Running::start(etcdctl, member, "lock queue");
    out.push(holder.lines(1));
    let mut second = Running::start(etcdctl, member, "lock queue echo second");
    wait_for_keys(etcdctl, member, "queue/", 2);
    out.push(holder.interrupt());
    out.push(second.lines(1));
    out.push(second.end());
    wait_for_keys(etcdctl, member, "queue/", 0);

    let mut leader = Running::start(etcdctl, member, "elect office one");
    out.push(leader.lines(2));
    let mut listener = Running::start(etcdctl, member, "elect -l office");
    out.push(listener.lines(2));
    let mut next = Running::start(etcdctl, member, "elect office two");
    wait_for_keys(etcdctl, member, "office/", 2);
    out.push(leader.interrupt());
    out.push(next.lines(2));
    out.push(listener.lines(2));
    out.push(listener.interrupt());
    out.push(next.interrupt());
    wait_for_keys(etcdctl, member, "office/", 0);

    let granted = run(etcdctl, member, chosen, "lease grant 9");
    let id = format!("{:x}", chosen.0.last().expect("granted"));
    out.push(granted);
    let mut alive = Running::start(etcdctl, member, &format!("lease keep-alive {id}"));
    out.push(alive.lines(2));
    let revoked = command(etcdctl, member, &format!("lease revoke {id}")).output().expect("runs");
    out.push(text(&revoked.stdout));
    // It learns of that with its next renewal.
    let end = alive.end();
    out.push(end.lines().filter(|l| !l.contains("keepalived with TTL")).collect::<Vec<_>>().join("\n"));
    out.iter().map(|text| chosen.mask(text)).collect()
}

fn compare(etcdctl: Option<PathBuf>) {
    let (Some(etcdctl), Some(go)) = (etcdctl, peers::go_etcd()) else {
        return;
    };
    let play = |member: &Member| {
        let mut chosen = Chosen::default();
        let mut all: Vec<_> = CALLS.iter().map(|call| run(&etcdctl, member, &mut chosen, call)).collect();
        all.extend(together(&etcdctl, member, &mut chosen));
        all
    };
    let member = Member::start(Setup::new(go));
    let theirs = play(&member);
    let member = member.replaced(Setup::new(binary::ours()));
    let ours = play(&member);
    let mut wrong = String::new();
    let names = CALLS.iter().copied().chain(std::iter::repeat("(together)"));
    for ((call, theirs), ours) in names.zip(theirs).zip(ours) {
        if ours != theirs {
            let _ = write!(wrong, "\n--- {call}\n etcd: {theirs}\n ours: {ours}");
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
