//! What was given: flags, environment, configuration file.

use std::ffi::{OsStr, OsString};
use std::path::Path;

use slog::Level;

use super::Request;
use super::certificates::readable;
use super::finding::{Findings, Severity};
use crate::config::{Config, Invocation, Notice, Refusal, Resolved, flags, from_command_line};
use crate::near::nearest;

/// Reads it as `etcd` would; `None` when that would not start with it.
pub(super) fn read(request: &Request, findings: &mut Findings) -> Option<Config> {
    odd_characters(&request.args, findings);
    odd_values(&request.env, findings);
    etcdctl_variables(&request.env, findings);
    let invocation = from_command_line(request.args.clone(), request.env.clone());
    let notices = match &invocation {
        Ok(Invocation::Serve { notices, .. }) => notices.as_slice(),
        Ok(Invocation::Print { .. }) => &[],
        Err(refusal) => &refusal.notices,
    };
    if let Some(path) = file_of(notices) {
        file(&path, request, findings);
    }
    match invocation {
        Ok(Invocation::Serve { config, notices }) => {
            notices.iter().for_each(|notice| tell(notice, findings));
            Some(*config)
        }
        Ok(Invocation::Print { .. }) => {
            findings.skipped("everything: --version and --help start no member");
            None
        }
        Err(refusal) => {
            refused(&refusal, findings);
            findings.skipped("everything else: etcd does not start with these flags");
            None
        }
    }
}

/// Checks that values go together.
pub(super) fn resolve(config: &Config, findings: &mut Findings) -> Option<Resolved> {
    match config.resolve() {
        Ok(resolved) => {
            for notice in &resolved.notices {
                tell(notice, findings);
            }
            Some(resolved)
        }
        Err(error) => {
            findings.error("config", &error, error.remedy());
            findings.skipped("everything else: etcd does not start with these flags");
            None
        }
    }
}

/// The configuration file, if there is one: what was read, or what could not be.
fn file_of(notices: &[Notice]) -> Option<String> {
    let fields = notices.iter().flat_map(|notice| {
        let loaded = notice.message.starts_with("loaded server configuration");
        let fields = notice.fields.iter();
        fields.filter(move |(key, _)| *key == "config-file" || (loaded && *key == "path"))
    });
    fields.map(|(_, path)| path.to_string()).next()
}

/// The file itself, and what is given beside it.
fn file(path: &str, request: &Request, findings: &mut Findings) {
    readable(
        "--config-file",
        Path::new(path),
        request.user.as_ref(),
        findings,
    );
    if let Ok(text) = std::fs::read_to_string(path) {
        let lines = text.lines().enumerate();
        for (number, line) in lines.filter(|(_, line)| !line.trim_start().starts_with('#')) {
            let setting = line.split(" #").next().unwrap_or(line);
            odd_character(
                setting,
                &format!("line {} of {path}", number + 1),
                Severity::Warning,
                findings,
            );
        }
    }
    let counts = |name: &str| !matches!(name, "config-file" | "version");
    let given = request.args.iter().filter_map(|arg| {
        let name = arg.to_str()?.strip_prefix('-')?;
        let name = name.strip_prefix('-').unwrap_or(name).split('=').next()?;
        let is_flag = flags().any(|flag| flag.name == name);
        (is_flag && counts(name)).then(|| format!("--{name}"))
    });
    let set = request.env.iter().filter_map(|(name, value)| {
        let name = name.to_str()?;
        let mut known = flags().filter(|flag| counts(flag.name));
        (!value.is_empty() && known.any(|flag| flag.env() == name)).then(|| name.to_owned())
    });
    let beside: Vec<String> = given.chain(set).collect();
    if !beside.is_empty() {
        findings.warning(
            "file-alone",
            format!(
                "{path} is used alone: {}, given beside it, do nothing",
                beside.join(", ")
            ),
            "put them into the file and take them away here, or leave --config-file out",
        );
    }
}

/// Dashes, quotes and blanks that only look like what they should be.
fn odd_characters(args: &[OsString], findings: &mut Findings) {
    for arg in args {
        let text = arg.to_string_lossy();
        odd_character(&text, &format!("{text:?}"), Severity::Error, findings);
    }
}

/// The same in variables, where a value may well mean them.
fn odd_values(env: &[(OsString, OsString)], findings: &mut Findings) {
    for (name, value) in env {
        let (name, value) = (name.to_string_lossy(), value.to_string_lossy());
        if name.starts_with("ETCD_") {
            let place = format!("{name}={value:?}");
            odd_character(&value, &place, Severity::Warning, findings);
        }
    }
}

