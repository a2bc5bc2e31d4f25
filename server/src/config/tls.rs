//! The flags about TLS: as given, and as the listeners and the peer transport use them.

use std::path::{Path, PathBuf};

use retcd_tls::{SelfSignedError, Suites, TlsInfo, UnknownSuite, Version};
use slog::{Level, Logger};

use super::notice::Notice;
use super::url::Url;
use super::value::{self, ValueError};
use super::{Config, ConfigError};

/// TLS as a user asks for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsConfig {
    /// For client URLs: `--cert-file` and so on; in a configuration file `client-transport-security`.
    pub client: TlsSide,
    /// For peer URLs: `--peer-cert-file` and so on; in a configuration file `peer-transport-security`.
    pub peer: TlsSide,
    /// `--self-signed-cert-validity`: years.
    pub self_signed_cert_validity: u64,
    /// `--cipher-suites`: Go's names.
    pub cipher_suites: Vec<String>,
    /// `--tls-min-version`: `TLS1.2`, `TLS1.3`, or empty for the lowest.
    pub min_version: String,
    /// `--tls-max-version`: as `min_version`, empty for the highest.
    pub max_version: String,
}

impl Default for TlsConfig {
    fn default() -> Self {
        Self {
            client: TlsSide::default(),
            peer: TlsSide::default(),
            self_signed_cert_validity: 1,
            cipher_suites: Vec::new(),
            min_version: "TLS1.2".into(),
            max_version: String::new(),
        }
    }
}

/// TLS of one kind of URL. Files are empty when not named.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TlsSide {
    /// `--cert-file`, `--peer-cert-file`.
    pub cert_file: PathBuf,
    /// `--key-file`, `--peer-key-file`.
    pub key_file: PathBuf,
    /// `--client-cert-file`, `--peer-client-cert-file`.
    pub client_cert_file: PathBuf,
    /// `--client-key-file`, `--peer-client-key-file`.
    pub client_key_file: PathBuf,
    /// `--trusted-ca-file`, `--peer-trusted-ca-file`.
    pub trusted_ca_file: PathBuf,
    /// `--client-crl-file`, `--peer-crl-file`.
    pub crl_file: PathBuf,
    /// `--client-cert-auth`, `--peer-client-cert-auth`.
    pub client_cert_auth: bool,
    /// `--auto-tls`, `--peer-auto-tls`.
    pub auto_tls: bool,
    /// `--peer-cert-allowed-cn`; of clients only a configuration file can say it.
    pub allowed_cns: Vec<String>,
    /// `--client-cert-allowed-hostname`, `--peer-cert-allowed-hostname`.
    pub allowed_hostnames: Vec<String>,
    /// `--peer-skip-client-san-verification`.
    pub skip_client_san_verification: bool,
}

impl TlsConfig {
    /// Takes the value of a flag. `Ok(false)`: the flag is none of these.
    pub(super) fn assign(&mut self, name: &str, text: &str) -> Result<bool, ValueError> {
        if self.assign_list(name, list(text)).is_ok() {
            return Ok(true);
        }
        match name {
            "self-signed-cert-validity" => {
                self.self_signed_cert_validity = value::parse_uint(text)?;
            }
            "tls-min-version" => self.min_version = text.to_owned(),
            "tls-max-version" => self.max_version = text.to_owned(),
            "client-cert-file" => self.client.client_cert_file = text.into(),
            "client-key-file" => self.client.client_key_file = text.into(),
            "client-crl-file" => self.client.crl_file = text.into(),
            "peer-client-cert-file" => self.peer.client_cert_file = text.into(),
            "peer-client-key-file" => self.peer.client_key_file = text.into(),
            "peer-crl-file" => self.peer.crl_file = text.into(),
            "peer-skip-client-san-verification" => {
                self.peer.skip_client_san_verification = value::parse_bool(text)?;
            }
            _ => {
                let (side, name) = match name.strip_prefix("peer-") {
                    Some(name) => (&mut self.peer, name),
                    None => (&mut self.client, name),
                };
                return side.assign(name, text);
            }
        }
        Ok(true)
    }
}

impl TlsConfig {
    /// Takes a list; gives it back if the flag is none of these.
    pub(super) fn assign_list(&mut self, name: &str, list: Vec<String>) -> Result<(), Vec<String>> {
        let field = match name {
            "cipher-suites" => &mut self.cipher_suites,
            "client-cert-allowed-cn" => &mut self.client.allowed_cns,
            "client-cert-allowed-hostname" => &mut self.client.allowed_hostnames,
            "peer-cert-allowed-cn" => &mut self.peer.allowed_cns,
            "peer-cert-allowed-hostname" => &mut self.peer.allowed_hostnames,
            _ => return Err(list),
        };
        *field = list;
        Ok(())
    }
}

