//! What the members of a new cluster read and write in the registry.
//!
//! Source: etcd `server/etcdserver/api/v3discovery/discovery.go`.

use std::time::Duration;

use slog::{Logger, info, warn};
use tokio::time::sleep;

use super::DiscoveryError;
use super::client::ClientError;
use crate::config::{GoDuration, parse_cluster};

const PREFIX: &str = "/_etcd/registry";
/// The longest rest between two attempts is two to this power, in seconds; etcd's value.
const MAX_DOUBLINGS: u32 = 8;

/// A pair of the registry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Pair {
    pub(super) key: String,
    pub(super) value: String,
    pub(super) created: i64,
}

/// The etcd that keeps the registry.
pub(super) trait Store {
    type Watch: Changes;

    /// The pairs under a key, or under all that begin with it, and the revision that this was at.
    async fn read(&mut self, key: &str, prefix: bool) -> Result<(Vec<Pair>, i64), ClientError>;

    async fn write(&mut self, key: &str, value: &str) -> Result<(), ClientError>;

    /// What is written to keys that begin with this one, from a revision on.
    async fn watch(&mut self, key: &str, from: i64) -> Result<Self::Watch, ClientError>;
}

/// Changes as they come.
pub(super) trait Changes {
    /// The next ones. An error is the end.
    async fn next(&mut self) -> Result<Vec<Pair>, ClientError>;
}

/// The part of the registry that is about one cluster, as one of its members sees it.
pub(super) struct Registry<'a, S> {
    store: S,
    token: &'a str,
    member_id: u64,
    logger: &'a Logger,
    /// Failures since the last success.
    failures: u32,
}

/// Where the size of a cluster is registered.
pub(super) fn size_key(token: &str) -> String {
    path(&[token, "_config/size"])
}

/// What all members' keys begin with.
fn members_key(token: &str) -> String {
    path(&[token, "members"])
}

/// Parts of a key, put together as Go puts paths together.
fn path(parts: &[&str]) -> String {
    let mut path: Vec<&str> = Vec::new();
    for part in std::iter::once(&PREFIX)
        .chain(parts)
        .flat_map(|part| part.split('/'))
    {
        match part {
            "" | "." => {}
            ".." => drop(path.pop()),
            part => path.push(part),
        }
    }
    format!("/{}", path.join("/"))
}

impl<'a, S: Store> Registry<'a, S> {
    pub(super) fn new(store: S, token: &'a str, member_id: u64, logger: &'a Logger) -> Self {
        Self {
            store,
            token,
            member_id,
            logger,
            failures: 0,
        }
    }

    /// Registers this member and waits for the others.
    pub(super) async fn join(&mut self, entry: &str) -> Result<String, DiscoveryError> {
        // Who is not in any more leaves nothing behind.
        self.look().await?;
        self.register(entry).await?;
        loop {
            let (mut found, size, revision) = self.look().await?;
            if found.len() >= size || self.wait(&mut found, size, revision).await? {
                return found.cluster(size);
            }
        }
    }

    fn own_key(&self) -> String {
        path(&[self.token, "members", &format!("{:x}", self.member_id)])
    }

    /// The members so far, how many there are to be, and the revision that this was at.
    async fn look(&mut self) -> Result<(Found, usize, i64), DiscoveryError> {
        loop {
            let size = match self.size().await {
                Ok(size) => size?,
                Err(error) => {
                    self.rest("cluster status check", error).await?;
                    continue;
                }
            };
            let (found, revision) = match self.members().await {
                Ok(found) => found,
                Err(error) => {
                    self.rest("cluster status check", error).await?;
                    continue;
                }
            };
            self.failures = 0;
            // Those that registered first are in.
            let own = self.own_key();
            let among_them = found
                .members
                .iter()
                .take(size)
                .any(|member| member.key == own);
            if found.len() >= size && !among_them {
                return Err(DiscoveryError::Full);
            }
            return Ok((found, size, revision));
        }
    }

    async fn size(&mut self) -> Result<Result<usize, DiscoveryError>, ClientError> {
        let key = size_key(self.token);
        let (pairs, _) = self.store.read(&key, false).await.inspect_err(|error| {
            warn!(self.logger, "failed to get cluster size from discovery service";
                "clusterSizeKey" => &key, "error" => %error);
        })?;
        let Some(pair) = pairs.first() else {
            return Ok(Err(DiscoveryError::SizeNotFound));
        };
        let size = pair.value.parse::<i64>().ok();
        let size = size
            .filter(|size| *size > 0)
            .and_then(|size| usize::try_from(size).ok());
        Ok(size.ok_or_else(|| DiscoveryError::BadSize(pair.value.clone())))
    }

