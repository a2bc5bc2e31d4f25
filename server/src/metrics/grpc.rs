//! Counters of gRPC calls, one set per method, found by the request's path.

use std::sync::OnceLock;
use std::time::Duration;

use prometheus::{
    DEFAULT_BUCKETS, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, Opts,
    Registry,
};
use tonic::Code;

use super::Metrics;
use crate::net::{CallObserver, Method};

/// Names of gRPC's codes, by number.
const CODES: [&str; 17] = [
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

/// Calls and bytes of clients.
#[derive(Debug)]
pub(crate) struct Grpc {
    /// Bytes of messages from clients.
    pub(crate) received_bytes: IntCounter,
    /// Bytes of messages to clients.
    pub(crate) sent_bytes: IntCounter,
    /// Streams of requests that could not be read.
    stream_failures: IntCounterVec,
    families: Families,
    /// By [`Method`], in its order.
    methods: Vec<OnceLock<Rpc>>,
}

/// What each method has a share of.
#[derive(Debug)]
struct Families {
    started: IntCounterVec,
    received: IntCounterVec,
    sent: IntCounterVec,
    handled: IntCounterVec,
    /// Seconds of each call, if metrics are extensive.
    handling: Option<HistogramVec>,
}

impl Families {
    fn rpc(&self, method: Method) -> Rpc {
        let (kind, service, name) = (method.kind().label(), method.service(), method.name());
        let labels = [kind, service, name];
        let handled = |code| self.handled.with_label_values(&[kind, service, name, code]);
        Rpc {
            started: self.started.with_label_values(&labels),
            received: self.received.with_label_values(&labels),
            sent: self.sent.with_label_values(&labels),
            handled: CODES.map(handled),
            handling: self
                .handling
                .as_ref()
                .map(|family| family.with_label_values(&labels)),
        }
    }
}

/// Counters of one method.
#[derive(Debug)]
struct Rpc {
    /// Calls begun.
    pub(crate) started: IntCounter,
    /// Messages from clients.
    pub(crate) received: IntCounter,
    /// Messages to clients.
    pub(crate) sent: IntCounter,
    /// Calls ended, by code.
    handled: [IntCounter; CODES.len()],
    /// Seconds from begin to end.
    handling: Option<Histogram>,
}

/// Whether a method is shown before somebody calls it. As in etcd, where these two services join the server later.
fn shown_unused(method: Method) -> bool {
    !matches!(method.service(), "v3lockpb.Lock" | "v3electionpb.Election")
}

impl Grpc {
    pub(super) fn new(registry: &Registry, extensive: bool) -> Result<Self, prometheus::Error> {
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
        let mut handling = None;
        if extensive {
            let options = HistogramOpts::new(
                "grpc_server_handling_seconds",
                "Time from the begin of a call to its end.",
            );
            let family = HistogramVec::new(options.buckets(DEFAULT_BUCKETS.to_vec()), &LABELS)?;
            registry.register(Box::new(family.clone()))?;
            handling = Some(family);
        }
        let families = Families {
            started,
            received,
            sent,
            handled,
            handling,
        };
        let methods = Method::ALL
            .iter()
            .map(|method| match shown_unused(*method) {
                true => OnceLock::from(families.rpc(*method)),
                false => OnceLock::new(),
            });
        let methods = methods.collect();
        let stream_failures = vec(
            "etcd_network_server_stream_failures_total",
            "Streams that failed.",
            &["Type", "API"],
        )?;
        Ok(Self {
            stream_failures,
            received_bytes: counter(
                "etcd_network_client_grpc_received_bytes_total",
                "Bytes from clients.",
            )?,
            sent_bytes: counter(
                "etcd_network_client_grpc_sent_bytes_total",
                "Bytes to clients.",
            )?,
            methods,
            families,
        })
    }

    /// The counters of a method.
    fn rpc(&self, method: Method) -> &Rpc {
        self.methods[method as usize].get_or_init(|| self.families.rpc(method))
    }
}

impl CallObserver for Metrics {
    fn started(&self, method: Method) {
        self.grpc.rpc(method).started.inc();
    }

    fn received(&self, method: Method, bytes: usize) {
        self.grpc.rpc(method).received.inc();
        self.grpc.received_bytes.inc_by(bytes as u64);
    }

    fn receive_failed(&self, method: Method) {
        let api = match method {
            Method::Watch => "watch",
            Method::LeaseKeepAlive => "lease-keepalive",
            _ => return,
        };
        let failures = &self.grpc.stream_failures;
        failures.with_label_values(&["receive", api]).inc();
    }

    fn sent(&self, method: Method, messages: usize, bytes: usize) {
        self.grpc.rpc(method).sent.inc_by(messages as u64);
        self.grpc.sent_bytes.inc_by(bytes as u64);
    }

    fn finished(&self, method: Method, code: Code) {
        self.grpc.rpc(method).handled[code as usize].inc();
    }

    fn wants_time(&self) -> bool {
        self.grpc.families.handling.is_some()
    }

    fn took(&self, method: Method, time: Duration) {
        if let Some(handling) = &self.grpc.rpc(method).handling {
            handling.observe(time.as_secs_f64());
        }
    }
}
