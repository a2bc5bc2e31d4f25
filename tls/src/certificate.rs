//! What a certificate says, and which names it is valid for, by Go's rules.

use std::fmt::Write as _;
use std::net::IpAddr;
use std::time::{Duration, UNIX_EPOCH};

use rustls::pki_types::UnixTime;
use x509_cert::Certificate;
use x509_cert::certificate::Version;
use x509_cert::der::asn1::{OctetString, PrintableStringRef, TeletexStringRef, Utf8StringRef};
use x509_cert::der::{Decode as _, Encode as _, Reader as _, SliceReader, oid::ObjectIdentifier};
use x509_cert::ext::pkix::name::GeneralName;
use x509_cert::ext::pkix::{BasicConstraints, ExtendedKeyUsage, KeyUsage, SubjectAltName};

const COMMON_NAME: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.4.3");
const SUBJECT_ALT_NAME: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.17");
const BASIC_CONSTRAINTS: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.19");
const NAME_CONSTRAINTS: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.30");
const KEY_USAGE: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.15");
const EXTENDED_KEY_USAGE: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.37");
const ANY_USAGE: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.37.0");

/// The first certificate of a chain: whose it is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Leaf {
    /// The subject's common name; empty if there is none.
    pub common_name: String,
    /// Host names among the alternative names, as written.
    pub dns_names: Vec<String>,
    /// Addresses among the alternative names.
    pub ip_addresses: Vec<IpAddr>,
    /// The serial number, without leading zeros.
    pub serial: Vec<u8>,
}

/// A certificate taken apart.
#[derive(Debug, Clone)]
pub(crate) struct Parsed {
    pub(crate) leaf: Leaf,
    /// It has no extensions, since its version has none.
    pub(crate) is_version1: bool,
    pub(crate) is_ca: bool,
    pub(crate) may_sign_certificates: bool,
    pub(crate) has_name_constraints: bool,
    /// A critical extension that is not understood.
    pub(crate) has_unknown_critical: bool,
    /// `None`: for anything.
    usages: Option<Vec<ObjectIdentifier>>,
    pub(crate) not_before: Duration,
    pub(crate) not_after: Duration,
    /// Distinguished names, encoded.
    pub(crate) issuer: Vec<u8>,
    pub(crate) subject: Vec<u8>,
    /// The part that is signed, byte by byte.
    pub(crate) signed: Vec<u8>,
    pub(crate) signature: Vec<u8>,
    /// Contents of the algorithm identifiers of signature and key.
    pub(crate) signature_algorithm: Vec<u8>,
    pub(crate) key_algorithm: Vec<u8>,
    pub(crate) key: Vec<u8>,
}

impl Parsed {
    /// `None`: not a certificate, or one with an extension that cannot be read.
    pub(crate) fn from_der(der: &[u8]) -> Option<Self> {
        let certificate = Certificate::from_der(der).ok()?;
        let signed = signed_part(der)?;
        let body = certificate.tbs_certificate();
        let mut parsed = Self {
            leaf: Leaf {
                common_name: common_name(body.subject()),
                serial: without_zeros(body.serial_number().as_bytes()),
                ..Leaf::default()
            },
            is_version1: body.version() != Version::V3,
            is_ca: false,
            may_sign_certificates: true,
            has_name_constraints: false,
            has_unknown_critical: false,
            usages: None,
            not_before: body.validity().not_before.to_unix_duration(),
            not_after: body.validity().not_after.to_unix_duration(),
            issuer: body.issuer().to_der().ok()?,
            subject: body.subject().to_der().ok()?,
            signed,
            signature: certificate.signature().as_bytes()?.to_vec(),
            signature_algorithm: content(&certificate.signature_algorithm().to_der().ok()?)?,
            key_algorithm: content(&body.subject_public_key_info().algorithm.to_der().ok()?)?,
            key: body
                .subject_public_key_info()
                .subject_public_key
                .as_bytes()?
                .to_vec(),
        };
        for extension in body.extensions().into_iter().flatten() {
            let value = &extension.extn_value;
            match extension.extn_id {
                SUBJECT_ALT_NAME => parsed.take_names(value)?,
                BASIC_CONSTRAINTS => {
                    parsed.is_ca = BasicConstraints::from_der(value.as_bytes()).ok()?.ca;
                }
                KEY_USAGE => {
                    let usage = KeyUsage::from_der(value.as_bytes()).ok()?;
                    parsed.may_sign_certificates = usage.key_cert_sign();
                }
                EXTENDED_KEY_USAGE => {
                    let usages = ExtendedKeyUsage::from_der(value.as_bytes()).ok()?;
                    parsed.usages = Some(usages.0);
                }
                NAME_CONSTRAINTS => parsed.has_name_constraints = true,
                _ => parsed.has_unknown_critical |= extension.critical,
            }
        }
        Some(parsed)
    }

