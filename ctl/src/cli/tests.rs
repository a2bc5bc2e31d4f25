use super::*;
use crate::etcdutl::ROOT;

fn call(args: &str) -> (u8, String, String) {
    let args: Vec<String> = args
        .split(' ')
        .filter(|arg| !arg.is_empty())
        .map(|arg| {
            if arg == "~" {
                String::new()
            } else {
                arg.to_owned()
            }
        })
        .collect();
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let code = run(&ROOT, &args, &mut out, &mut err);
    let text = |bytes| String::from_utf8(bytes).expect("text");
    (code, text(out), text(err))
}

/// What etcdutl 3.7.1 says to the same arguments, apart from the help that follows some refusals.
#[test]
fn refusals_are_those_of_etcd() {
    for (args, code, text) in [
        ("--foo", 1, "unknown flag: --foo"),
        ("-x", 1, "unknown shorthand flag: 'x' in -x"),
        ("version -xh", 1, "unknown shorthand flag: 'x' in -xh"),
        ("version -hx", 1, "unknown shorthand flag: 'x' in -x"),
        ("-=x", 1, "unknown shorthand flag: '=' in -=x"),
        ("--=x", 1, "bad flag syntax: --=x"),
        ("---x", 1, "bad flag syntax: ---x"),
        ("version -w", 1, "flag needs an argument: 'w' in -w"),
        (
            "version --write-out",
            1,
            "flag needs an argument: --write-out",
        ),
        ("version --write-ou=x", 1, "unknown flag: --write-ou"),
        (
            "version -h=x",
            1,
            "invalid argument \"x\" for \"-h, --help\" flag: strconv.ParseBool: parsing \"x\": invalid syntax",
        ),
        (
            "version --timeout=1",
            1,
            "invalid argument \"1\" for \"--timeout\" flag: time: missing unit in duration \"1\"",
        ),
        (
            "version --timeout=1s2x",
            1,
            "invalid argument \"1s2x\" for \"--timeout\" flag: time: unknown unit \"x\" in duration \"1s2x\"",
        ),
        (
            "version --timeout=",
            1,
            "invalid argument \"\" for \"--timeout\" flag: time: invalid duration \"\"",
        ),
        (
            "snapshot restore x --bump-revision -1",
            1,
            "invalid argument \"-1\" for \"--bump-revision\" flag: strconv.ParseUint: parsing \"-1\": invalid syntax",
        ),
        (
            "snapshot restore x --bump-revision=99999999999999999999",
            1,
            "invalid argument \"99999999999999999999\" for \"--bump-revision\" flag: strconv.ParseUint: parsing \"99999999999999999999\": value out of range",
        ),
        (
            "snapshot restore x --mark-compacted=maybe",
            1,
            "invalid argument \"maybe\" for \"--mark-compacted\" flag: strconv.ParseBool: parsing \"maybe\": invalid syntax",
        ),
        ("snapshot --foo status", 1, "unknown flag: --foo"),
        (
            "snapshot restore x --bump-revision=0x10",
            128,
            "--mark-compacted required if --revision-bump > 0",
        ),
        (
            "snapshot restore x --mark-compacted",
            128,
            "--mark-compacted required if --revision-bump > 0",
        ),
        (
            "snapshot status",
            128,
            "snapshot status requires exactly one argument",
        ),
        (
            "s s a b",
            128,
            "snapshot status requires exactly one argument",
        ),
        (
            "snapshot restore x --skip-hash-check false",
            128,
            "snapshot restore requires exactly one argument",
        ),
        (
            "snapshot -w json status",
            128,
            "snapshot status requires exactly one argument",
        ),
    ] {
        let (got, out, err) = call(args);
        assert_eq!((got, out.as_str()), (code, ""), "{args}: {err}");
        assert!(
            err.starts_with(&format!("Error: {text}\n")),
            "{args}: {err}"
        );
        assert!(err.ends_with(&format!("Error: {text}\n")), "{args}: {err}");
        let times = if code == exit::ERROR { 2 } else { 1 };
        assert_eq!(err.matches(text).count(), times, "{args}: {err}");
    }
}

