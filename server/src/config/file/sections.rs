//! Which key stands for which flag: at the top by the flag's own name, in some maps by a shorter one.

use super::super::old;

/// A map of the file.
#[derive(Debug)]
pub(super) struct Section {
    /// Where it is, by the names of Go's fields, which are part of error texts.
    pub(super) path: &'static str,
    /// Go's type of it.
    pub(super) kind: &'static str,
    /// What Go calls the owner of its fields.
    pub(super) of_its_fields: &'static str,
    /// Keys and flags. Two of the client's have no flag.
    flags: &'static [(&'static str, &'static str)],
    sections: &'static [(&'static str, &'static Section)],
}

pub(super) static ROOT: Section = Section {
    path: "Config",
    kind: "embed.configYAML",
    of_its_fields: "configYAML",
    flags: &[],
    sections: &[
        ("client-transport-security", &CLIENT_TLS),
        ("discovery-config", &DISCOVERY),
        ("peer-transport-security", &PEER_TLS),
        ("socket-options", &SOCKETS),
    ],
};

static CLIENT_TLS: Section = Section {
    path: "configJSON.client-transport-security",
    kind: "embed.securityConfig",
    of_its_fields: "securityConfig",
    flags: &[
        ("allowed-cn", "client-cert-allowed-cn"),
        ("allowed-hostname", "client-cert-allowed-hostname"),
        ("auto-tls", "auto-tls"),
        ("cert-file", "cert-file"),
        ("client-cert-auth", "client-cert-auth"),
        ("client-cert-file", "client-cert-file"),
        ("client-key-file", "client-key-file"),
        ("key-file", "key-file"),
        (
            "skip-client-san-verification",
            "client-skip-client-san-verification",
        ),
        ("trusted-ca-file", "trusted-ca-file"),
    ],
    sections: &[],
};

static PEER_TLS: Section = Section {
    path: "configJSON.peer-transport-security",
    kind: "embed.securityConfig",
    of_its_fields: "securityConfig",
    flags: &[
        ("allowed-cn", "peer-cert-allowed-cn"),
        ("allowed-hostname", "peer-cert-allowed-hostname"),
        ("auto-tls", "peer-auto-tls"),
        ("cert-file", "peer-cert-file"),
        ("client-cert-auth", "peer-client-cert-auth"),
        ("client-cert-file", "peer-client-cert-file"),
        ("client-key-file", "peer-client-key-file"),
        ("key-file", "peer-key-file"),
        (
            "skip-client-san-verification",
            "peer-skip-client-san-verification",
        ),
        ("trusted-ca-file", "peer-trusted-ca-file"),
    ],
    sections: &[],
};

static SOCKETS: Section = Section {
    path: "Config.socket-options",
    kind: "transport.SocketOpts",
    of_its_fields: "SocketOpts",
    flags: &[
        ("reuse-address", "socket-reuse-address"),
        ("reuse-port", "socket-reuse-port"),
    ],
    sections: &[],
};

static DISCOVERY: Section = Section {
    path: "Config.discovery-config",
    kind: "v3discovery.DiscoveryConfig",
    of_its_fields: "DiscoveryConfig",
    flags: &[("token", "discovery-token")],
    sections: &[("client", &DISCOVERY_CLIENT)],
};

static DISCOVERY_CLIENT: Section = Section {
    path: "Config.discovery-config.client",
    kind: "clientv3.ConfigSpec",
    of_its_fields: "ConfigSpec",
    flags: &[
        ("dial-timeout", "discovery-dial-timeout"),
        ("endpoints", "discovery-endpoints"),
        ("keepalive-time", "discovery-keepalive-time"),
        ("keepalive-timeout", "discovery-keepalive-timeout"),
        ("request-timeout", "discovery-request-timeout"),
    ],
    sections: &[("auth", &DISCOVERY_AUTH), ("secure", &DISCOVERY_SECURE)],
};

static DISCOVERY_AUTH: Section = Section {
    path: "Config.discovery-config.client.auth",
    kind: "clientv3.AuthConfig",
    of_its_fields: "AuthConfig",
    flags: &[
        ("password", "discovery-password"),
        ("username", "discovery-user"),
    ],
    sections: &[],
};

static DISCOVERY_SECURE: Section = Section {
    path: "Config.discovery-config.client.secure",
    kind: "clientv3.SecureConfig",
    of_its_fields: "SecureConfig",
    flags: &[
        ("cacert", "discovery-cacert"),
        ("cert", "discovery-cert"),
        (
            "insecure-skip-tls-verify",
            "discovery-insecure-skip-tls-verify",
        ),
        ("insecure-transport", "discovery-insecure-transport"),
        ("key", "discovery-key"),
    ],
    sections: &[],
};

/// Flags that no key at the top stands for, beside those of the sections.
const NO_KEY: &[&str] = &[
    "client-crl-file",
    "config-file",
    "discovery-fallback",
    "peer-crl-file",
    "raft-read-timeout",
    "raft-write-timeout",
    "version",
];

impl Section {
    pub(super) fn section(&self, key: &str) -> Option<&'static Section> {
        let found = self.sections.iter().find(|(name, _)| *name == key);
        found.map(|(_, section)| *section)
    }

    /// The flag that `key` stands for.
    pub(super) fn flag(&self, key: &str) -> Option<&'static str> {
        if !std::ptr::eq(self, &ROOT) {
            return self
                .flags
                .iter()
                .find(|(name, _)| *name == key)
                .map(|(_, flag)| *flag);
        }
        let key = match key {
            // etcd before 3.7 spells it so in files.
            "experimental-snapshot-catch-up-entries" => "experimental-snapshot-catchup-entries",
            key => key,
        };
        let flag = old::find_any(key)?.name;
        let elsewhere = NO_KEY.contains(&flag) || self.holds(flag);
        (!elsewhere).then_some(flag)
    }

    /// Whether a section within stands for `flag`.
    pub(super) fn holds(&self, flag: &str) -> bool {
        let within = |section: &Section| {
            section.flags.iter().any(|(_, f)| *f == flag) || section.holds(flag)
        };
        self.sections.iter().any(|(_, section)| within(section))
    }

    /// What Go calls the field of `key`.
    pub(super) fn field(&self, key: &str) -> String {
        // Texts that etcd reads on its own later are in a struct beside the others.
        let text = matches!(
            key,
            "advertise-client-urls"
                | "cors"
                | "feature-gates"
                | "host-whitelist"
                | "initial-advertise-peer-urls"
                | "listen-client-http-urls"
                | "listen-client-urls"
                | "listen-peer-urls"
        );
        let path = if text { "configJSON" } else { self.path };
        format!("{}.{path}.{key}", self.of_its_fields)
    }
}
