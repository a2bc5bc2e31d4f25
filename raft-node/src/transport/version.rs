//! Which versions may talk to each other.

use http::HeaderMap;

use super::MIN_CLUSTER_VERSION;
use super::context::Context;

/// What a request that says no version comes from.
const BEFORE_VERSIONS: &str = "2.0.0";

/// Major and minor; nothing else is compared.
pub(super) type MajorMinor = (u64, u64);

/// # Errors
/// `None` where the text is no semantic version.
pub(super) fn parse(text: &str) -> Option<MajorMinor> {
    let core = text.split(['-', '+']).next()?;
    let mut parts = core.split('.');
    let mut number = || {
        let part = parts.next()?;
        if part.is_empty() || !part.bytes().all(|b| b.is_ascii_digit()) {
            return None;
        }
        part.parse::<u64>().ok()
    };
    let (major, minor, _patch) = (number()?, number()?, number()?);
    parts.next().is_none().then_some((major, minor))
}

/// The text of a header, `""` where it is missing or no text.
pub(super) fn text<'a>(headers: &'a HeaderMap, name: &str) -> &'a str {
    headers
        .get(name)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default()
}

fn version_of<'a>(headers: &'a HeaderMap, name: &str) -> &'a str {
    match text(headers, name) {
        "" => BEFORE_VERSIONS,
        version => version,
    }
}

/// The version of the sender of an answer.
pub(super) fn server_version(headers: &HeaderMap) -> &str {
    version_of(headers, "x-server-version")
}

/// A request that ends with status 412 and this text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Incompatible {
    #[error("incompatible version")]
    Version,
    #[error("cluster ID mismatch")]
    Cluster,
}

/// The first check of every request under `/raft`, but for probing.
pub(super) fn check(context: &Context, headers: &HeaderMap) -> Result<(), Incompatible> {
    let name = text(headers, "x-server-from");
    let remote = server_version(headers);
    let remote_min = version_of(headers, "x-min-cluster-version");
    let local = context.options.server_version.as_str();
    let complaint = match (parse(remote), parse(remote_min)) {
        (Some(version), _) if Some(version) < parse(MIN_CLUSTER_VERSION) => Some(format!(
            "remote version is too low: remote[{name}]={remote}, local={local}"
        )),
        (_, Some(min)) if Some(min) > parse(local) => Some(format!(
            "local version is too low: remote[{name}]={remote}, local={local}"
        )),
        (Some(_), Some(_)) => None,
        _ => Some(format!(
            "remote[{name}]={remote:?}, at least {remote_min:?}, is no version"
        )),
    };
    if let Some(error) = complaint {
        slog::warn!(context.options.logger, "failed version compatibility check";
            "local-member-id" => &context.local,
            "local-member-cluster-id" => &context.cluster,
            "local-member-server-version" => local,
            "local-member-server-minimum-cluster-version" => MIN_CLUSTER_VERSION,
            "remote-peer-server-name" => name,
            "remote-peer-server-version" => remote,
            "remote-peer-server-minimum-cluster-version" => remote_min,
            "error" => error);
        return Err(Incompatible::Version);
    }
    let cluster = text(headers, "x-etcd-cluster-id");
    if cluster != context.cluster {
        slog::warn!(context.options.logger, "request cluster ID mismatch";
            "local-member-id" => &context.local,
            "local-member-cluster-id" => &context.cluster,
            "local-member-server-version" => local,
            "local-member-server-minimum-cluster-version" => MIN_CLUSTER_VERSION,
            "remote-peer-server-name" => name,
            "remote-peer-server-version" => remote,
            "remote-peer-server-minimum-cluster-version" => remote_min,
            "remote-peer-cluster-id" => cluster);
        return Err(Incompatible::Cluster);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions() {
        assert_eq!(parse("3.7.1"), Some((3, 7)));
        assert_eq!(parse("3.8.0-alpha.0+git"), Some((3, 8)));
        for bad in [
            "", "3", "3.7", "3.7.x", "v3.7.1", "3.7.1.2", "3..1", "+3.7.1",
        ] {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }
}
