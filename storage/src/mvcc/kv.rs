//! Stored key-values: `mvccpb.KeyValue` encoded and taken apart by hand.
//!
//! A value is stored, cached and sent as the bytes it was encoded to once. Reads need its value and lease
//! at most, so those are found in the bytes instead of decoding a message.
//! Source of the field numbers: etcd `api/mvccpb/kv.proto`.

use std::ops::Range;

use bytes::Bytes;

use super::Revision;

/// The fields of a key-value, to be encoded.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Fields<'a> {
    pub(crate) key: &'a [u8],
    pub(crate) create_revision: i64,
    pub(crate) mod_revision: i64,
    pub(crate) version: i64,
    pub(crate) value: &'a [u8],
    pub(crate) lease: i64,
}

impl Fields<'_> {
    /// Encodes like every proto3 encoder: fields ascending, zero and empty ones left out.
    pub(crate) fn encode(&self) -> Bytes {
        let size = bytes_size(self.key)
            + int_size(self.create_revision)
            + int_size(self.mod_revision)
            + int_size(self.version)
            + bytes_size(self.value)
            + int_size(self.lease);
        let mut out = Vec::with_capacity(size);
        put_bytes(&mut out, 1, self.key);
        put_int(&mut out, 2, self.create_revision);
        put_int(&mut out, 3, self.mod_revision);
        put_int(&mut out, 4, self.version);
        put_bytes(&mut out, 5, self.value);
        put_int(&mut out, 6, self.lease);
        debug_assert_eq!(out.len(), size);
        Bytes::from(out)
    }
}

const VARINT: u8 = 0;
const FIXED64: u8 = 1;
const LENGTH_DELIMITED: u8 = 2;
const FIXED32: u8 = 5;

fn varint_size(n: u64) -> usize {
    (64 - (n | 1).leading_zeros() as usize).div_ceil(7)
}

fn int_size(n: i64) -> usize {
    if n == 0 {
        0
    } else {
        1 + varint_size(n.cast_unsigned())
    }
}

fn bytes_size(bytes: &[u8]) -> usize {
    if bytes.is_empty() {
        0
    } else {
        1 + varint_size(bytes.len() as u64) + bytes.len()
    }
}

fn put_varint(out: &mut Vec<u8>, mut n: u64) {
    while n >= 0x80 {
        out.push(n as u8 | 0x80);
        n >>= 7;
    }
    out.push(n as u8);
}

fn put_int(out: &mut Vec<u8>, field: u8, n: i64) {
    if n != 0 {
        out.push(field << 3 | VARINT);
        put_varint(out, n.cast_unsigned());
    }
}

fn put_bytes(out: &mut Vec<u8>, field: u8, bytes: &[u8]) {
    if !bytes.is_empty() {
        out.push(field << 3 | LENGTH_DELIMITED);
        put_varint(out, bytes.len() as u64);
        out.extend_from_slice(bytes);
    }
}

/// Where the fields of an encoded key-value are; those not there are empty or zero.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Layout {
    pub(crate) key: Range<usize>,
    pub(crate) create_revision: i64,
    pub(crate) mod_revision: i64,
    pub(crate) version: i64,
    pub(crate) value: Range<usize>,
    pub(crate) lease: i64,
}

impl Layout {
    /// Finds the fields; unknown ones are skipped, of a repeated one the last counts. All ranges lie within
    /// `encoded`. `None` for what is not a key-value.
    pub(crate) fn of(encoded: &[u8]) -> Option<Layout> {
        let mut layout = Layout::default();
        let mut at = 0;
        while at < encoded.len() {
            let tag = take_varint(encoded, &mut at)?;
            let (field, wire) = (u32::try_from(tag).ok()? >> 3, (tag & 7) as u8);
            match (field, wire) {
                (0, _) => return None,
                (1, LENGTH_DELIMITED) => layout.key = take_bytes(encoded, &mut at)?,
                (2, VARINT) => layout.create_revision = take_int(encoded, &mut at)?,
                (3, VARINT) => layout.mod_revision = take_int(encoded, &mut at)?,
                (4, VARINT) => layout.version = take_int(encoded, &mut at)?,
                (5, LENGTH_DELIMITED) => layout.value = take_bytes(encoded, &mut at)?,
                (6, VARINT) => layout.lease = take_int(encoded, &mut at)?,
                (1..=6, _) => return None,
                (_, VARINT) => _ = take_varint(encoded, &mut at)?,
                (_, FIXED64) => _ = take(encoded, &mut at, 8)?,
                (_, LENGTH_DELIMITED) => _ = take_bytes(encoded, &mut at)?,
                (_, FIXED32) => _ = take(encoded, &mut at, 4)?,
                _ => return None,
            }
        }
        Some(layout)
    }
}

fn take(bytes: &[u8], at: &mut usize, n: u64) -> Option<Range<usize>> {
    let end = at.checked_add(usize::try_from(n).ok()?)?;
    let range = *at..end;
    (end <= bytes.len()).then(|| {
        *at = end;
        range
    })
}

fn take_bytes(bytes: &[u8], at: &mut usize) -> Option<Range<usize>> {
    let n = take_varint(bytes, at)?;
    take(bytes, at, n)
}

fn take_int(bytes: &[u8], at: &mut usize) -> Option<i64> {
    take_varint(bytes, at).map(u64::cast_signed)
}

fn take_varint(bytes: &[u8], at: &mut usize) -> Option<u64> {
    let mut n = 0;
    for shift in (0..64).step_by(7) {
        let byte = *bytes.get(*at)?;
        *at += 1;
        // The tenth byte has room for one bit.
        if shift == 63 && byte > 1 {
            return None;
        }
        n |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some(n);
        }
    }
    None
}

