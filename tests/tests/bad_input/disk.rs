//! Damaged, foreign, unreadable and full data directories.

use std::fs::{self, File};
use std::os::unix::fs::FileExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use retcd_proto::etcdserverpb as pb;
use retcd_tests::grpc::Connection;
use retcd_tests::member::{Member, Setup};
use retcd_tests::{binary, peers, tree};
use tempfile::TempDir;

/// What an operator may be told to do.
const REMEDIES: &[&str] = &[
    "restore", "remove", "move", "check", "free", "stop", "use ", "start", "make", "grant", "remount", "choose",
    "delete", "give", "wait",
];

fn temp() -> TempDir {
    tempfile::Builder::new().prefix("retcd-bad-").tempdir().expect("a temporary directory")
}

/// A data directory with some history, its server killed.
fn used(dir: &Path, puts: usize, size: usize) {
    let mut member = Member::start(Setup::new(binary::ours()).data_dir(dir));
    write(&member, puts, size);
    member.kill();
}

fn write(member: &Member, puts: usize, size: usize) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let connection = Connection::open(member.port()).await;
        for n in 0..puts {
            let put = pb::PutRequest {
                key: format!("k{}", n % 10).into(),
                value: vec![b'v'; size].into(),
                ..Default::default()
            };
            connection.call("/etcdserverpb.KV/Put", &put).await.reply::<pb::PutResponse>().expect("a put");
        }
    });
}

/// Starts on a directory, expects exit code 1 and a sentence with all these words and a remedy.
fn refuses(dir: &Path, words: &[&str]) {
    let mut member = Member::prepare(Setup::new(binary::ours()).data_dir(dir));
    member.spawn();
    let status = member.wait();
    let said = member.log().whole();
    assert_eq!(status.code(), Some(1), "{said}");
    assert!(!said.contains("panicked"), "{said}");
    // The sentence stands in one of the lines above information.
    let complaint = |l: &&str| !l.contains("\"level\":\"info\"") && words.iter().all(|w| l.contains(w));
    let sentence = said.lines().find(complaint).unwrap_or_else(|| panic!("no sentence with {words:?}:\n{said}"));
    println!("{sentence}");
    assert!(REMEDIES.iter().any(|r| sentence.to_lowercase().contains(r)), "no remedy: {sentence}");
}

/// As [`refuses`], and not a byte in the directory has changed.
fn refuses_untouched(dir: &Path, words: &[&str]) {
    let before = image(dir);
    refuses(dir, words);
    let difference = tree::difference(&before, &image(dir));
    assert!(difference.is_empty(), "{difference:?}");
}

/// All but the file that says which process holds the directory.
fn image(dir: &Path) -> tree::Image {
    let mut image = tree::image(dir);
    image.retain(|(path, ..)| path != Path::new("member/lock"));
    image
}

fn segments(dir: &Path) -> Vec<PathBuf> {
    let mut names: Vec<_> = fs::read_dir(dir.join("member/wal"))
        .expect("a log")
        .map(|e| e.expect("readable").path())
        .filter(|p| p.extension().is_some_and(|e| e == "wal"))
        .collect();
    names.sort();
    names
}

fn name(path: &Path) -> &str {
    path.file_name().expect("a name").to_str().expect("ASCII")
}

#[test]
fn a_second_process_is_told_who_holds_the_directory() {
    let dir = temp();
    let holder = Member::start(Setup::new(binary::ours()).data_dir(dir.path()));
    write(&holder, 3, 10);
    refuses(dir.path(), &[dir.path().to_str().expect("ASCII"), &holder.pid().to_string()]);
    write(&holder, 3, 10);
}

