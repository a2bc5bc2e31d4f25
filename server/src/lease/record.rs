//! A lease in the bucket `lease`: eight bytes of id, big endian, to a `leasepb.Lease` (disk-format 6).

use bytes::Bytes;
use prost::Message as _;
use retcd_proto::leasepb;
use retcd_storage::backend::Bucket;
use retcd_storage::mvcc;

use super::shared::Lease;

pub(super) fn key(id: i64) -> [u8; 8] {
    id.to_be_bytes()
}

pub(super) fn encode(lease: &Lease) -> Vec<u8> {
    let record = leasepb::Lease {
        id: lease.id,
        ttl: lease.ttl,
        remaining_ttl: lease.remaining_ttl,
    };
    record.encode_to_vec()
}

/// # Errors
/// `Corrupt` for what no member writes.
pub(super) fn decode(key: &[u8], value: Bytes) -> Result<leasepb::Lease, mvcc::Error> {
    let corrupt = |problem| mvcc::Error::Corrupt {
        bucket: Bucket::Lease,
        key: key.escape_ascii().to_string(),
        problem,
    };
    let id = <[u8; 8]>::try_from(key).map_err(|_| corrupt("the key is not a lease id"))?;
    let record = leasepb::Lease::decode(value).map_err(|_| corrupt("the value is not a lease"))?;
    if record.id != i64::from_be_bytes(id) {
        return Err(corrupt("the value is another lease"));
    }
    Ok(record)
}
