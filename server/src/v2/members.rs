//! `/v2/members` and `/v2/machines`.
//!
//! Source: etcd 3.5 `server/etcdserver/api/v2http/client.go`.

use http::header;
use http::request::Parts;
use http::{Method, Response, StatusCode};
use retcd_proto::etcdserverpb as pb;
use serde::Serialize;
use slog::warn;

use super::answer::Refused;
use super::{V2, answer, read_body};
use crate::api::Caller;
use crate::config::Url;
use crate::error::Error;
use crate::net::{Body, Incoming};

/// Bytes of a request for a change; it holds some URLs.
const MAX_BODY: usize = 1 << 20;

#[derive(Serialize)]
struct Shown<'a> {
    id: String,
    name: &'a str,
    #[serde(rename = "peerURLs")]
    peer_urls: &'a [String],
    #[serde(rename = "clientURLs")]
    client_urls: &'a [String],
}

impl<'a> Shown<'a> {
    fn of(member: &'a retcd_raft_node::membership::Member) -> Self {
        Self {
            id: format!("{:x}", member.id),
            name: &member.name,
            peer_urls: &member.peer_urls,
            client_urls: &member.client_urls,
        }
    }
}

#[derive(Serialize)]
struct All<'a> {
    members: Vec<Shown<'a>>,
}

impl V2 {
    /// The URLs of all members for clients.
    pub(super) fn machines(&self, method: &Method) -> Response<Body> {
        if let Some(refusal) = answer::only(method, "GET,HEAD") {
            return refusal;
        }
        let cluster = self.member().cluster.load();
        let urls = cluster.members().flat_map(|member| &member.client_urls);
        let mut urls: Vec<&str> = urls.map(String::as_str).collect();
        urls.sort_unstable();
        answer::text(urls.join(", "))
    }

    /// Answers a request below `/v2/members`; `rest` is what follows, without its first slash.
    pub(super) async fn members(
        &self,
        request: &Parts,
        body: Incoming,
        rest: &str,
    ) -> Response<Body> {
        let method = &request.method;
        if let Some(refusal) = answer::only(method, "GET,POST,DELETE,PUT") {
            return refusal;
        }
        let answered = match *method {
            Method::GET => Ok(self.show_members(rest)),
            Method::POST => self.add_member(request, body).await,
            Method::DELETE => self.remove_member(rest).await,
            _ => self.update_member(request, body, rest).await,
        };
        let answer = answered.unwrap_or_else(|refusal| *refusal);
        answer::of_cluster(self.member().cluster_id, answer)
    }

    fn show_members(&self, rest: &str) -> Response<Body> {
        let cluster = self.member().cluster.load();
        match rest {
            "" => {
                let members = cluster.members().map(Shown::of).collect();
                answer::json(StatusCode::OK, answer::line(&All { members }))
            }
            "leader" => {
                let leader = self.member().node().status().leader;
                match cluster.member(leader) {
                    Some(leader) => answer::json(StatusCode::OK, answer::line(&Shown::of(leader))),
                    None => answer::message(StatusCode::SERVICE_UNAVAILABLE, "During election"),
                }
            }
            _ => answer::message(StatusCode::NOT_FOUND, "Not found"),
        }
    }

    async fn add_member(&self, request: &Parts, body: Incoming) -> Result<Response<Body>, Refused> {
        let urls = read_urls(request, body).await?;
        let add = pb::MemberAddRequest {
            peer_ur_ls: urls,
            is_learner: false,
        };
        let added = self.api.member_add(&Caller::default(), add).await;
        let added = added.map_err(|error| self.refused("failed to add a member", None, &error))?;
        let member = added.member.unwrap_or_default();
        let shown = Shown {
            id: format!("{:x}", member.id),
            name: &member.name,
            peer_urls: &member.peer_ur_ls,
            client_urls: &member.client_ur_ls,
        };
        Ok(answer::json(StatusCode::CREATED, answer::line(&shown)))
    }

    async fn remove_member(&self, rest: &str) -> Result<Response<Body>, Refused> {
        let id = read_id(rest)?;
        let remove = pb::MemberRemoveRequest { id };
        let removed = self.api.member_remove(&Caller::default(), remove).await;
        removed.map_err(|error| self.refused("failed to remove a member", Some(id), &error))?;
        Ok(nothing())
    }

    async fn update_member(
        &self,
        request: &Parts,
        body: Incoming,
        rest: &str,
    ) -> Result<Response<Body>, Refused> {
        let id = read_id(rest)?;
        let urls = read_urls(request, body).await?;
        let update = pb::MemberUpdateRequest {
            id,
            peer_ur_ls: urls,
        };
        let updated = self.api.member_update(&Caller::default(), update).await;
        updated.map_err(|error| self.refused("failed to update a member", Some(id), &error))?;
        Ok(nothing())
    }

