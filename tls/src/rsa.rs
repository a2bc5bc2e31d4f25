//! RSA keys whose first prime is the smaller one, as Go's programs, cfssl among them, make every other key.
//!
//! graviola 0.4 takes one difference of residues to be no less than minus the first prime, which holds only if that is the
//! larger one. With such a key about one handshake in a hundred failed with `BadSignature`. Exchanging the primes, and
//! the numbers that go with them, makes the same key.

use std::cmp::Ordering;

use p521::pkcs8::PrivateKeyInfoRef;
use p521::pkcs8::der::asn1::{ObjectIdentifier, UintRef};
use p521::pkcs8::der::{self, Decode as _, Encode as _, Header, Reader as _, SliceReader, Tag};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs1KeyDer};

const RSA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.1");

/// The key, with the larger prime first. What is no RSA key, or none that can be read, is left to whoever reads it next.
pub(crate) fn ordered(key: PrivateKeyDer<'static>) -> PrivateKeyDer<'static> {
    let exchanged = match &key {
        PrivateKeyDer::Pkcs1(key) => exchanged(key.secret_pkcs1_der()),
        PrivateKeyDer::Pkcs8(key) => PrivateKeyInfoRef::from_der(key.secret_pkcs8_der())
            .ok()
            .filter(|info| info.algorithm.oid == RSA)
            .and_then(|info| exchanged(info.private_key.as_bytes())),
        _ => None,
    };
    exchanged.map_or(key, |der| {
        PrivateKeyDer::Pkcs1(PrivatePkcs1KeyDer::from(der))
    })
}

/// The key with its primes exchanged if the first is the smaller one.
fn exchanged(pkcs1: &[u8]) -> Option<Vec<u8>> {
    let key = Numbers::read(pkcs1).ok()?;
    let [p, q] = [key.p, key.q].map(limbs);
    (compare(&p, &q) == Ordering::Less).then(|| key.exchange().ok())?
}

/// The numbers of a key of two primes, big-endian.
struct Numbers<'a> {
    n: &'a [u8],
    e: &'a [u8],
    d: &'a [u8],
    p: &'a [u8],
    q: &'a [u8],
    dp: &'a [u8],
    dq: &'a [u8],
    /// What `q` has to be multiplied with to be 1 modulo `p`.
    coefficient: &'a [u8],
}

impl<'a> Numbers<'a> {
    fn read(pkcs1: &'a [u8]) -> der::Result<Self> {
        let mut reader = SliceReader::new(pkcs1)?;
        let numbers = reader.sequence(|reader| -> der::Result<Self> {
            let version = u8::decode(reader)?;
            if version != 0 {
                return Err(Tag::Integer.value_error().into());
            }
            let mut number = || UintRef::decode(reader).map(|number| number.as_bytes());
            Ok(Self {
                n: number()?,
                e: number()?,
                d: number()?,
                p: number()?,
                q: number()?,
                dp: number()?,
                dq: number()?,
                coefficient: number()?,
            })
        })?;
        reader.finish()?;
        Ok(numbers)
    }

    /// The same key, its primes in the other order.
    fn exchange(&self) -> der::Result<Vec<u8>> {
        let [p, q, coefficient] = [self.p, self.q, self.coefficient].map(limbs);
        // p·(p⁻¹ mod q) + q·(q⁻¹ mod p) = 1 + p·q
        let rest = subtract(&p, &coefficient).ok_or_else(|| Tag::Integer.value_error())?;
        let inverse =
            divide(increment(multiply(&q, &rest)), &p).ok_or_else(|| Tag::Integer.value_error())?;
        let inverse = bytes(&inverse);
        let numbers = [
            &[0][..],
            self.n,
            self.e,
            self.d,
            self.q,
            self.p,
            self.dq,
            self.dp,
            &inverse,
        ];
        let mut body = Vec::new();
        for number in numbers {
            UintRef::new(number)?.encode_to_vec(&mut body)?;
        }
        let mut out = Vec::new();
        let header = Header::new(Tag::Sequence, body.len().try_into()?);
        header.encode_to_vec(&mut out)?;
        out.append(&mut body);
        Ok(out)
    }
}

/// A number in digits of 32 bits, the lowest first, without zeros at its end.
type Limbs = Vec<u32>;

fn limbs(bytes: &[u8]) -> Limbs {
    let digits = bytes.rchunks(4).map(|chunk| {
        chunk
            .iter()
            .fold(0, |digit, byte| digit << 8 | u32::from(*byte))
    });
    trimmed(digits.collect())
}

fn bytes(number: &[u32]) -> Vec<u8> {
    let bytes = number.iter().rev().flat_map(|digit| digit.to_be_bytes());
    bytes.collect()
}

fn trimmed(mut number: Limbs) -> Limbs {
    while number.last() == Some(&0) {
        number.pop();
    }
    number
}

fn compare(a: &[u32], b: &[u32]) -> Ordering {
    let digits = || a.iter().rev().cmp(b.iter().rev());
    a.len().cmp(&b.len()).then_with(digits)
}

