//! Genuine etcdctl, Debian's 3.4 and 3.7.1, on our server and on genuine etcd: same output, same exit code.
//!
//! Both servers run one after the other on the same ports, so that they must come to the same ids.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use retcd_tests::member::{Member, Setup};
use retcd_tests::{binary, peers};

/// Arguments as in a shell without quotes (`~` stands for a blank inside of one), and what goes to the
/// standard input, after a `<`. After an `@`, the endpoint is given as a URL: 3.4 then sends all of it as
/// the `:authority`.
const CALLS: &[&str] = &[
    // put
    "put a 1",
    "put a 2 --prev-kv",
    "put a 2 --prev-kv -w json",
    "put none x --prev-kv -w json",
    "put b 1 -w fields",
    "put b 2 --prev-kv -w fields",
    "put b 2 -w protobuf",
    "put b 2 -w table",
    "put c < from~the~input",
    "put empty ~",
    "put dir/1 x",
    "put dir/2 y",
    "put dir/3 z",
    "put f --ignore-value",
    "put a --ignore-value",
    "put a --ignore-value --prev-kv",
    "put a 5 --ignore-lease",
    "put a 5 --ignore-value",
    "put a 5 --lease=1234",
    "put a 5 --lease=nonsense",
    "put ~ x",
    "put",
    "put a b c",
    "put --nonsense a b",
    // get
    "get a",
    "get a -w simple",
    "get a -w json",
    "get a -w fields",
    "get a -w protobuf",
    "get a -w table",
    "get a -w nonsense",
    "get a --hex",
    "get a --hex -w json",
    "get none",
    "get none -w json",
    "get none -w fields",
    "get a c",
    "get dir --prefix",
    "get dir --prefix -w json",
    "get dir --prefix -w fields",
    "get dir --prefix -w protobuf",
    "get ~ --prefix --keys-only",
    "get ~ --prefix -w json",
    "get ~ --from-key",
    "get c --from-key",
    "get c --from-key --limit=2 -w json",
    "get dir/ --prefix --print-value-only",
    "get a --print-value-only -w fields",
    "get dir/ --prefix --keys-only -w json",
    "get dir/ --prefix --keys-only -w fields",
    "get dir/ --prefix --count-only",
    "get dir/ --prefix --count-only -w json",
    "get dir/ --prefix --count-only -w fields",
    "get dir/ --prefix --count-only --write-out=fields --limit=1",
    "get dir/ --prefix --keys-only --print-value-only",
    "get ~ --prefix --limit=3",
    "get ~ --prefix --limit=3 -w fields",
    "get a --rev=2",
    "get a --rev=3 -w json",
    "get ~ --prefix --rev=4",
    "get a --rev=999",
    "get a --rev=-1",
    "get a --rev=nonsense",
    "get ~ --prefix --order=DESCEND",
    "get ~ --prefix --order=ASCEND --sort-by=VALUE",
    "get ~ --prefix --order=DESCEND --sort-by=CREATE --keys-only",
    "get ~ --prefix --order=DESCEND --sort-by=MODIFY --keys-only",
    "get ~ --prefix --order=ASCEND --sort-by=VERSION --keys-only",
    "get ~ --prefix --order=DESCEND --sort-by=KEY --limit=2",
    "get ~ --prefix --sort-by=VALUE --limit=3",
    "get ~ --prefix --order=nonsense",
    "get ~ --prefix --sort-by=nonsense",
    "get a --consistency=s",
    "get a --consistency=l",
    "get a --consistency=x",
    "get a --prefix --from-key",
    "get ~",
    "get",
    "get a b c",
    // txn
    "txn < put~t~1\n\n\n",
    "txn < \nput~t~1\n\n\n",
    "txn < value(\"t\")~=~\"1\"\n\nput~t~2\nget~t\n\nput~t~3\n\n",
    "txn < value(\"t\")~=~\"1\"\n\nput~t~2\nget~t\n\nput~t~3\nget~dir/~--prefix\n\n",
    "txn -w json < mod(\"t\")~>~\"0\"\nver(\"t\")~<~\"9\"\ncreate(\"t\")~=~\"0\"\n\nput~u~2\n\nput~u~3\ndel~dir/1~--prev-kv\n\n",
    "txn -w fields < ver(\"t\")~!=~\"0\"\n\nget~t\ndel~none\nput~v~1\n\n\n",
    "txn -w protobuf < version(\"t\")~=~\"9\"\n\nget~t\n\nget~b\n\n",
    "txn --interactive < value(\"t\")~>~\"0\"\n\nget~t\n\n\n",
    "txn --hex < \nget~t\n\n\n",
    "txn < \nput~t~1\nput~t~2\n\n\n",
    "txn < \nget~t~--rev=999\n\n\n",
    "txn < nonsense\n\nget~t\n\n\n",
    "txn < \nnonsense\n\n\n",
    // del
    "del none",
    "del t",
    "del u --prev-kv",
    "del v --prev-kv -w json",
    "del b -w fields",
    "del c -w protobuf",
    "put dir/1 x",
    "del dir/ --prefix --prev-kv",
    "del dir/ --prefix",
    "put z1 1",
    "put z2 2",
    "put z3 3",
    "del z1 z2",
    "del z2 --from-key --prev-kv",
    "del a --prefix --from-key",
    "del ~",
    "del",
    // compaction
    "compaction 5",
    "get a --rev=4",
    "compaction 5",
    "compaction 6 --physical",
    "compaction 7 --physical -w json",
    "compaction 999",
    "compaction nonsense",
    "compaction",
    // the server
    "endpoint status",
    "endpoint status -w json",
    "endpoint status -w fields",
    "endpoint status -w table",
    "endpoint status -w protobuf",
    "endpoint status --cluster -w json",
    "endpoint health",
    "endpoint health -w json",
    "endpoint health -w fields",
    "endpoint health -w table",
    "endpoint health --cluster",
    "endpoint hashkv",
    "endpoint hashkv -w json",
    "endpoint hashkv -w fields",
    "endpoint hashkv -w table",
    "endpoint hashkv --rev=8 -w json",
    "endpoint hashkv --rev=999",
    "endpoint hashkv --rev=2",
    "member list",
    "member list -w json",
    "member list -w fields",
    "member list -w table",
    "member list -w protobuf",
    "member list --hex -w json",
    "defrag",
    "defrag --cluster",
    "alarm list",
    "alarm list -w json",
    "alarm disarm",
    "get ~ --prefix -w json",
    "endpoint hashkv -w json",
    "@put a 1",
    "@get a",
    "@endpoint status",
    "@endpoint health",
    "@endpoint hashkv",
    "@member list",
    "@defrag",
    "@defrag --cluster",
    "@endpoint status --cluster",
    "@endpoint hashkv --cluster",
    "version",
    "nonsense",
];