#[test]
fn a_damaged_log_is_refused() {
    let dir = temp();
    used(dir.path(), 200, 100);
    let segment = segments(dir.path()).remove(0);
    let file = File::options().read(true).write(true).open(&segment).expect("a segment");
    // Within the second half of what 200 puts fill, so well before the end. How long a record is depends on the ids.
    let begin = 12_000;
    let mut bytes = [0; 1000];
    file.read_exact_at(&mut bytes, begin).expect("readable");
    let value = bytes.windows(20).position(|w| w == [b'v'; 20]).expect("the middle of a value");
    file.write_all_at(&[b'v' ^ 0x10], begin + value as u64 + 10).expect("writable");
    drop(file);
    refuses_untouched(dir.path(), &[name(&segment)]);
}

#[test]
fn a_missing_segment_is_refused() {
    let dir = temp();
    used(dir.path(), 110, 1 << 20);
    let segments = segments(dir.path());
    assert!(segments.len() >= 2, "{segments:?}");
    // With two the first, so that the log does not begin where the store needs it.
    let gone = &segments[(segments.len() - 1) / 2];
    fs::remove_file(gone).expect("removable");
    refuses_untouched(dir.path(), &["wal"]);
}

#[test]
fn a_segment_that_is_none_is_refused() {
    let dir = temp();
    used(dir.path(), 20, 100);
    let foreign = dir.path().join("member/wal/0000000000000001-0000000000000010.wal");
    fs::write(&foreign, "this is no log\n").expect("writable");
    refuses_untouched(dir.path(), &[name(&foreign)]);
}

#[test]
fn a_segment_of_another_member_is_refused() {
    let (dir, other) = (temp(), temp());
    used(dir.path(), 20, 100);
    used(other.path(), 20, 100);
    let foreign = dir.path().join("member/wal/0000000000000001-0000000000000010.wal");
    fs::copy(segments(other.path()).remove(0), &foreign).expect("copied");
    refuses_untouched(dir.path(), &[name(&foreign)]);
}

/// A file whose name is no segment's cannot be meant: etcd warns and goes on, so does ours, or it refuses.
/// Either names the file and leaves it.
#[test]
fn a_stray_file_is_named_and_left() {
    let dir = temp();
    used(dir.path(), 20, 100);
    let stray = dir.path().join("member/wal/notes.txt");
    fs::write(&stray, "dear diary\n").expect("writable");
    let member = Member::start(Setup::new(binary::ours()).data_dir(dir.path()));
    member.wait_for_log("notes.txt");
    assert_eq!(fs::read_to_string(&stray).expect("it is there"), "dear diary\n");
}

/// A directory remembers its engine: its data is not left aside for an empty database.
#[test]
fn data_of_another_engine_is_refused() {
    let dir = temp();
    used(dir.path(), 5, 10);
    let snap = dir.path().join("member/snap");
    fs::create_dir(snap.join("sled")).expect("a directory can be made");
    refuses_untouched(dir.path(), &["member/snap", "db and sled"]);
    fs::remove_file(snap.join("db")).expect("removable");
    refuses_untouched(dir.path(), &["member/snap/sled", "--experimental-backend-engine=sled"]);
}

#[test]
fn a_file_in_place_of_the_directory_is_refused() {
    let dir = temp();
    let file = dir.path().join("data");
    fs::write(&file, "x").expect("writable");
    refuses(&file, &["data"]);
    assert_eq!(fs::read_to_string(&file).expect("it is there"), "x");
}

#[test]
fn a_file_in_place_of_the_log_is_refused() {
    let dir = temp();
    used(dir.path(), 5, 10);
    let wal = dir.path().join("member/wal");
    fs::remove_dir_all(&wal).expect("removable");
    fs::write(&wal, "x").expect("writable");
    refuses_untouched(dir.path(), &["member/wal"]);
}

