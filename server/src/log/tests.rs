use super::*;
use slog::{debug, error, info, o, warn};
use std::sync::Mutex;

/// Collects lines; every call is one line.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<String>>>);

impl io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let line = String::from_utf8(bytes.to_vec()).expect("UTF-8");
        self.0.lock().expect("lines").push(line);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Lines {
    fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().expect("lines"))
    }

    /// The one line written, without time and line number, which change.
    fn one(&self) -> String {
        let lines = self.take();
        assert_eq!(lines.len(), 1, "{lines:?}");
        let line = lines[0].clone();
        assert!(line.ends_with('\n'));
        let time = line.find("\"ts\":\"").expect("ts") + 6;
        let shape: String = line[time..time + 27]
            .chars()
            .map(|c| if c.is_ascii_digit() { '0' } else { c })
            .collect();
        assert_eq!(shape, "0000-00-00T00:00:00.000000Z");
        let line = format!("{}TIME{}", &line[..time], &line[time + 27..]);
        let caller = line.find("tests.rs:").expect("caller") + 9;
        let end = caller + line[caller..].find('"').expect("end of caller");
        format!("{}LINE{}", &line[..caller], &line[end..])
    }
}

fn log(level: Level) -> (Log, Lines) {
    let lines = Lines::default();
    (Log::to_writer(level, lines.clone()), lines)
}

#[test]
fn fields_keep_their_order() {
    let (log, lines) = log(Level::Info);
    let child = log
        .logger()
        .new(o!("local-member-id" => "5c76a90ae78bcee7", "n" => 1));
    info!(child, "saved {}", "snapshot"; "index" => 32u64, "took" => %crate::config::GoDuration(std::time::Duration::from_micros(5174)), "ok" => true);
    assert_eq!(
        lines.one(),
        "{\"level\":\"info\",\"ts\":\"TIME\",\"caller\":\"log/tests.rs:LINE\",\"msg\":\"saved snapshot\",\
         \"local-member-id\":\"5c76a90ae78bcee7\",\"n\":1,\"index\":32,\"took\":\"5.174ms\",\"ok\":true}\n"
    );
}

#[test]
fn a_named_logger_says_so() {
    let (log, lines) = log(Level::Info);
    let raft = log.logger().new(o!("logger" => "raft")).new(o!("id" => 7));
    warn!(raft, "x"; "logger2" => "y");
    assert_eq!(
        lines.one(),
        "{\"level\":\"warn\",\"ts\":\"TIME\",\"logger\":\"raft\",\"caller\":\"log/tests.rs:LINE\",\"msg\":\"x\",\
         \"id\":7,\"logger2\":\"y\"}\n"
    );
}

#[test]
fn text_is_escaped_as_etcd_escapes_it() {
    let (log, lines) = log(Level::Info);
    error!(log.logger(), "a\"b\\c\n"; "error" => "\u{1}\r\t\u{7f}<&>é\u{2028}", "k\"" => 'x');
    assert_eq!(
        lines.one(),
        "{\"level\":\"error\",\"ts\":\"TIME\",\"caller\":\"log/tests.rs:LINE\",\"msg\":\"a\\\"b\\\\c\\n\",\
         \"error\":\"\\u0001\\r\\t\u{7f}<&>é\u{2028}\",\"k\\\"\":\"x\"}\n"
    );
}