    async fn members(&mut self) -> Result<(Found, i64), ClientError> {
        let prefix = members_key(self.token);
        let (pairs, revision) = self.store.read(&prefix, true).await.inspect_err(|error| {
            warn!(self.logger, "failed to get cluster members from discovery service";
                "membersKeyPrefix" => &prefix, "error" => %error);
        })?;
        let mut found = Found::default();
        for pair in pairs {
            found.add(pair, self.logger);
        }
        Ok((found, revision))
    }

    async fn register(&mut self, entry: &str) -> Result<(), DiscoveryError> {
        let key = self.own_key();
        loop {
            match self.store.write(&key, entry).await {
                Ok(()) => break,
                Err(error) => {
                    warn!(self.logger, "failed to register members itself to the discovery service";
                        "memberKey" => &key, "error" => %error);
                    self.rest("register member itself", error).await?;
                }
            }
        }
        self.failures = 0;
        info!(self.logger, "register member itself successfully";
            "memberKey" => key, "memberInfo" => entry);
        Ok(())
    }

    /// Waits until all members are there. `false`: the registry went away meanwhile, so look again.
    async fn wait(
        &mut self,
        found: &mut Found,
        size: usize,
        revision: i64,
    ) -> Result<bool, DiscoveryError> {
        let watch = self
            .store
            .watch(&members_key(self.token), revision + 1)
            .await;
        info!(self.logger, "waiting for peers from discovery service";
            "clusterSize" => size, "found-peers" => found.len());
        let mut changes = match watch {
            Ok(changes) => changes,
            Err(error) => return self.lost(error).await,
        };
        while found.len() < size {
            match changes.next().await {
                Ok(pairs) => pairs
                    .into_iter()
                    .for_each(|pair| found.add(pair, self.logger)),
                Err(error) => return self.lost(error).await,
            }
        }
        info!(self.logger, "found all needed peers from discovery service";
            "clusterSize" => size, "found-peers" => found.len());
        Ok(true)
    }

    async fn lost(&mut self, error: ClientError) -> Result<bool, DiscoveryError> {
        warn!(self.logger, "lost the discovery service while waiting for peers"; "error" => %error);
        self.rest("watch of peers", error).await?;
        Ok(false)
    }

    /// Before another attempt, longer with each that failed.
    async fn rest(&mut self, step: &'static str, error: ClientError) -> Result<(), DiscoveryError> {
        if let ClientError::Login(reason) = error {
            return Err(DiscoveryError::Login(reason));
        }
        self.failures = self.failures.saturating_add(1);
        let rest = Duration::from_secs(1 << self.failures.min(MAX_DOUBLINGS));
        warn!(self.logger, "retry connecting to discovery service";
            "reason" => step, "backoff" => %GoDuration(rest));
        sleep(rest).await;
        Ok(())
    }
}

/// The members that have registered, the first one first.
#[derive(Debug, Default)]
struct Found {
    members: Vec<Pair>,
}

impl Found {
    fn len(&self) -> usize {
        self.members.len()
    }

    fn add(&mut self, pair: Pair, logger: &Logger) {
        let (key, value) = (pair.key.trim(), pair.value.trim());
        let wrong = if !value.contains('=') {
            Some("invalid peer info returned from discovery service")
        } else if self.members.iter().any(|member| member.key == key) {
            Some("found duplicate peer from discovery service")
        } else {
            None
        };
        match wrong {
            Some(wrong) => warn!(logger, "{}", wrong; "memberKey" => key, "memberInfo" => value),
            None => {
                info!(logger, "found peer from discovery service";
                    "memberKey" => key, "memberInfo" => value);
                let (key, value) = (key.to_owned(), value.to_owned());
                self.members.push(Pair { key, value, ..pair });
                self.members.sort_by_key(|member| member.created);
            }
        }
    }

    /// As many as there are to be: more may have registered at the same time.
    fn cluster(&self, size: usize) -> Result<String, DiscoveryError> {
        let entries = self
            .members
            .iter()
            .take(size)
            .map(|member| member.value.as_str());
        let cluster = entries.collect::<Vec<_>>().join(",");
        match parse_cluster(&cluster) {
            Ok(_) => Ok(cluster),
            Err(_) => Err(DiscoveryError::InvalidUrl(cluster)),
        }
    }
}

#[cfg(test)]
mod tests;
