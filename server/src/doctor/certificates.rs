//! Certificates, keys and authorities: whether they can be read, go together, and are for what they are used for.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use retcd_tls::{CertificateFile, Check, Role, SetupError, TlsInfo, authorities};

use super::Plan;
use super::access::{self, User, Wish};
use super::finding::Findings;
use super::urls::is_loopback;
use crate::config::{GoDuration, SideTls, Url};

/// A certificate that ends within this time is worth a warning.
const SOON: Duration = Duration::from_secs(30 * 24 * 3600);

/// One kind of connections.
struct Side<'a> {
    info: &'a TlsInfo,
    /// What its flags begin with.
    prefix: &'static str,
    /// What others dial.
    advertised: &'a [Url],
    listened: Vec<&'a Url>,
    is_peer: bool,
}

pub(super) fn check(plan: &Plan, user: Option<&User>, findings: &mut Findings) {
    let resolved = &plan.resolved;
    let for_clients = [
        &resolved.listen_client_urls,
        &resolved.listen_client_http_urls,
        &resolved.listen_metrics_urls,
    ];
    let sides = [
        (
            &resolved.tls.client,
            "--",
            &resolved.advertise_client_urls,
            for_clients.into_iter().flatten().collect(),
        ),
        (
            &resolved.tls.peer,
            "--peer-",
            &resolved.initial_advertise_peer_urls,
            resolved.listen_peer_urls.iter().collect(),
        ),
    ];
    for (number, (tls, prefix, advertised, listened)) in sides.into_iter().enumerate() {
        let side = Side {
            info: tls.given(),
            prefix,
            advertised,
            listened,
            is_peer: number == 1,
        };
        side.check(tls, user, findings);
    }
}

