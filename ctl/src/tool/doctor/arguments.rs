//! Which of the arguments are for `doctor`, and which are flags of the member.

use std::ffi::OsString;
use std::path::Path;

use retcd::config::{flags, parse_bool};
use retcd::doctor::{Request, Unit, User, read_env_file};

use crate::cli::{Failure, exit};

/// How results are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    Text,
    Json,
}

#[derive(Debug)]
pub(super) struct Arguments {
    pub(super) request: Request,
    pub(super) form: Form,
    pub(super) strict: bool,
    pub(super) list: bool,
}

impl Arguments {
    /// Whatever is no flag of `doctor` is one of the member, with its value.
    pub(super) fn read(
        args: &[String],
        env: impl Iterator<Item = (OsString, OsString)>,
    ) -> Result<Self, Failure> {
        let mut arguments = Self {
            request: Request::default(),
            form: Form::Text,
            strict: false,
            list: false,
        };
        let mut env_file = None;
        let mut unit_given: Option<Unit> = None;
        let mut rest = args.iter();
        while let Some(arg) = rest.next() {
            let body = arg.strip_prefix("--").or_else(|| arg.strip_prefix('-'));
            let (name, value) = match body.map(|body| body.split_once('=')) {
                Some(Some((name, value))) => (name, Some(value)),
                _ => (body.unwrap_or_default(), None),
            };
            let mut text = || match value {
                Some(value) => Ok(value),
                None => rest
                    .next()
                    .map(String::as_str)
                    .ok_or_else(|| bad(format!("--{name} needs a value"))),
            };
            let truth = || match value.map(parse_bool) {
                None => Ok(true),
                Some(Ok(value)) => Ok(value),
                Some(Err(_)) => Err(bad(format!("--{name} is true or false"))),
            };
            match name {
                "env-file" => env_file = Some(text()?),
                "unit" => {
                    let path = text()?;
                    let unit = Unit::read(Path::new(path));
                    unit_given =
                        Some(unit.map_err(|error| bad(format!("--unit={path}: {error}")))?);
                }
                "endpoints" => {
                    let endpoints = text()?.split(',').filter(|one| !one.is_empty());
                    arguments
                        .request
                        .endpoints
                        .extend(endpoints.map(str::to_owned));
                }
                "user" => {
                    let user = User::find(text()?);
                    let user = user.map_err(|error| bad(format!("--user: {error}")))?;
                    arguments.request.user = Some(user);
                }
                "output" => {
                    arguments.form = match text()? {
                        "text" => Form::Text,
                        "json" => Form::Json,
                        other => {
                            return Err(bad(format!("--output={other} is not text or json")));
                        }
                    };
                }
                "offline" => arguments.request.offline = truth()?,
                "strict" => arguments.strict = truth()?,
                "list" => arguments.list = truth()?,
                _ => {
                    arguments.request.args.push(arg.into());
                    let takes_value = flags().any(|flag| flag.name == name && !flag.is_switch);
                    if takes_value && value.is_none() && body.is_some() {
                        arguments.request.args.extend(rest.next().map(Into::into));
                    }
                }
            }
        }
        let mut env: Vec<(OsString, OsString)> = env.collect();
        if let Some(unit) = unit_given {
            let request = &mut arguments.request;
            request.args.splice(..0, unit.args);
            request.open_files = Some(unit.open_files);
            request.made = unit.made;
            request.working_dir = unit.working_dir;
            if request.user.is_none()
                && let Some(name) = unit.user
            {
                match User::find(&name) {
                    Ok(user) => request.user = Some(user),
                    Err(_) => request.missing_user = Some(name),
                }
            }
            env = unit.env;
        }
        arguments.request.env = match env_file {
            Some(path) => read_env_file(Path::new(path))
                .map_err(|error| bad(format!("--env-file={path}: {error}")))?,
            None => env,
        };
        Ok(arguments)
    }
}

fn bad(message: String) -> Failure {
    Failure::new(exit::BAD_ARGS, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(args: &[&str]) -> Arguments {
        let args: Vec<String> = args.iter().map(ToString::to_string).collect();
        let env = [("ETCD_NAME".into(), "n".into())];
        Arguments::read(&args, env.into_iter()).expect("fine")
    }

    #[test]
    fn flags_of_the_member_go_on_with_their_values() {
        let read = read(&[
            "--name",
            "--strict",
            "-endpoints=a:1,b:2",
            "--offline",
            "--auto-tls",
            "--output=json",
            "--listen-peer-urls=http://h:1",
            "word",
        ]);
        // As Go has it, the name is `--strict` here.
        let expected = [
            "--name",
            "--strict",
            "--auto-tls",
            "--listen-peer-urls=http://h:1",
            "word",
        ];
        assert_eq!(read.request.args, expected);
        assert_eq!(read.request.endpoints, ["a:1", "b:2"]);
        assert!(read.request.offline && !read.strict && read.form == Form::Json);
        assert_eq!(read.request.env.len(), 1);
    }

    #[test]
    fn a_unit_says_all_but_what_is_added() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("etcd.service");
        let text = "[Service]\nUser=nobody-of-that-name\nEnvironment=ETCD_NAME=u\nExecStart=etcd --data-dir=/d\n";
        std::fs::write(&path, text).expect("written");
        let read = read(&["--name=x", "--unit", path.to_str().expect("text")]);
        assert_eq!(read.request.args, ["--data-dir=/d", "--name=x"]);
        assert_eq!(
            read.request.env,
            [(OsString::from("ETCD_NAME"), OsString::from("u"))]
        );
        assert_eq!(
            read.request.missing_user.as_deref(),
            Some("nobody-of-that-name")
        );
        assert_eq!(read.request.open_files, Some(1024));
    }

    #[test]
    fn a_file_of_variables_stands_for_those_of_the_process() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("etcd.conf");
        std::fs::write(&path, "ETCD_DATA_DIR=\"/var/lib/etcd\"\n").expect("written");
        let read = read(&["--env-file", path.to_str().expect("text")]);
        let expected: [(OsString, OsString); 1] =
            [("ETCD_DATA_DIR".into(), "/var/lib/etcd".into())];
        assert_eq!(read.request.env, expected);
    }
}
