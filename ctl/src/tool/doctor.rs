//! `retcd doctor`: looks for mistakes in how a member is set up.

mod arguments;
mod show;

use std::io::Write;

use retcd::doctor::{CHECKS, Report, Severity, examine};

use crate::cli::{Action, Command, Failure, Kind, exit};

use super::{EMPTY, flag};
use arguments::{Arguments, Form};

pub(super) const COMMAND: Command = Command {
    usage: "doctor [flags of etcd]",
    short: "Looks for mistakes in flags, files and certificates, and in what other members say",
    flags: &[
        flag(
            "env-file",
            Kind::Text,
            "",
            "a file of environment variables, as systemd's EnvironmentFile has it, in place of the variables of this process",
        ),
        flag(
            "unit",
            Kind::Text,
            "",
            "a systemd unit that starts etcd: its flags, variables, user and limits (`systemctl cat etcd > etcd.unit` prints it)",
        ),
        flag(
            "endpoints",
            Kind::Text,
            "",
            "client URLs to ask how they are, separated by commas; those of the member itself if it runs",
        ),
        flag(
            "user",
            Kind::Text,
            "",
            "the user who runs the member, when that is not you",
        ),
        flag(
            "offline",
            Kind::Bool,
            "false",
            "ask nobody over the network",
        ),
        flag(
            "strict",
            Kind::Bool,
            "false",
            "exit with 1 for warnings, too",
        ),
        flag(
            "output",
            Kind::Text,
            "text",
            "the form of the output (text, json)",
        ),
        flag("list", Kind::Bool, "false", "list all checks, and do none"),
    ],
    action: Action::WithServerFlags(run),
    ..EMPTY
};

fn run(args: &[String], out: &mut dyn Write) -> Result<u8, Failure> {
    let arguments = Arguments::read(args, std::env::vars_os())?;
    if arguments.list {
        for (name, about) in CHECKS {
            writeln!(out, "{name:23} {about}")?;
        }
        return Ok(0);
    }
    // All files that were named to this program are read; relative paths in what follows are of the member. Where the
    // directory is still to be made, there is nothing in it.
    if let Some(dir) = &arguments.request.working_dir {
        let _ = std::env::set_current_dir(dir);
    }
    let report = examine(&arguments.request);
    match arguments.form {
        Form::Text => out.write_all(show::text(&report).as_bytes())?,
        Form::Json => {
            let json = serde_json::to_string(&report).map_err(std::io::Error::from)?;
            writeln!(out, "{json}")?;
        }
    }
    Ok(code(&report, arguments.strict))
}

/// 1 if there is an error, or with `strict` a warning.
fn code(report: &Report, strict: bool) -> u8 {
    let bad = report.count(Severity::Error)
        + match strict {
            true => report.count(Severity::Warning),
            false => 0,
        };
    match bad {
        0 => 0,
        _ => exit::ERROR,
    }
}

#[cfg(test)]
mod tests {
    use retcd::doctor::Finding;

    use super::*;

    fn call(args: &[&str]) -> (u8, String, String) {
        let args: Vec<String> = ["doctor"]
            .iter()
            .chain(args)
            .map(ToString::to_string)
            .collect();
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let code = crate::cli::run(&super::super::ROOT, &args, &mut out, &mut err);
        let text = |bytes| String::from_utf8(bytes).expect("text");
        (code, text(out), text(err))
    }

    #[test]
    fn a_mistake_is_told_with_its_fix_in_both_forms() {
        let (code, out, err) = call(&["--keyfile=x", "--offline"]);
        assert_eq!((code, err.as_str()), (1, ""));
        assert!(out.starts_with("error    flag-unknown  "), "{out}");
        assert!(out.contains("write --key-file"), "{out}");
        let (code, out, _) = call(&["--output", "json", "--keyfile=x", "--offline"]);
        assert_eq!(code, 1);
        let json: serde_json::Value = serde_json::from_str(&out).expect("JSON");
        assert_eq!(json["findings"][0]["check"], "flag-unknown");
        assert_eq!(json["findings"][0]["severity"], "error");
    }

    #[test]
    fn wrong_arguments_have_a_code_of_their_own() {
        for args in [
            &["--output=yaml"][..],
            &["--env-file"],
            &["--env-file=/nonexistent/file"],
            &["--unit=/nonexistent/file"],
            &["--offline=maybe"],
            &["--user=nobody-of-that-name"],
        ] {
            let (code, out, err) = call(args);
            assert_eq!((code, out.as_str()), (exit::BAD_ARGS, ""), "{args:?}");
            assert!(err.starts_with("Error: --"), "{args:?}: {err}");
        }
    }

    #[test]
    fn help_and_list_look_at_nothing() {
        let (code, out, _) = call(&["--name", "x", "--help"]);
        assert_eq!(code, 0);
        assert!(out.contains("--env-file"), "{out}");
        let (code, out, _) = call(&["--list"]);
        assert_eq!(code, 0);
        assert_eq!(out.lines().count(), CHECKS.len());
    }

    #[test]
    fn warnings_count_when_they_shall() {
        let finding = |severity| Finding {
            check: "clock",
            severity,
            what: String::new(),
            fix: String::new(),
        };
        let report = |severity| Report {
            findings: vec![finding(Severity::Note), finding(severity)],
            skipped: Vec::new(),
        };
        assert_eq!(code(&report(Severity::Error), false), 1);
        assert_eq!(code(&report(Severity::Warning), false), 0);
        assert_eq!(code(&report(Severity::Warning), true), 1);
        assert_eq!(code(&report(Severity::Note), true), 0);
    }
}
