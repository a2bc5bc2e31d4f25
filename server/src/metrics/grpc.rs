//! Counters of gRPC calls, one set per method, found by the request's path.

use std::collections::HashMap;

use prometheus::{IntCounter, IntCounterVec, Opts, Registry};

/// Names of gRPC's codes, by number.
pub const CODES: [&str; 17] = [
    "OK",
    "Canceled",
    "Unknown",
    "InvalidArgument",
    "DeadlineExceeded",
    "NotFound",
    "AlreadyExists",
    "PermissionDenied",
    "ResourceExhausted",
    "FailedPrecondition",
    "Aborted",
    "OutOfRange",
    "Unimplemented",
    "Internal",
    "Unavailable",
    "DataLoss",
    "Unauthenticated",
];

const UNARY: &str = "unary";
const SERVER: &str = "server_stream";
const BIDI: &str = "bidi_stream";

/// Every method of etcd 3.7 on a client URL that its own metrics count.
const METHODS: &[(&str, &[(&str, &str)])] = &[
    (
        "etcdserverpb.KV",
        &[
            ("Range", UNARY),
            ("RangeStream", SERVER),
            ("Put", UNARY),
            ("DeleteRange", UNARY),
            ("Txn", UNARY),
            ("Compact", UNARY),
        ],
    ),
    ("etcdserverpb.Watch", &[("Watch", BIDI)]),
    (
        "etcdserverpb.Lease",
        &[
            ("LeaseGrant", UNARY),
            ("LeaseRevoke", UNARY),
            ("LeaseKeepAlive", BIDI),
            ("LeaseTimeToLive", UNARY),
            ("LeaseLeases", UNARY),
        ],
    ),
    (
        "etcdserverpb.Cluster",
        &[
            ("MemberAdd", UNARY),
            ("MemberRemove", UNARY),
            ("MemberUpdate", UNARY),
            ("MemberList", UNARY),
            ("MemberPromote", UNARY),
        ],
    ),
    (
        "etcdserverpb.Maintenance",
        &[
            ("Alarm", UNARY),
            ("Status", UNARY),
            ("Defragment", UNARY),
            ("Hash", UNARY),
            ("HashKV", UNARY),
            ("Snapshot", SERVER),
            ("MoveLeader", UNARY),
            ("Downgrade", UNARY),
        ],
    ),
    (
        "etcdserverpb.Auth",
        &[
            ("AuthEnable", UNARY),
            ("AuthDisable", UNARY),
            ("AuthStatus", UNARY),
            ("Authenticate", UNARY),
            ("UserAdd", UNARY),
            ("UserGet", UNARY),
            ("UserList", UNARY),
            ("UserDelete", UNARY),
            ("UserChangePassword", UNARY),
            ("UserGrantRole", UNARY),
            ("UserRevokeRole", UNARY),
            ("RoleAdd", UNARY),
            ("RoleGet", UNARY),
            ("RoleList", UNARY),
            ("RoleDelete", UNARY),
            ("RoleGrantPermission", UNARY),
            ("RoleRevokePermission", UNARY),
        ],
    ),
    (
        "grpc.health.v1.Health",
        &[("Check", UNARY), ("List", UNARY), ("Watch", SERVER)],
    ),
];

/// Calls and bytes of clients.
#[derive(Debug)]
pub struct Grpc {
    /// Bytes of messages from clients.
    pub received_bytes: IntCounter,
    /// Bytes of messages to clients.
    pub sent_bytes: IntCounter,
    methods: HashMap<String, Rpc>,
}

/// Counters of one method.
#[derive(Debug)]
pub struct Rpc {
    /// Calls begun.
    pub started: IntCounter,
    /// Messages from clients.
    pub received: IntCounter,
    /// Messages to clients.
    pub sent: IntCounter,
    /// Calls ended, by code.
    handled: [IntCounter; CODES.len()],
}

impl Grpc {
    pub(super) fn new(registry: &Registry) -> Result<Self, prometheus::Error> {
        const LABELS: [&str; 3] = ["grpc_type", "grpc_service", "grpc_method"];
        let vec =
            |name: &str, help: &str, labels: &[&str]| -> Result<IntCounterVec, prometheus::Error> {
                let vec = IntCounterVec::new(Opts::new(name, help), labels)?;
                registry.register(Box::new(vec.clone()))?;
                Ok(vec)
            };
        let counter = |name: &str, help: &str| -> Result<IntCounter, prometheus::Error> {
            let counter = IntCounter::new(name, help)?;
            registry.register(Box::new(counter.clone()))?;
            Ok(counter)
        };
        let started = vec("grpc_server_started_total", "Calls begun.", &LABELS)?;
        let received = vec(
            "grpc_server_msg_received_total",
            "Messages from clients.",
            &LABELS,
        )?;
        let sent = vec(
            "grpc_server_msg_sent_total",
            "Messages to clients.",
            &LABELS,
        )?;
        let [kind, service, method] = LABELS;
        let labels = [kind, service, method, "grpc_code"];
        let handled = vec(
            "grpc_server_handled_total",
            "Calls ended, by code.",
            &labels,
        )?;
        let mut methods = HashMap::new();
        for (service, names) in METHODS {
            for (method, kind) in *names {
                let labels = [*kind, *service, *method];
                let rpc = Rpc {
                    started: started.with_label_values(&labels),
                    received: received.with_label_values(&labels),
                    sent: sent.with_label_values(&labels),
                    handled: CODES
                        .map(|code| handled.with_label_values(&[kind, service, method, code])),
                };
                methods.insert(format!("/{service}/{method}"), rpc);
            }
        }
        Ok(Self {
            received_bytes: counter(
                "etcd_network_client_grpc_received_bytes_total",
                "Bytes from clients.",
            )?,
            sent_bytes: counter(
                "etcd_network_client_grpc_sent_bytes_total",
                "Bytes to clients.",
            )?,
            methods,
        })
    }

    /// The counters of the method at a path such as `/etcdserverpb.KV/Put`; `None` for unknown paths.
    pub fn method(&self, path: &str) -> Option<&Rpc> {
        self.methods.get(path)
    }
}

impl Rpc {
    /// Counts a call that ended with gRPC code `code`; a number that is no code counts as `Unknown`.
    pub fn handled(&self, code: i32) {
        let at = usize::try_from(code)
            .ok()
            .filter(|at| *at < CODES.len())
            .unwrap_or(2);
        self.handled[at].inc();
    }

    /// Counts one complete unary call.
    pub fn unary(&self, code: i32) {
        self.started.inc();
        self.received.inc();
        if code == 0 {
            self.sent.inc();
        }
        self.handled(code);
    }
}
