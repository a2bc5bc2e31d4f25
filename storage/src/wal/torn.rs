//! Tells an unfinished write from damage.
//!
//! The log is preallocated with zeros, and a disk writes whole 512-byte sectors. So an unfinished
//! write leaves sectors that are either written or still zero. Damage to acknowledged records must
//! never be taken for that, since repairing an unfinished write cuts the log there. Go etcd's rule
//! (a zero sector in the record) is tightened here: the record's two lengths must agree, and the
//! mismatch must not be what a single flipped bit elsewhere explains.

use std::ops::Range;
use std::path::PathBuf;

use super::Error;
use crate::fs::{File, read_full};

const SECTOR: u64 = 512;

/// Bytes read ahead.
const AHEAD: u64 = 256 << 10;

/// A file seen through a buffer that moves along.
#[derive(Debug)]
pub(super) struct Window {
    file: Box<dyn File>,
    path: PathBuf,
    size: u64,
    start: u64,
    buf: Vec<u8>,
}

impl Window {
    pub(super) fn new(file: Box<dyn File>, path: PathBuf) -> Result<Self, Error> {
        let size = file.len().map_err(Error::io("read", &path))?;
        Ok(Self {
            file,
            path,
            size,
            start: 0,
            buf: Vec::new(),
        })
    }

    pub(super) fn size(&self) -> u64 {
        self.size
    }

    /// The `len` bytes at `offset`, or as many as the file has; memory is bounded by its size.
    pub(super) fn get(&mut self, offset: u64, len: u64) -> Result<&[u8], Error> {
        let len = len.min(self.size.saturating_sub(offset));
        let end = self.start + self.buf.len() as u64;
        if offset < self.start || offset + len > end {
            let want = len.max(AHEAD).min(self.size.saturating_sub(offset));
            self.buf.resize(want as usize, 0);
            self.start = offset;
            let read = read_full(&*self.file, &mut self.buf, offset)
                .map_err(Error::io("read", &self.path))?;
            self.buf.truncate(read);
            if (read as u64) < len {
                return Err(Error::corrupt(
                    &self.path,
                    offset,
                    "the file shrank while read",
                ));
            }
        }
        let at = (offset - self.start) as usize;
        Ok(&self.buf[at..at + len as usize])
    }

    /// Whether only zeros are left from `offset` to the end of the file.
    pub(super) fn zero_from(&mut self, offset: u64) -> Result<bool, Error> {
        self.zero(offset..self.size)
    }

    /// Most of a segment was reserved and never written. The file system knows, and need not make
    /// up its zeros, nor keep them in memory.
    fn zero(&mut self, mut range: Range<u64>) -> Result<bool, Error> {
        while range.start < range.end {
            if range.end - range.start > SECTOR {
                let data = self.file.data_from(range.start);
                range.start = data.map_err(Error::io("read", &self.path))?;
                if range.start >= range.end {
                    break;
                }
            }
            let piece = self.get(range.start, (range.end - range.start).min(AHEAD))?;
            if piece.iter().any(|byte| *byte != 0) {
                return Ok(false);
            }
            range.start += piece.len() as u64;
        }
        Ok(true)
    }
}

/// What is behind a length of zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Zeros {
    /// Nothing.
    End,
    /// Later sectors of a write whose sector here was lost.
    Torn,
    /// The rest of a record in the same sector, so the length alone was lost.
    Damage,
}

/// Judges a length of zero at `start`; without `to_end` only by its own sector.
pub(super) fn zero_word(window: &mut Window, start: u64, to_end: bool) -> Result<Zeros, Error> {
    let sector_end = (start - start % SECTOR + SECTOR).min(window.size());
    if !window.zero(start..sector_end)? {
        return Ok(Zeros::Damage);
    }
    if to_end && !window.zero_from(sector_end)? {
        return Ok(Zeros::Torn);
    }
    Ok(Zeros::End)
}

/// Whether a record whose fields stop making sense at `at` is unfinished: its sector was not
/// written, or nothing was from there on. `end` is the record's end.
pub(super) fn header(window: &mut Window, at: u64, end: u64) -> Result<bool, Error> {
    let sector = at - at % SECTOR;
    let lost = at < end && window.zero(sector..(sector + SECTOR).min(end))?;
    Ok(lost || window.zero_from(at)?)
}

