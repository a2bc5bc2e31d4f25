//! The list of all checks.

/// The name of each check, and what it looks for. The names stay what they are.
pub const CHECKS: &[(&str, &str)] = &[
    (
        "advertise-loopback",
        "an address that other machines cannot reach is advertised",
    ),
    (
        "advertise-not-listened",
        "nothing listens at an advertised address or port",
    ),
    (
        "advertise-not-local",
        "an advertised address is not one of this machine",
    ),
    (
        "advertise-scheme",
        "http is advertised where https is listened on, or the other way round",
    ),
    ("advertise-unspecified", "0.0.0.0 or :: is advertised"),
    (
        "auth-without-ca",
        "client certificates are demanded, and no authority is named",
    ),
    (
        "ca-key",
        "the private key of the authority lies on a member",
    ),
    (
        "cert-allowed",
        "the member's own certificate does not have the names it demands of others",
    ),
    (
        "cert-authority",
        "the trusted authority does not stand behind the certificate",
    ),
    (
        "cert-expired",
        "a certificate is not valid any more, or soon not",
    ),
    ("cert-file", "a file holds no usable certificate or key"),
    ("cert-key", "certificate and key do not belong together"),
    (
        "cert-names",
        "the certificate is not for an advertised name or address",
    ),
    ("cert-not-yet-valid", "a certificate is not valid yet"),
    (
        "cert-usage",
        "the certificate lacks serverAuth or clientAuth",
    ),
    ("clock", "clocks of members differ"),
    ("cluster-id", "members are of different clusters"),
    (
        "cluster-list",
        "--initial-cluster cannot be read, or names a member or URL twice",
    ),
    (
        "cluster-state",
        "the state new or existing does not go with what the other members say",
    ),
    (
        "config",
        "flags, environment or configuration file cannot be used",
    ),
    (
        "config-notice",
        "something in the configuration draws a warning at start",
    ),
    ("data-dir-access", "the data directory cannot be used"),
    (
        "data-dir-content",
        "the data directory holds what no member put there, or lacks a part",
    ),
    (
        "data-dir-member",
        "the data directory is of another member or cluster",
    ),
    (
        "data-dir-mode",
        "others than the owner can read the data directory",
    ),
    (
        "discovery",
        "no member is found where discovery is told to look",
    ),
    ("disk-slow", "the disk takes long to store what was written"),
    ("disk-space", "the disk is nearly full"),
    ("endpoint", "a client URL does not answer as it should"),
    (
        "env-unknown",
        "a variable that begins with ETCD_ is none of a flag",
    ),
    (
        "etcdctl-env",
        "variables of etcdctl's two generations are mixed",
    ),
    ("even-members", "an even number of members"),
    ("fd-limit", "the limit of open files is low"),
    (
        "file-access",
        "a file cannot be read by the user who runs the member",
    ),
    (
        "file-alone",
        "flags and variables beside a configuration file, which do nothing",
    ),
    (
        "file-system",
        "the data directory is on a file system that does not suit it",
    ),
    ("flag-old", "a flag of an earlier release of etcd"),
    ("flag-unknown", "a flag that etcd does not have"),
    (
        "initial-flags-ignored",
        "the flags of a first start do not count any more",
    ),
    ("key-open", "others than the owner can read a private key"),
    (
        "listen-not-local",
        "an address to listen on is not one of this machine",
    ),
    ("name-missing", "--name is not in --initial-cluster"),
    (
        "odd-character",
        "a dash or quote that a web page or word processor has put in place of the plain one",
    ),
    ("peer", "another member cannot be asked"),
    (
        "peer-scheme",
        "another member speaks http where https is expected, or the other way round",
    ),
    ("peer-tls", "TLS with another member fails"),
    (
        "peer-url-mismatch",
        "--initial-cluster gives this member other peer URLs than it advertises",
    ),
    (
        "peer-url-registered",
        "the cluster has a peer URL of a member that cannot be right",
    ),
    (
        "plain-http",
        "traffic that leaves the machine is not encrypted",
    ),
    ("port-in-use", "another process listens on a port"),
    ("quota", "the quota does not fit the disk"),
    ("reconfig-check", "--strict-reconfig-check is off"),
    ("socket-file", "the file of a Unix socket cannot be made"),
    ("tls-missing", "an https URL without certificate"),
    (
        "tls-mixed",
        "members of one cluster with http and https peer URLs",
    ),
    ("unstarted-member", "a member was added and never came up"),
    ("user", "the user who is to run the member does not exist"),
    (
        "v2-open",
        "the API of etcd 2 is open to whoever reaches a port",
    ),
    (
        "version",
        "a member whose version does not go with this one",
    ),
];

/// Whether there is a check of that name.
pub(super) fn is_listed(check: &str) -> bool {
    CHECKS
        .binary_search_by(|(name, _)| (*name).cmp(check))
        .is_ok()
}

#[cfg(test)]
mod tests {
    use super::CHECKS;

    #[test]
    fn the_list_is_sorted() {
        assert!(CHECKS.is_sorted_by(|a, b| a.0 < b.0));
    }
}
