//! How the messages of a call are compressed: not at all, or with gzip (RFC 1952).
//!
//! The wrapping is read here, and only the deflate stream by a crate, because what grpc-go says
//! of a broken message depends on where it is broken.

use bytes::{BufMut as _, Bytes, BytesMut};
use flate2::{Compression, Crc, Decompress, FlushDecompress, Status as Inflated};
use http::{HeaderMap, HeaderName, HeaderValue};
use tonic::Code;

use super::frame::{COMPRESSED, PREFIX};
use super::status::Status;

const GRPC_ENCODING: HeaderName = HeaderName::from_static("grpc-encoding");

/// Output is given room in steps; the first fits most messages.
const FIRST_ROOM: usize = 4 << 10;

/// What a call says in `grpc-encoding`. It is answered in kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Encoding {
    Identity,
    Gzip,
}

impl Encoding {
    /// Reads the header; of several the last counts.
    ///
    /// # Errors
    /// An encoding that is neither.
    pub(super) fn of(headers: &HeaderMap) -> Result<Self, String> {
        let last = headers.get_all(GRPC_ENCODING).iter().next_back();
        match last.map_or(&b""[..], HeaderValue::as_bytes) {
            b"" | b"identity" => Ok(Self::Identity),
            b"gzip" => Ok(Self::Gzip),
            other => Err(String::from_utf8_lossy(other).into_owned()),
        }
    }

    /// Announces how the messages of an answer are compressed.
    pub(super) fn announce(self, headers: &mut HeaderMap) {
        if self == Self::Gzip {
            headers.insert(GRPC_ENCODING, HeaderValue::from_static("gzip"));
        }
    }

    /// Compresses the framed messages in `bytes` from `start` on, each by itself.
    pub(super) fn compress_behind(self, start: usize, bytes: &mut BytesMut) {
        if self == Self::Identity {
            return;
        }
        let mut messages = bytes.split_off(start).freeze();
        while let Some([_, length @ ..]) = messages.first_chunk::<PREFIX>().copied() {
            let length = PREFIX + u32::from_be_bytes(length) as usize;
            bytes.extend_from_slice(&self.compress(messages.split_to(length)));
        }
    }

    /// Compresses a framed message. Like grpc-go an empty one never is.
    pub(super) fn compress(self, framed: Bytes) -> Bytes {
        if self == Self::Identity || framed.len() == PREFIX {
            return framed;
        }
        // As little work as possible: the connection's thread serves others too.
        let mut out = BytesMut::with_capacity(PREFIX + framed.len() / 2);
        out.put_bytes(0, PREFIX);
        let mut deflate = flate2::bufread::GzEncoder::new(&framed[PREFIX..], Compression::fast());
        let written = std::io::copy(&mut deflate, &mut (&mut out).writer());
        let length = written.ok().and_then(|length| u32::try_from(length).ok());
        let Some(length) = length else {
            // Neither end is a file, and what does not fit is better sent as it is.
            return framed;
        };
        out[0] = COMPRESSED;
        out[1..PREFIX].copy_from_slice(&length.to_be_bytes());
        out.freeze()
    }
}

/// Decompresses a message of at most `max` bytes.
///
/// # Errors
/// Code and text as grpc-go answers: too large, or broken in some way.
pub(super) fn decompress(bytes: &[u8], max: usize) -> Result<Bytes, Status> {
    let broken = |when: &str, reason: &str| {
        let text = format!("grpc: failed to {when}: {reason}");
        Status::new(Code::Internal, text)
    };
    let mut input = Input(bytes);
    input
        .header()
        .map_err(|reason| broken("decompress the message", reason))?;
    let mut out = Vec::new();
    let mut inflate = Decompress::new(false);
    loop {
        let outcome = member(&mut input, &mut inflate, &mut out, max);
        outcome.map_err(|reason| broken("read decompressed data", &reason))?;
        if out.len() > max {
            return Err(Status::new(
                Code::ResourceExhausted,
                format!("grpc: received message after decompression larger than max {max}"),
            ));
        }
        if input.0.is_empty() {
            return Ok(out.into());
        }
        // Members may follow each other.
        input
            .header()
            .map_err(|reason| broken("read decompressed data", reason))?;
        inflate.reset(false);
    }
}

