//! Certificate authorities and certificates, made in the process.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use graviola::hashing::Sha256;
use graviola::signing::ecdsa::{P256, SigningKey};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyIdMethod, KeyUsagePurpose, PublicKeyData, RevokedCertParams, SanType,
    SerialNumber, SignatureAlgorithm,
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use time::{Duration, OffsetDateTime};

/// A P-256 key.
#[derive(Clone)]
struct Key(Arc<KeyParts>);

struct KeyParts {
    key: SigningKey<P256>,
    pkcs8: Vec<u8>,
    point: Vec<u8>,
}

impl Key {
    fn generate() -> Self {
        let key = SigningKey::<P256>::generate().expect("random numbers");
        let (mut pkcs8, mut spki) = ([0; 512], [0; 512]);
        let pkcs8 = key.to_pkcs8_der(&mut pkcs8).expect("room").to_vec();
        let spki = key.to_spki_der(&mut spki).expect("room");
        let point = spki[spki.len() - 65..].to_vec();
        Self(Arc::new(KeyParts { key, pkcs8, point }))
    }
}

impl PublicKeyData for Key {
    fn der_bytes(&self) -> &[u8] {
        &self.0.point
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        &rcgen::PKCS_ECDSA_P256_SHA256
    }
}

impl rcgen::SigningKey for Key {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rcgen::Error> {
        let mut signature = [0; 128];
        let signed = self.0.key.sign_asn1::<Sha256>(&[message], &mut signature);
        signed.map(<[u8]>::to_vec).map_err(|_| rcgen::Error::RemoteKeyError)
    }
}

/// What a certificate is to say. Dates are seconds from now.
#[derive(Clone, Debug)]
pub struct Spec {
    /// Common name of the subject.
    pub cn: String,
    /// Alternative names: addresses, or else host names.
    pub names: Vec<String>,
    /// Extended usages; none for any.
    pub usages: Vec<ExtendedKeyUsagePurpose>,
    /// Begin.
    pub from: i64,
    /// End.
    pub to: i64,
    /// Whether it may sign others.
    pub ca: bool,
}

impl Spec {
    /// A certificate for both sides on this machine, valid for an hour.
    #[must_use]
    pub fn new(cn: &str) -> Self {
        Self {
            cn: cn.into(),
            names: vec!["127.0.0.1".into(), "localhost".into()],
            usages: vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth],
            from: -3600,
            to: 3600,
            ca: false,
        }
    }

    /// With other alternative names.
    #[must_use]
    pub fn names(mut self, names: &[&str]) -> Self {
        self.names = names.iter().map(ToString::to_string).collect();
        self
    }

    /// With other usages.
    #[must_use]
    pub fn usages(mut self, usages: &[ExtendedKeyUsagePurpose]) -> Self {
        self.usages = usages.to_vec();
        self
    }

    /// With other dates.
    #[must_use]
    pub const fn valid(mut self, from: i64, to: i64) -> Self {
        self.from = from;
        self.to = to;
        self
    }

    /// As one of an authority.
    #[must_use]
    pub const fn authority(mut self) -> Self {
        self.ca = true;
        self
    }

    fn params(&self, serial: u64) -> CertificateParams {
        let now = OffsetDateTime::now_utc();
        let mut params = CertificateParams::default();
        params.not_before = now + Duration::seconds(self.from);
        params.not_after = now + Duration::seconds(self.to);
        params.serial_number = Some(SerialNumber::from(serial));
        params.distinguished_name = DistinguishedName::new();
        if !self.cn.is_empty() {
            params.distinguished_name.push(DnType::CommonName, self.cn.as_str());
        }
        params.subject_alt_names = self
            .names
            .iter()
            .map(|name| match name.parse::<IpAddr>() {
                Ok(address) => SanType::IpAddress(address),
                Err(_) => SanType::DnsName(name.as_str().try_into().expect("a host name")),
            })
            .collect();
        params.extended_key_usages = self.usages.clone();
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        // So that an authority made anew differs from the one before in nothing but its key.
        params.key_identifier_method = KeyIdMethod::PreSpecified(self.cn.as_bytes().to_vec());
        if self.ca {
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            params.key_usages.extend([KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign]);
        }
        params
    }
}

/// A certificate with its key and, where there are any, those that issued it.
#[derive(Clone)]
pub struct Issued {
    /// The number in it.
    pub serial: u64,
    chain: Vec<CertificateDer<'static>>,
    key: Key,
    params: CertificateParams,
    root: bool,
}

