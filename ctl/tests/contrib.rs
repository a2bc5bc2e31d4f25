//! The samples in `contrib/` name all flags and only flags, with the defaults that the program has.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use retcd::config::{FlagInfo, flags};

fn contrib(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../contrib")
        .join(name)
}

fn read(name: &str) -> String {
    let path = contrib(name);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn all() -> BTreeMap<&'static str, FlagInfo> {
    flags().map(|flag| (flag.name, flag)).collect()
}

/// What only the command line has: it is no setting, or no etcd's.
fn is_setting(name: &str) -> bool {
    name != "version" && !name.starts_with("experimental-")
}

/// What a configuration file has no key for, as in etcd.
fn has_key(name: &str) -> bool {
    !matches!(
        name,
        "client-crl-file"
            | "config-file"
            | "discovery-fallback"
            | "peer-crl-file"
            | "raft-read-timeout"
            | "raft-write-timeout"
    )
}

/// The flag of a key, which stands in these maps. Source: config-and-ops 2.
fn flag_of(path: &[&str]) -> String {
    let joined = path.join("/");
    let discovery = match joined.as_str() {
        "client-transport-security/allowed-hostname" => {
            return "client-cert-allowed-hostname".into();
        }
        "peer-transport-security/allowed-hostname" => return "peer-cert-allowed-hostname".into(),
        "peer-transport-security/allowed-cn" => return "peer-cert-allowed-cn".into(),
        "discovery-config/client/auth/username" => "user",
        _ => path[path.len() - 1],
    };
    match path[0] {
        "client-transport-security" => path[1].to_owned(),
        "peer-transport-security" => format!("peer-{}", path[1]),
        "socket-options" => format!("socket-{}", path[1]),
        "discovery-config" => format!("discovery-{discovery}"),
        key => key.to_owned(),
    }
}

/// The keys of the sample, each with the maps that it is in, and the values.
fn keys(text: &str) -> Vec<(Vec<String>, String)> {
    let mut keys = Vec::new();
    let mut maps: Vec<(usize, String)> = Vec::new();
    for line in text.lines() {
        let Some(setting) = line.strip_prefix('#') else {
            assert_eq!(line, "", "every line is a comment");
            continue;
        };
        let trimmed = setting.trim_start();
        let indent = setting.len() - trimmed.len();
        // One blank makes prose.
        if trimmed.is_empty() || trimmed.starts_with('#') || indent == 1 {
            continue;
        }
        let (key, value) = trimmed.split_once(':').unwrap_or_else(|| panic!("{line}"));
        maps.retain(|(at, _)| *at < indent);
        match value.trim() {
            "" => maps.push((indent, key.to_owned())),
            value => {
                let mut path: Vec<String> = maps.iter().map(|(_, map)| map.clone()).collect();
                path.push(key.to_owned());
                keys.push((path, value.to_owned()));
            }
        }
    }
    keys
}

/// As the flag spells it. Durations are nanoseconds in a file.
fn is_default(flag: &FlagInfo, value: &str) -> bool {
    let bare = value
        .strip_prefix('\'')
        .and_then(|value| value.strip_suffix('\''));
    let list = value
        .strip_prefix('[')
        .and_then(|value| value.strip_suffix(']'));
    let text = bare.or(list).unwrap_or(value);
    flag.is_default(text) || flag.is_default(&format!("{text}ns"))
}

#[test]
fn the_sample_file_has_every_key_with_its_default() {
    let flags = all();
    let text = read("etcd.conf.yml.sample");
    let mut found = Vec::new();
    for (path, value) in keys(&text) {
        let path: Vec<&str> = path.iter().map(String::as_str).collect();
        let name = flag_of(&path);
        let flag = flags
            .get(name.as_str())
            .unwrap_or_else(|| panic!("{path:?} is no flag {name}"));
        assert!(
            is_default(flag, &value),
            "{path:?}: {value}, and the flag has {:?}",
            flag.default
        );
        found.push(name);
    }
    for name in flags
        .keys()
        .filter(|name| is_setting(name) && has_key(name))
    {
        let times = found.iter().filter(|found| found == name).count();
        assert_eq!(times, 1, "{name} in the sample");
    }
}

