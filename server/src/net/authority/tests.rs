//! Streams as h2's own encoder and Go's would write them.

use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncReadExt as _, ReadBuf};

use super::{Authorities, block, huffman};

/// `http://127.0.0.1:23179` as etcdctl 3.4 was seen to send it: literal, indexed from now on.
const ETCDCTL: &[u8] = b"\x41\x90\x9d\x29\xae\xe3\x0c\x04\x4e\xae\x05\xc0\xb8\x6e\x09\x90\xba\xff";

/// Fields before and behind: `:method POST`, `:scheme http`, a `:path`, `te: trailers` by name.
const BEFORE: &[u8] = b"\x83\x86\x45\x02/a";
const BEHIND: &[u8] = b"\x40\x02\x74\x65\x86\x4d\x83\x35\x05\xb1\x1f\x5f\x03abc";

fn decoded(string: &[u8]) -> String {
    let symbols = huffman::decode(string).unwrap();
    String::from_utf8(symbols.iter().map(|symbol| symbol.byte).collect()).unwrap()
}

fn frame(kind: u8, flags: u8, payload: &[u8]) -> Vec<u8> {
    let length = (payload.len() as u32).to_be_bytes();
    let header = [length[1], length[2], length[3], kind, flags, 0, 0, 0, 1];
    [&header, payload].concat()
}

fn repaired(flags: u8, payload: &[u8]) -> Vec<u8> {
    let mut payload = payload.to_vec();
    block::repair(flags, &mut payload);
    payload
}

#[test]
fn a_huffman_coded_url_is_replaced_in_its_place() {
    assert_eq!(decoded(&ETCDCTL[2..]), "http://127.0.0.1:23179");
    let fixed = repaired(0, &[BEFORE, ETCDCTL, BEHIND].concat());
    let value = &fixed[BEFORE.len() + 2..][..16];
    assert_eq!(decoded(value), "httpx--127.0.0.1x23179");
    let expected = [BEFORE, &ETCDCTL[..2], value, BEHIND].concat();
    assert_eq!(fixed, expected);
}

#[test]
fn plain_values_are_replaced_where_h2_refuses_them() {
    for (sent, passed) in [
        ("http://127.0.0.1:2379", "http---127.0.0.1-2379"),
        ("https://[::1]:2379", "https------1--2379"),
        ("unix:///tmp/etcd.sock:0", "unix----tmp-etcd.sock-0"),
        ("a b", "a-b"),
        ("é", "--"),
        // Good ones.
        ("127.0.0.1:2379", "127.0.0.1:2379"),
        ("[::1]:2379", "[::1]:2379"),
        ("localhost", "localhost"),
        ("user@host:1", "user@host:1"),
        // Ones that Go refuses too, or that cannot be helped.
        ("http://\u{1}", "http://\u{1}"),
        ("", ""),
    ] {
        // Indexed from now on, not indexed, never indexed.
        for first in [0x41, 0x01, 0x11] {
            let field = |value: &str| {
                let start = [BEFORE, &[first, value.len() as u8]].concat();
                [&start, value.as_bytes(), BEHIND].concat()
            };
            let got = repaired(0, &field(sent));
            assert_eq!(
                got.escape_ascii().to_string(),
                field(passed).escape_ascii().to_string()
            );
        }
    }
}

#[test]
fn only_the_authority_is_touched() {
    let url = "http://127.0.0.1:2379";
    let value = [&[url.len() as u8], url.as_bytes()].concat();
    for name in [
        &b"\x44"[..],
        b"\x04",
        b"\x7e",
        b"\x0f\x2f",
        b"\x40\x03abc",
        b"\x00\x01a",
    ] {
        let fields = [BEFORE, name, &value].concat();
        assert_eq!(repaired(0, &fields), fields);
    }
    // Indexed fields, sizes of the table, and broken ones.
    for fields in [
        &b"\x81\xc1\xff\x80\x01"[..],
        b"\x3f\xe1\x1f\x20",
        b"\x41",
        b"\x41\x15http:",
        b"\x41\xff\xff\xff\xff\xff",
        b"\x41\x83\xff\xff\xff",
        b"",
    ] {
        assert_eq!(repaired(0, fields), fields);
    }
}

