//! `retcd doctor` as a program, on mistakes that tutorials of etcd really contain. None of them asks anybody.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::Value;
use tempfile::TempDir;

#[derive(Debug)]
struct Finding {
    check: String,
    severity: String,
    what: String,
    fix: String,
}

/// What is found. The exit code goes by the worst of it.
fn doctor(dir: &Path, args: &[&str]) -> Vec<Finding> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_retcd"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("ETCD") {
            command.env_remove(name);
        }
    }
    let command = command.args(["doctor", "--offline", "--output=json"]);
    let out = command.args(args).current_dir(dir).output().expect("run");
    let text = String::from_utf8_lossy(&out.stdout);
    let report: Value = serde_json::from_str(&text)
        .unwrap_or_else(|error| panic!("{error}: {text}{}", String::from_utf8_lossy(&out.stderr)));
    let findings = report["findings"].as_array().expect("a list").iter();
    let field = |finding: &Value, name: &str| finding[name].as_str().expect("text").to_owned();
    let findings: Vec<Finding> = findings
        .map(|finding| Finding {
            check: field(finding, "check"),
            severity: field(finding, "severity"),
            what: field(finding, "what"),
            fix: field(finding, "fix"),
        })
        .collect();
    let counts = |severity: &str| match severity {
        "error" => true,
        "warning" => args.contains(&"--strict"),
        _ => false,
    };
    let bad = findings.iter().any(|finding| counts(&finding.severity));
    assert_eq!(out.status.code(), Some(bad.into()), "{findings:#?}");
    findings
}

/// Runs it with the file and flags of a mistake, which has to be named, with what is wrong and what to do.
fn names(file: (&str, &str), args: &[&str], severity: &str, check: &str, what: &str, fix: &str) {
    let dir = TempDir::new().expect("a directory");
    fs::write(dir.path().join(file.0), file.1).expect("written");
    let findings = doctor(dir.path(), args);
    let is_it = |one: &Finding| {
        one.check == check
            && one.severity == severity
            && one.what.contains(what)
            && one.fix.contains(fix)
    };
    assert!(
        findings.iter().any(is_it),
        "no {severity} {check} with {what:?} and {fix:?} in {findings:#?}"
    );
}

const ERROR: &str = "error";
const WARNING: &str = "warning";
const NONE: (&str, &str) = ("none", "");
const THREE: &str = "--initial-cluster=etcd1=http://203.0.113.1:2380,etcd2=http://203.0.113.2:2380,etcd3=http://203.0.113.3:2380";

#[test]
fn copied_blocks_are_named() {
    // The third member's block, with name and address of the second; the machine has neither.
    let second = [
        "--name=etcd2",
        "--listen-peer-urls=http://203.0.113.2:2380",
        "--initial-advertise-peer-urls=http://203.0.113.2:2380",
        THREE,
    ];
    let fix = "a copied configuration looks like this";
    names(
        NONE,
        &second,
        ERROR,
        "listen-not-local",
        "203.0.113.2:2380",
        fix,
    );
    let list = "--initial-cluster=etcd1=http://203.0.113.1:2380,etcd2=http://203.0.113.2:2380,etcd3=http://203.0.113.2:2380";
    let what = "http://203.0.113.2:2380 to etcd2 and etcd3";
    names(
        NONE,
        &["--name=etcd1", list],
        ERROR,
        "cluster-list",
        what,
        "its own peer URL",
    );
    let twice = "--initial-cluster=etcd1=http://203.0.113.1:2380,etcd2=http://203.0.113.2:2380,etcd2=http://203.0.113.3:2380";
    names(
        NONE,
        &["--name=etcd1", twice],
        WARNING,
        "cluster-list",
        "\"etcd2\" with the hosts",
        "a name of its own",
    );
    names(
        NONE,
        &["--name=etcd4", THREE],
        ERROR,
        "name-missing",
        "is \"etcd1\" meant?",
        "set --name",
    );
}

#[test]
fn a_cluster_of_one_machine_cannot_be_advertised() {
    let args = [
        "--name=etcd1",
        "--initial-advertise-peer-urls=http://127.0.0.1:2380",
        THREE,
    ];
    names(
        NONE,
        &args,
        ERROR,
        "advertise-loopback",
        "http://127.0.0.1:2380",
        "under which other members reach this machine",
    );
}

#[test]
fn files_that_were_not_copied_are_named() {
    // `scp` without -r, and braces with blanks: the files are not there.
    let args = [
        "--cert-file=certs/server.pem",
        "--key-file=certs/server-key.pem",
    ];
    names(
        NONE,
        &args,
        ERROR,
        "file-access",
        "--cert-file=certs/server.pem",
        "name a file that is there",
    );
    let args = [
        "--listen-client-urls=https://127.0.0.1:0",
        "--advertise-client-urls=https://127.0.0.1:0",
    ];
    names(
        NONE,
        &args,
        ERROR,
        "tls-missing",
        "https://127.0.0.1:0",
        "--cert-file",
    );
}