impl TlsSide {
    fn assign(&mut self, name: &str, text: &str) -> Result<bool, ValueError> {
        match name {
            "cert-file" => self.cert_file = text.into(),
            "key-file" => self.key_file = text.into(),
            "trusted-ca-file" => self.trusted_ca_file = text.into(),
            "client-cert-auth" => self.client_cert_auth = value::parse_bool(text)?,
            "auto-tls" => self.auto_tls = value::parse_bool(text)?,
            _ => return Ok(false),
        }
        Ok(true)
    }

    fn has_certificate(&self) -> bool {
        !self.cert_file.as_os_str().is_empty() || !self.key_file.as_os_str().is_empty()
    }
}

/// Values separated by commas.
fn list(text: &str) -> Vec<String> {
    if text.is_empty() {
        return Vec::new();
    }
    text.split(',').map(str::to_owned).collect()
}

/// TLS as the listeners and the peer transport use it.
#[derive(Debug, Clone)]
pub struct ResolvedTls {
    /// For client URLs, and for metrics URLs.
    pub client: SideTls,
    /// For peer URLs, and for dialing other members.
    pub peer: SideTls,
    unknown_suite: Option<UnknownSuite>,
}

/// TLS of one kind of URL.
#[derive(Debug, Clone)]
pub struct SideTls {
    info: TlsInfo,
    auto: Option<Auto>,
}

/// A certificate that the member makes itself.
#[derive(Debug, Clone)]
struct Auto {
    dir: PathBuf,
    hosts: Vec<String>,
    years: u64,
}

impl SideTls {
    /// Whether there is no certificate, so that https URLs cannot be served.
    pub fn is_empty(&self) -> bool {
        self.info.is_empty() && self.auto.is_none()
    }

    /// The files and rules that were given, whether or not the member makes a certificate itself.
    pub(crate) fn given(&self) -> &TlsInfo {
        &self.info
    }

    /// Whether the certificate is one that the member makes itself.
    pub fn is_automatic(&self) -> bool {
        self.auto.is_some()
    }

    /// Whether files were named that dialing needs. They are none of those of a certificate that the member makes itself.
    pub(crate) fn dials_with_files(&self) -> bool {
        let named = [
            &self.info.cert_file,
            &self.info.key_file,
            &self.info.trusted_ca_file,
        ];
        self.auto.is_none() && named.into_iter().any(Option::is_some)
    }

    /// Whether others are verified by the system's authorities.
    pub(crate) fn trusts_the_system(&self) -> bool {
        self.info.trusted_ca_file.is_none()
    }

    /// The same for members whose certificates are to be for this name instead of the host that is dialed.
    pub(crate) fn naming(&self, server_name: &str) -> Self {
        let mut side = self.clone();
        side.info.server_name = Some(server_name.to_owned());
        side
    }

    /// The certificate that is shown to others, if the member was given one.
    pub fn dialing_certificate(&self) -> Option<&Path> {
        let given = self
            .info
            .client_cert_file
            .as_ref()
            .or(self.info.cert_file.as_ref());
        given.filter(|_| self.auto.is_none()).map(PathBuf::as_path)
    }

    /// What to configure TLS with. Makes a certificate in the data directory if that was asked for
    /// and there is none yet.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn info(&self, logger: &Logger) -> Result<TlsInfo, SelfSignedError> {
        let Some(Auto { dir, hosts, years }) = &self.auto else {
            return Ok(self.info.clone());
        };
        let made = retcd_tls::self_signed(dir, hosts, *years, logger)?;
        // As in etcd, where the made certificate replaces everything that was said about others.
        Ok(TlsInfo {
            cipher_suites: self.info.cipher_suites.clone(),
            min_version: self.info.min_version,
            max_version: self.info.max_version,
            verify_client_san: self.info.verify_client_san,
            ..made
        })
    }
}

impl ResolvedTls {
    /// A name in `--cipher-suites` that no suite has.
    pub fn unknown_suite(&self) -> Option<&UnknownSuite> {
        self.unknown_suite.as_ref()
    }
}

impl Config {
    pub(super) fn check_tls_versions(&self) -> Result<(), ConfigError> {
        let lowest = version(&self.tls.min_version)?;
        let highest = version(&self.tls.max_version)?;
        if highest.is_some() && lowest > highest {
            return Err(ConfigError::TlsVersions {
                lowest: self.tls.min_version.clone(),
                highest: self.tls.max_version.clone(),
            });
        }
        if lowest == Some(Version::Tls13) && !self.tls.cipher_suites.is_empty() {
            return Err(ConfigError::SuitesOfTls13);
        }
        Ok(())
    }