impl Side<'_> {
    fn check(&self, tls: &SideTls, user: Option<&User>, findings: &mut Findings) {
        for (flag, path) in self.files() {
            readable(&flag, path, user, findings);
        }
        for (flag, path) in self.keys() {
            closed(&flag, path, findings);
        }
        let info = self.info;
        if info.client_cert_auth && info.trusted_ca_file.is_none() && !tls.is_automatic() {
            findings.warning(
                "auth-without-ca",
                format!(
                    "{0}client-cert-auth without {0}trusted-ca-file takes certificates of every authority that this system trusts",
                    self.prefix
                ),
                format!("name your own authority with {}trusted-ca-file", self.prefix),
            );
        }
        if let Some(path) = &info.trusted_ca_file {
            authority(&self.flag("trusted-ca-file"), path, findings);
        }
        let now = SystemTime::now();
        let own = info.cert_file.as_ref();
        if let Some(path) = own
            && let Some(file) = certificate(&self.flag("cert-file"), path, findings)
        {
            self.pair(&file, path, info.key_file.as_deref(), findings);
            validity(&file, path, now, findings);
            self.names(&file, path, findings);
            let mut roles = vec![Role::Server];
            // It is shown to other members as well, unless they get one of their own.
            if self.is_peer && info.client_cert_file.is_none() {
                roles.push(Role::Client);
            }
            self.judge(&file, path, &roles, now, findings);
            self.allowed(&file, path, findings);
        }
        if let Some(path) = &info.client_cert_file
            && let Some(file) = certificate(&self.flag("client-cert-file"), path, findings)
        {
            self.pair(&file, path, info.client_key_file.as_deref(), findings);
            validity(&file, path, now, findings);
            self.judge(&file, path, &[Role::Client], now, findings);
        }
    }

    fn flag(&self, name: &str) -> String {
        // The one flag of clients that is not called as its like of peers.
        match (self.is_peer, name) {
            (false, "client-cert-file" | "client-key-file" | "client-crl-file") => {
                format!("--{name}")
            }
            (true, "client-crl-file") => "--peer-crl-file".to_owned(),
            _ => format!("{}{name}", self.prefix),
        }
    }

    fn files(&self) -> Vec<(String, &Path)> {
        let info = self.info;
        let all: [(&str, &Option<PathBuf>); 6] = [
            ("cert-file", &info.cert_file),
            ("key-file", &info.key_file),
            ("client-cert-file", &info.client_cert_file),
            ("client-key-file", &info.client_key_file),
            ("trusted-ca-file", &info.trusted_ca_file),
            ("client-crl-file", &info.crl_file),
        ];
        let named = all
            .into_iter()
            .filter_map(|(name, path)| Some((name, path.as_deref()?)));
        named.map(|(name, path)| (self.flag(name), path)).collect()
    }

    fn keys(&self) -> Vec<(String, &Path)> {
        let mut files = self.files();
        files.retain(|(flag, _)| flag.ends_with("key-file"));
        files
    }

    fn pair(
        &self,
        file: &CertificateFile,
        path: &Path,
        key: Option<&Path>,
        findings: &mut Findings,
    ) {
        let Some(key) = key else {
            findings.error(
                "cert-key",
                format!("{} has no key beside it", path.display()),
                format!("name its key as well ({}key-file)", self.prefix),
            );
            return;
        };
        match file.check_key(key) {
            // Told already.
            Ok(()) | Err(SetupError::File { .. }) => {}
            Err(error) => findings.error(
                "cert-key",
                error,
                format!("name the key that {} was issued for", path.display()),
            ),
        }
    }

    /// Whether it is for the addresses under which others dial this member.
    fn names(&self, file: &CertificateFile, path: &Path, findings: &mut Findings) {
        let hosts = |urls: &[Url]| -> Vec<String> {
            let secure = urls.iter().filter(|url| url.scheme().is_secure());
            let hosts = secure.filter_map(|url| url.host_port());
            let hosts = hosts.map(|(host, _)| host.to_owned());
            // Nobody dials that, which is told elsewhere.
            let means_all = |host: &String| {
                let address = host.parse::<std::net::IpAddr>();
                address.is_ok_and(|address| address.is_unspecified())
            };
            hosts.filter(|host| !means_all(host)).collect()
        };
        let advertised = hosts(self.advertised);
        let leaf = file.leaf();
        let what = match self.is_peer {
            true => "other members",
            false => "clients",
        };
        for host in &advertised {
            if let Err(reason) = leaf.verify_hostname(host) {
                let back = match self.is_peer {
                    true => ", and members that this one dials may refuse it as well",
                    false => "",
                };
                findings.error(
                    "cert-names",
                    format!("{}: {what} that dial {host} refuse it{back}: {reason}", path.display()),
                    format!("issue it again with {host} among its alternative names (cfssl: -hostname or \"hosts\"; openssl: subjectAltName)"),
                );
            }
        }
        let local = self.listened.iter().filter(|url| is_loopback(url));
        for url in local.filter(|url| url.scheme().is_secure()) {
            if let Some((host, _)) = url.host_port()
                && !advertised.iter().any(|advertised| advertised == host)
                && let Err(reason) = leaf.verify_hostname(host)
            {
                findings.warning(
                    "cert-names",
                    format!(
                        "{}: {what} on this machine that dial {host} refuse it: {reason}",
                        path.display()
                    ),
                    format!(
                        "issue it again with {host} among its alternative names, or dial {}",
                        advertised.join(", ")
                    ),
                );
            }
        }
    }

    fn judge(
        &self,
        file: &CertificateFile,
        path: &Path,
        roles: &[Role],
        now: SystemTime,
        findings: &mut Findings,
    ) {
        let (begin, end) = file.validity();
        // Its own dates are another check.
        let time = now.clamp(begin, end.max(begin));
        let mut authority_is_fine = true;
        for role in roles {
            let whom = match role {
                Role::Server => "whoever dials this member",
                Role::Client => "the members that this one dials",
            };
            if !file.is_for(*role) {
                findings.error(
                    "cert-usage",
                    format!("{}: {whom} must refuse it: it lacks the extended key usage {}", path.display(), role.usage_name()),
                    format!(
                        "issue it again with {} (cfssl: \"server auth\" and \"client auth\" in the profile; openssl: extendedKeyUsage)",
                        roles.iter().map(|role| role.usage_name()).collect::<Vec<_>>().join(" and ")
                    ),
                );
                continue;
            }
            let Some(authorities) = &self.info.trusted_ca_file else {
                continue;
            };
            match file.verify(Some(authorities), *role, time) {
                Ok(()) => {}
                // Told already.
                Err(failure) if failure.check == Check::Local => {}
                Err(failure) if authority_is_fine => {
                    authority_is_fine = false;
                    findings.error(
                        "cert-authority",
                        format!(
                            "{}, against {}: {}",
                            path.display(),
                            authorities.display(),
                            failure.error
                        ),
                        failure.advice,
                    );
                }
                Err(_) => {}
            }
        }
    }

    /// Members are configured alike, so what this one demands of others, they demand of it.
    fn allowed(&self, file: &CertificateFile, path: &Path, findings: &mut Findings) {
        if !self.is_peer {
            return;
        }
        let (leaf, info) = (file.leaf(), self.info);
        if !info.allowed_cns.is_empty() && !info.allowed_cns.contains(&leaf.common_name) {
            findings.warning(
                "cert-allowed",
                format!(
                    "{}: its common name {:?} is not among --peer-cert-allowed-cn={}",
                    path.display(),
                    leaf.common_name,
                    info.allowed_cns.join(",")
                ),
                "members with the same flag refuse this one: issue the certificate with an allowed name, or allow this one",
            );
        }
        let hosts = &info.allowed_hostnames;
        if !hosts.is_empty() && !hosts.iter().any(|host| leaf.verify_hostname(host).is_ok()) {
            findings.warning(
                "cert-allowed",
                format!("{}: it is for none of --peer-cert-allowed-hostname={}", path.display(), hosts.join(",")),
                "members with the same flag refuse this one: issue the certificate for an allowed name, or allow one of its names",
            );
        }
    }
}

