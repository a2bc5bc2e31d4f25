//! What a member asks others over HTTP: who belongs to the cluster, which versions run, to promote a learner.
//!
//! Source: peer-protocol 10 to 12, 15; etcd `server/etcdserver/cluster_util.go`.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use retcd_raft_node::membership::Member;
use retcd_raft_node::transport::{Connector, Pool, RequestError};
use serde::Deserialize;
use slog::{Logger, warn};

use super::CLUSTER_ID;
use super::introduction::Introduction;
use super::secure::Secure;
use crate::error::Error;

/// Bytes of an answer: a list of members is a few hundred bytes for each.
const MAX_ANSWER: usize = 16 << 20;

/// A connection that nobody used for so long is not used again. Members close it after five seconds or more.
const KEEP: Duration = Duration::from_secs(2);

/// The cluster as one of its members tells it.
#[derive(Clone, Debug)]
pub(crate) struct RemoteCluster {
    pub(crate) id: u64,
    /// By ascending id, at least one.
    pub(crate) members: Vec<Member>,
}

impl RemoteCluster {
    pub(crate) fn member(&self, id: u64) -> Option<&Member> {
        self.members.iter().find(|member| member.id == id)
    }
}

/// Why no member told about the cluster. The texts are etcd's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NoCluster {
    #[error("could not retrieve cluster information from the given URLs")]
    Unreachable {
        /// For each URL, why.
        reasons: Vec<(String, String)>,
    },
    #[error("failed to get raft cluster member(s) from the given URLs")]
    Empty,
}

/// The versions that a member reports.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Versions {
    #[serde(rename = "etcdserver", default)]
    pub(crate) server: String,
    #[serde(rename = "etcdcluster", default)]
    pub(crate) cluster: String,
}

/// Asks other members.
#[derive(Clone)]
pub(crate) struct Remote {
    /// For https; without it only http is spoken.
    secure: Option<Arc<Secure>>,
    /// Followers pass every renewal of a lease on.
    pool: Arc<Pool>,
    logger: Logger,
}

impl fmt::Debug for Remote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Remote")
            .field("tls", &self.secure.is_some())
            .finish_non_exhaustive()
    }
}

impl Remote {
    pub(crate) fn new(secure: Option<Arc<Secure>>, logger: Logger) -> Self {
        Self {
            secure,
            pool: Arc::new(Pool::new(KEEP)),
            logger,
        }
    }

    /// Why the others refuse this member's certificate, if they do.
    pub(super) async fn misfit(&self, urls: &[String]) -> Option<String> {
        self.secure.as_ref()?.misfit(urls).await
    }

    /// Sends one request to the member at `url`, and reads the whole answer, up to `limit` bytes, within `deadline`.
    pub(crate) async fn request(
        &self,
        url: &str,
        request: Request<Bytes>,
        deadline: Duration,
        limit: usize,
    ) -> Result<Response<Bytes>, RequestError> {
        let connector = self
            .secure
            .as_deref()
            .map(|secure| secure as &dyn Connector);
        let pool = &self.pool;
        pool.request(connector, url, request, deadline, limit).await
    }

    async fn get(
        &self,
        url: &str,
        path: &str,
        introduction: Option<&Introduction>,
        deadline: Duration,
    ) -> Result<Response<Bytes>, RequestError> {
        let mut request = request(Method::GET, path, Bytes::new());
        if let Some(introduction) = introduction {
            introduction.write(request.headers_mut());
        }
        self.request(url, request, deadline, MAX_ANSWER).await
    }