static NEXT_SERIAL: AtomicU64 = AtomicU64::new(0x0100_0001);

fn serial() -> u64 {
    NEXT_SERIAL.fetch_add(1, Ordering::Relaxed)
}

impl Issued {
    /// Signed by itself.
    ///
    /// # Panics
    /// If it cannot be made.
    #[must_use]
    pub fn self_signed(spec: &Spec) -> Self {
        let (serial, key) = (serial(), Key::generate());
        let params = spec.params(serial);
        let certificate = params.self_signed(&key).expect("sound");
        Self { serial, chain: vec![certificate.der().clone()], key, params, root: true }
    }

    /// Signed by this one, which comes along in the chain unless it is a root.
    ///
    /// # Panics
    /// If it cannot be made.
    #[must_use]
    pub fn issue(&self, spec: &Spec) -> Self {
        let (serial, key) = (serial(), Key::generate());
        let params = spec.params(serial);
        let issuer = Issuer::from_params(&self.params, self.key.clone());
        let certificate = params.signed_by(&key, &issuer).expect("sound");
        let above = if self.root { &[][..] } else { &self.chain[..] };
        let chain = std::iter::once(certificate.der().clone()).chain(above.iter().cloned()).collect();
        Self { serial, chain, key, params, root: false }
    }

    /// Without those that issued it.
    #[must_use]
    pub fn alone(mut self) -> Self {
        self.chain.truncate(1);
        self
    }

    /// A list of revoked numbers, DER.
    ///
    /// # Panics
    /// If it cannot be made.
    #[must_use]
    pub fn revoke(&self, serials: &[u64]) -> Vec<u8> {
        let now = OffsetDateTime::now_utc();
        let revoked = serials.iter().map(|serial| RevokedCertParams {
            serial_number: SerialNumber::from(*serial),
            revocation_time: now - Duration::hours(1),
            reason_code: None,
            invalidity_date: None,
        });
        let params = CertificateRevocationListParams {
            this_update: now - Duration::hours(1),
            next_update: now + Duration::hours(1),
            crl_number: SerialNumber::from(1),
            issuing_distribution_point: None,
            revoked_certs: revoked.collect(),
            key_identifier_method: KeyIdMethod::PreSpecified(b"crl".to_vec()),
        };
        let issuer = Issuer::from_params(&self.params, self.key.clone());
        params.signed_by(&issuer).expect("sound").der().to_vec()
    }

    /// The certificate itself.
    #[must_use]
    pub fn der(&self) -> &[u8] {
        &self.chain[0]
    }

    /// For rustls.
    #[must_use]
    pub fn pair(&self) -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
        (self.chain.clone(), PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(self.key.0.pkcs8.clone())))
    }

    /// The chain as PEM.
    #[must_use]
    pub fn pem(&self) -> String {
        self.chain.iter().map(|certificate| pem("CERTIFICATE", certificate)).collect()
    }

    /// The key as PEM.
    #[must_use]
    pub fn key_pem(&self) -> String {
        pem("PRIVATE KEY", &self.key.0.pkcs8)
    }

    /// Puts `<name>.pem` and `<name>-key.pem` into a directory, each in one step.
    pub fn put(&self, dir: &Path, name: &str) -> (PathBuf, PathBuf) {
        let cert = put(dir, &format!("{name}.pem"), self.pem().as_bytes());
        let key = put(dir, &format!("{name}-key.pem"), self.key_pem().as_bytes());
        (cert, key)
    }
}

/// Replaces a file in one step.
///
/// # Panics
/// If it cannot be written.
pub fn put(dir: &Path, name: &str, content: &[u8]) -> PathBuf {
    let (path, new) = (dir.join(name), dir.join(format!("{name}.new")));
    std::fs::write(&new, content).expect("written");
    std::fs::rename(&new, &path).expect("renamed");
    path
}

fn pem(label: &str, der: &[u8]) -> String {
    const TABLE: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for (number, group) in der.chunks(3).enumerate() {
        if number % 16 == 0 {
            text.push('\n');
        }
        let bits = group.iter().fold(0_u32, |bits, byte| (bits << 8) | u32::from(*byte));
        let bits = bits << (8 * (3 - group.len()));
        for digit in 0..4 {
            let at = (bits >> (18 - 6 * digit)) as usize & 63;
            text.push(if digit <= group.len() { char::from(TABLE[at]) } else { '=' });
        }
    }
    format!("-----BEGIN {label}-----{text}\n-----END {label}-----\n")
}
