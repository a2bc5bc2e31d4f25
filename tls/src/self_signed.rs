//! Certificates made on the spot, for encryption without authentication.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write as _};
use std::net::IpAddr;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyIdMethod, KeyUsagePurpose, PublicKeyData, SanType, SerialNumber, SignatureAlgorithm,
};
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject as _;
use slog::{Logger, info, warn};
use time::{Duration, OffsetDateTime};

use crate::info::TlsInfo;
use crate::provider::{GENERATED_KEY_LABEL, generate_p256, provider};
use crate::setup::{SetupError, errno_text};
use crate::suites::Suites;

/// Why no certificate was made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SelfSignedError {
    /// It would be valid for no time at all.
    #[error("selfSignedCertValidity is invalid,it should be greater than 0")]
    NoValidity,
    /// It would be valid for longer than a certificate can say.
    #[error("a certificate cannot be valid for {0} years: name fewer")]
    TooLong(u64),
    /// A file or directory.
    #[error("{}: {}", path.display(), errno_text(source))]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The cryptography.
    #[error("cannot make a certificate: {0}")]
    Crypto(String),
    /// It cannot run here.
    #[error(transparent)]
    Setup(#[from] SetupError),
}

/// Uses the pair in `dir`, `cert.pem` and `key.pem`, or makes one for `hosts` that is valid for `years`.
///
/// The pair is its own authority and nobody else's, so that dialing with it verifies nothing.
///
/// # Errors
/// See [`SelfSignedError`].
pub fn self_signed(
    dir: &Path,
    hosts: &[String],
    years: u64,
    logger: &Logger,
) -> Result<TlsInfo, SelfSignedError> {
    if years == 0 {
        return Err(SelfSignedError::NoValidity);
    }
    let (cert, key) = (dir.join("cert.pem"), dir.join("key.pem"));
    make_dir(dir, logger)?;
    if !(cert.exists() && key.exists()) {
        let begin = OffsetDateTime::now_utc();
        let end = i64::try_from(years)
            .ok()
            .and_then(|years| years.checked_mul(365));
        let end = end.filter(|days| *days < 365 * 7000);
        let end = end.and_then(|days| begin.checked_add(Duration::days(days)));
        let end = end.ok_or(SelfSignedError::TooLong(years))?;
        warn!(logger, "automatically generate certificates";
            "certificate-validity-bound-not-after" => %end);
        let (cert_pem, key_pem) = make(hosts, begin, end)?;
        // The key first: a certificate without its key would look like a whole pair to nobody.
        write(&key, key_pem.as_bytes(), 0o600)?;
        info!(logger, "created key file"; "path" => %key.display());
        write(&cert, cert_pem.as_bytes(), 0o644)?;
        info!(logger, "created cert file"; "path" => %cert.display());
    }
    Ok(TlsInfo {
        cert_file: Some(cert.clone()),
        key_file: Some(key.clone()),
        client_cert_file: Some(cert),
        client_key_file: Some(key),
        insecure_skip_verify: true,
        ..TlsInfo::default()
    })
}