/// `None` if it were negative.
fn subtract(a: &[u32], b: &[u32]) -> Option<Limbs> {
    if compare(a, b) == Ordering::Less {
        return None;
    }
    let mut borrowed = false;
    let digits = a.iter().enumerate().map(|(at, digit)| {
        let (less, first) = digit.overflowing_sub(b.get(at).copied().unwrap_or_default());
        let (less, second) = less.overflowing_sub(borrowed.into());
        borrowed = first || second;
        less
    });
    Some(trimmed(digits.collect()))
}

fn multiply(a: &[u32], b: &[u32]) -> Limbs {
    let mut product = vec![0u32; a.len() + b.len()];
    for (at, digit) in a.iter().enumerate() {
        let mut carry = 0;
        for (to, other) in product[at..].iter_mut().zip(b.iter().chain([&0])) {
            let sum = u64::from(*digit) * u64::from(*other) + u64::from(*to) + carry;
            *to = sum as u32;
            carry = sum >> 32;
        }
    }
    trimmed(product)
}

fn increment(mut number: Limbs) -> Limbs {
    for digit in &mut number {
        let (sum, carry) = digit.overflowing_add(1);
        *digit = sum;
        if !carry {
            return number;
        }
    }
    number.push(1);
    number
}

/// Divides by an odd number; `None` if something were left. From the lowest digit on, since nothing is.
fn divide(mut number: Limbs, by: &[u32]) -> Option<Limbs> {
    let lowest = *by.first().filter(|digit| *digit % 2 == 1)?;
    // Each step doubles the number of right bits, of which an odd number has three.
    let inverse = (0..4).fold(lowest, |inverse, _| {
        inverse.wrapping_mul(2u32.wrapping_sub(lowest.wrapping_mul(inverse)))
    });
    let length = (number.len() + 1).checked_sub(by.len())?;
    let mut quotient = Vec::with_capacity(length);
    for at in 0..length {
        let digit = number[at].wrapping_mul(inverse);
        quotient.push(digit);
        let mut carry = 0;
        for (to, other) in number[at..]
            .iter_mut()
            .zip(by.iter().chain(std::iter::repeat(&0)))
        {
            let less = u64::from(digit) * u64::from(*other) + carry;
            let (difference, borrowed) = to.overflowing_sub(less as u32);
            *to = difference;
            carry = (less >> 32) + u64::from(borrowed);
        }
        if carry != 0 {
            return None;
        }
    }
    number
        .iter()
        .all(|digit| *digit == 0)
        .then(|| trimmed(quotient))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_divided_and_multiplied() {
        let a = limbs(&[0xff; 37]);
        let b = limbs(&[0xfd; 21]);
        assert_eq!(divide(multiply(&a, &b), &b).as_ref(), Some(&a));
        assert_eq!(divide(multiply(&a, &b), &a).as_ref(), Some(&b));
        assert_eq!(divide(increment(multiply(&a, &b)), &b), None);
        assert_eq!(divide(vec![1], &b), None);
        assert_eq!(divide(a.clone(), &[2]), None);
        assert_eq!(subtract(&a, &a).as_deref(), Some(&[][..]));
        assert_eq!(subtract(&b, &a), None);
        assert_eq!(increment(limbs(&[0xff; 4])), [0, 1]);
        assert_eq!(bytes(&limbs(&[1, 2, 3, 4, 5])), [0, 0, 0, 1, 2, 3, 4, 5]);
    }

    #[cfg(all(feature = "graviola", not(feature = "ring")))]
    #[test]
    fn keys_sign_whichever_prime_comes_first() {
        use graviola::signing::rsa::{KeySize, SigningKey};
        use rustls::SignatureScheme;

        let key = SigningKey::generate(KeySize::Rsa2048).unwrap();
        let mut room = [0; 2048];
        let one = key.to_pkcs1_der(&mut room).unwrap().to_vec();
        let other = Numbers::read(&one).unwrap().exchange().unwrap();
        assert_eq!(Numbers::read(&other).unwrap().exchange().unwrap(), one);
        let (large_first, small_first) = match exchanged(&one) {
            None => (one, other),
            Some(_) => (other, one),
        };
        let der = |key: &[u8]| PrivateKeyDer::Pkcs1(PrivatePkcs1KeyDer::from(key.to_vec()));
        assert_eq!(ordered(der(&large_first)), der(&large_first));
        assert_eq!(ordered(der(&small_first)), der(&large_first));

        let suites = crate::suites::Suites::default();
        let provider = crate::provider::provider(&suites).unwrap();
        let key = provider.key_provider.load_private_key(der(&small_first));
        let signer = key
            .unwrap()
            .choose_scheme(&[SignatureScheme::RSA_PSS_SHA256]);
        let signer = signer.unwrap();
        for n in 0..500u32 {
            signer.sign(&n.to_be_bytes()).unwrap();
        }
    }
}
