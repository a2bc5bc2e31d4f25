//! Texts packed with gzip, for those who ask, as scrapers do.

use std::io::{self, Write as _};

use flate2::Compression;
use flate2::write::GzEncoder;
use http::header::{ACCEPT_ENCODING, HeaderMap};

/// Whether a client likes gzip better than the text as it is. Who likes both as much gets the text, as from Go's
/// `promhttp`.
pub(super) fn is_wanted(headers: &HeaderMap) -> bool {
    let packed = quality(headers, "gzip");
    packed > 0.0 && packed > quality(headers, "identity")
}

/// From 0 to 1, or less where it is not mentioned.
fn quality(headers: &HeaderMap, coding: &str) -> f32 {
    let texts = headers
        .get_all(ACCEPT_ENCODING)
        .iter()
        .filter_map(|value| value.to_str().ok());
    let mentioned = texts.flat_map(|text| text.split(',')).filter_map(|entry| {
        let mut parts = entry.split(';').map(str::trim);
        parts
            .next()
            .filter(|name| *name == coding || *name == "*")?;
        let quality = parts.find_map(|part| part.strip_prefix("q="));
        quality.map_or(Some(1.0), |quality| quality.parse().ok())
    });
    mentioned.fold(-1.0, f32::max)
}

/// # Errors
/// None that memory could give; the signature is that of the encoder.
pub(super) fn pack(text: &[u8]) -> io::Result<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(text)?;
    encoder.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    #[test]
    fn some_want_it() {
        for (accepted, wanted) in [
            (None, false),
            (Some(""), false),
            (Some("gzip"), true),
            (Some("gzip, deflate, br, zstd"), true),
            (Some("deflate, gzip;q=0.5"), true),
            (Some("identity, gzip"), false),
            (Some("identity;q=0.5, gzip;q=0.8"), true),
            (Some("*"), false),
            (Some("gzip;q=0"), false),
            (Some("gzip;q=x"), false),
            (Some("br"), false),
        ] {
            let value = accepted.map(HeaderValue::from_static);
            let headers = value.map(|value| (ACCEPT_ENCODING, value));
            let headers: HeaderMap = headers.into_iter().collect();
            assert_eq!(is_wanted(&headers), wanted, "{accepted:?}");
        }
    }
}