const CUT_SHORT: &str = "unexpected EOF";
const BAD_HEADER: &str = "gzip: invalid header";

/// Appends what one member holds, and checks it, unless that is more than `max` bytes in all:
/// then there is one byte more in `out`, and the rest is not looked at.
fn member(
    input: &mut Input<'_>,
    inflate: &mut Decompress,
    out: &mut Vec<u8>,
    max: usize,
) -> Result<(), String> {
    let begin = out.len();
    loop {
        if out.len() > max {
            return Ok(());
        }
        if out.len() == out.capacity() {
            let room = out.len().max(FIRST_ROOM).min(max + 1 - out.len());
            out.reserve_exact(room);
        }
        let (read, written) = (inflate.total_in(), out.len());
        let outcome = inflate.decompress_vec(input.0, out, FlushDecompress::None);
        let read = (inflate.total_in() - read) as usize;
        input.0 = &input.0[read..];
        match outcome {
            Ok(Inflated::StreamEnd) => break,
            Ok(_) if read == 0 && out.len() == written => return Err(CUT_SHORT.to_owned()),
            Ok(_) => {}
            Err(_) => {
                let offset = inflate.total_in();
                return Err(format!("flate: corrupt input before offset {offset}"));
            }
        }
    }
    let mut crc = Crc::new();
    crc.update(&out[begin..]);
    let trailer = input.take(8)?;
    let expected = [crc.sum().to_le_bytes(), crc.amount().to_le_bytes()].concat();
    match trailer == expected {
        true => Ok(()),
        false => Err("gzip: invalid checksum".to_owned()),
    }
}