pub(super) fn readable(flag: &str, path: &Path, user: Option<&User>, findings: &mut Findings) {
    let Err(reason) = access::check(path, Wish::Read, user) else {
        return;
    };
    let fix = match (path.exists(), user) {
        (false, _) => {
            "name a file that is there (a relative path begins where etcd is started)".to_owned()
        }
        (true, Some(user)) => format!(
            "give it to the user who runs the member: chown {0}: {1}; chmod 600 {1} if it is a key",
            user.name,
            path.display()
        ),
        (true, None) => format!(
            "give it to the user who runs the member: chown <user>: {}",
            path.display()
        ),
    };
    findings.error(
        "file-access",
        format!("{flag}={}: {reason}", path.display()),
        fix,
    );
}

/// A key is for its owner, and perhaps for a group.
fn closed(flag: &str, path: &Path, findings: &mut Findings) {
    if let Ok(metadata) = fs::metadata(path)
        && metadata.is_file()
        && metadata.mode() & 0o007 != 0
    {
        findings.warning(
            "key-open",
            format!(
                "{flag}={} can be read by everybody on this machine (mode {:04o})",
                path.display(),
                metadata.mode() & 0o7777
            ),
            format!("chmod 600 {}", path.display()),
        );
    }
}

fn certificate(flag: &str, path: &Path, findings: &mut Findings) -> Option<CertificateFile> {
    match CertificateFile::read(path) {
        Ok(file) => Some(file),
        // Told already.
        Err(SetupError::File { .. }) => None,
        Err(error) => {
            findings.error(
                "cert-file",
                format!("{flag}: {error}"),
                "name a file with the certificate in PEM (-----BEGIN CERTIFICATE-----), the member's own first",
            );
            None
        }
    }
}

fn validity(file: &CertificateFile, path: &Path, now: SystemTime, findings: &mut Findings) {
    let (begin, end) = file.validity();
    let span = |duration: Duration| GoDuration(Duration::from_secs(duration.as_secs()));
    if let Ok(wait) = begin.duration_since(now)
        && !wait.is_zero()
    {
        findings.error(
            "cert-not-yet-valid",
            format!("{} is not valid for another {}", path.display(), span(wait)),
            "set the clock of this machine right, or that of the one that issued it",
        );
    }
    match end.duration_since(now) {
        Err(past) => findings.error(
            "cert-expired",
            format!("{} expired {} ago", path.display(), span(past.duration())),
            "issue a new one; the member takes it without a restart",
        ),
        Ok(left) if left < SOON => findings.warning(
            "cert-expired",
            format!("{} expires in {}", path.display(), span(left)),
            "issue a new one in time; the member takes it without a restart",
        ),
        Ok(_) => {}
    }
}

/// The file of authorities, and whether the key that makes more of them lies beside it.
fn authority(flag: &str, path: &Path, findings: &mut Findings) {
    match authorities(path) {
        Ok(0) => findings.warning(
            "cert-file",
            format!("{flag}={} holds no authority (CA:TRUE): only the very certificates in it are trusted", path.display()),
            "name the file of the authority that issued the certificates",
        ),
        // What cannot be read is told already.
        Ok(_) | Err(SetupError::File { .. }) => {}
        Err(error) => findings.error(
            "cert-file",
            format!("{flag}: {error}"),
            "name a file with the certificates of authorities in PEM (-----BEGIN CERTIFICATE-----)",
        ),
    }
    let Ok(file) = CertificateFile::read(path) else {
        return;
    };
    for key in keys_beside(path) {
        if file.check_key(&key).is_ok() {
            findings.warning(
                "ca-key",
                format!("{} is the private key of the authority in {}: whoever has it can make certificates for everything", key.display(), path.display()),
                "take it off this machine; members need the certificate of the authority alone",
            );
        }
    }
}

/// Where tutorials put the key of `ca.pem`.
fn keys_beside(path: &Path) -> Vec<PathBuf> {
    let Some(stem) = path.file_stem().and_then(|stem| stem.to_str()) else {
        return Vec::new();
    };
    let names = [
        format!("{stem}-key.pem"),
        format!("{stem}.key"),
        format!("{stem}_key.pem"),
        format!("{stem}.key.pem"),
    ];
    let paths = names.iter().map(|name| path.with_file_name(name));
    paths.filter(|key| key != path && key.exists()).collect()
}

#[cfg(test)]
mod tests {
    use super::super::tests::{found, plan, urls};
    use super::*;
    use crate::config::Config;