    /// What a change is refused with. Where etcd 2 says `Internal Server Error`, the reason stands.
    fn refused(&self, what: &str, id: Option<u64>, error: &Error) -> Refused {
        let shown = format!("{:x}", id.unwrap_or_default());
        let cluster = self.member().cluster.load();
        let (status, text) = match error {
            Error::MemberExist => (StatusCode::CONFLICT, "membership: ID exists".to_owned()),
            Error::PeerUrlExist => {
                let text = "membership: peerURL exists".to_owned();
                (StatusCode::CONFLICT, text)
            }
            Error::MemberNotFound if id.is_some_and(|id| cluster.is_removed(id)) => {
                let text = format!("Member permanently removed: {shown}");
                (StatusCode::GONE, text)
            }
            Error::MemberNotFound => {
                let text = format!("No such member: {shown}");
                (StatusCode::NOT_FOUND, text)
            }
            other => {
                warn!(self.member().logger, "{}", what; "member-id" => shown, "error" => %other);
                (StatusCode::INTERNAL_SERVER_ERROR, other.to_string())
            }
        };
        Box::new(answer::message(status, &text))
    }
}

fn nothing() -> Response<Body> {
    let mut response = Response::new(Body::Empty);
    *response.status_mut() = StatusCode::NO_CONTENT;
    response
}

fn read_id(text: &str) -> Result<u64, Refused> {
    if text.is_empty() {
        let status = StatusCode::METHOD_NOT_ALLOWED;
        return Err(Box::new(answer::words(status, "Method Not Allowed\n")));
    }
    let is_hex = text.bytes().all(|byte| byte.is_ascii_hexdigit());
    let id = is_hex.then(|| u64::from_str_radix(text, 16).ok()).flatten();
    id.ok_or_else(|| {
        let text = format!("No such member: {text}");
        Box::new(answer::message(StatusCode::NOT_FOUND, &text))
    })
}

/// The peer URLs of a request, in order.
async fn read_urls(request: &Parts, body: Incoming) -> Result<Vec<String>, Refused> {
    let kind = request.headers.get(header::CONTENT_TYPE);
    let kind = kind.and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let kind = match kind.split_once(';') {
        Some((kind, _)) => kind.to_ascii_lowercase().trim().to_owned(),
        None => kind.to_owned(),
    };
    if kind != "application/json" {
        let text = format!("Bad Content-Type {kind}, accept application/json");
        let answer = answer::message(StatusCode::UNSUPPORTED_MEDIA_TYPE, &text);
        return Err(Box::new(answer));
    }
    let bad = |text: String| Box::new(answer::message(StatusCode::BAD_REQUEST, &text));
    let body = read_body(body, MAX_BODY).await.map_err(bad)?;
    urls_of(&body).map_err(bad)
}

/// The URLs of `{"peerURLs":[…]}`; as Go does, without looking at the case of the name.
fn urls_of(body: &[u8]) -> Result<Vec<String>, String> {
    let fields: serde_json::Map<String, serde_json::Value> =
        serde_json::from_slice(body).map_err(|error| error.to_string())?;
    let given = fields
        .into_iter()
        .find(|(name, _)| name.eq_ignore_ascii_case("peerURLs"))
        .map(|(_, value)| value);
    let given: Option<Vec<String>> = match given {
        None => None,
        Some(value) => serde_json::from_value(value).map_err(|error| error.to_string())?,
    };
    let given = given.unwrap_or_default();
    if given.is_empty() {
        return Err("no valid URLs given".to_owned());
    }
    let mut urls = Vec::with_capacity(given.len());
    for text in given {
        let url = text.trim().parse::<Url>();
        urls.push(url.map_err(|error| error.to_string())?);
    }
    urls.sort();
    Ok(urls.iter().map(ToString::to_string).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_read_and_sorted() {
        let body = br#"{"peerurls": [" http://b:2 ", "http://a:1"], "name": "x"}"#;
        let urls = ["http://a:1", "http://b:2"].map(str::to_owned).to_vec();
        assert_eq!(urls_of(body), Ok(urls));
        for body in [&b"{}"[..], br#"{"peerURLs": []}"#, br#"{"peerURLs": null}"#] {
            assert_eq!(urls_of(body), Err("no valid URLs given".to_owned()));
        }
        for body in [
            &b""[..],
            b"[]",
            br#"{"peerURLs": "foo"}"#,
            br#"{"peerURLs": [1]}"#,
            br#"{"peerURLs": ["."]}"#,
            br#"{"peerURLs": ["http://127.0.0.1:2379/foo"]}"#,
            br#"{"peerURLs": ["http://127.0.0.1"]}"#,
        ] {
            let text = String::from_utf8_lossy(body);
            assert!(urls_of(body).is_err(), "{text}");
        }
    }
}
