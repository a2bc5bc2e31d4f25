//! Members that find each other through a registry in another etcd.

use std::path::PathBuf;

use retcd_tests::cluster::{Cluster, wait_for};
use retcd_tests::member::{Member, Setup};
use retcd_tests::pki::{Issued, Spec};
use retcd_tests::ports::Port;
use retcd_tests::{peers, run};

use super::programs;

const WAITING: &str = "waiting for peers from discovery service";

/// Runs etcdctl against the registry.
fn ctl(registry: &Member, args: &[&str]) -> String {
    let ctl = peers::go_etcdctl().expect("as before");
    let mut command = std::process::Command::new(ctl);
    command.args(["--command-timeout=60s", "--endpoints", &registry.url()]).args(args);
    run::stdout(&mut command).unwrap_or_else(|e| panic!("{e}"))
}

/// Members that are to find each other, none of which runs yet.
fn members(programs: &[&PathBuf], flags: &[&str]) -> Cluster {
    let (etcdctl, _) = self::programs().expect("as before");
    let programs: Vec<_> = programs.iter().map(|program| program.as_path()).collect();
    let mut cluster = Cluster::prepare(&etcdctl, &programs, flags);
    for member in &mut cluster.members {
        member.set_cluster("");
    }
    cluster
}

/// Starts a member that is refused; what it says.
fn refused(member: &mut Member) -> String {
    member.spawn();
    let status = member.wait();
    let log = member.log().whole();
    assert_eq!(status.code(), Some(1), "{log}");
    let warning = "failed to bootstrap; discovery token was already used";
    for line in ["discovery failed to join cluster", warning, "do not reuse discovery token; generate a new one"] {
        assert!(log.contains(line), "no {line:?} in\n{log}");
    }
    assert!(!member.dir().join("member").exists(), "a refused start leaves nothing");
    log
}

#[test]
fn members_find_each_other_through_another_etcd() {
    let Some((_, ours)) = programs() else { return };
    let go = peers::go_etcd().unwrap_or_else(|| ours.clone());
    let mut registry = Member::start(Setup::new(&ours).name("registry"));
    let flags = ["--discovery-token=token", &format!("--discovery-endpoints={}", registry.url())];
    let mut cluster = members(&[&ours, &go, &ours], &flags);

    let log = refused(&mut cluster.members[0]);
    assert!(log.contains("failed to join discovery cluster (discovery: size key not found)"), "{log}");
    let advice = "put /_etcd/registry/token/_config/size <members>";
    assert!(log.contains(advice), "{log}");
    ctl(&registry, &["put", "/_etcd/registry/token/_config/size", "3"]);

    // The first one waits, also for a registry that goes and comes back.
    cluster.members[0].spawn();
    cluster.wait_for_log(0, WAITING);
    registry.kill();
    cluster.wait_for_log(0, "retry connecting to discovery service");
    registry.restart();
    wait_for("second wait", || (cluster.members[0].log().text().matches(WAITING).count() > 1).then_some(()));
    for number in [1, 2] {
        cluster.members[number].spawn();
    }
    for number in 0..3 {
        cluster.wait_until_serving(number);
    }
    cluster.put(1, "key", "value");
    for number in 0..3 {
        assert_eq!(cluster.get(number, "key"), "value");
    }
    assert_eq!(cluster.at(2, &["member", "list"]).lines().count(), 3);
    let found = ctl(&registry, &["get", "--prefix", "/_etcd/registry/token/members/"]);
    for member in &cluster.members {
        assert!(found.contains(&member.entry()), "no {} in\n{found}", member.entry());
    }

    // There is no room for a fourth.
    let mut fourth = Member::prepare(Setup::new(&ours).name("m4").flags(flags));
    fourth.set_cluster("");
    let log = refused(&mut fourth);
    assert!(log.contains("failed to join discovery cluster (discovery: cluster is full)"), "{log}");
    assert!(log.contains("etcdctl member add"), "{log}");

    // Who has data asks nobody.
    registry.kill();
    cluster.members[0].kill();
    cluster.restart(0);
    cluster.wait_for_log(0, "discovery token is ignored since cluster already initialized; valid logs are found");
    // Who has lost it is not a founder again: the others know it as a member.
    registry.restart();
    cluster.members[2].kill();
    cluster.members[2].wipe();
    cluster.members[2].spawn();
    let status = cluster.members[2].wait();
    let log = cluster.members[2].log().whole();
    assert!(status.code() == Some(1) && log.contains("has already been bootstrapped"), "{log}");
}

#[test]
fn a_registry_may_demand_certificates_and_passwords() {
    let (Some((_, ours)), Some(go)) = (programs(), peers::go_etcd()) else { return };
    let dir = tempfile::tempdir().expect("a temporary directory");
    let authority = Issued::self_signed(&Spec::new("authority").authority());
    let ca = retcd_tests::pki::put(dir.path(), "ca.pem", authority.pem().as_bytes());
    let (cert, key) = authority.issue(&Spec::new("both")).put(dir.path(), "both");
    let [ca, cert, key] = [ca, cert, key].map(|path| path.display().to_string());

    let secure = Port::take();
    let endpoint = format!("127.0.0.1:{}", secure.number());
    let mut registry = Member::prepare(Setup::new(&go).name("registry"));
    let plain = registry.url();
    registry.set_flags([
        format!("--listen-client-urls={plain},https://{endpoint}"),
        format!("--cert-file={cert}"),
        format!("--key-file={key}"),
        format!("--trusted-ca-file={ca}"),
        "--client-cert-auth".to_owned(),
    ]);
    registry.restart();
    ctl(&registry, &["put", "/_etcd/registry/token/_config/size", "2"]);
    for args in [&["user", "add", "root:pw"][..], &["user", "grant-role", "root", "root"], &["auth", "enable"]] {
        ctl(&registry, args);
    }

    // An endpoint without scheme is taken for one with TLS because of the files.
    let mut flags = vec![
        "--discovery-token=token".to_owned(),
        format!("--discovery-endpoints={endpoint}"),
        format!("--discovery-cacert={ca}"),
        format!("--discovery-cert={cert}"),
        format!("--discovery-key={key}"),
        "--discovery-user=root:wrong".to_owned(),
    ];
    let given: Vec<&str> = flags.iter().map(String::as_str).collect();
    let mut cluster = members(&[&ours, &ours], &given);
    let log = refused(&mut cluster.members[0]);
    assert!(log.contains("authentication failed, invalid user ID or password"), "{log}");
    assert!(log.contains("the registry refuses --discovery-user"), "{log}");

    flags[5] = "--discovery-user=root".to_owned();
    flags.push("--discovery-password=pw".to_owned());
    for member in &mut cluster.members {
        member.set_flags(flags.iter().map(String::as_str));
        member.spawn();
    }
    for number in 0..2 {
        cluster.wait_until_serving(number);
    }
    cluster.put(0, "key", "value");
    assert_eq!(cluster.get(1, "key"), "value");
    let log = cluster.members[0].log().text();
    assert!(!log.contains("\"pw\"") && !log.contains("=pw"), "no log shows a password:\n{log}");
}