/// What has not been read yet.
struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    fn take(&mut self, length: usize) -> Result<&'a [u8], &'static str> {
        let (taken, rest) = self.0.split_at_checked(length).ok_or(CUT_SHORT)?;
        self.0 = rest;
        Ok(taken)
    }

    /// A text that ends with a zero byte. Go allows 512 bytes.
    fn text(&mut self) -> Result<(), &'static str> {
        let window = &self.0[..self.0.len().min(512)];
        match window.iter().position(|byte| *byte == 0) {
            Some(end) => self.take(end + 1).map(|_| ()),
            None if window.len() == 512 => Err(BAD_HEADER),
            None => Err(CUT_SHORT),
        }
    }

    /// The start of a member.
    fn header(&mut self) -> Result<(), &'static str> {
        if self.0.is_empty() {
            return Err("EOF");
        }
        let all = self.0;
        let fixed = self.take(10)?;
        let [0x1f, 0x8b, 8, flags, ..] = *fixed else {
            return Err(BAD_HEADER);
        };
        if flags & 4 != 0 {
            let length = self.take(2)?;
            self.take(usize::from(u16::from_le_bytes([length[0], length[1]])))?;
        }
        if flags & 8 != 0 {
            self.text()?;
        }
        if flags & 16 != 0 {
            self.text()?;
        }
        if flags & 2 != 0 {
            let mut crc = Crc::new();
            crc.update(&all[..all.len() - self.0.len()]);
            let sum = crc.sum().to_le_bytes();
            if self.take(2)? != &sum[..2] {
                return Err(BAD_HEADER);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use flate2::write::GzEncoder;

    use super::*;

    const MAX: usize = 100_000;

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn text(bytes: &[u8]) -> String {
        decompress(bytes, MAX).unwrap_err().text.into_owned()
    }

    #[test]
    fn what_is_compressed_comes_back() {
        for length in [1, 2, 4095, 4096, 4097, MAX] {
            let message: Vec<u8> = (0..length).map(|n| (n * n % 251) as u8).collect();
            let framed = [&[0][..], &(length as u32).to_be_bytes(), &message].concat();
            assert_eq!(Encoding::Identity.compress(framed.clone().into()), framed);
            let compressed = Encoding::Gzip.compress(framed.into());
            assert_eq!(compressed[0], 1);
            let size = (compressed.len() - PREFIX) as u32;
            assert_eq!(compressed[1..PREFIX], size.to_be_bytes());
            assert_eq!(decompress(&compressed[PREFIX..], MAX).unwrap(), message);
        }
        let empty = Bytes::from_static(&[0; PREFIX]);
        assert_eq!(Encoding::Gzip.compress(empty.clone()), empty);
    }

    #[test]
    fn members_follow_each_other() {
        let two = [gzip(b"ab"), gzip(b""), gzip(b"c")].concat();
        assert_eq!(decompress(&two, MAX).unwrap(), &b"abc"[..]);
    }

    #[test]
    fn all_parts_of_a_header_are_read() {
        let plain = gzip(b"a");
        let mut header = b"\x1f\x8b\x08\x1e\0\0\0\0\0\xff\x02\0xxname\0comment\0".to_vec();
        let mut crc = Crc::new();
        crc.update(&header);
        header.extend_from_slice(&crc.sum().to_le_bytes()[..2]);
        let whole = [&header, &plain[10..]].concat();
        assert_eq!(decompress(&whole, MAX).unwrap(), &b"a"[..]);
        for end in 1..header.len() {
            let expected = "grpc: failed to decompress the message: unexpected EOF";
            assert_eq!(text(&whole[..end]), expected);
        }
        let mut wrong = whole;
        wrong[header.len() - 1] ^= 1;
        let expected = "grpc: failed to decompress the message: gzip: invalid header";
        assert_eq!(text(&wrong), expected);
    }

    #[test]
    fn a_bomb_is_noticed_at_the_limit() {
        assert_eq!(decompress(&gzip(&[0; MAX]), MAX).unwrap().len(), MAX);
        let expected = "grpc: received message after decompression larger than max 100000";
        for size in [MAX + 1, 100 * MAX] {
            let status = decompress(&gzip(&vec![0; size]), MAX).unwrap_err();
            assert_eq!(
                (status.code, &*status.text),
                (Code::ResourceExhausted, expected)
            );
        }
        let many = gzip(&[0; 60_000]).repeat(2);
        assert_eq!(text(&many), expected);
    }

    /// Seen at a Go server.
    #[test]
    fn broken_messages_get_the_texts_of_grpc_go() {
        let good = gzip(b"\x0a\x01a");
        let end = good.len() - 8;
        let with = |at: usize, bytes: &[u8]| {
            let mut changed = good.clone();
            changed.truncate(at);
            changed.extend_from_slice(bytes);
            changed.extend_from_slice(good.get(changed.len()..).unwrap_or_default());
            changed
        };
        let at_once = "decompress the message";
        let later = "read decompressed data";
        for (bytes, when, reason) in [
            (vec![], at_once, "EOF"),
            (b"\x0a\x01a".to_vec(), at_once, "unexpected EOF"),
            (good[..5].to_vec(), at_once, "unexpected EOF"),
            (vec![b'x'; 20], at_once, "gzip: invalid header"),
            (with(2, b"\x09"), at_once, "gzip: invalid header"),
            (good[..10].to_vec(), later, "unexpected EOF"),
            (good[..11].to_vec(), later, "unexpected EOF"),
            (good[..good.len() - 4].to_vec(), later, "unexpected EOF"),
            (
                with(10, b"\xff"),
                later,
                "flate: corrupt input before offset 1",
            ),
            (with(end, b"\0\0\0\0"), later, "gzip: invalid checksum"),
            (
                with(end + 4, b"\0\0\0\x01"),
                later,
                "gzip: invalid checksum",
            ),
            ([&good[..], b"xxxx"].concat(), later, "unexpected EOF"),
            (
                [&good[..], &[0; 30]].concat(),
                later,
                "gzip: invalid header",
            ),
        ] {
            let expected = format!("grpc: failed to {when}: {reason}");
            assert_eq!(text(&bytes), expected, "{}", bytes.escape_ascii());
        }
    }
}
