//! ECDSA over P-521, which the fast providers lack and etcd's self-signed certificates use.

use std::fmt;

use p521::SecretKey;
use p521::ecdsa::signature::hazmat::{PrehashSigner as _, PrehashVerifier as _};
use p521::ecdsa::{Signature, SigningKey, VerifyingKey};
use p521::pkcs8::{DecodePrivateKey as _, EncodePublicKey as _};
use rustls::pki_types::{
    AlgorithmIdentifier, InvalidSignature, PrivateKeyDer, SignatureVerificationAlgorithm,
    SubjectPublicKeyInfoDer, alg_id,
};
use rustls::sign::Signer;
use rustls::{SignatureAlgorithm, SignatureScheme};
use sha2::{Digest as _, Sha256, Sha384, Sha512};

type Algorithm = &'static dyn SignatureVerificationAlgorithm;

/// All algorithms of this curve.
pub(crate) const ALL: &[Algorithm] = &[&WithHash::Sha256, &WithHash::Sha384, &WithHash::Sha512];

/// The one of handshakes.
pub(crate) const MAPPING: (SignatureScheme, &[Algorithm]) =
    (SignatureScheme::ECDSA_NISTP521_SHA512, &[&WithHash::Sha512]);

/// A field element in bytes.
const FIELD: usize = 66;

/// Verification of signatures over one kind of digest.
#[derive(Debug, Clone, Copy)]
enum WithHash {
    Sha256,
    Sha384,
    Sha512,
}

impl WithHash {
    /// The digest as the curve takes it: as long as its numbers.
    fn digest(self, message: &[u8]) -> [u8; FIELD] {
        fn pad(digest: &[u8]) -> [u8; FIELD] {
            let mut padded = [0; FIELD];
            padded[FIELD - digest.len()..].copy_from_slice(digest);
            padded
        }
        match self {
            Self::Sha256 => pad(&Sha256::digest(message)),
            Self::Sha384 => pad(&Sha384::digest(message)),
            Self::Sha512 => pad(&Sha512::digest(message)),
        }
    }
}

impl SignatureVerificationAlgorithm for WithHash {
    fn public_key_alg_id(&self) -> AlgorithmIdentifier {
        alg_id::ECDSA_P521
    }

    fn signature_alg_id(&self) -> AlgorithmIdentifier {
        match self {
            Self::Sha256 => alg_id::ECDSA_SHA256,
            Self::Sha384 => alg_id::ECDSA_SHA384,
            Self::Sha512 => alg_id::ECDSA_SHA512,
        }
    }

    fn verify_signature(
        &self,
        public_key: &[u8],
        message: &[u8],
        signature: &[u8],
    ) -> Result<(), InvalidSignature> {
        let key = VerifyingKey::from_sec1_bytes(public_key).map_err(|_| InvalidSignature)?;
        let signature = Signature::from_der(signature).map_err(|_| InvalidSignature)?;
        let verified = key.verify_prehash(&self.digest(message), &signature);
        verified.map_err(|_| InvalidSignature)
    }
}

/// A private key of this curve.
#[derive(Clone)]
pub(crate) struct Key(SigningKey);

impl Key {
    /// `None` for any other kind of key.
    pub(crate) fn from_der(key: &PrivateKeyDer<'_>) -> Option<Self> {
        let secret = match key {
            PrivateKeyDer::Pkcs8(key) => SecretKey::from_pkcs8_der(key.secret_pkcs8_der()).ok(),
            PrivateKeyDer::Sec1(key) => SecretKey::from_sec1_der(key.secret_sec1_der()).ok(),
            _ => None,
        };
        secret.map(|secret| Self(SigningKey::from(secret)))
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key(P-521)")
    }
}

impl rustls::sign::SigningKey for Key {
    fn choose_scheme(&self, offered: &[SignatureScheme]) -> Option<Box<dyn Signer>> {
        let offered = offered.contains(&MAPPING.0);
        offered.then(|| Box::new(self.clone()) as Box<dyn Signer>)
    }

    fn public_key(&self) -> Option<SubjectPublicKeyInfoDer<'_>> {
        let spki = self.0.verifying_key().to_public_key_der().ok()?;
        Some(SubjectPublicKeyInfoDer::from(spki.into_vec()))
    }

    fn algorithm(&self) -> SignatureAlgorithm {
        SignatureAlgorithm::ECDSA
    }
}

impl Signer for Key {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rustls::Error> {
        let digest = WithHash::Sha512.digest(message);
        let signature: Result<Signature, _> = self.0.sign_prehash(&digest);
        let signature = signature.map_err(|_| rustls::Error::General("cannot sign".into()))?;
        Ok(signature.to_der().as_bytes().to_vec())
    }

    fn scheme(&self) -> SignatureScheme {
        MAPPING.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signatures_of_every_digest_are_verified() {
        let mut number = [7; FIELD];
        number[..2].copy_from_slice(&[0, 5]);
        let secret = SecretKey::from_slice(&number).expect("below the order");
        let key = Key(SigningKey::from(secret));
        let public = key.0.verifying_key().to_sec1_point(false);
        for hash in [WithHash::Sha256, WithHash::Sha384, WithHash::Sha512] {
            let signature: Signature = key
                .0
                .sign_prehash(&hash.digest(b"message"))
                .expect("signed");
            let signature = signature.to_der();
            let verify =
                |message| hash.verify_signature(public.as_ref(), message, signature.as_bytes());
            assert!(verify(b"message").is_ok(), "{hash:?}");
            assert!(verify(b"massage").is_err(), "{hash:?}");
        }
        let signed = Signer::sign(&key, b"message").expect("signed");
        let verified = WithHash::Sha512.verify_signature(public.as_ref(), b"message", &signed);
        assert!(verified.is_ok());
    }
}
