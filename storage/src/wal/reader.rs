//! The one reader of the log: used to open it, to verify it and to find its snapshots, so that all
//! of them follow the checksum chain from file to file (etcd #11918).

use std::path::{Path, PathBuf};

use super::Error;
use super::record::{ALIGN, Header, Kind, MAX_RECORD_BYTES, length_word, padding, parse_header};
use super::segment::Segment;
use super::torn::{self, Window};
use crate::fs::{Fs, OpenMode};

/// Reads the records of consecutive segments.
#[derive(Debug)]
pub(super) struct Reader<'a> {
    fs: &'a dyn Fs,
    dir: &'a Path,
    segments: &'a [Segment],
    /// Number of the segment that `file` is.
    at: usize,
    file: Option<Open>,
    /// Checksum of the chain so far.
    crc: u32,
    /// Whether to look for bytes behind the end of the log.
    check_tail: bool,
}

#[derive(Debug)]
struct Open {
    path: PathBuf,
    window: Window,
    /// Where the record read last begins.
    record: u64,
    /// Where the next frame begins.
    offset: u64,
    /// Records read of this file.
    records: u64,
}

/// What [`Reader::next`] found.
#[derive(Debug)]
pub(super) enum Step<'a> {
    Record { kind: Kind, data: &'a [u8] },
    End(End),
}

/// The end of the log, in its last segment.
#[derive(Debug, Clone, Copy)]
pub(super) struct End {
    /// Where the next record belongs.
    pub(super) offset: u64,
    /// Checksum of the chain.
    pub(super) crc: u32,
    /// Whether an unfinished write is behind the offset.
    pub(super) torn: bool,
}

/// A frame with its place in the file.
#[derive(Debug, Clone, Copy)]
enum Frame {
    Whole { header: Header, end: u64 },
    End,
    Torn,
}

impl<'a> Reader<'a> {
    /// A reader of `segments`, which are not empty. `check_tail` costs reading the last segment to
    /// its end.
    pub(super) fn new(
        fs: &'a dyn Fs,
        dir: &'a Path,
        segments: &'a [Segment],
        check_tail: bool,
    ) -> Self {
        Self {
            fs,
            dir,
            segments,
            at: 0,
            file: None,
            crc: 0,
            check_tail,
        }
    }

    /// An error about the record read last.
    pub(super) fn corrupt(&self, what: &str) -> Error {
        match &self.file {
            Some(file) => Error::corrupt(&file.path, file.record, what),
            None => Error::corrupt(self.dir, 0, what),
        }
    }

    /// The next record, metadata and checksum records of every file included.
    pub(super) fn next(&mut self) -> Result<Step<'_>, Error> {
        loop {
            let last = self.at + 1 == self.segments.len();
            let file = match &mut self.file {
                Some(file) => file,
                none => none.insert(Open::new(self.fs, self.segments[self.at].path(self.dir))?),
            };
            match file.frame(last, self.crc, self.check_tail)? {
                Frame::Whole { header, end } => {
                    let first_file = self.at == 0;
                    let Some(kind) = Kind::of(header.kind) else {
                        return Err(file.corrupt(format!("unexpected block type {}", header.kind)));
                    };
                    file.check_place(kind, &header)?;
                    if kind == Kind::Crc && !first_file {
                        file.check_chain(self.crc, header.crc)?;
                    }
                    self.crc = header.crc;
                    let start = file.offset + 8;
                    file.record = file.offset;
                    file.offset = end;
                    file.records += 1;
                    // Borrowed anew: the early returns above keep `file` borrowed otherwise.
                    let window = &mut self.file.as_mut().expect("opened above").window;
                    let data = match header.data {
                        None => &[],
                        Some(at) => window.get(start + at as u64, header.len - at as u64)?,
                    };
                    return Ok(Step::Record { kind, data });
                }
                Frame::End | Frame::Torn if file.records < 2 => {
                    return Err(file.corrupt("the segment has no complete head"));
                }
                Frame::End if !last => {
                    self.at += 1;
                    self.file = None;
                }
                frame => {
                    return Ok(Step::End(End {
                        offset: file.offset,
                        crc: self.crc,
                        torn: matches!(frame, Frame::Torn),
                    }));
                }
            }
        }
    }
}