/// A key with its value at some revision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kv {
    /// The key.
    pub key: Bytes,
    /// The change that made this value.
    pub modified: Revision,
    /// The main revision of the put that brought the key to life.
    pub created: i64,
    /// The number of puts since then, that one included.
    pub version: i64,
    /// The stored `mvccpb.KeyValue`. Of a query for keys one without value and lease; empty for keys deleted
    /// without asking for what they had.
    pub encoded: Bytes,
}

impl Kv {
    /// The value, sharing memory with [`Kv::encoded`].
    pub fn value(&self) -> Bytes {
        self.encoded.slice(self.layout().value)
    }

    /// The length of the value in bytes.
    pub fn value_len(&self) -> usize {
        self.layout().value.len()
    }

    /// The lease, 0 for none.
    pub fn lease(&self) -> i64 {
        self.layout().lease
    }

    /// Checked when it was read from the backend, so the default is for none but hand-made ones.
    fn layout(&self) -> Layout {
        Layout::of(&self.encoded).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use prost::Message;
    use retcd_proto::mvccpb::KeyValue;

    use super::*;

    fn any_key_value() -> impl Strategy<Value = KeyValue> {
        let number = prop_oneof![
            Just(0),
            Just(1),
            Just(-1),
            Just(i64::MAX),
            any::<i64>(),
            0..300i64
        ];
        let bytes = prop_oneof![
            Just(Vec::new()),
            proptest::collection::vec(any::<u8>(), 0..300)
        ];
        (
            bytes.clone(),
            bytes,
            [number.clone(), number.clone(), number.clone(), number],
        )
            .prop_map(
                |(key, value, [create_revision, mod_revision, version, lease])| KeyValue {
                    key: key.into(),
                    value: value.into(),
                    create_revision,
                    mod_revision,
                    version,
                    lease,
                },
            )
    }

    fn layout_agrees(encoded: &[u8], layout: &Layout, kv: &KeyValue) {
        assert_eq!(encoded[layout.key.clone()], kv.key);
        assert_eq!(encoded[layout.value.clone()], kv.value);
        assert_eq!(
            (
                layout.create_revision,
                layout.mod_revision,
                layout.version,
                layout.lease
            ),
            (kv.create_revision, kv.mod_revision, kv.version, kv.lease)
        );
    }

    proptest! {
        #[test]
        fn encodes_like_the_generated_type(kv in any_key_value()) {
            let encoded = Fields {
                key: &kv.key,
                create_revision: kv.create_revision,
                mod_revision: kv.mod_revision,
                version: kv.version,
                value: &kv.value,
                lease: kv.lease,
            }
            .encode();
            prop_assert_eq!(&encoded[..], &kv.encode_to_vec()[..]);
            layout_agrees(&encoded, &Layout::of(&encoded).unwrap(), &kv);
        }

        /// Cut, flipped and extended encodings: never a panic, and never another answer than prost's.
        #[test]
        fn hostile_bytes_are_refused_or_read_right(
            kv in any_key_value(),
            flips in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
            cut in any::<prop::sample::Index>(),
            tail in proptest::collection::vec(any::<u8>(), 0..12),
        ) {
            let mut bytes = kv.encode_to_vec();
            for (at, byte) in flips {
                if !bytes.is_empty() {
                    let at = at.index(bytes.len());
                    bytes[at] = byte;
                }
            }
            bytes.truncate(cut.index(bytes.len() + 1));
            bytes.extend(tail);
            if let Some(layout) = Layout::of(&bytes) {
                layout_agrees(&bytes, &layout, &KeyValue::decode(&bytes[..]).unwrap());
            }
        }

        #[test]
        fn random_bytes_are_refused_or_read_right(bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
            if let Some(layout) = Layout::of(&bytes) {
                layout_agrees(&bytes, &layout, &KeyValue::decode(&bytes[..]).unwrap());
            }
        }
    }

    #[test]
    fn bytes_are_those_of_etcd() {
        let encoded = Fields {
            key: b"foo",
            create_revision: 2,
            mod_revision: 300,
            version: 3,
            value: b"bar",
            lease: 0,
        }
        .encode();
        assert_eq!(
            &encoded[..],
            b"\x0a\x03foo\x10\x02\x18\xac\x02\x20\x03\x2a\x03bar"
        );
        let tombstone = Fields {
            key: b"foo",
            ..Fields::default()
        }
        .encode();
        assert_eq!(&tombstone[..], b"\x0a\x03foo");
    }

    #[test]
    fn unknown_fields_are_skipped_and_the_last_of_a_field_counts() {
        let bytes = b"\x0a\x01a\x38\x05\x41\x01\x02\x03\x04\x05\x06\x07\x08\x4a\x02xx\x55\x01\x02\x03\x04\x0a\x01b";
        let layout = Layout::of(bytes).unwrap();
        assert_eq!(&bytes[layout.key], b"b");
    }

    #[test]
    fn a_kv_gives_value_and_lease_without_decoding() {
        let encoded = Fields {
            key: b"k",
            value: b"value",
            lease: -7,
            ..Fields::default()
        }
        .encode();
        let kv = Kv {
            key: Bytes::from_static(b"k"),
            modified: Revision::new(1, 0),
            created: 1,
            version: 1,
            encoded,
        };
        assert_eq!(
            (&kv.value()[..], kv.value_len(), kv.lease()),
            (&b"value"[..], 5, -7)
        );
        let bare = Kv {
            encoded: Bytes::new(),
            ..kv
        };
        assert_eq!((bare.value_len(), bare.lease()), (0, 0));
    }
}
