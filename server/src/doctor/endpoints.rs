//! Client URLs: whether they answer, and what they say of their health.

use bytes::Bytes;
use futures_util::future::join_all;
use http::Request;
use retcd_raft_node::transport;
use retcd_tls::{Connector, TlsInfo};
use serde::Deserialize;
use tokio::net::TcpStream;

use super::Plan;
use super::finding::Findings;
use super::peers::{Trouble, reach, tls};
use crate::config::Url;

const PATIENCE: std::time::Duration = std::time::Duration::from_secs(5);
const MAX_ANSWER: usize = 64 << 10;

/// One endpoint and what it said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Asked {
    pub(super) endpoint: String,
    pub(super) result: Result<Health, Refused>,
}

/// What `/health` says.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(super) struct Health {
    /// A boolean, as a text.
    health: String,
    #[serde(default)]
    reason: String,
}

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Refused {
    NoUrl(String),
    Trouble(Trouble),
}

/// What is trusted, and shown, when endpoints are dialed.
struct Dialer(Option<Connector>);

impl transport::Connector for Dialer {
    fn connect<'a>(&'a self, tcp: TcpStream, host: &'a str) -> transport::Connecting<'a> {
        Box::pin(async move {
            let no_files = || std::io::Error::other("the own certificate files cannot be used");
            let connector = self.0.as_ref().ok_or_else(no_files)?;
            let stream = connector.connect(tcp, host).await;
            let stream = stream.map_err(std::io::Error::other)?;
            Ok(Box::new(stream) as Box<dyn transport::Stream>)
        })
    }
}

/// Asks those named, and the member itself if it runs.
pub(super) async fn ask(plan: &Plan, named: &[String]) -> Vec<Asked> {
    let mut endpoints: Vec<String> = named.to_vec();
    if plan.data.holder.is_some() && named.is_empty() {
        let own = plan.resolved.advertise_client_urls.iter();
        endpoints.extend(own.map(ToString::to_string));
    }
    let given = plan.resolved.tls.client.given();
    let info = TlsInfo {
        // Certificates that members make themselves are of no authority.
        insecure_skip_verify: plan.resolved.tls.client.is_automatic(),
        ..given.clone()
    };
    let dialer = Dialer(Connector::new(&info, &super::silent()).ok());
    let asked = endpoints.into_iter().map(|endpoint| {
        let dialer = &dialer;
        async move {
            let result = ask_one(&endpoint, dialer).await;
            Asked { endpoint, result }
        }
    });
    join_all(asked.collect::<Vec<_>>()).await
}

async fn ask_one(endpoint: &str, dialer: &Dialer) -> Result<Health, Refused> {
    // As etcdctl takes them, without a scheme as well.
    let text = match endpoint.contains("://") {
        true => endpoint.to_owned(),
        false => format!("http://{endpoint}"),
    };
    let url: Url = text
        .parse()
        .map_err(|error: crate::config::UrlError| Refused::NoUrl(error.to_string()))?;
    reach(&url).await.map_err(Refused::Trouble)?;
    let is_secure = url.scheme().is_secure();
    if is_secure && let Some(connector) = &dialer.0 {
        tls(&url, connector).await.map_err(Refused::Trouble)?;
    }
    let mut request = Request::new(Bytes::new());
    *request.uri_mut() = http::Uri::from_static("/health");
    let connector = is_secure.then_some(dialer as &dyn transport::Connector);
    let answer = transport::request(connector, url.as_str(), request, PATIENCE, MAX_ANSWER).await;
    let refused = |error: String| {
        Refused::Trouble(Trouble::Answer {
            error,
            after_tls: is_secure,
        })
    };
    let answer = answer.map_err(|error| refused(error.to_string()))?;
    serde_json::from_slice(answer.body()).map_err(|_| {
        refused(format!(
            "it is no client port of etcd (status {})",
            answer.status()
        ))
    })
}