    /// The cluster as the first of these members tells it that answers. `loud`: say why others do not.
    pub(crate) async fn cluster(
        &self,
        urls: &[String],
        introduction: &Introduction,
        deadline: Duration,
        loud: bool,
    ) -> Result<RemoteCluster, NoCluster> {
        let mut reasons = Vec::new();
        for url in urls {
            let address = format!("{url}/members");
            let failed = |what: &'static str, error: String| {
                if loud {
                    warn!(self.logger, "{}", what; "address" => &address, "error" => &error);
                }
                (url.clone(), error)
            };
            let introduced = Some(introduction);
            let answer = match self.get(url, "/members", introduced, deadline).await {
                Ok(answer) => answer,
                Err(error) => {
                    let error = format!("Get {address:?}: {error}");
                    reasons.push(failed("failed to get cluster response", error));
                    continue;
                }
            };
            let members: Vec<Member> = match serde_json::from_slice(answer.body()) {
                Ok(members) => members,
                Err(error) => {
                    let error = format!("{error}; {}", shown(&answer));
                    reasons.push(failed("failed to unmarshal cluster response", error));
                    continue;
                }
            };
            let header = answer.headers().get(CLUSTER_ID);
            let text = header.and_then(|id| id.to_str().ok()).unwrap_or_default();
            let Ok(id) = u64::from_str_radix(text, 16) else {
                let error = format!("the header {CLUSTER_ID} is {text:?}, which is no id");
                reasons.push(failed("failed to parse cluster ID", error));
                continue;
            };
            if members.is_empty() {
                return Err(NoCluster::Empty);
            }
            return Ok(RemoteCluster::new(id, members));
        }
        Err(NoCluster::Unreachable { reasons })
    }

    /// The versions of a member; `None` when none of its URLs tells, which is logged.
    pub(crate) async fn versions(&self, member: &Member, deadline: Duration) -> Option<Versions> {
        for url in &member.peer_urls {
            let what = match self.get(url, "/version", None, deadline).await {
                Ok(answer) => match serde_json::from_slice(answer.body()) {
                    Ok(versions) => return Some(versions),
                    Err(error) => ("failed to unmarshal response", error.to_string()),
                },
                Err(error) => ("failed to reach the peer URL", error.to_string()),
            };
            warn!(self.logger, "{}", what.0; "address" => format!("{url}/version"),
                "remote-member-id" => format!("{:x}", member.id), "error" => what.1);
        }
        warn!(self.logger, "failed to get version";
            "remote-member-id" => format!("{:x}", member.id));
        None
    }

    /// Whether a downgrade is under way; `None` when none of the member's URLs tells, which is logged.
    pub(crate) async fn downgrades(&self, member: &Member, deadline: Duration) -> Option<bool> {
        for url in &member.peer_urls {
            let what = match self.get(url, "/downgrade/enabled", None, deadline).await {
                Ok(answer) => match &answer.body()[..] {
                    b"true" => return Some(true),
                    b"false" => return Some(false),
                    _ => ("failed to convert response", shown(&answer)),
                },
                Err(error) => ("failed to reach the peer URL", error.to_string()),
            };
            warn!(self.logger, "{}", what.0; "address" => format!("{url}/downgrade/enabled"),
                "remote-member-id" => format!("{:x}", member.id), "error" => what.1);
        }
        None
    }

    /// Asks the leader to promote a learner.
    ///
    /// # Errors
    /// `Refused` with the leader's verdict; `Unclear` when another URL, or a later leader, may say more.
    pub(crate) async fn promote(
        &self,
        url: &str,
        id: u64,
        token: Option<&str>,
        deadline: Duration,
    ) -> Result<Vec<Member>, PromoteError> {
        let unclear = |text: String| Err(PromoteError::Unclear(text));
        let path = format!("/members/promote/{id}");
        let mut request = request(Method::POST, &path, Bytes::new());
        if let Some(token) = token.and_then(|token| token.parse().ok()) {
            request
                .headers_mut()
                .insert(http::header::AUTHORIZATION, token);
        }
        let answer = match self.request(url, request, deadline, MAX_ANSWER).await {
            Ok(answer) => answer,
            Err(error) => return unclear(error.to_string()),
        };
        let body = String::from_utf8_lossy(answer.body());
        match answer.status() {
            StatusCode::OK => match serde_json::from_str(&body) {
                Ok(members) => Ok(members),
                Err(error) => unclear(error.to_string()),
            },
            StatusCode::NOT_FOUND => Err(PromoteError::Refused(Error::MemberNotFound)),
            StatusCode::PRECONDITION_FAILED if body.contains("in sync with leader") => {
                Err(PromoteError::Refused(Error::LearnerNotReady))
            }
            StatusCode::PRECONDITION_FAILED if body.contains("can only promote a learner") => {
                Err(PromoteError::Refused(Error::MemberNotLearner))
            }
            _ => unclear(format!("member promote: unknown error({})", shown(&answer))),
        }
    }
}

/// How asking for a promotion ended without one.
#[derive(Debug)]
pub(crate) enum PromoteError {
    Refused(Error),
    Unclear(String),
}

impl RemoteCluster {
    pub(crate) fn new(id: u64, mut members: Vec<Member>) -> Self {
        members.sort_by_key(|member| member.id);
        Self { id, members }
    }
}

fn request(method: Method, path: &str, body: Bytes) -> Request<Bytes> {
    let mut request = Request::new(body);
    *request.method_mut() = method;
    if let Ok(uri) = path.parse() {
        *request.uri_mut() = uri;
    }
    request
}

/// A few words of an answer for an error message.
fn shown(answer: &Response<Bytes>) -> String {
    let body = String::from_utf8_lossy(answer.body());
    let text: String = body.trim_end().chars().take(200).collect();
    format!("{} {text:?}", answer.status())
}