impl Open {
    fn new(fs: &dyn Fs, path: PathBuf) -> Result<Self, Error> {
        let file = fs
            .open(&path, OpenMode::Read)
            .map_err(Error::io("open", &path))?;
        Ok(Self {
            window: Window::new(file, path.clone())?,
            path,
            record: 0,
            offset: 0,
            records: 0,
        })
    }

    fn corrupt(&self, what: impl Into<String>) -> Error {
        Error::corrupt(&self.path, self.offset, what)
    }

    /// The frame at the offset, its checksum verified.
    ///
    /// Only in the last segment can a frame be torn: an earlier one was complete before the next
    /// was begun, so damage there is damage (etcd #2597).
    fn frame(&mut self, last: bool, crc: u32, check_tail: bool) -> Result<Frame, Error> {
        let torn_or = |torn: bool, what: String, file: &Self| match torn && last {
            true => Ok(Frame::Torn),
            false => Err(file.corrupt(what)),
        };
        let start = self.offset;
        let left = self.window.size() - start;
        if left == 0 {
            return Ok(Frame::End);
        }
        let window = &mut self.window;
        if left < ALIGN {
            return match window.zero_from(start)? {
                true => Ok(Frame::End),
                false => torn_or(true, "the length of a record is cut".into(), self),
            };
        }
        let word = u64::from_le_bytes(
            *window
                .get(start, ALIGN)?
                .first_chunk()
                .expect("8 bytes are left"),
        );
        if word == 0 {
            return match torn::zero_word(window, start, check_tail && last)? {
                torn::Zeros::End => Ok(Frame::End),
                torn::Zeros::Torn => torn_or(true, "records follow the end".into(), self),
                torn::Zeros::Damage => Err(self.corrupt("the length of a record was lost")),
            };
        }
        let len = word & (u64::MAX >> 8);
        let body = start + ALIGN;
        if len == 0 || len > MAX_RECORD_BYTES || word != length_word(len) {
            // Only a write torn within these eight bytes leaves them so; nothing is behind it then.
            let torn = window.zero_from(body)?;
            return torn_or(
                torn,
                format!("the record's length {word:#018x} is impossible"),
                self,
            );
        }
        let end = body + len + padding(len);
        let size = window.size();
        let have = len.min(size - body);
        let head = window.get(body, have.min(32))?;
        let header = match parse_header(head, len) {
            Ok(header) if header.len == len => header,
            Ok(Header {
                len: other, data, ..
            }) => {
                // The last byte of the data's length may be lost.
                let at = body + data.unwrap_or(1) as u64 - 1;
                let torn = torn::header(window, at, end)?;
                let what = format!("a record of {len} bytes says that it has {other}");
                return torn_or(torn, what, self);
            }
            Err(bad) => {
                let at = body + bad.at as u64;
                let cut = have < len && at == size;
                let torn = cut || torn::header(window, at, end)?;
                return torn_or(torn, "no record begins where one should".into(), self);
            }
        };
        if end > size {
            return torn_or(
                true,
                format!(
                    "max entry size limit exceeded: record of {len} bytes ends beyond the file"
                ),
                self,
            );
        }
        let data_start = body + header.data.unwrap_or(0) as u64;
        if header.kind != Kind::Crc as u8 {
            let data = match header.data {
                None => &[],
                Some(at) => window.get(data_start, len - at as u64)?,
            };
            let found = crc32c::crc32c_append(crc, data);
            if found != header.crc {
                let torn = last && torn::data(window, data_start, body + len, found ^ header.crc)?;
                return torn_or(torn, "walpb: crc mismatch".into(), self);
            }
        }
        Ok(Frame::Whole { header, end })
    }

    /// A file begins with a checksum record, then the metadata; no other record is of these types.
    fn check_place(&self, kind: Kind, header: &Header) -> Result<(), Error> {
        let wrong = match self.records {
            0 => kind != Kind::Crc,
            1 => kind != Kind::Metadata,
            _ => matches!(kind, Kind::Crc | Kind::Metadata),
        };
        if wrong || (kind == Kind::Crc && header.data.is_some()) {
            return Err(self.corrupt(format!(
                "a {kind:?} record is out of place as record {}",
                self.records
            )));
        }
        Ok(())
    }

    fn check_chain(&self, running: u32, recorded: u32) -> Result<(), Error> {
        if running == recorded {
            return Ok(());
        }
        Err(self.corrupt(format!(
            "walpb: crc mismatch: the segment continues {recorded:08x}, the one before it ends with {running:08x}"
        )))
    }
}
