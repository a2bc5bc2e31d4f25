//! What a member exports, beside what genuine etcd 3.7.1 exports after the same work; and whether rules and dashboard ask
//! only for what there is.

mod counts;
mod families;
mod list;
mod workload;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use retcd_proto::etcdserverpb::alarm_request::AlarmAction;
use retcd_tests::cluster::{Cluster, wait_for};
use retcd_tests::member::Setup;
use retcd_tests::{binary, http1, peers};

use families::{Export, Family};

const OURS: usize = 0;
const GO: usize = 1;
const AWAY: usize = 2;

fn scrape(cluster: &Cluster, number: usize) -> Export {
    let answer = http1::get(cluster.members[number].port(), "/metrics").expect("an answer");
    assert_eq!(answer.status, 200);
    Export::parse(&answer.text())
}

/// One of ours among two of Go's: each sees the same peers, the same log, the same changes.
#[test]
fn names_types_labels_and_buckets_are_those_of_etcd() {
    let (Some(ctl), Some(go)) = (peers::go_etcdctl(), peers::go_etcd()) else { return };
    let mut cluster = Cluster::start(&ctl, &[&binary::ours(), &go, &go], &["--metrics=extensive"]);
    for number in [OURS, GO] {
        workload::run(&cluster, number);
    }
    let id = u64::from_str_radix(&cluster.id(GO), 16).expect("an id");
    workload::alarm(cluster.members[GO].port(), id, AlarmAction::Activate);
    let (ours, theirs) = wait_for("two members with the same state", || {
        let both = (scrape(&cluster, OURS), scrape(&cluster, GO));
        let same = |name| both.0.families.get(name).map(values) == both.1.families.get(name).map(values);
        ["etcd_debugging_mvcc_current_revision", "etcd_debugging_server_alarms", "etcd_network_active_peers"]
            .into_iter()
            .all(same)
            .then_some(both)
    });
    workload::alarm(cluster.members[GO].port(), id, AlarmAction::Deactivate);
    let mut wrong = Vec::new();
    content(&ours, &theirs, &mut wrong);
    wait_for("disarmed alarm", || {
        let export = scrape(&cluster, OURS);
        (export.families["etcd_debugging_server_alarms"].samples.values().all(|value| value == "0")).then_some(())
    });
    let log = cluster.members[OURS].log().text();
    assert!(!log.contains("\"level\":\"error\""), "an error in normal operation:\n{log}");

    // What is shown once it happened: a probe came back, and somebody is not there any more.
    cluster.members[AWAY].kill();
    let (ours, theirs) = wait_for("two members that miss the third", || {
        let both = (scrape(&cluster, OURS), scrape(&cluster, GO));
        let seen = |name| [&both.0, &both.1].iter().all(|export| export.families.contains_key(name));
        [
            "etcd_network_peer_round_trip_time_seconds",
            "etcd_network_peer_sent_failures_total",
            "etcd_network_disconnected_peers_total",
        ]
        .into_iter()
        .all(seen)
        .then_some(both)
    });
    names(&ours, &theirs, &mut wrong);
    for (name, family) in &theirs.families {
        if let Some(own) = ours.families.get(name) {
            shape(name, own, family, &mut wrong);
        }
    }
    assert!(wrong.is_empty(), "{} differences:\n{}", wrong.len(), wrong.join("\n"));
    contrib(&ours);
}

#[test]
fn the_same_work_counts_the_same() {
    let Some(go) = peers::go_etcd() else { return };
    let flags = ["--metrics=extensive", "--feature-gates=LeaseCheckpoint=true"];
    let setup = |program| Setup::new(program).flags(flags);
    counts::compare(&counts::counted(setup(binary::ours())), &counts::counted(setup(go)));
}

/// Values without labels: what differs by right are ids.
fn values(family: &Family) -> Vec<String> {
    family.samples.values().cloned().collect()
}

/// Each name that one has and the other has not is in a list, with a reason, and each name in a list is such a one.
fn names(ours: &Export, theirs: &Export, wrong: &mut Vec<String>) {
    for (file, has, lacks) in [("missing.txt", theirs, ours), ("beyond.txt", ours, theirs)] {
        let list = list::read(file);
        for name in has.families.keys().filter(|name| !lacks.families.contains_key(*name)) {
            if !list.keys().any(|entry| list::covers(entry, name)) {
                wrong.push(format!("{name} is not in testdata/metrics/{file}"));
            }
        }
        for entry in list.keys() {
            let covered = |export: &Export| export.families.keys().any(|name| list::covers(entry, name));
            if !covered(has) || covered(lacks) {
                wrong.push(format!("{entry} is in testdata/metrics/{file} for nothing"));
            }
        }
    }
}