    fn take_names(&mut self, value: &OctetString) -> Option<()> {
        let names = SubjectAltName::from_der(value.as_bytes()).ok()?;
        for name in names.0 {
            match name {
                GeneralName::DnsName(name) => self.leaf.dns_names.push(name.as_str().to_owned()),
                GeneralName::IpAddress(bytes) => {
                    let bytes = bytes.as_bytes();
                    let v4 = <[u8; 4]>::try_from(bytes).map(IpAddr::from);
                    let v6 = <[u8; 16]>::try_from(bytes).map(IpAddr::from);
                    self.leaf.ip_addresses.push(v4.or(v6).ok()?);
                }
                _ => {}
            }
        }
        Some(())
    }

    pub(crate) fn is_for(&self, usage: ObjectIdentifier) -> bool {
        let allows = |usages: &Vec<_>| usages.contains(&usage) || usages.contains(&ANY_USAGE);
        self.usages.as_ref().is_none_or(allows)
    }

    pub(crate) fn validity(&self, now: UnixTime) -> Validity {
        let now = Duration::from_secs(now.as_secs());
        if now < self.not_before {
            Validity::NotYet(self.not_before)
        } else if now > self.not_after {
            Validity::Over(self.not_after)
        } else {
            Validity::Valid
        }
    }
}

/// Where the present stands to the dates of a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Validity {
    Valid,
    NotYet(Duration),
    Over(Duration),
}

impl Leaf {
    /// Whether the certificate is valid for a host name or address.
    ///
    /// # Errors
    /// If not, in Go's words.
    pub fn verify_hostname(&self, host: &str) -> Result<(), String> {
        let bare = host.strip_prefix('[').and_then(|h| h.strip_suffix(']'));
        if let Ok(ip) = bare.unwrap_or(host).parse::<IpAddr>() {
            let ip = ip.to_canonical();
            let valid = self.ip_addresses.iter().any(|san| san.to_canonical() == ip);
            return if valid {
                Ok(())
            } else {
                Err(self.not_valid_for(host, Some(ip)))
            };
        }
        let name = host.to_ascii_lowercase();
        let valid = self.dns_names.iter().any(|san| {
            let san = san.to_ascii_lowercase();
            match is_hostname(name.trim_end_matches('.'), false) && is_hostname(&san, true) {
                true => matches(&san, &name),
                false => !name.is_empty() && san == name,
            }
        });
        if valid {
            Ok(())
        } else {
            Err(self.not_valid_for(host, None))
        }
    }

    fn not_valid_for(&self, host: &str, ip: Option<IpAddr>) -> String {
        let no_names = self.dns_names.is_empty() && self.ip_addresses.is_empty();
        if no_names && is_hostname(&self.common_name, false) {
            return "x509: certificate relies on legacy Common Name field, use SANs instead".into();
        }
        let names = match ip {
            Some(_) if self.ip_addresses.is_empty() => {
                return format!(
                    "x509: cannot validate certificate for {host} because it doesn't contain any IP SANs"
                );
            }
            Some(_) => {
                let addresses = self.ip_addresses.iter().map(IpAddr::to_string);
                addresses.collect::<Vec<_>>().join(", ")
            }
            None => self.dns_names.join(", "),
        };
        if names.is_empty() {
            format!("x509: certificate is not valid for any names, but wanted to match {host}")
        } else {
            format!("x509: certificate is valid for {names}, not {host}")
        }
    }

    /// The serial number in hexadecimal.
    pub(crate) fn serial_hex(&self) -> String {
        self.serial.iter().fold(String::new(), |mut text, byte| {
            let _ = write!(text, "{byte:02x}");
            text
        })
    }
}

/// One label of the name may be anything where the pattern begins with `*`.
fn matches(pattern: &str, name: &str) -> bool {
    let name = name.strip_suffix('.').unwrap_or(name);
    match pattern.strip_prefix("*.") {
        None => !name.is_empty() && pattern == name,
        Some(suffix) => name.split_once('.').is_some_and(|(_, rest)| rest == suffix),
    }
}