    pub(super) fn resolve_tls(
        &self,
        data_dir: &Path,
        notices: &mut Vec<Notice>,
    ) -> Result<ResolvedTls, ConfigError> {
        let (suites, unknown_suite) = match Suites::parse(&self.tls.cipher_suites) {
            Ok(suites) => (suites, None),
            Err(unknown) => (Suites::default(), Some(unknown)),
        };
        if !suites.left_out().is_empty() {
            let field = ("cipher-suites", suites.left_out().join(",").into());
            notices.push(Notice::new(
                Level::Warning,
                "cipher suites are left out: those of TLS 1.3 are always offered, weak ones never",
                vec![field],
            ));
        }
        let common = TlsInfo {
            cipher_suites: suites,
            min_version: version(&self.tls.min_version)?,
            max_version: version(&self.tls.max_version)?,
            ..TlsInfo::default()
        };
        let years = self.tls.self_signed_cert_validity;
        let side = |name: &str, side: &TlsSide, urls: &[Url]| SideTls {
            info: given(side, &common),
            auto: (side.auto_tls && !side.has_certificate()).then(|| Auto {
                dir: data_dir.join("fixtures").join(name),
                hosts: hosts(urls),
                years,
            }),
        };
        self.add_tls_warnings(notices);
        let mut client = side("client", &self.tls.client, &self.all_client_urls());
        client.info.verify_client_san = false;
        Ok(ResolvedTls {
            client,
            peer: side("peer", &self.tls.peer, &self.listen_peer_urls),
            unknown_suite,
        })
    }

    fn all_client_urls(&self) -> Vec<Url> {
        [&self.listen_client_urls[..], &self.listen_client_http_urls].concat()
    }

    fn add_tls_warnings(&self, notices: &mut Vec<Notice>) {
        let peer = (
            &self.tls.peer,
            &self.listen_peer_urls,
            "peer-url",
            [
                "ignoring peer auto TLS since certs given",
                "scheme is HTTP while key and cert files are present; ignoring key and cert files",
                "scheme is HTTP while --peer-client-cert-auth is enabled; ignoring client cert auth for this URL",
            ],
        );
        let client_urls = self.all_client_urls();
        let client = (
            &self.tls.client,
            &client_urls,
            "client-url",
            [
                "ignoring client auto TLS since certs given",
                "scheme is http or unix while key and cert files are present; ignoring key and cert files",
                "scheme is http or unix while --client-cert-auth is enabled; ignoring client cert auth for this URL",
            ],
        );
        for (side, urls, field, [auto, files, auth]) in [peer, client] {
            if side.auto_tls && side.has_certificate() {
                notices.push(Notice::warn(auto));
            }
            let lost = side.client_cert_auth
                || !side.trusted_ca_file.as_os_str().is_empty()
                || !side.crl_file.as_os_str().is_empty();
            let automatic = side.auto_tls && !side.has_certificate();
            if automatic && lost {
                notices.push(Notice::warn(
                    "auto TLS encrypts and authenticates nobody: client cert auth, trusted CA and CRL are ignored, as in etcd; give a certificate to have them",
                ));
            }
            for url in urls.iter().filter(|url| !url.scheme().is_secure()) {
                let field = || vec![(field, url.as_str().into())];
                if side.has_certificate() || side.auto_tls {
                    notices.push(Notice::new(Level::Warning, files, field()));
                }
                if side.client_cert_auth && !automatic {
                    notices.push(Notice::new(Level::Warning, auth, field()));
                }
            }
        }
    }
}

fn given(side: &TlsSide, common: &TlsInfo) -> TlsInfo {
    let file = |path: &PathBuf| (!path.as_os_str().is_empty()).then(|| path.clone());
    TlsInfo {
        cert_file: file(&side.cert_file),
        key_file: file(&side.key_file),
        client_cert_file: file(&side.client_cert_file),
        client_key_file: file(&side.client_key_file),
        trusted_ca_file: file(&side.trusted_ca_file),
        client_cert_auth: side.client_cert_auth,
        crl_file: file(&side.crl_file),
        allowed_cns: side.allowed_cns.clone(),
        allowed_hostnames: side.allowed_hostnames.clone(),
        verify_client_san: !side.skip_client_san_verification,
        ..common.clone()
    }
}

/// The hosts of URLs, each once.
fn hosts(urls: &[Url]) -> Vec<String> {
    let hosts = urls.iter().filter_map(|url| url.host_port());
    let mut hosts: Vec<_> = hosts.map(|(host, _)| host.to_owned()).collect();
    hosts.sort_unstable();
    hosts.dedup();
    hosts
}

fn version(text: &str) -> Result<Option<Version>, ConfigError> {
    match text {
        "" => Ok(None),
        "TLS1.2" => Ok(Some(Version::Tls12)),
        "TLS1.3" => Ok(Some(Version::Tls13)),
        other => Err(ConfigError::TlsVersion(other.to_owned())),
    }
}
