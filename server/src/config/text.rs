//! What `--version`, `--help` and a wrong flag print.

use std::fmt::Write;

use super::table::FLAGS;

/// The etcd version whose behaviour this server has; clients and tools decide by it.
pub const ETCD_VERSION: &str = "3.7.1";

/// Name and version of this implementation.
pub const SERVER_NAME: &str = concat!("retcd ", env!("CARGO_PKG_VERSION"));

/// Four lines with etcd's labels, so that whatever reads etcd's reads this.
pub(super) fn version() -> String {
    let (os, arch) = go_platform();
    format!(
        "etcd Version: {ETCD_VERSION}\n\
         Git SHA: {}\n\
         Go Version: none ({SERVER_NAME}, written in Rust)\n\
         Go OS/Arch: {os}/{arch}\n",
        option_env!("RETCD_GIT_SHA").unwrap_or("unknown"),
    )
}

/// Operating system and processor by the names Go gives them.
pub(crate) fn go_platform() -> (&'static str, &'static str) {
    let os = match std::env::consts::OS {
        "macos" => "darwin",
        other => other,
    };
    let arch = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "x86" => "386",
        "aarch64" => "arm64",
        "powerpc64" if cfg!(target_endian = "little") => "ppc64le",
        other => other,
    };
    (os, arch)
}

pub(super) const USAGE: &str = "\
Usage:

  etcd [flags]
    Run a member.

  etcd --version
    Print the version.

  etcd -h | --help
    Print this and all flags.
";

/// The flags that do something, then the names of those that do not yet.
pub(super) fn flag_list() -> String {
    let mut text =
        String::from("\nFlags (each also as environment variable: --data-dir is ETCD_DATA_DIR):\n");
    for flag in FLAGS {
        if let Some(help) = flag.help {
            let _ = writeln!(text, "  --{} '{}'\n    {help}", flag.name, flag.default);
        }
    }
    text.push_str(
        "\nFlags of etcd that retcd does not implement yet; only their default is accepted:\n",
    );
    for flag in FLAGS.iter().filter(|flag| flag.help.is_none()) {
        let _ = writeln!(text, "  --{} '{}'", flag.name, flag.default);
    }
    text
}