fn shape(name: &str, own: &Family, family: &Family, wrong: &mut Vec<String>) {
    if own.kind != family.kind {
        wrong.push(format!("{name}: {} for {}", own.kind, family.kind));
    }
    if own.labels != family.labels {
        wrong.push(format!("{name}: labels {:?} for {:?}", own.labels, family.labels));
    }
    let numbers =
        |bounds: &[String]| -> Vec<f64> { bounds.iter().map(|bound| bound.parse().expect("a bound")).collect() };
    let (a, b) = (numbers(&own.bounds), numbers(&family.bounds));
    let near = |(a, b): (&f64, &f64)| a == b || (a / b - 1.0).abs() < 1e-9;
    if a.len() != b.len() || !a.iter().zip(&b).all(near) {
        wrong.push(format!("{name}: buckets {a:?} for {b:?}"));
    }
}

/// What is known to be the same in two members of one cluster.
fn content(ours: &Export, theirs: &Export, wrong: &mut Vec<String>) {
    let equal = ["etcd_server_feature_enabled", "etcd_cluster_version", "etcd_server_version"];
    for name in equal {
        let samples = |export: &Export| export.families[name].samples.clone();
        if samples(ours) != samples(theirs) {
            wrong.push(format!("{name}: {:?} for {:?}", samples(ours), samples(theirs)));
        }
    }
    for name in [
        "etcd_server_has_leader",
        "etcd_server_is_learner",
        "etcd_server_quota_backend_bytes",
        "etcd_server_proposals_committed_total",
        "etcd_debugging_mvcc_current_revision",
        "etcd_debugging_mvcc_compact_revision",
        "etcd_debugging_mvcc_keys_total",
        "etcd_debugging_auth_revision",
        "os_fd_limit",
        "process_max_fds",
        "process_virtual_memory_max_bytes",
    ] {
        let number = |export: &Export| export.value(name, "").and_then(|value| value.parse::<f64>().ok());
        if number(ours).is_none() || number(ours) != number(theirs) {
            wrong.push(format!("{name}: {:?} for {:?}", number(ours), number(theirs)));
        }
    }
    for (name, label) in [
        ("etcd_network_known_peers", "Remote"),
        ("etcd_debugging_server_alarms", "server_id"),
        ("etcd_server_healthcheck", "name"),
    ] {
        let seen = |export: &Export| export.label_values(name, label);
        if seen(ours) != seen(theirs) {
            wrong.push(format!("{name}: {label} is {:?} for {:?}", seen(ours), seen(theirs)));
        }
    }
    // Every call of etcd is counted, from the first scrape on.
    let list = list::read("methods.txt");
    for name in ["grpc_server_started_total", "grpc_server_handled_total", "grpc_server_handling_seconds"] {
        let methods = |export: &Export| export.by(name, &["grpc_type", "grpc_service", "grpc_method", "grpc_code"]);
        let (own, go) = (methods(ours), methods(theirs));
        for labels in go.symmetric_difference(&own) {
            let method = format!("{}/{}", labels[1], labels[2]);
            if !list.keys().any(|entry| list::covers(entry, &method)) {
                wrong.push(format!("{name}{labels:?} is with one of the two only"));
            }
        }
    }
}

/// Each metric that our rules and dashboard ask for is exported.
fn contrib(export: &Export) {
    let mut asked = BTreeSet::new();
    for file in ["prometheus/etcd-rules.yml", "prometheus/etcd-rules-test.yml", "grafana/etcd.json"] {
        let text = std::fs::read_to_string(contrib_dir().join(file)).expect("readable");
        let found = metrics_in(&text);
        assert!(found.len() > 10, "{file}: {found:?}");
        asked.extend(found);
    }
    // What operators' own rules and dashboards ask for (the mixin of etcd, Grafana 3070, guides of clouds).
    asked.extend(list::read("operators.txt").into_keys());
    let missing: Vec<_> = asked
        .iter()
        .filter(|name| {
            let family = ["_bucket", "_sum", "_count"].iter().find_map(|suffix| name.strip_suffix(suffix));
            !export.families.contains_key(*name) && !family.is_some_and(|name| export.families.contains_key(name))
        })
        .collect();
    assert!(missing.is_empty(), "asked for and not there: {missing:?}");
}

fn contrib_dir() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../contrib")
}

/// Words that begin as the names of metrics do.
fn metrics_in(text: &str) -> BTreeSet<String> {
    text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'))
        .filter(|word| ["etcd_", "grpc_server_", "process_", "os_fd_"].iter().any(|prefix| word.starts_with(prefix)))
        .map(str::to_owned)
        .collect()
}

#[test]
fn the_dashboard_is_one() {
    let text = std::fs::read_to_string(contrib_dir().join("grafana/etcd.json")).expect("readable");
    let dashboard: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    let panels = dashboard["panels"].as_array().expect("panels");
    let mut ids = BTreeSet::new();
    for panel in panels {
        assert!(ids.insert(panel["id"].as_u64().expect("an id")), "{panel}");
        let place = &panel["gridPos"];
        let number = |key: &str| place[key].as_u64().expect("a number");
        assert!(number("x") + number("w") <= 24, "{panel}");
        if panel["type"] != "row" {
            let targets = panel["targets"].as_array().expect("targets");
            assert!(!targets.is_empty() && targets.iter().all(|target| target["expr"].is_string()), "{panel}");
        }
    }
    assert!(ids.len() > 30, "{}", ids.len());
}