#[test]
fn the_sample_environment_has_every_variable_with_its_default() {
    let text = read("etcd.env.sample");
    let lines: Vec<&str> = text
        .lines()
        .filter_map(|line| line.strip_prefix("#ETCD_"))
        .collect();
    let file = lines
        .iter()
        .map(|line| format!("ETCD_{line}\n"))
        .collect::<String>();
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("etcd.env");
    fs::write(&path, file).expect("written");
    let variables = retcd::doctor::read_env_file(&path).expect("as systemd reads it");
    assert_eq!(variables.len(), lines.len());
    let flags = all();
    for (name, value) in &variables {
        let (name, value) = (name.to_str().expect("text"), value.to_str().expect("text"));
        let flag = flags.values().find(|flag| flag.env() == name);
        let flag = flag.unwrap_or_else(|| panic!("{name} is no variable of a flag"));
        assert!(
            flag.is_default(value),
            "{name}: {value}, and the flag has {:?}",
            flag.default
        );
    }
    for (name, flag) in flags.iter().filter(|(name, _)| is_setting(name)) {
        let wanted = flag.env();
        let has = variables
            .iter()
            .filter(|(name, _)| **name == *wanted)
            .count();
        assert_eq!(has, 1, "{name} in the sample");
    }
}

#[test]
fn the_unit_starts_the_server_with_the_sample_where_it_looks_for_it() {
    let unit = read("systemd/etcd.service");
    for line in [
        "Type=notify",
        "LimitNOFILE=65536",
        "Restart=on-failure",
        "EnvironmentFile=-/etc/etcd/etcd.env",
        "ExecStart=/usr/local/bin/etcd",
        "WantedBy=multi-user.target",
    ] {
        assert!(unit.lines().any(|own| own == line), "{line}");
    }
    // Flags of the command line would stand against variables of the same name.
    let start = unit
        .lines()
        .find(|line| line.starts_with("ExecStart="))
        .expect("a command");
    assert!(!start.contains(" -"), "{start}");
}

#[test]
fn the_sockets_are_those_of_the_defaults() {
    let text = read("systemd/etcd.socket");
    let sockets = text
        .lines()
        .filter_map(|line| line.strip_prefix("ListenStream="));
    let defaults = ["listen-client-urls", "listen-peer-urls"].map(|name| {
        let url = all()[name].default;
        url.replace("http://localhost", "127.0.0.1")
    });
    assert_eq!(sockets.collect::<Vec<_>>(), defaults);
}

#[test]
fn the_container_has_what_is_built() {
    let file = read("Containerfile");
    let copied = file
        .lines()
        .find_map(|line| line.strip_prefix("COPY "))
        .expect("a line");
    let mut names: Vec<&str> = copied.split(' ').collect();
    assert_eq!(names.pop(), Some("/usr/local/bin/"));
    assert_eq!(names, ["etcd", "etcdutl", "retcd"]);
    assert!(file.lines().any(|line| line == "FROM scratch"));
}

#[test]
fn the_page_lists_every_check() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/doctor.md");
    let page = fs::read_to_string(path).expect("the page");
    let rows: Vec<String> = retcd::doctor::CHECKS
        .iter()
        .map(|(name, about)| format!("| `{name}` | {about} |"))
        .collect();
    let listed: Vec<&str> = page
        .lines()
        .filter(|line| line.starts_with("| `") && !line.contains("`--"))
        .collect();
    assert!(
        rows.iter().all(|row| listed.contains(&row.as_str())),
        "docs/doctor.md does not have all of\n{}",
        rows.join("\n")
    );
}