/// One call of one etcdctl: exit code, output and errors, freed of what differs by right.
fn run(etcdctl: &Path, member: &Member, call: &str) -> String {
    let (args, input) = call.split_once(" < ").unwrap_or((call, ""));
    let (scheme, args) = args.strip_prefix('@').map_or(("", args), |args| ("http://", args));
    let mut child = Command::new(etcdctl)
        .arg(format!("--endpoints={scheme}127.0.0.1:{}", member.port()))
        // Five seconds by itself, which a busy machine may stand still for.
        .arg("--command-timeout=60s")
        .args(args.split(' ').map(|arg| if arg == "~" { String::new() } else { arg.replace('~', " ") }))
        .env_clear()
        .env("ETCDCTL_API", "3")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("etcdctl runs");
    // It may end without reading.
    let _ = child.stdin.take().expect("piped").write_all(input.replace('~', " ").as_bytes());
    let output = child.wait_with_output().expect("etcdctl ends");
    let mut text = format!("exit {}\n{}", output.status, mask(&output.stdout));
    for line in mask(&output.stderr).lines().filter(|l| !l.starts_with("{\"level\":")) {
        let _ = write!(text, "\nstderr: {line}");
    }
    text
}

/// Replaces durations and sizes; everything else, ids and raft indexes too, has to be equal.
fn mask(output: &[u8]) -> String {
    let text: String = match std::str::from_utf8(output) {
        Ok(text) => text.to_owned(),
        Err(_) => output.escape_ascii().to_string(),
    };
    let mut out = String::new();
    for line in text.lines() {
        // Frames of tables are as wide as what they hold.
        if line.chars().all(|c| "+-─┌┬┐├┼┤└┴┘".contains(c)) {
            continue;
        }
        let mut words = Vec::new();
        for word in line.split(' ').filter(|w| !w.is_empty()) {
            let end = word.trim_end_matches([',', '.']).trim_end_matches(['"', '}', ']']);
            let number = end.trim_end_matches(['µ', 'm', 's']);
            let is_number = |n: &str| !n.is_empty() && n.chars().all(|c| c.is_ascii_digit() || c == '.');
            if number != end && is_number(number) {
                words.push("DURATION".to_owned());
            } else if ["kB", "MB", "GB", "B"].contains(&end) && words.last().is_some_and(|w| is_number(w)) {
                words.pop();
                words.push(word.replace(end, "SIZE"));
            } else if end.ends_with('%') {
                words.push(word.replace(end, "PERCENT"));
            } else {
                words.push(word.to_owned());
            }
        }
        let mut line = words.join(" ");
        for key in ["\"took\":\"", "\"dbSize\":", "\"dbSizeInUse\":", "\"DBSize\" : ", "\"DBSizeInUse\" : "] {
            if let Some((before, after)) = line.split_once(key) {
                let rest = after.trim_start_matches(|c: char| c.is_ascii_alphanumeric() || c == '.' || c == 'µ');
                line = format!("{before}{key}?{rest}");
            }
        }
        out += &line;
        out.push('\n');
    }
    out
}

fn compare(etcdctl: Option<std::path::PathBuf>) {
    let (Some(etcdctl), Some(go)) = (etcdctl, peers::go_etcd()) else {
        return;
    };
    let member = Member::start(Setup::new(go));
    let theirs: Vec<_> = CALLS.iter().map(|call| run(&etcdctl, &member, call)).collect();
    let member = member.replaced(Setup::new(binary::ours()));
    let mut wrong = String::new();
    for (call, theirs) in CALLS.iter().zip(theirs) {
        let ours = run(&etcdctl, &member, call);
        if ours != theirs {
            let _ = write!(wrong, "\n--- {call}\n etcd: {theirs}\n ours: {ours}");
        }
    }
    assert!(wrong.is_empty(), "{} answers otherwise on our server:{wrong}", etcdctl.display());
}

#[test]
fn debians_3_4() {
    compare(peers::debian_etcdctl());
}

#[test]
fn of_3_7() {
    compare(peers::go_etcdctl());
}
