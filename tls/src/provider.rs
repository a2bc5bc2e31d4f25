//! Where the cryptography comes from.

use std::sync::{Arc, OnceLock};

use rustls::crypto::{CryptoProvider, KeyProvider, WebPkiSupportedAlgorithms};
use rustls::pki_types::PrivateKeyDer;
use rustls::sign::SigningKey;

use crate::p521;
use crate::rsa;
use crate::setup::SetupError;
use crate::suites::Suites;

#[cfg(not(any(feature = "graviola", feature = "ring")))]
compile_error!(
    "choose the cryptography: build with the feature `graviola` (no C compiler needed) or `ring`"
);

/// The primitives, with the suites chosen.
///
/// # Errors
/// [`SetupError::Cpu`] where they cannot run.
pub(crate) fn provider(suites: &Suites) -> Result<Arc<CryptoProvider>, SetupError> {
    let missing = missing_instructions();
    if !missing.is_empty() {
        return Err(SetupError::Cpu { missing });
    }
    let mut provider = base();
    provider.cipher_suites = suites.select(&provider.cipher_suites);
    provider.signature_verification_algorithms = algorithms();
    provider.key_provider = &Keys;
    Ok(Arc::new(provider))
}

#[cfg(feature = "ring")]
fn base() -> CryptoProvider {
    rustls::crypto::ring::default_provider()
}

#[cfg(all(feature = "graviola", not(feature = "ring")))]
fn base() -> CryptoProvider {
    rustls_graviola::default_provider()
}

/// How signatures may be made: what the provider knows, and P-521, which Go's own certificates use.
fn algorithms() -> WebPkiSupportedAlgorithms {
    static ALGORITHMS: OnceLock<WebPkiSupportedAlgorithms> = OnceLock::new();
    *ALGORITHMS.get_or_init(|| {
        let base = base().signature_verification_algorithms;
        let all = base.all.iter().chain(p521::ALL).copied();
        let mapping = base.mapping.iter().copied().chain([p521::MAPPING]);
        // Once per process: rustls wants them to live as long as that.
        WebPkiSupportedAlgorithms {
            all: Vec::leak(all.collect()),
            mapping: Vec::leak(mapping.collect()),
        }
    })
}

#[derive(Debug)]
struct Keys;

impl KeyProvider for Keys {
    fn load_private_key(
        &self,
        key: PrivateKeyDer<'static>,
    ) -> Result<Arc<dyn SigningKey>, rustls::Error> {
        match p521::Key::from_der(&key) {
            Some(key) => Ok(Arc::new(key)),
            None => base().key_provider.load_private_key(rsa::ordered(key)),
        }
    }
}

/// A new P-256 key: SEC1 and the point, uncompressed.
#[cfg(all(feature = "graviola", not(feature = "ring")))]
pub(crate) fn generate_p256() -> Result<(Vec<u8>, Vec<u8>), &'static str> {
    use graviola::signing::ecdsa::{P256, SigningKey};
    let key = SigningKey::<P256>::generate().map_err(|_| "no random numbers")?;
    let (mut sec1, mut spki) = ([0; 256], [0; 256]);
    let encoded = "the key cannot be encoded";
    let sec1 = key.to_sec1_der(&mut sec1).map_err(|_| encoded)?;
    let spki = key.to_spki_der(&mut spki).map_err(|_| encoded)?;
    // The point is what the encoding ends with.
    let point = spki.len().checked_sub(65).ok_or(encoded)?;
    Ok((sec1.to_vec(), spki[point..].to_vec()))
}

/// A new P-256 key: PKCS#8 and the point, uncompressed.
#[cfg(feature = "ring")]
pub(crate) fn generate_p256() -> Result<(Vec<u8>, Vec<u8>), &'static str> {
    use ring::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair as _};
    let (algorithm, random) = (
        &ECDSA_P256_SHA256_ASN1_SIGNING,
        ring::rand::SystemRandom::new(),
    );
    let key = EcdsaKeyPair::generate_pkcs8(algorithm, &random).map_err(|_| "no random numbers")?;
    let pair = EcdsaKeyPair::from_pkcs8(algorithm, key.as_ref(), &random)
        .map_err(|_| "the key cannot be read back")?;
    Ok((key.as_ref().to_vec(), pair.public_key().as_ref().to_vec()))
}

/// How PEM names what [`generate_p256`] returns.
pub(crate) const GENERATED_KEY_LABEL: &str = if cfg!(feature = "ring") {
    "PRIVATE KEY"
} else {
    "EC PRIVATE KEY"
};

/// What the CPU lacks; without a check the first handshake would panic.
fn missing_instructions() -> Vec<&'static str> {
    if cfg!(feature = "ring") {
        // It has an implementation for every CPU.
        return Vec::new();
    }
    let present = instructions();
    let missing = present.iter().filter(|(_, present)| !present);
    missing.map(|(name, _)| *name).collect()
}

#[cfg(target_arch = "x86_64")]
fn instructions() -> Vec<(&'static str, bool)> {
    use std::arch::is_x86_feature_detected as has;
    vec![
        ("aes", has!("aes")),
        ("ssse3", has!("ssse3")),
        ("avx", has!("avx")),
        ("avx2", has!("avx2")),
        ("bmi2", has!("bmi2")),
        ("adx", has!("adx")),
        ("pclmulqdq", has!("pclmulqdq")),
    ]
}

#[cfg(target_arch = "aarch64")]
fn instructions() -> Vec<(&'static str, bool)> {
    use std::arch::is_aarch64_feature_detected as has;
    vec![
        ("aes", has!("aes")),
        ("sha2", has!("sha2")),
        ("pmull", has!("pmull")),
        ("neon", has!("neon")),
    ]
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
fn instructions() -> Vec<(&'static str, bool)> {
    Vec::new()
}