fn make(
    hosts: &[String],
    begin: OffsetDateTime,
    end: OffsetDateTime,
) -> Result<(String, String), SelfSignedError> {
    let crypto = |error: &dyn std::fmt::Display| SelfSignedError::Crypto(error.to_string());
    let provider = provider(&Suites::default())?;
    let (private, point) = generate_p256().map_err(|error| crypto(&error))?;
    let key_pem = pem(GENERATED_KEY_LABEL, &private);
    let key = PrivateKeyDer::from_pem_slice(key_pem.as_bytes()).map_err(|error| crypto(&error))?;
    let key = provider
        .key_provider
        .load_private_key(key)
        .map_err(|error| crypto(&error))?;
    let mut serial = [0; 16];
    provider
        .secure_random
        .fill(&mut serial)
        .map_err(|_| crypto(&"no random numbers"))?;
    // Positive, and as long as it is.
    serial[0] = serial[0] & 0x7f | 0x40;

    let mut params = CertificateParams::default();
    params.not_before = begin;
    params.not_after = end;
    params.serial_number = Some(SerialNumber::from_slice(&serial));
    params.distinguished_name = DistinguishedName::new();
    params
        .distinguished_name
        .push(DnType::OrganizationName, "etcd");
    params.key_identifier_method = KeyIdMethod::PreSpecified(point[1..21].to_vec());
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![
        KeyUsagePurpose::DigitalSignature,
        KeyUsagePurpose::KeyEncipherment,
        KeyUsagePurpose::CrlSign,
    ];
    params.extended_key_usages = vec![
        ExtendedKeyUsagePurpose::ServerAuth,
        ExtendedKeyUsagePurpose::ClientAuth,
    ];
    for host in hosts {
        let bare = host
            .strip_prefix('[')
            .and_then(|host| host.strip_suffix(']'));
        let name = match bare.unwrap_or(host).parse::<IpAddr>() {
            Ok(address) => SanType::IpAddress(address),
            Err(_) => SanType::DnsName(host.as_str().try_into().map_err(|error| crypto(&error))?),
        };
        if !params.subject_alt_names.contains(&name) {
            params.subject_alt_names.push(name);
        }
    }
    let signer = Signer { key, point };
    let certificate = params
        .self_signed(&signer)
        .map_err(|error| crypto(&error))?;
    Ok((pem("CERTIFICATE", certificate.der()), key_pem))
}

/// Signs with a key that rustls holds.
struct Signer {
    key: Arc<dyn rustls::sign::SigningKey>,
    point: Vec<u8>,
}

impl PublicKeyData for Signer {
    fn der_bytes(&self) -> &[u8] {
        &self.point
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        &rcgen::PKCS_ECDSA_P256_SHA256
    }
}

impl rcgen::SigningKey for Signer {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rcgen::Error> {
        let scheme = [rustls::SignatureScheme::ECDSA_NISTP256_SHA256];
        let signer = self.key.choose_scheme(&scheme);
        let signed = signer.and_then(|signer| signer.sign(message).ok());
        signed.ok_or(rcgen::Error::RemoteKeyError)
    }
}

fn pem(label: &str, der: &[u8]) -> String {
    const TABLE: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for (number, group) in der.chunks(3).enumerate() {
        if number % 16 == 0 {
            text.push('\n');
        }
        let bits = group
            .iter()
            .fold(0_u32, |bits, byte| bits << 8 | u32::from(*byte));
        let bits = bits << (8 * (3 - group.len()));
        for digit in 0..4 {
            let at = (bits >> (18 - 6 * digit)) as usize & 63;
            text.push(if digit <= group.len() {
                char::from(TABLE[at])
            } else {
                '='
            });
        }
    }
    format!("-----BEGIN {label}-----{text}\n-----END {label}-----\n")
}

/// Only for its owner, as it holds a key.
fn make_dir(dir: &Path, logger: &Logger) -> Result<(), SelfSignedError> {
    let fail = |source| SelfSignedError::File {
        path: dir.to_owned(),
        source,
    };
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
        .map_err(fail)?;
    let mode = fs::metadata(dir).map_err(fail)?.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        warn!(logger, "others than the owner can look into the directory of a private key: chmod 700";
            "dir" => %dir.display(), "mode" => format!("{mode:o}"));
    }
    Ok(())
}

/// Whole or not at all, also after a crash.
fn write(path: &Path, content: &[u8], mode: u32) -> Result<(), SelfSignedError> {
    let temporary = path.with_extension("tmp");
    let write = || {
        // One that a crash left behind may have other rights.
        match fs::remove_file(&temporary) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(mode)
            .open(&temporary)?;
        file.write_all(content)?;
        file.sync_all()?;
        fs::rename(&temporary, path)?;
        match path.parent() {
            Some(dir) => File::open(dir)?.sync_all(),
            None => Ok(()),
        }
    };
    write().map_err(|source| SelfSignedError::File {
        path: path.to_owned(),
        source,
    })
}
