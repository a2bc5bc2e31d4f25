//! `etcdutl snapshot`.

use std::io::Write;
use std::num::NonZeroU64;
use std::path::Path;

use retcd::backup::{self, Bump, RestoreOptions, Status};
use retcd::log::Log;
use serde::Serialize;

use crate::cli::{Action, Command, Failure, Flag, Invocation, Kind, exit};
use crate::output::{self, Form};

pub(super) const COMMAND: Command = Command {
    usage: "snapshot <subcommand>",
    short: "Looks into saved snapshots and restores members from them",
    persistent_flags: &[],
    flags: &[],
    commands: &[
        Command {
            usage: "restore <filename> --data-dir {output dir} [options]",
            short: "Makes a member's data directory from a saved snapshot",
            persistent_flags: &[],
            flags: RESTORE_FLAGS,
            commands: &[],
            action: Action::Run(restore),
        },
        Command {
            usage: "status <filename>",
            short: "Prints hash, revision, number of keys, size and version of a saved snapshot",
            persistent_flags: &[],
            flags: &[],
            commands: &[],
            action: Action::Run(status),
        },
    ],
    action: Action::Group,
};

const RESTORE_FLAGS: &[Flag] = &[
    text(
        "data-dir",
        "",
        "the data directory to make; <name>.etcd if none is given",
    ),
    text(
        "wal-dir",
        "",
        "the directory for the log; inside the data directory if none is given",
    ),
    text(
        "initial-cluster",
        "default=http://localhost:2380",
        "all members that are restored from this snapshot, name=url,name=url",
    ),
    text(
        "initial-cluster-token",
        "etcd-cluster",
        "the token of the new cluster, the same for all of its members",
    ),
    text(
        "initial-advertise-peer-urls",
        "http://localhost:2380",
        "this member's peer URLs, as --initial-cluster lists them",
    ),
    text("name", "default", "this member's name"),
    Flag {
        kind: Kind::Bool,
        ..text(
            "skip-hash-check",
            "false",
            "take a file without checksum, such as a copied member/snap/db, or a damaged one",
        )
    },
    Flag {
        kind: Kind::Uint,
        ..text(
            "initial-memory-map-size",
            "10737418240",
            "accepted as etcd does; has no effect here",
        )
    },
    Flag {
        kind: Kind::Uint,
        ..text(
            "bump-revision",
            "0",
            "raise the latest revision by so much, so that clients never see it go back",
        )
    },
    Flag {
        kind: Kind::Bool,
        ..text(
            "mark-compacted",
            "false",
            "mark everything before the raised revision as compacted (goes with --bump-revision, and only with it)",
        )
    },
];

const fn text(name: &'static str, default: &'static str, help: &'static str) -> Flag {
    Flag {
        name,
        short: None,
        kind: Kind::Text,
        default,
        help,
    }
}

fn only_argument<'a>(call: &'a Invocation, command: &str) -> Result<&'a str, Failure> {
    match call.args.as_slice() {
        [only] => Ok(only),
        _ => Err(Failure::new(
            exit::BAD_ARGS,
            format_args!("snapshot {command} requires exactly one argument"),
        )),
    }
}

fn restore(call: &Invocation, _: &mut dyn Write) -> Result<(), Failure> {
    let snapshot = only_argument(call, "restore")?;
    let bump = NonZeroU64::new(call.uint("bump-revision")).map(Bump);
    if bump.is_some() != call.is_set("mark-compacted") {
        // The wrong name of the flag is etcd's.
        return Err(Failure::new(
            exit::BAD_ARGS,
            "--mark-compacted required if --revision-bump > 0",
        ));
    }
    let data_dir = match call.text("data-dir") {
        "" => format!("{}.etcd", call.text("name")),
        dir => dir.to_owned(),
    };
    let options = RestoreOptions {
        wal_dir: Some(call.text("wal-dir"))
            .filter(|dir| !dir.is_empty())
            .map(Into::into),
        name: call.text("name").to_owned(),
        initial_cluster: call.text("initial-cluster").to_owned(),
        initial_cluster_token: call.text("initial-cluster-token").to_owned(),
        initial_advertise_peer_urls: call.text("initial-advertise-peer-urls").to_owned(),
        skip_hash_check: call.is_set("skip-hash-check"),
        bump,
        initial_memory_map_size: call.uint("initial-memory-map-size"),
        ..RestoreOptions::new(snapshot, data_dir)
    };
    backup::restore(&options, Log::tool().logger())
        .map(drop)
        .map_err(|error| Failure::new(exit::ERROR, error))
}