fn is_hostname(name: &str, pattern: bool) -> bool {
    let labels = name.split('.').enumerate();
    !name.is_empty()
        && labels.into_iter().all(|(number, label)| {
            let wild = pattern && number == 0 && label == "*";
            let allowed = |(at, byte): (usize, u8)| {
                byte.is_ascii_alphanumeric() || byte == b'_' || (byte == b'-' && at > 0)
            };
            wild || (!label.is_empty() && label.bytes().enumerate().all(allowed))
        })
}

/// The last one, as Go takes it.
fn common_name(name: &x509_cert::name::Name) -> String {
    let values = name.iter().filter(|attribute| attribute.oid == COMMON_NAME);
    let Some(value) = values.last().map(|attribute| &attribute.value) else {
        return String::new();
    };
    let text = value
        .decode_as::<Utf8StringRef<'_>>()
        .map(|text| text.as_str().to_owned())
        .or_else(|_| {
            let text = value.decode_as::<PrintableStringRef<'_>>();
            text.map(|text| text.as_str().to_owned())
        })
        .or_else(|_| {
            let text = value.decode_as::<TeletexStringRef<'_>>();
            text.map(|text| text.as_str().to_owned())
        });
    text.unwrap_or_default()
}

/// Numbers are compared without the zeros they begin with.
pub(crate) fn without_zeros(number: &[u8]) -> Vec<u8> {
    let zeros = number.iter().take_while(|byte| **byte == 0).count();
    number[zeros..].to_vec()
}

/// The first element of the outermost sequence, as it was sent.
fn signed_part(der: &[u8]) -> Option<Vec<u8>> {
    let inner = content(der)?;
    let mut reader = SliceReader::new(&inner).ok()?;
    reader.tlv_bytes().map(<[u8]>::to_vec).ok()
}

/// What an encoded value holds, without tag and length.
fn content(der: &[u8]) -> Option<Vec<u8>> {
    use x509_cert::der::asn1::AnyRef;
    AnyRef::from_der(der).ok().map(|any| any.value().to_vec())
}

/// A date as Go prints it: `2026-01-02T03:04:05Z`.
pub(crate) fn date(since_epoch: Duration) -> String {
    let date = x509_cert::der::DateTime::from_system_time(UNIX_EPOCH + since_epoch);
    date.map_or_else(
        |_| format!("{}s after 1970", since_epoch.as_secs()),
        |date| date.to_string(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn leaf(dns: &[&str], ips: &[&str]) -> Leaf {
        Leaf {
            dns_names: dns.iter().map(ToString::to_string).collect(),
            ip_addresses: ips
                .iter()
                .map(|ip| ip.parse().expect("an address"))
                .collect(),
            ..Leaf::default()
        }
    }

    #[test]
    fn names_match_as_in_go() {
        let leaf = leaf(
            &["a.example.com", "*.B.example.com", "m_1"],
            &["10.0.0.1", "::1"],
        );
        for host in [
            "a.example.com",
            "A.example.com.",
            "x.b.example.com",
            "m_1",
            "10.0.0.1",
            "::1",
            "[::1]",
            "::ffff:10.0.0.1",
        ] {
            assert_eq!(leaf.verify_hostname(host), Ok(()), "{host}");
        }
        for host in [
            "b.example.com",
            "x.y.b.example.com",
            "example.com",
            "10.0.0.2",
            "",
            ".",
            "*",
        ] {
            assert!(leaf.verify_hostname(host).is_err(), "{host}");
        }
    }

    #[test]
    fn refusals_are_in_gos_words() {
        let error = |leaf: Leaf, host| leaf.verify_hostname(host).expect_err("not valid");
        assert_eq!(
            error(leaf(&["a"], &["10.0.0.1", "10.0.0.2"]), "127.0.0.1"),
            "x509: certificate is valid for 10.0.0.1, 10.0.0.2, not 127.0.0.1"
        );
        assert_eq!(
            error(leaf(&["a"], &[]), "127.0.0.1"),
            "x509: cannot validate certificate for 127.0.0.1 because it doesn't contain any IP SANs"
        );
        assert_eq!(
            error(leaf(&["a", "b"], &[]), "c"),
            "x509: certificate is valid for a, b, not c"
        );
        assert_eq!(
            error(leaf(&[], &["10.0.0.1"]), "c"),
            "x509: certificate is not valid for any names, but wanted to match c"
        );
        let named = Leaf {
            common_name: "c".into(),
            ..Leaf::default()
        };
        assert_eq!(
            error(named, "c"),
            "x509: certificate relies on legacy Common Name field, use SANs instead"
        );
    }
}