#[test]
fn values_are_json() {
    let (log, lines) = log(Level::Info);
    let none: Option<u8> = None;
    let cause = io::Error::other("disk is gone");
    let error = SettingsError::Logger("foo".into());
    info!(log.logger(), "m"; "f" => 1.5, "nan" => f64::NAN, "none" => none, "list" => slog::Serde(vec!["a", "b\""]),
        "cause" => #cause, "error" => #error, "debug" => ?vec![1]);
    assert!(lines.one().ends_with(
        "\"f\":1.5,\"nan\":\"NaN\",\"none\":null,\"list\":[\"a\",\"b\\\"\"],\"cause\":\"disk is gone\",\
         \"error\":\"unknown logger option \\\"foo\\\"\",\"debug\":\"[1]\"}\n"
    ));
}

#[test]
fn notices_become_lines() {
    let (log, lines) = log(Level::Info);
    let notice = crate::config::Notice {
        level: Level::Critical,
        message: "m",
        fields: vec![("a", "1".into()), ("b", "2".into())],
    };
    notice.log(log.logger());
    let line = lines.take().remove(0);
    assert!(line.starts_with("{\"level\":\"fatal\",\"ts\":\""), "{line}");
    assert!(line.contains("\"caller\":\"config/notice.rs:"), "{line}");
    assert!(
        line.ends_with("\"msg\":\"m\",\"a\":\"1\",\"b\":\"2\"}\n"),
        "{line}"
    );
}

#[test]
fn the_level_belongs_to_the_instance_and_can_change() {
    let ((one, lines), (two, others)) = (log(Level::Info), log(Level::Error));
    let child = one.logger().new(o!());
    debug!(child, "no");
    warn!(two.logger(), "no");
    one.set_level(Level::Debug);
    debug!(child, "yes");
    assert_eq!((lines.take().len(), others.take().len()), (1, 0));
}

#[test]
fn a_broken_output_is_survived() {
    struct Broken;
    impl io::Write for Broken {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::Error::other("full"))
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    info!(Log::to_writer(Level::Info, Broken).logger(), "x");
    info!(Log::discard().logger(), "x");
}

/// What the counts are told of: (message, `repeated`).
fn repeated(lines: &[String]) -> Vec<(String, u64)> {
    let value = |line: &String| serde_json::from_str::<serde_json::Value>(line).expect("JSON");
    lines
        .iter()
        .map(value)
        .map(|line| {
            let count = line["repeated"].as_u64().unwrap_or(0);
            (line["msg"].as_str().unwrap_or_default().to_owned(), count)
        })
        .collect()
}

#[test]
fn repeated_warnings_are_counted_and_told_at_the_end() {
    let (log, lines) = log(Level::Info);
    for n in 0..380 {
        warn!(log.logger(), "rejected connection on peer endpoint";
            "remote-addr" => format!("10.0.0.4:{}", 40_000 + n), "error" => "remote error: tls: bad certificate");
    }
    let first = lines.take();
    assert_eq!(first.len(), 1, "{first:?}");
    assert!(first[0].contains("10.0.0.4:40000"), "{first:?}");
    assert!(
        first[0].contains("\"explain\":\"the other member broke off"),
        "{first:?}"
    );
    log.flush();
    let told = lines.take();
    assert_eq!(
        repeated(&told),
        [("rejected connection on peer endpoint".to_owned(), 379)]
    );
    assert!(told[0].contains("10.0.0.4:40379"), "{told:?}");

    // A fatal line, and the end of the last logger, tell what was counted before.
    for _ in 0..3 {
        warn!(log.logger(), "a");
    }
    slog::crit!(log.logger(), "the end");
    let said = |count| [("a".to_owned(), 0), ("a".to_owned(), count)];
    let mut told = lines.take();
    assert!(told.pop().expect("a last line").contains("\"fatal\""));
    assert_eq!(repeated(&told), said(2));
    for _ in 0..4 {
        warn!(log.logger(), "a");
    }
    drop(log);
    assert_eq!(repeated(&lines.take()), said(3));
}

#[test]
fn counts_are_told_in_time_though_nothing_else_is_said() {
    let (log, lines) = log(Level::Info);
    log.outlet.state().folds.first_window = Duration::from_millis(50);
    warn!(log.logger(), "a");
    warn!(log.logger(), "a");
    let deadline = Instant::now() + Duration::from_secs(120);
    let mut written = Vec::new();
    while written.len() < 2 {
        written.extend(lines.take());
        assert!(Instant::now() < deadline, "nothing was told");
        thread::sleep(Duration::from_millis(2));
    }
    assert_eq!(
        repeated(&written),
        [("a".to_owned(), 0), ("a".to_owned(), 1)]
    );
}

#[test]
fn at_level_debug_everything_is_written() {
    let (log, lines) = log(Level::Debug);
    for _ in 0..5 {
        warn!(log.logger(), "a");
    }
    assert_eq!(lines.take().len(), 5);
}

#[test]
fn files_are_appended_to() {
    let dir = tempfile::tempdir().expect("dir");
    let path = dir.path().join("log").display().to_string();
    for format in ["json", "console"] {
        let settings = Settings {
            format: format.into(),
            outputs: vec![path.clone()],
            ..Settings::default()
        };
        let log = settings.open().expect("open");
        info!(log.logger().new(o!("logger" => "raft")), "hello"; "a" => 1, "b" => "x",
            "c" => slog::Serde(vec!["1,2", "\"3:4"]));
        info!(log.logger(), "bare");
    }
    let text = std::fs::read_to_string(&path).expect("read");
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), 4);
    assert!(lines[0].starts_with('{') && lines[0].contains("\"logger\":\"raft\""));
    let (time, rest) = lines[2].split_once('\t').expect("tabs");
    assert_eq!(time.len(), 27);
    let fields: Vec<&str> = rest.split('\t').collect();
    assert_eq!((fields[0], fields[1]), ("info", "raft"));
    assert_eq!(
        (fields[3], fields[4]),
        ("hello", r#"{"a": 1, "b": "x", "c": ["1,2", "\"3:4"]}"#)
    );
    assert!(lines[3].ends_with("\tbare"));
}

#[test]
fn outputs_that_cannot_be_opened_are_named() {
    let open = |output: &str| {
        let settings = Settings {
            outputs: vec![output.into()],
            ..Settings::default()
        };
        settings.open().expect_err(output).to_string()
    };
    assert!(
        (open("") == "open sink \"\": open : no such file or directory"),
        "{}",
        open("")
    );
    assert!(
        open("/nonexistent/x").starts_with("open sink \"/nonexistent/x\": open /nonexistent/x: ")
    );
}