pub(super) fn judge(asked: &[Asked], findings: &mut Findings) {
    for Asked { endpoint, result } in asked {
        let (what, fix) = match result {
            Ok(health) if health.health == "true" => continue,
            Ok(health) => unhealthy(health),
            Err(Refused::NoUrl(error)) => (
                error.clone(),
                "write http://host:port or https://host:port".to_owned(),
            ),
            Err(Refused::Trouble(trouble)) => refused(trouble),
        };
        findings.error("endpoint", format!("{endpoint}: {what}"), fix);
    }
}

fn unhealthy(health: &Health) -> (String, String) {
    let fix = match health.reason.as_str() {
        "ALARM NOSPACE" => {
            "the database has reached its quota, and writes are refused: compact (`etcdctl compact <revision>`), `etcdctl defrag` on each \
             member, then `etcdctl alarm disarm`; or raise --quota-backend-bytes"
        }
        "ALARM CORRUPT" => {
            "the data of a member differs from that of the others: take the member that `etcdctl alarm list` names out of the cluster, and \
             add it again with an empty data directory"
        }
        "RAFT NO LEADER" => {
            "more than half of the members have to run and reach each other: start those that are down, and look at what is said of peers"
        }
        _ => "its log says more",
    };
    (format!("unhealthy: {}", health.reason), fix.to_owned())
}

fn refused(trouble: &Trouble) -> (String, String) {
    match trouble {
        Trouble::Name(reason) => (
            format!("its name stands for no address: {reason}"),
            "put the name right, or enter it into DNS or /etc/hosts".to_owned(),
        ),
        Trouble::Connection(reason) => (
            format!("it does not answer: {reason}"),
            "start the member, or look for a wrong address or a firewall".to_owned(),
        ),
        Trouble::SpeaksTls => (
            "it speaks TLS".to_owned(),
            "write https:// and name the authority (etcdctl: --cacert)".to_owned(),
        ),
        Trouble::SpeaksPlain => (
            "it speaks no TLS".to_owned(),
            "write http://, or give the member https client URLs".to_owned(),
        ),
        Trouble::Tls { error, advice } => (error.clone(), advice.clone()),
        Trouble::Answer { error, after_tls } => (
            error.clone(),
            match after_tls {
                true => "show a client certificate of an authority that the member trusts (etcdctl: --cert and --key); its log says why it hung up",
                false => "name a client URL (port 2379), with https:// if the member serves TLS",
            }
            .to_owned(),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{found, plan};
    use super::*;

    #[test]
    fn answers_are_judged() {
        let asked = |result| Asked {
            endpoint: "e:2379".into(),
            result,
        };
        let health = |text: &str| -> Health { serde_json::from_str(text).expect(text) };
        let well = asked(Ok(health("{\"health\":\"true\",\"reason\":\"\"}")));
        let full = asked(Ok(health(
            "{\"health\":\"false\",\"reason\":\"ALARM NOSPACE\"}",
        )));
        let found = found(|findings| judge(&[well, full], findings));
        let fix = &found.only("endpoint").fix;
        assert!(fix.contains("alarm disarm"), "{fix}");
    }

    #[test]
    fn endpoints_are_asked_as_etcdctl_spells_them() {
        let dir = tempfile::tempdir().expect("a directory");
        let config = crate::Config::ephemeral(dir.path().join("data"));
        let server = crate::Server::start_with_log(config, &crate::log::Log::discard());
        let server = server.expect("started");
        let (client, peer) = (server.client_addresses()[0], server.peer_addresses()[0]);
        let plan = plan(|_| {});
        let names = [
            client.to_string(),
            format!("http://{client}"),
            peer.to_string(),
            "http://".into(),
        ];
        let asked = crate::server::run_async(ask(&plan, &names)).expect("a runtime");
        let answers: Vec<_> = asked.iter().map(|asked| asked.result.is_ok()).collect();
        assert_eq!(answers, [true, true, false, false], "{asked:?}");
        server.stop();
    }
}