fn odd_character(text: &str, place: &str, severity: Severity, findings: &mut Findings) {
    let odd = text.chars().find_map(|c| match c {
        '\u{2010}'..='\u{2015}' | '\u{2212}' => Some((c, "-")),
        '\u{2018}' | '\u{2019}' => Some((c, "'")),
        '\u{201c}' | '\u{201d}' => Some((c, "\"")),
        '\u{a0}' | '\u{3000}' | '\u{200b}' | '\u{feff}' => Some((c, "a blank, or nothing")),
        _ => None,
    });
    if let Some((c, meant)) = odd {
        findings.add(
            "odd-character",
            severity,
            format!("{place} has the character U+{:04X} in it", u32::from(c)),
            format!("type {meant} in its place: web pages and word processors change it"),
        );
    }
}

/// etcdctl of the v2 API and of the v3 API read different variables.
fn etcdctl_variables(env: &[(OsString, OsString)], findings: &mut Findings) {
    const PAIRS: [(&str, &str); 5] = [
        ("ETCDCTL_ENDPOINT", "ETCDCTL_ENDPOINTS"),
        ("ETCDCTL_PEERS", "ETCDCTL_ENDPOINTS"),
        ("ETCDCTL_CA_FILE", "ETCDCTL_CACERT"),
        ("ETCDCTL_CERT_FILE", "ETCDCTL_CERT"),
        ("ETCDCTL_KEY_FILE", "ETCDCTL_KEY"),
    ];
    let has = |name: &str| env.iter().any(|(key, _)| key == OsStr::new(name));
    let old = PAIRS.iter().filter(|(old, _)| has(old));
    let old: Vec<_> = old.collect();
    let new = PAIRS.iter().map(|(_, new)| *new).find(|new| has(new));
    if let (Some((first, _)), Some(new)) = (old.first(), new) {
        let renamed: Vec<_> = old
            .iter()
            .map(|(old, new)| format!("{old} is {new}"))
            .collect();
        findings.warning(
            "etcdctl-env",
            format!("{first} is read by etcdctl with ETCDCTL_API=2 alone, {new} by the one of today alone"),
            format!(
                "take the names of today ({}), and export them: etcdctl does not see variables that a shell has only set",
                renamed.join(", ")
            ),
        );
    }
}

fn refused(refusal: &Refusal, findings: &mut Findings) {
    if let Some(text) = refusal.stderr.lines().next() {
        let unknown = text.strip_prefix("flag provided but not defined: -");
        match unknown {
            Some(name) => unknown_flag(name, text, findings),
            None => wrong(text, findings),
        }
    }
    for notice in &refusal.notices {
        tell(notice, findings);
    }
}

fn unknown_flag(name: &str, text: &str, findings: &mut Findings) {
    let names: Vec<&str> = flags().map(|flag| flag.name).collect();
    let renamed = name.strip_prefix("experimental-");
    let renamed = renamed.filter(|name| names.contains(name));
    let fix = match renamed.or_else(|| nearest(name, names.iter().copied())) {
        Some(meant) => format!("write --{meant} if that was meant, or leave the flag out"),
        None => "leave the flag out: no flag of etcd has a name like it".into(),
    };
    findings.error("flag-unknown", text, fix);
}

/// What etcd would log.
fn tell(notice: &Notice, findings: &mut Findings) {
    let field = |name: &str| {
        let mut fields = notice.fields.iter();
        fields.find_map(|(key, value)| (*key == name).then(|| value.to_string()))
    };
    let fields: Vec<String> = notice
        .fields
        .iter()
        .map(|(key, value)| format!("{key}: {value}"))
        .collect();
    let what = match fields.is_empty() {
        true => notice.message.to_owned(),
        false => format!("{} ({})", notice.message, fields.join(", ")),
    };
    match notice.message {
        // Every etcd says so, with its defaults.
        "Running http and grpc server on single port. This is not recommended for production." => {}
        "unrecognized environment variable" => {
            unknown_variable(&field("environment-variable").unwrap_or_default(), findings)
        }
        message if message.starts_with("conflicting environment variable") => {
            let variable = field("environment-variable").unwrap_or_default();
            findings.error(
                "config",
                format!("{variable} is set, and the flag that it stands for is given as well"),
                format!("take one of them away: unset {variable} (or its line in the environment file), or leave the flag out"),
            );
        }
        "failed to verify flags" => {
            let mut error = field("error").unwrap_or(what);
            if let Some((file, line)) = field("config-file").zip(field("line")) {
                error = format!("{file}, line {line}: {error}");
            }
            match field("remedy") {
                Some(remedy) => findings.error("config", error, remedy),
                None => wrong(&error, findings),
            }
        }
        message if message.starts_with("flag is of an earlier etcd release") => {
            let flag = field("flag").unwrap_or_default();
            let (what, fix) = match (field("replacement"), field("reason")) {
                (Some(new), _) => (
                    format!(
                        "{flag} is a flag of an earlier etcd release, and stands for {new} here"
                    ),
                    format!("write {new}: etcd 3.7 does not start with {flag}"),
                ),
                (None, reason) => (
                    format!(
                        "{flag} is a flag of an earlier etcd release and does nothing: {}",
                        reason.unwrap_or_default()
                    ),
                    format!("leave it out: etcd 3.7 does not start with {flag}"),
                ),
            };
            findings.warning("flag-old", what, fix);
        }
        // Told with more to it.
        "found invalid file under data directory" => {}
        message if message.starts_with("flags beside a configuration file") => {}
        _ => {
            let severity = match notice.level {
                Level::Critical | Level::Error => Severity::Error,
                Level::Warning => Severity::Warning,
                _ => return,
            };
            findings.add("config-notice", severity, &what, meaning(notice.message));
        }
    }
}