#[test]
fn what_a_web_page_made_of_a_flag_is_named() {
    names(
        NONE,
        &["\u{2013}name", "etcd1"],
        ERROR,
        "odd-character",
        "U+2013",
        "type -",
    );
    let file = ("etcd.env", "ETCD_NAME=\u{201c}etcd1\u{201d}\n");
    names(
        file,
        &["--env-file=etcd.env"],
        WARNING,
        "odd-character",
        "ETCD_NAME=",
        "type \"",
    );
}

#[test]
fn environment_files_of_tutorials_are_read_as_they_are() {
    let both = (
        "etcd.env",
        "ETCDCTL_ENDPOINTS=https://203.0.113.1:2379\nETCDCTL_CA_FILE=/certs/ca.pem\n",
    );
    names(
        both,
        &["--env-file=etcd.env"],
        WARNING,
        "etcdctl-env",
        "ETCDCTL_CA_FILE",
        "ETCDCTL_CA_FILE is ETCDCTL_CACERT",
    );
    let misspelled = ("etcd.env", "ETCD_LISTEN_CLIENT_URL=http://127.0.0.1:2379\n");
    let fix = "ETCD_LISTEN_CLIENT_URLS";
    names(
        misspelled,
        &["--env-file=etcd.env"],
        WARNING,
        "env-unknown",
        "ETCD_LISTEN_CLIENT_URL ",
        fix,
    );
}

#[test]
fn flags_of_units_of_earlier_releases_are_named() {
    let unit = (
        "etcd.service",
        "[Service]\nExecStart=/usr/bin/etcd --proxy off --debug --data-dir=data\n",
    );
    names(
        unit,
        &["--unit=etcd.service"],
        WARNING,
        "flag-old",
        "--proxy",
        "leave it out",
    );
    names(
        unit,
        &["--unit=etcd.service"],
        WARNING,
        "flag-old",
        "--debug",
        "write --log-level=debug",
    );
    let strict = ["--unit=etcd.service", "--strict"];
    names(
        unit,
        &strict,
        WARNING,
        "flag-old",
        "--debug",
        "write --log-level=debug",
    );
    let proxy = (
        "etcd.service",
        "[Service]\nExecStart=/usr/bin/etcd --proxy on\n",
    );
    names(
        proxy,
        &["--unit=etcd.service"],
        ERROR,
        "config",
        "v2 proxy is gone",
        "give clients the URLs of all members",
    );
}

#[test]
fn a_configuration_file_is_read_as_the_server_reads_it() {
    let file = (
        "etcd.yml",
        "name: etcd1\ndata-dir: data\nstrict-reconfig-check: false\ninitial-cluster: etcd1=http://localhost:2380\n",
    );
    let args = ["--config-file=etcd.yml", "--name=etcd2"];
    names(
        file,
        &args,
        WARNING,
        "reconfig-check",
        "=false",
        "leave the flag out",
    );
    names(
        file,
        &args,
        WARNING,
        "file-alone",
        "--name,",
        "put them into the file",
    );
    let tab = ("etcd.yml", "name: etcd1\n\tdata-dir: data\n");
    names(
        tab,
        &["--config-file=etcd.yml"],
        ERROR,
        "config",
        "line 2",
        "",
    );
    let unknown = (
        "etcd.yml",
        "name: default\nlisten-client-url: http://127.0.0.1:2379\n",
    );
    names(
        unknown,
        &["--config-file=etcd.yml"],
        WARNING,
        "config-notice",
        "listen-client-url",
        "put the name of the key right",
    );
}

#[test]
fn a_sound_member_draws_no_error() {
    let dir = TempDir::new().expect("a directory");
    let url = "http://127.0.0.1:0";
    let text = format!(
        "ETCD_NAME=\"one\"\nETCD_DATA_DIR=\"data\"\nETCD_LISTEN_PEER_URLS={url}\nETCD_LISTEN_CLIENT_URLS={url}\n\
         ETCD_ADVERTISE_CLIENT_URLS={url}\nETCD_INITIAL_ADVERTISE_PEER_URLS={url}\nETCD_INITIAL_CLUSTER=one={url}\n"
    );
    fs::write(dir.path().join("etcd.env"), text).expect("written");
    let findings = doctor(dir.path(), &["--env-file=etcd.env"]);
    // What the machine is like is not ours to say.
    let of_the_machine = |check: &str| {
        [
            "disk-slow",
            "disk-space",
            "fd-limit",
            "file-system",
            "quota",
        ]
        .contains(&check)
    };
    assert!(
        findings
            .iter()
            .all(|finding| of_the_machine(&finding.check)),
        "{findings:#?}"
    );
}
