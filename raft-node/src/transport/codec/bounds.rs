//! What a message may hold many of. Two bytes say that there is an entry, which takes a hundred
//! and more in memory, and in the log; so all of that is counted before any of it is decoded.

use bytes::Buf as _;
use prost::encoding::{DecodeContext, WireType, decode_key, decode_varint, skip_field};

use super::DecodeError;

/// Entries of one message, or frame. etcd and retcd send a megabyte of them, each with its index
/// and its term: 210 000 at most.
pub(super) const MAX_ENTRIES: usize = 1 << 18;
/// Bytes of a snapshot's place in the log and of its members, of which a cluster has a few.
const MAX_METADATA: usize = 64 * 1024;

/// Fields of a message, and of a snapshot.
const ENTRIES: u32 = 7;
const SNAPSHOT: u32 = 9;
const RESPONSES: u32 = 14;
const METADATA: u32 = 2;

/// Of the bytes of a message; what is no protobuf is found when they are decoded.
///
/// # Errors
/// The first bound that they exceed.
pub(super) fn check(bytes: &[u8]) -> Result<(), DecodeError> {
    let mut counts = Counts::default();
    for_each_part(bytes, |tag, part| counts.message(tag, part))
}

#[derive(Default)]
struct Counts {
    entries: usize,
    metadata: usize,
}

impl Counts {
    fn message(&mut self, tag: u32, part: &[u8]) -> Result<(), DecodeError> {
        match tag {
            ENTRIES => {
                self.entries += 1;
                if self.entries > MAX_ENTRIES {
                    return Err(DecodeError::Entries(MAX_ENTRIES));
                }
                Ok(())
            }
            // Several are merged into one.
            SNAPSHOT => for_each_part(part, |tag, part| self.snapshot(tag, part)),
            RESPONSES => Err(DecodeError::Nested),
            _ => Ok(()),
        }
    }

    fn snapshot(&mut self, tag: u32, part: &[u8]) -> Result<(), DecodeError> {
        if tag == METADATA {
            self.metadata += part.len();
            if self.metadata > MAX_METADATA {
                return Err(DecodeError::Part {
                    what: "the metadata of a snapshot",
                    limit: MAX_METADATA,
                });
            }
        }
        Ok(())
    }
}

/// Calls `look` with the tag and the bytes of each field that has a length, up to where the bytes
/// are no protobuf.
fn for_each_part(
    mut bytes: &[u8],
    mut look: impl FnMut(u32, &[u8]) -> Result<(), DecodeError>,
) -> Result<(), DecodeError> {
    while bytes.has_remaining() {
        let Ok((tag, kind)) = decode_key(&mut bytes) else {
            return Ok(());
        };
        if kind != WireType::LengthDelimited {
            if skip_field(kind, tag, &mut bytes, DecodeContext::default()).is_err() {
                return Ok(());
            }
            continue;
        }
        let Ok(len) = decode_varint(&mut bytes) else {
            return Ok(());
        };
        let part = usize::try_from(len).ok().and_then(|len| bytes.get(..len));
        // A part that is cut off is decoded as far as it goes.
        look(tag, part.unwrap_or(bytes))?;
        let Some(part) = part else {
            return Ok(());
        };
        bytes.advance(part.len());
    }
    Ok(())
}