fn unknown_variable(variable: &str, findings: &mut Findings) {
    let name = variable.split('=').next().unwrap_or_default();
    let known: Vec<String> = flags().map(|flag| flag.env()).collect();
    let fix = match nearest(name, known.iter().map(String::as_str)) {
        Some(meant) => format!("write {meant} if that was meant, or take the variable away"),
        None => "take it away: etcd does not read it".to_owned(),
    };
    findings.warning(
        "env-unknown",
        format!("{name} stands for no flag of etcd, so it does nothing"),
        fix,
    );
}

/// What to do about a setting that draws a warning.
fn meaning(message: &str) -> &'static str {
    if message.starts_with("it isn't recommended to use default name") {
        "give the member a name of its own with --name, and the same one in --initial-cluster"
    } else if message.starts_with("'data-dir' was empty") {
        "name a directory with --data-dir: this one lies wherever etcd happens to be started"
    } else if message.starts_with("--enable-v2 serves") {
        "leave the flag out as soon as nothing asks for /v2/ any more (docs/v2.md)"
    } else if message.contains("no effect") || message.contains("no longer supported") {
        "leave it out"
    } else if message.contains("key") && message.contains("configuration file") {
        "put the name of the key right, or take the line out; contrib/etcd.conf.yml.sample has all of them"
    } else {
        "etcd starts and logs this; change the setting if it is not meant"
    }
}