fn status(call: &Invocation, out: &mut dyn Write) -> Result<(), Failure> {
    let path = Path::new(only_argument(call, "status")?);
    backup::exists(path).map_err(|error| Failure::new(exit::ERROR, error))?;
    let form = Form::parse(call.text("write-out"))?;
    let status = backup::status(path, call.duration("timeout"))
        .map_err(|error| Failure::new(exit::ERROR, error))?;
    print(&status, form, out)
}

/// The fields in etcd's order and by its names.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Json<'a> {
    hash: u32,
    revision: i64,
    total_key: usize,
    total_size: u64,
    version: &'a str,
}

fn print(status: &Status, form: Form, out: &mut dyn Write) -> Result<(), Failure> {
    let row = || {
        [
            format!("{:x}", status.hash),
            status.revision.to_string(),
            status.total_keys.to_string(),
            output::bytes(status.total_size),
            status.version.clone(),
        ]
    };
    match form {
        Form::Simple => writeln!(out, "{}", row().join(", "))?,
        Form::Table => {
            let header = ["hash", "revision", "total keys", "total size", "version"];
            out.write_all(output::table(&header, &[row().to_vec()]).as_bytes())?;
        }
        Form::Fields => {
            writeln!(out, "\"Hash\" : {}", status.hash)?;
            writeln!(out, "\"Revision\" : {}", status.revision)?;
            writeln!(out, "\"Keys\" : {}", status.total_keys)?;
            writeln!(out, "\"Size\" : {}", status.total_size)?;
            writeln!(out, "\"Version\" : {}", status.version)?;
        }
        Form::Json => {
            let json = serde_json::to_string(&Json {
                hash: status.hash,
                revision: status.revision,
                total_key: status.total_keys,
                total_size: status.total_size,
                version: &status.version,
            });
            writeln!(out, "{}", json.map_err(std::io::Error::from)?)?;
        }
        Form::Protobuf => {
            return Err(Failure::new(
                exit::BAD_FEATURE,
                "protobuf not supported as output format",
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn printed(form: &str, version: &str) -> Result<String, Failure> {
        let status = Status {
            hash: 0x3fd8_3856,
            revision: 11,
            total_keys: 7,
            total_size: 24_576,
            version: version.to_owned(),
        };
        let mut out = Vec::new();
        print(&status, Form::parse(form)?, &mut out)?;
        Ok(String::from_utf8(out).expect("text"))
    }

    /// As etcdutl 3.7.1 prints the same numbers.
    #[test]
    fn every_form_is_that_of_etcd() {
        assert_eq!(
            printed("simple", "3.7.0").expect("prints"),
            "3fd83856, 11, 7, 25 kB, 3.7.0\n"
        );
        assert_eq!(
            printed("json", "3.7.0").expect("prints"),
            "{\"hash\":1071134806,\"revision\":11,\"totalKey\":7,\"totalSize\":24576,\"version\":\"3.7.0\"}\n"
        );
        assert_eq!(
            printed("fields", "3.7.0").expect("prints"),
            "\"Hash\" : 1071134806\n\"Revision\" : 11\n\"Keys\" : 7\n\"Size\" : 24576\n\"Version\" : 3.7.0\n"
        );
        assert_eq!(
            printed("table", "3.7.0").expect("prints"),
            "┌──────────┬──────────┬────────────┬────────────┬─────────┐\n\
             │   HASH   │ REVISION │ TOTAL KEYS │ TOTAL SIZE │ VERSION │\n\
             ├──────────┼──────────┼────────────┼────────────┼─────────┤\n\
             │ 3fd83856 │       11 │          7 │      25 kB │   3.7.0 │\n\
             └──────────┴──────────┴────────────┴────────────┴─────────┘\n"
        );
        assert_eq!(
            printed("simple", "").expect("prints"),
            "3fd83856, 11, 7, 25 kB, \n"
        );
    }

    #[test]
    fn other_forms_are_refused_as_etcd_does() {
        for (form, text) in [
            ("protobuf", "protobuf not supported as output format"),
            ("xyz", "unsupported output format"),
            ("", "unsupported output format"),
        ] {
            let failure = printed(form, "").expect_err(form);
            assert_eq!((failure.code, failure.message.as_str()), (4, text));
        }
    }
}