#[test]
fn padding_and_priority_are_not_taken_for_fields() {
    let fields = [BEFORE, ETCDCTL].concat();
    let fixed = repaired(0, &fields);
    assert_ne!(fixed, fields);
    let padding = b"\x41\x03a/b";
    let around = |fields: &[u8]| [&[5, 0x41, 0, 0, 0, 0x41][..], fields, padding].concat();
    assert_eq!(repaired(0x28, &around(&fields)), around(&fixed));
    // More padding than there is room.
    for payload in [&b"\xff\x41\x03a/b"[..], b"\x01", b""] {
        assert_eq!(repaired(0x28, payload), payload);
    }
}

/// Gives away what it has in pieces of one size.
struct Pieces<'a>(&'a [u8], usize);

impl AsyncRead for Pieces<'_> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        let length = self.0.len().min(self.1).min(buf.remaining());
        let (piece, rest) = self.0.split_at(length);
        buf.put_slice(piece);
        self.0 = rest;
        Poll::Ready(Ok(()))
    }
}

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// A stream with good and bad authorities, and data and a continuation that only look like one.
fn conversation(field: &[u8]) -> Vec<u8> {
    let lookalike = [BEFORE, ETCDCTL].concat();
    [
        PREFACE.to_vec(),
        frame(4, 0, b""),
        frame(1, 4, &[BEFORE, field, BEHIND].concat()),
        frame(0, 1, &frame(1, 4, &lookalike)),
        frame(1, 4, BEFORE),
        frame(1, 0, &[BEFORE, field].concat()),
        frame(9, 4, &lookalike),
        frame(1, 4, b""),
        frame(0, 0, b""),
        frame(6, 0, &ETCDCTL[..8]),
        frame(1, 4, &[BEFORE, field].concat()),
        // One that h2 will refuse for its length.
        frame(1, 4, &[BEFORE, ETCDCTL, &[0x82; 20_000]].concat()),
        frame(1, 4, &[BEFORE, field].concat()),
    ]
    .concat()
}

#[tokio::test]
async fn a_stream_passes_in_pieces_of_any_size() {
    let sent = conversation(ETCDCTL);
    let expected = conversation(&repaired(0, ETCDCTL));
    assert_ne!(sent, expected);
    for size in (1..400).chain([sent.len()]) {
        for room in [1, 7, 64, 100_000] {
            let pieces = Pieces(&sent, size);
            let mut reader = Authorities::new(pieces, PREFACE.len(), None);
            let mut got = Vec::new();
            let mut buf = vec![0; room];
            loop {
                match reader.read(&mut buf).await.unwrap() {
                    0 => break,
                    count => got.extend_from_slice(&buf[..count]),
                }
            }
            assert!(
                got == expected,
                "pieces of {size}, read with room for {room}"
            );
        }
    }
}

#[tokio::test]
async fn a_stream_may_end_and_split_anywhere() {
    let sent = conversation(ETCDCTL);
    let expected = conversation(&repaired(0, ETCDCTL));
    for at in 0..400 {
        let (first, second) = sent.split_at(at);
        let mut got = Vec::new();
        let reader = Pieces(first, usize::MAX).chain(Pieces(second, usize::MAX));
        let mut reader = Authorities::new(reader, PREFACE.len(), None);
        reader.read_to_end(&mut got).await.unwrap();
        assert!(got == expected, "split at {at}");

        let mut reader = Authorities::new(Pieces(first, usize::MAX), PREFACE.len(), None);
        let mut got = Vec::new();
        reader.read_to_end(&mut got).await.unwrap();
        assert_eq!(got.len(), at, "nothing is lost");
    }
}

/// The published code of every symbol that may come, as (symbol, code, bits).
#[test]
fn codes_are_those_of_the_rfc() {
    for (symbol, code, bits) in [
        (b'0', 0x0_u32, 5),
        (b't', 0x9, 5),
        (b' ', 0x14, 6),
        (b'/', 0x18, 6),
        (b'u', 0x2d, 6),
        (b':', 0x5c, 7),
        (b'z', 0x7b, 7),
        (b'&', 0xf8, 8),
        (b'Z', 0xfd, 8),
        (b'!', 0x3f8, 10),
        (b'?', 0x3fc, 10),
        (b'\'', 0x7fa, 11),
        (b'|', 0x7fc, 11),
        (b'#', 0xffa, 12),
        (b'>', 0xffb, 12),
        (b'\0', 0x1ff8, 13),
        (b'[', 0x1ffb, 13),
        (b'~', 0x1ffd, 13),
    ] {
        // The code, then ones.
        let word = code << (32 - bits) | u32::MAX >> bits;
        let string = &word.to_be_bytes()[..(bits as usize).div_ceil(8)];
        assert_eq!(decoded(string).as_bytes(), [symbol]);
    }
}