/// An error that comes as a text, perhaps with what to do behind a semicolon or colon.
fn wrong(error: &str, findings: &mut Findings) {
    let (what, fix) = if error.ends_with("is not a valid flag") {
        (
            error,
            "every flag begins with a dash, values with blanks need quotes, and a boolean takes `=` (--auto-tls=false, not --auto-tls false)",
        )
    } else if error.contains("is not implemented by retcd yet") {
        (
            error,
            "leave the flag out, or keep the member on etcd until it is",
        )
    } else if let Some((what, fix)) = error
        .split_once("; ")
        .filter(|_| error.contains("is gone since etcd"))
    {
        (what, fix)
    } else if let Some((what, fix)) = error.split_once(", please use ") {
        (what, fix)
    } else if error.starts_with("open ") {
        (error, "name a file that is there and can be read")
    } else {
        (
            error,
            "put the value right; `etcd --help` lists all flags with their defaults",
        )
    };
    let fix = match fix.strip_prefix("--") {
        Some(flag) => format!("use --{flag}"),
        None => fix.to_owned(),
    };
    findings.error("config", what, fix);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(args: &[&str], env: &[(&str, &str)]) -> (Option<Config>, Findings) {
        let request = Request {
            args: args.iter().map(Into::into).collect(),
            env: env.iter().map(|(k, v)| (k.into(), v.into())).collect(),
            ..Request::default()
        };
        let mut findings = Findings::default();
        let config = read(&request, &mut findings);
        (config, findings)
    }

    #[test]
    fn a_misspelled_flag_is_named() {
        let (config, findings) = found(&["--keyfile=x"], &[]);
        assert!(config.is_none());
        let found = findings.only("flag-unknown");
        assert_eq!(found.what, "flag provided but not defined: -keyfile");
        assert!(found.fix.contains("--key-file"), "{}", found.fix);
        let (_, findings) = self::found(&["--no-such-thing-at-all"], &[]);
        assert!(findings.only("flag-unknown").fix.starts_with("leave"));
    }

    #[test]
    fn a_dash_of_a_word_processor_is_named() {
        let (_, findings) = found(&["\u{2013}name=x"], &[]);
        let found = findings.only("odd-character");
        assert!(found.what.contains("U+2013"), "{}", found.what);
        assert_eq!(
            findings.only("config").what,
            "\"\u{2013}name=x\" is not a valid flag"
        );
    }

    #[test]
    fn variables_that_do_nothing_or_too_much_are_named() {
        let (config, findings) = found(&[], &[("ETCD_KEYFILE", "x"), ("ETCD_NAME", "n")]);
        assert!(config.is_some());
        let found = findings.only("env-unknown");
        assert!(found.fix.contains("ETCD_KEY_FILE"), "{}", found.fix);

        let (config, findings) = self::found(&["--name=a"], &[("ETCD_NAME", "a")]);
        assert!(config.is_none());
        assert!(findings.only("config").fix.contains("unset ETCD_NAME"));
    }

    #[test]
    fn flags_of_earlier_releases_come_with_what_to_write_today() {
        let (config, findings) = found(&["--proxy=on"], &[]);
        assert!(config.is_none());
        let found = findings.only("config");
        assert!(found.what.ends_with("is gone since etcd 3.6"), "{found:?}");
        assert!(found.fix.starts_with("give clients the URLs"), "{found:?}");
        let (config, findings) =
            self::found(&["--debug", "--proxy=off", "--log-output=stderr"], &[]);
        assert!(config.is_some());
        assert_eq!(findings.checks(), ["flag-old"; 3]);
        let (_, findings) = self::found(&["--log-output=stderr"], &[]);
        assert!(
            findings
                .only("flag-old")
                .fix
                .contains("write --log-outputs")
        );
        let (_, findings) = self::found(&["--log-output=stderr", "--log-outputs=stdout"], &[]);
        assert!(
            findings.only("config").fix.contains("--log-outputs only"),
            "{findings:?}"
        );
    }

    #[test]
    fn a_file_is_read_as_the_server_reads_it() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("etcd.yml");
        let arg = format!("--config-file={}", path.display());
        let text = "# it\u{2019}s fine here\nname: m1 # \u{201c}and here\u{201d}\ndata-dir: /d\nkeyfile: x\n";
        std::fs::write(&path, text).expect("written");
        let (config, findings) = found(
            &[&arg, "--name=x"],
            &[("ETCD_DATA_DIR", "/e"), ("ETCD_KEYFILE", "y")],
        );
        let config = config.expect("readable");
        assert_eq!(
            (config.name.as_str(), config.data_dir.to_str()),
            ("m1", Some("/d"))
        );
        assert_eq!(
            findings.checks(),
            ["file-alone", "config-notice"],
            "{findings:#?}"
        );
        let beside = &findings.only("file-alone").what;
        assert!(beside.contains("--name, ETCD_DATA_DIR,"), "{beside}");
        assert!(
            findings
                .only("config-notice")
                .fix
                .contains("etcd.conf.yml.sample")
        );

        std::fs::write(
            &path,
            "name: \u{201c}m1\u{201d}\nheartbeat-interval: soon\n",
        )
        .expect("written");
        let (config, findings) = self::found(&[&arg], &[]);
        assert!(config.is_none());
        assert!(
            findings
                .only("odd-character")
                .what
                .starts_with("line 1 of ")
        );
        assert!(
            findings.only("config").what.contains("etcd.yml, line 2: "),
            "{findings:#?}"
        );
        let (_, findings) = self::found(&["--config-file=/nonexistent/etcd.yml"], &[]);
        assert!(findings.checks().contains(&"config"), "{findings:#?}");
    }

    /// The environment file of a tutorial.
    #[test]
    fn variables_of_two_generations_of_etcdctl_are_named() {
        let old = ("ETCDCTL_ENDPOINT", "x");
        let (_, findings) = found(&[], &[old, ("ETCDCTL_CACERT", "y")]);
        let found = findings.only("etcdctl-env");
        assert!(
            found.fix.contains("ETCDCTL_ENDPOINT is ETCDCTL_ENDPOINTS"),
            "{}",
            found.fix
        );
        let (_, findings) = self::found(&[], &[old]);
        assert!(findings.checks().is_empty());
    }

    #[test]
    fn a_name_to_listen_on_is_explained() {
        let urls = "--listen-peer-urls=http://etcd1.example.com:2380";
        let (config, mut findings) = found(&[urls], &[]);
        assert!(resolve(&config.expect("readable"), &mut findings).is_none());
        let found = findings.only("config");
        assert!(found.fix.contains("IP address"), "{}", found.fix);
    }
}