    /// A certificate of its own for these names; it expires in a year.
    fn made(dir: &Path, names: &[&str]) -> (PathBuf, PathBuf) {
        let names: Vec<String> = names.iter().map(ToString::to_string).collect();
        let info = retcd_tls::self_signed(dir, &names, 1, &super::super::silent()).expect("made");
        (
            info.cert_file.expect("a file"),
            info.key_file.expect("a file"),
        )
    }

    fn checks(change: impl FnOnce(&mut Config)) -> Findings {
        let plan = plan(|config| {
            config.listen_client_urls = urls("https://127.0.0.1:2379");
            config.listen_peer_urls = urls("https://10.0.0.1:2380");
            config.initial_advertise_peer_urls = Some(urls("https://10.0.0.1:2380"));
            change(config);
        });
        found(|findings| check(&plan, None, findings))
    }

    #[test]
    fn a_pair_that_fits_draws_nothing() {
        let dir = tempfile::tempdir().expect("a directory");
        let (cert, key) = made(&dir.path().join("a"), &["127.0.0.1", "10.0.0.1"]);
        let found = checks(|config| {
            for side in [&mut config.tls.client, &mut config.tls.peer] {
                (side.cert_file, side.key_file) = (cert.clone(), key.clone());
                side.client_cert_auth = true;
                side.trusted_ca_file = cert.clone();
            }
        });
        // It is its own authority, and its key is where that of a member is.
        let mut checks = found.checks();
        checks.retain(|check| *check != "cert-file");
        assert!(checks.is_empty(), "{found:#?}");
    }

    /// The plot of a tutorial: the list of addresses ends with the third member.
    #[test]
    fn a_certificate_that_lacks_an_address_is_found() {
        let dir = tempfile::tempdir().expect("a directory");
        let (cert, key) = made(&dir.path().join("a"), &["127.0.0.1", "10.0.0.2"]);
        let found = checks(|config| {
            (config.tls.peer.cert_file, config.tls.peer.key_file) = (cert, key);
        });
        let found = found.only("cert-names");
        assert!(
            found
                .what
                .contains("is valid for 127.0.0.1, 10.0.0.2, not 10.0.0.1"),
            "{found:?}"
        );
    }

    #[test]
    fn files_that_do_not_go_together_are_found() {
        let dir = tempfile::tempdir().expect("a directory");
        let (cert, _) = made(&dir.path().join("a"), &["127.0.0.1", "10.0.0.1"]);
        let (other, key) = made(&dir.path().join("b"), &["127.0.0.1", "10.0.0.1"]);
        let found = checks(|config| {
            (config.tls.client.cert_file, config.tls.client.key_file) = (cert.clone(), key.clone());
            config.tls.client.trusted_ca_file = other;
            (config.tls.peer.cert_file, config.tls.peer.key_file) =
                (dir.path().join("none.pem"), key);
        });
        assert!(
            found.only("cert-key").what.contains("does not match"),
            "{found:#?}"
        );
        assert!(
            found
                .only("cert-authority")
                .what
                .contains("unknown authority"),
            "{found:#?}"
        );
        assert!(
            found.only("file-access").what.contains("--peer-cert-file"),
            "{found:#?}"
        );
    }

    #[test]
    fn dates_are_told_from_the_present() {
        let dir = tempfile::tempdir().expect("a directory");
        let (cert, _) = made(&dir.path().join("a"), &["a"]);
        let file = CertificateFile::read(&cert).expect("readable");
        let (begin, end) = file.validity();
        let day = Duration::from_secs(24 * 3600);
        let at = |time| found(|findings| validity(&file, &cert, time, findings)).checks();
        assert_eq!(at(begin - day), ["cert-not-yet-valid"]);
        assert!(at(begin + day).is_empty());
        assert_eq!(at(end - day), ["cert-expired"]);
        let over = found(|findings| validity(&file, &cert, end + day, findings));
        assert!(
            over.only("cert-expired")
                .what
                .contains("expired 24h0m0s ago"),
            "{over:?}"
        );
    }

    #[test]
    fn open_keys_and_keys_of_authorities_are_found() {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = tempfile::tempdir().expect("a directory");
        let (cert, key) = made(&dir.path().join("a"), &["a"]);
        let (ca, ca_key) = (dir.path().join("ca.pem"), dir.path().join("ca-key.pem"));
        fs::copy(&cert, &ca).expect("copied");
        fs::copy(&key, &ca_key).expect("copied");
        fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).expect("changed");
        let found = found(|findings| {
            authority("--trusted-ca-file", &ca, findings);
            closed("--key-file", &key, findings);
        });
        assert!(
            found.only("ca-key").what.contains("ca-key.pem"),
            "{found:#?}"
        );
        assert!(
            found.only("key-open").fix.starts_with("chmod 600"),
            "{found:#?}"
        );
    }
}