/// Whether a record with sound fields but the wrong checksum is unfinished. `syndrome` is the
/// exclusive or of the computed and the recorded checksum.
pub(super) fn data(
    window: &mut Window,
    start: u64,
    end: u64,
    syndrome: u32,
) -> Result<bool, Error> {
    let mut lost = Vec::new();
    let mut at = start;
    while at < end {
        let next = (at - at % SECTOR + SECTOR).min(end);
        if window.zero(at..next)? {
            lost.push(at..next);
        }
        at = next;
    }
    if lost.is_empty() && !window.zero_from(end - 1)? {
        return Ok(false);
    }
    match flipped_bit(end - start, syndrome) {
        // The lost sector's only set bit: nothing tells the two apart, and a power failure is the
        // likelier.
        Some(byte) => Ok(lost.iter().any(|sector| sector.contains(&(start + byte)))),
        // A bit of the recorded checksum.
        None => Ok(!syndrome.is_power_of_two()),
    }
}

/// The byte of `len` bytes in which one flipped bit changes their CRC-32C by `syndrome`.
fn flipped_bit(len: u64, syndrome: u32) -> Option<u64> {
    const POLYNOMIAL: u32 = 0x82F6_3B78;
    let mut state = 1_u32;
    // Walks back from the last bit of the last byte; CRC-32C takes the low bit of a byte first.
    for steps in 0..len * 8 {
        state = (state >> 1) ^ (POLYNOMIAL & (state & 1).wrapping_neg());
        if state == syndrome {
            return Some(len - 1 - steps / 8);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::fs::{Fs as _, OpenMode, RealFs, SimFs};

    const SIZE: u64 = 3 << 20;

    fn window(fs: &dyn crate::fs::Fs, path: &Path, bytes: &[u64]) -> Window {
        let file = fs.open(path, OpenMode::CreateOrTruncate).unwrap();
        file.allocate(SIZE).unwrap();
        for at in bytes {
            file.write_all_at(b"x", *at).unwrap();
        }
        // As it is found after a start: on disk.
        file.sync_all().unwrap();
        Window::new(file, path.to_owned()).unwrap()
    }

    /// What was reserved and never written is skipped, and no byte that was.
    #[test]
    fn a_byte_that_was_written_is_found_wherever_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let sim = SimFs::default();
        let near = [0, 1, 511, 512, 4095, 4096, AHEAD - 1, AHEAD, AHEAD + 1];
        let places = near.into_iter().chain([1 << 20, SIZE - AHEAD, SIZE - 1]);
        for at in places {
            let mut windows = [
                window(&RealFs, &dir.path().join("file"), &[at]),
                window(&sim, Path::new("file"), &[at]),
            ];
            for window in &mut windows {
                for from in [
                    0,
                    1,
                    at.saturating_sub(5000),
                    at.saturating_sub(1),
                    at,
                    at + 1,
                ] {
                    let zero = window.zero_from(from).unwrap();
                    assert_eq!(zero, from > at, "byte {at}, looked at from {from}");
                    assert!(window.zero(from..at.max(from)).unwrap());
                }
            }
        }
        assert!(
            window(&RealFs, &dir.path().join("none"), &[])
                .zero_from(0)
                .unwrap()
        );
    }

    /// Reading a log's end costs no memory and little time where nothing was written.
    #[test]
    fn reserved_space_is_not_read() {
        let dir = tempfile::tempdir().unwrap();
        let file = RealFs
            .open(&dir.path().join("file"), OpenMode::CreateNew)
            .unwrap();
        file.allocate(SIZE).unwrap();
        file.write_all_at(b"x", 0).unwrap();
        let next = file.data_from(1 << 20).unwrap();
        // A file system that does not tell says where it was asked.
        assert!(next == SIZE || next == 1 << 20, "{next}");
        assert_eq!(file.data_from(0).unwrap(), 0);
        assert_eq!(file.data_from(SIZE).unwrap(), SIZE);
    }
}