#[test]
fn an_unreadable_directory_is_refused() {
    let dir = temp();
    let data = dir.path().join("data");
    used(&data, 5, 10);
    if !rustix::process::geteuid().is_root() {
        fs::set_permissions(&data, std::os::unix::fs::PermissionsExt::from_mode(0o000)).expect("a mode can be set");
        refuses(&data, &["data"]);
        fs::set_permissions(&data, std::os::unix::fs::PermissionsExt::from_mode(0o700)).expect("a mode can be set");
        return;
    }
    // Root reads everything: be nobody. The binary may lie where nobody may not go.
    let program = dir.path().join("etcd");
    fs::copy(binary::ours(), &program).expect("copied");
    fs::set_permissions(dir.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).expect("a mode can be set");
    let before = image(&data);
    let member = Member::prepare(Setup::new(&program).data_dir(&data));
    let output =
        Command::new(&program).args(member.args()).uid(65534).gid(65534).env_clear().output().expect("it runs");
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(
        said.contains(data.to_str().expect("ASCII")) && said.to_lowercase().contains("permission denied"),
        "{said}"
    );
    assert!(tree::difference(&before, &image(&data)).is_empty());
}

/// A mount that is undone when dropped.
struct Mount(PathBuf);

impl Mount {
    /// Runs `mount`; without the right to it, the test is skipped.
    fn new(at: &Path, commands: &[&[&str]]) -> Option<Self> {
        fs::create_dir_all(at).expect("a directory can be made");
        let mut mounted = None;
        for args in commands {
            let done = Command::new("mount").args(*args).arg(at).output();
            if !done.is_ok_and(|o| o.status.success()) {
                peers::skipped("the right to mount", "run as root");
                return None;
            }
            mounted.get_or_insert_with(|| Self(at.to_owned()));
        }
        mounted
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(&self.0).status();
    }
}

#[test]
fn a_read_only_directory_is_refused() {
    let dir = temp();
    let (data, view) = (dir.path().join("data"), dir.path().join("view"));
    used(&data, 5, 10);
    let source = data.to_str().expect("ASCII");
    let Some(_mount) = Mount::new(&view, &[&["--bind", source], &["-o", "remount,ro,bind"]]) else {
        return;
    };
    refuses_untouched(&view, &[view.to_str().expect("ASCII")]);
}

#[test]
fn a_full_disk_is_refused_and_harms_nothing() {
    let dir = temp();
    let disk = dir.path().join("disk");
    let Some(_mount) = Mount::new(&disk, &[&["-t", "tmpfs", "-o", "size=300m", "tmpfs"]]) else {
        return;
    };
    // A new member on a disk that has no room for a log.
    let (data, ballast) = (disk.join("data"), disk.join("ballast"));
    let fill = || {
        let mut file = File::create(&ballast).expect("a file can be made");
        let block = vec![1; 1 << 20];
        while std::io::Write::write_all(&mut file, &block).is_ok() {}
        // What is left of the last block.
        while std::io::Write::write(&mut file, &block[..512]).is_ok_and(|n| n > 0) {}
    };
    fill();
    refuses(&data, &["data", "o space left"]);
    fs::remove_file(&ballast).expect("removable");
    // The same directory serves once there is room.
    used(&data, 50, 1000);
    // A member with data.
    fill();
    let before = image(&data);
    let mut member = Member::prepare(Setup::new(binary::ours()).data_dir(&data));
    member.spawn();
    let ended = member.wait_or_serve();
    if let Some(status) = ended {
        let said = member.log().whole();
        assert_eq!(status.code(), Some(1), "{said}");
        assert!(said.contains("o space left") && !said.contains("panicked"), "{said}");
        let difference = tree::difference(&before, &image(&data));
        assert!(difference.is_empty(), "{difference:?}\n{said}");
    }
    drop(member);
    fs::remove_file(&ballast).expect("removable");
    let member = Member::start(Setup::new(binary::ours()).data_dir(&data));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let count = runtime.block_on(async {
        let all = pb::RangeRequest { key: "\0".into(), range_end: "\0".into(), count_only: true, ..Default::default() };
        let connection = Connection::open(member.port()).await;
        connection.call("/etcdserverpb.KV/Range", &all).await.reply::<pb::RangeResponse>().expect("a reply").count
    });
    assert_eq!(count, 10);
}
