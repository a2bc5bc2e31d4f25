//! Changes as bytes, for the files of the engines that have no format of their own.
//!
//! A change is: bucket (1 byte; top bit set for a delete), key length, value length (4 bytes each, little endian), key, value.

use bytes::{Buf, Bytes};

use super::{Batch, Bucket, Op};

const DELETE: u8 = 0x80;

/// The number of a bucket in files; never to be changed.
pub(super) fn bucket_code(bucket: Bucket) -> u8 {
    match bucket {
        Bucket::Alarm => 0,
        Bucket::Auth => 1,
        Bucket::AuthRoles => 2,
        Bucket::AuthUsers => 3,
        Bucket::Cluster => 4,
        Bucket::Key => 5,
        Bucket::Lease => 6,
        Bucket::Members => 7,
        Bucket::MembersRemoved => 8,
        Bucket::Meta => 9,
    }
}

/// Appends one change, `None` for a delete.
///
/// # Panics
/// On 4 GiB or more, far above any request limit.
pub(super) fn encode(out: &mut Vec<u8>, bucket: Bucket, key: &[u8], value: Option<&[u8]>) {
    let len = |bytes: &[u8]| {
        u32::try_from(bytes.len()).expect("requests are limited to far less than 4 GiB")
    };
    let code = bucket_code(bucket);
    out.push(if value.is_some() { code } else { code | DELETE });
    let value = value.unwrap_or_default();
    out.extend_from_slice(&len(key).to_le_bytes());
    out.extend_from_slice(&len(value).to_le_bytes());
    out.extend_from_slice(key);
    out.extend_from_slice(value);
}

/// Reads what `encode` wrote; keys and values share the memory of `bytes`. `None` if it is anything else.
pub(super) fn decode(mut bytes: Bytes) -> Option<Batch> {
    let mut batch = Batch::default();
    while !bytes.is_empty() {
        let code = bytes.try_get_u8().ok()?;
        let key = usize::try_from(bytes.try_get_u32_le().ok()?).ok()?;
        let value = usize::try_from(bytes.try_get_u32_le().ok()?).ok()?;
        if bytes.len() < key.checked_add(value)? {
            return None;
        }
        let (key, value) = (bytes.split_to(key), bytes.split_to(value));
        let bucket = Bucket::ALL
            .into_iter()
            .find(|b| bucket_code(*b) == code & !DELETE)?;
        batch.push(if code & DELETE == 0 {
            Op::Put { bucket, key, value }
        } else {
            Op::Delete { bucket, key }
        });
    }
    Some(batch)
}