#[test]
fn an_unknown_command_may_be_a_similar_one() {
    let refusal = |name: &str, similar: &str| {
        let error = format!("Error: unknown command {name:?} for \"etcdutl\"{similar}\n");
        format!("{error}Run 'etcdutl --help' for usage.\n{error}")
    };
    for (name, similar) in [
        ("foo", ""),
        ("h", "\n\nDid you mean this?\n\thashkv\n"),
        ("snapshto", "\n\nDid you mean this?\n\tsnapshot\n"),
        ("VERSION", "\n\nDid you mean this?\n\tversion\n"),
    ] {
        assert_eq!(call(name), (1, String::new(), refusal(name, similar)));
        let with_flags = format!("--write-out=json -w json {name} x");
        assert_eq!(
            call(&with_flags),
            (1, String::new(), refusal(name, similar))
        );
    }
}

#[test]
fn help_comes_in_all_ways_that_etcd_knows() {
    let root = call("");
    assert_eq!((root.0, root.2.as_str()), (0, ""));
    for args in [
        "help",
        "-h",
        "--help",
        "he",
        "-w json",
        "-- foo",
        "-",
        "~",
        "--help snapshot",
        "-h s",
    ] {
        assert_eq!(call(args), root, "{args}");
    }
    let snapshot = call("snapshot --help");
    assert!(
        snapshot
            .1
            .starts_with("Usage:\n  etcdutl snapshot [command]\n"),
        "{}",
        snapshot.1
    );
    for args in [
        "snapshot",
        "snap",
        "help snapshot",
        "help snapshot foo",
        "snapshot foo",
        "snapshot help status",
        "snapshot -h=1",
    ] {
        assert_eq!(call(args), snapshot, "{args}");
    }
    let (code, out, err) = call("help foo");
    assert_eq!((code, out.as_str()), (0, ""));
    let without_help: String = root
        .1
        .split_inclusive('\n')
        .filter(|line| !line.contains("-h, --help"))
        .collect();
    assert_eq!(err, format!("Unknown help topic [`foo`]\n{without_help}"));
}

#[test]
fn help_lists_flags_with_types_and_defaults() {
    let (code, out, _) = call("snapshot restore --help");
    assert_eq!(code, 0);
    let lines: Vec<&str> = out.lines().collect();
    assert_eq!(
        lines[1],
        "  etcdutl snapshot restore <filename> --data-dir {output dir} [options] [flags]"
    );
    let has = |start: &str, end: &str| {
        assert!(
            lines
                .iter()
                .any(|l| l.starts_with(start) && l.ends_with(end)),
            "{start}..{end} in {out}"
        );
    };
    has("      --bump-revision uint                   ", "");
    has(
        "  -h, --help                                 help for restore",
        "",
    );
    has(
        "      --initial-cluster string               ",
        " (default \"default=http://localhost:2380\")",
    );
    has(
        "      --initial-memory-map-size uint         ",
        " (default 10737418240)",
    );
    has("      --timeout duration   ", " (default 10s)");
    has("  -w, --write-out string   ", " (default \"simple\")");
}

#[test]
fn commands_that_are_to_come_say_what_to_use_meanwhile() {
    for args in ["defrag", "hashkv x", "migrate", "d"] {
        let (code, out, err) = call(args);
        assert_eq!((code, out.as_str()), (1, ""));
        assert!(err.contains("is not implemented by retcd yet; "), "{err}");
    }
    assert!(!call("help").1.contains("defrag"));
}

#[test]
fn completion_is_for_a_shell() {
    assert!(call("completion bash").1.contains("_retcd_completion"));
    for args in ["completion", "completion bash zsh", "completion powershell"] {
        let (code, out, err) = call(args);
        assert_eq!((code, out.as_str()), (exit::BAD_ARGS, ""), "{args}");
        assert!(err.contains("bash"), "{err}");
    }
}

#[test]
fn a_version_is_printed_whatever_follows() {
    for args in [
        "version",
        "version x",
        "v",
        "version -wjson",
        "version -- --foo",
        "version --help=false",
    ] {
        let (code, out, err) = call(args);
        assert_eq!((code, err.as_str()), (0, ""), "{args}");
        assert_eq!(out, "etcdutl version: 3.7.1\nAPI version: 3.7\n");
    }
}
