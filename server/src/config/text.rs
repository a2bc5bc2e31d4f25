//! What `--version` prints, and how etcd is called.

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

  etcd --config-file FILE
    Run a member as a YAML or JSON file says; other flags and the environment are not looked at.
";
