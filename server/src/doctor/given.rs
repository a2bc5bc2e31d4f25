//! What was given: flags, environment, configuration file.

use std::ffi::{OsStr, OsString};

use slog::Level;

use super::Request;
use super::finding::{Findings, Severity};
use super::near::nearest;
use crate::config::{Config, Invocation, Notice, Refusal, Resolved, flags, from_command_line};

/// Reads it as `etcd` would; `None` when that would not start with it.
pub(super) fn read(request: &Request, findings: &mut Findings) -> Option<Config> {
    odd_characters(&request.args, findings);
    etcdctl_variables(&request.env, findings);
    match from_command_line(request.args.clone(), request.env.clone()) {
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

/// Dashes, quotes and blanks that only look like what they should be.
fn odd_characters(args: &[OsString], findings: &mut Findings) {
    for arg in args {
        let text = arg.to_string_lossy();
        let odd = text.chars().find_map(|c| match c {
            '\u{2010}'..='\u{2015}' | '\u{2212}' => Some((c, "-")),
            '\u{2018}' | '\u{2019}' => Some((c, "'")),
            '\u{201c}' | '\u{201d}' => Some((c, "\"")),
            '\u{a0}' | '\u{3000}' | '\u{200b}' | '\u{feff}' => Some((c, "a blank, or nothing")),
            _ => None,
        });
        if let Some((c, meant)) = odd {
            findings.error(
                "odd-character",
                format!("{text:?} has the character U+{:04X} in it", u32::from(c)),
                format!("type {meant} in its place: web pages and word processors change it"),
            );
        }
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
            None => findings.error(
                "config",
                text,
                "put the value right; `etcd --help` lists all flags with their defaults",
            ),
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
        None => "leave the flag out: no flag of etcd has a name like it (those of etcd 3.5 and before, such as --proxy, are gone)".into(),
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
            let error = field("error").unwrap_or(what);
            let fix = advice(&error);
            findings.error("config", error, fix);
        }
        "found invalid file under data directory" => {}
        _ => {
            let severity = match notice.level {
                Level::Critical | Level::Error => Severity::Error,
                Level::Warning => Severity::Warning,
                _ => return,
            };
            let fix = "etcd starts and logs this; change the setting if it is not meant";
            findings.add("config-notice", severity, what, fix);
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

/// For errors that come as a text.
fn advice(error: &str) -> String {
    let fix = if error.ends_with("is not a valid flag") {
        "every flag begins with a dash, values with blanks need quotes, and a boolean takes `=` (--auto-tls=false, not --auto-tls false)"
    } else if error.contains("is not implemented by retcd yet") {
        "leave the flag out, or keep the member on etcd until it is"
    } else if error.starts_with("open ") {
        "name a file that is there and can be read"
    } else {
        "put the value right; `etcd --help` lists all flags with their defaults"
    };
    fix.to_owned()
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
