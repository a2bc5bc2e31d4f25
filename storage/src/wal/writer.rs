//! The open log: appending, group commit, new segments.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use retcd_proto::{raftpb, walpb};

use super::pipeline::{Maker, Pipeline, fill, lock, reserve};
use super::place::{clear, settle};
use super::record::{ENTRY_OVERHEAD, Encoder, MAX_RECORD_BYTES};
use super::repair::repair;
use super::segment::{self, Segment};
use super::{Error, Observed, Options, Prepare, replay};
use crate::fs::{File, Fs, OpenMode, durable_rename};

/// The first segment of a log is cut here, or at the segment size if that is less: these zeros are
/// written before the member starts (measured: 6 ms; all 64 MB: 38 ms), and the next segment is
/// then ready with all of its own. etcd's readers do not care about the size of a segment.
const FIRST_SEGMENT: u64 = 8 << 20;

/// A write buffer that grew beyond this is given back after the flush.
const KEEP_BUFFER: usize = 4 << 20;

/// How long a failed reservation of the next segment is not tried again.
const RETRY: Duration = Duration::from_secs(1);

/// The log, open for appending. Dropping it releases its locks; what was not flushed is lost.
///
/// Invariant: on disk, the newest segment has nothing but zeros behind `offset`, unless a write
/// failed and the log is poisoned.
#[derive(Debug)]
pub struct Wal {
    fs: Arc<dyn Fs>,
    dir: PathBuf,
    options: Options,
    metadata: Bytes,
    /// Open and locked, oldest first; the last is written. Never empty.
    segments: Vec<Held>,
    encoder: Encoder,
    /// End of what is written to the current segment.
    offset: u64,
    /// Where the current segment ends.
    cut_at: u64,
    /// Newest entry or snapshot.
    last_index: u64,
    /// The newest hard state appended.
    hard_state: raftpb::HardState,
    /// Whether something appended since the last sync must be durable.
    must_sync: bool,
    pipeline: Pipeline,
    /// Quarter of the current segment that the pipeline was told about.
    reported: u64,
    retry_at: Duration,
    poisoned: Option<String>,
}

/// What an opened log held.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Replay {
    /// Given to [`Wal::create`].
    pub metadata: Bytes,
    /// The newest hard state; all zero if there is none.
    pub hard_state: raftpb::HardState,
    /// The entries behind the start, without gaps.
    pub entries: Vec<raftpb::Entry>,
    /// When an unfinished write was cut off: the copy of the segment before that.
    pub repaired: Option<PathBuf>,
}

#[derive(Debug)]
struct Held {
    segment: Segment,
    file: Box<dyn File>,
}

impl Wal {
    /// Creates a log and makes it durable as a whole: it is built as `<dir>.tmp` and renamed, so a
    /// crash leaves either all of it or nothing that looks like a member (etcd #10688).
    ///
    /// # Errors
    /// [`Error::Exists`] if `dir` holds a log or any other file.
    pub fn create(
        fs: Arc<dyn Fs>,
        dir: &Path,
        metadata: &[u8],
        options: Options,
    ) -> Result<Self, Error> {
        clear(&*fs, dir)?;
        let mut name = dir.as_os_str().to_owned();
        name.push(".tmp");
        let building = PathBuf::from(name);
        if fs
            .exists(&building)
            .map_err(Error::io("look for", &building))?
        {
            fs.remove_dir_all(&building)
                .map_err(Error::io("remove", &building))?;
        }
        fs.create_dir_all(&building)
            .map_err(Error::io("create", &building))?;

        let path = Segment::FIRST.path(&building);
        let cut_at = options.segment_size.min(FIRST_SEGMENT);
        let file = reserve(&*fs, &path, OpenMode::CreateNew, options.segment_size)?;
        let mut encoder = Encoder::default();
        encoder.crc();
        encoder.metadata(metadata);
        encoder.snapshot(&walpb::Snapshot::default());
        file.write_all_at(&encoder.buf, 0)
            .map_err(Error::io("write", &path))?;
        let offset = encoder.buf.len() as u64;
        encoder.buf.clear();
        fill(&*file, offset, cut_at).map_err(Error::io("fill", &path))?;
        if !options.no_fsync {
            file.sync_all().map_err(Error::io("sync", &path))?;
            fs.sync_dir(&building)
                .map_err(Error::io("sync", &building))?;
        }
        durable_rename(&*fs, &building, dir).map_err(Error::io("rename into place", dir))?;

        let held = Held {
            segment: Segment::FIRST,
            file,
        };
        Self::new(
            fs,
            dir,
            options,
            Bytes::copy_from_slice(metadata),
            vec![held],
            |wal| {
                wal.encoder = encoder;
                wal.offset = offset;
                wal.cut_at = cut_at;
            },
        )
    }

    /// Opens a log behind a snapshot (index and term 0 for none) and reads it.
    ///
    /// An unfinished write at the end of the last segment is cut off, after a copy was made; any
    /// other damage is an error and nothing is changed.
    ///
    /// # Errors
    /// Whatever the log misses; see [`Error`].
    pub fn open(
        fs: Arc<dyn Fs>,
        dir: &Path,
        start: &walpb::Snapshot,
        options: Options,
    ) -> Result<(Self, Replay), Error> {
        let segments = segment::from_index(segment::list(&*fs, dir)?, dir, start.index())?;
        let mut held = Vec::with_capacity(segments.len());
        for segment in &segments {
            let path = segment.path(dir);
            let file = fs
                .open(&path, OpenMode::Write)
                .map_err(Error::io("open", &path))?;
            lock(&*file, &path)?;
            held.push(Held {
                segment: *segment,
                file,
            });
        }
        let (state, end) = replay::read(&*fs, dir, &segments, Some(start), true)?;
        let last_index = state
            .entries
            .last()
            .map_or(start.index(), raftpb::Entry::index)
            .max(
                state
                    .snapshots
                    .iter()
                    .map(walpb::Snapshot::index)
                    .max()
                    .unwrap_or(0),
            );
        let tail = held.last().expect("from_index returns at least one");
        let path = tail.segment.path(dir);
        let mut repaired = None;
        if end.torn {
            if state.hard_state.commit() > last_index {
                return Err(Error::corrupt(
                    &path,
                    end.offset,
                    format!(
                        "the log ends at index {last_index} before the committed index {}",
                        state.hard_state.commit()
                    ),
                ));
            }
            repaired = Some(repair(&*fs, dir, &path, &*tail.file, end.offset)?);
            // Appending into reserved space is quicker; without space it works all the same.
            let _ = tail.file.allocate(options.segment_size);
        }
        if !options.no_fsync {
            settle(&*fs, dir, &path, &*tail.file)?;
        }
        let metadata = state.metadata.unwrap_or_default();
        let replay = Replay {
            metadata: metadata.clone(),
            hard_state: state.hard_state,
            entries: state.entries,
            repaired,
        };
        let hard_state = replay.hard_state;
        let cut_at = match tail.segment {
            Segment::FIRST => options.segment_size.min(FIRST_SEGMENT),
            _ => options.segment_size,
        };
        let wal = Self::new(fs, dir, options, metadata, held, |wal| {
            wal.encoder.crc = end.crc;
            wal.offset = end.offset;
            wal.cut_at = cut_at;
            wal.last_index = last_index;
            wal.hard_state = hard_state;
        })?;
        Ok((wal, replay))
    }

    fn new(
        fs: Arc<dyn Fs>,
        dir: &Path,
        options: Options,
        metadata: Bytes,
        segments: Vec<Held>,
        set: impl FnOnce(&mut Self),
    ) -> Result<Self, Error> {
        let maker = Maker {
            fs: Arc::clone(&fs),
            dir: dir.to_owned(),
            size: options.segment_size,
            no_fsync: options.no_fsync,
        };
        let pipeline = match options.prepare {
            Prepare::Inline => Pipeline::inline(maker),
            Prepare::Background => Pipeline::background(maker)?,
        };
        let mut wal = Self {
            fs,
            dir: dir.to_owned(),
            cut_at: options.segment_size,
            options,
            metadata,
            segments,
            encoder: Encoder::default(),
            offset: 0,
            last_index: 0,
            hard_state: raftpb::HardState::default(),
            must_sync: false,
            pipeline,
            reported: 0,
            retry_at: Duration::ZERO,
            poisoned: None,
        };
        set(&mut wal);
        Ok(wal)
    }

    /// Index of the newest entry or snapshot in the log, flushed or not.
    pub fn last_index(&self) -> u64 {
        self.last_index
    }

    /// Adds entries, then a hard state, to what the next [`Wal::flush`] writes. An empty hard state
    /// is not written.
    ///
    /// # Errors
    /// [`Error::TooLarge`] and [`Error::Gap`] refuse all of it and leave the log usable.
    pub fn append(
        &mut self,
        hard_state: Option<&raftpb::HardState>,
        entries: &[raftpb::Entry],
    ) -> Result<(), Error> {
        self.check()?;
        let mut last = self.last_index;
        for entry in entries {
            let len = entry.data.as_ref().map_or(0, Bytes::len) as u64;
            if len > MAX_RECORD_BYTES - ENTRY_OVERHEAD {
                return Err(Error::TooLarge {
                    index: entry.index(),
                    len,
                    max: MAX_RECORD_BYTES - ENTRY_OVERHEAD,
                });
            }
            if entry.index() == 0 || entry.index() - 1 > last {
                return Err(Error::Gap {
                    index: entry.index(),
                    last,
                });
            }
            last = entry.index();
        }
        for entry in entries {
            self.encoder.entry(entry);
        }
        self.last_index = last;
        self.must_sync |= !entries.is_empty();
        if let Some(new) = hard_state.filter(|state| !is_empty(state)) {
            let old = &self.hard_state;
            self.must_sync |= new.term() != old.term() || new.vote() != old.vote();
            self.encoder.state(new);
            self.hard_state = *new;
        }
        Ok(())
    }

    /// Adds the record of a snapshot, whose file is already durable, to what the next
    /// [`Wal::flush`] writes.
    pub fn append_snapshot(&mut self, snapshot: &walpb::Snapshot) -> Result<(), Error> {
        self.check()?;
        self.encoder.snapshot(snapshot);
        self.last_index = self.last_index.max(snapshot.index());
        self.must_sync = true;
        Ok(())
    }

    /// Writes all that was appended, in one write, and makes it durable with one sync, unless only
    /// commit indexes are new. Begins a new segment when the current one is full.
    ///
    /// # Errors
    /// A failed write or sync is final, since it is unknown what reached the disk: this and every
    /// later call fails, and the member must stop.
    pub fn flush(&mut self) -> Result<(), Error> {
        self.check()?;
        let result = self.write().and_then(|()| self.cut_if_due());
        self.keep(result)
    }

    /// Releases the locks of segments that hold only entries below `index`, except the newest of
    /// them. [`super::purge`] may then remove them.
    pub fn release_to(&mut self, index: u64) -> Result<(), Error> {
        self.check()?;
        let keep_from = match self
            .segments
            .iter()
            .position(|held| held.segment.index >= index)
        {
            Some(at) => at.saturating_sub(1),
            None => self.segments.len() - 1,
        };
        self.segments.drain(..keep_from);
        Ok(())
    }

    /// Fails if the log is poisoned.
    fn check(&self) -> Result<(), Error> {
        match &self.poisoned {
            None => Ok(()),
            Some(first) => Err(Error::Poisoned {
                first: first.clone(),
            }),
        }
    }

    /// Poisons the log with an error.
    fn keep(&mut self, result: Result<(), Error>) -> Result<(), Error> {
        if let Err(error) = &result {
            self.poisoned = Some(error.to_string());
        }
        result
    }

    fn write(&mut self) -> Result<(), Error> {
        if self.encoder.buf.is_empty() {
            return Ok(());
        }
        let held = self.segments.last().expect("never empty");
        let path = || held.segment.path(&self.dir);
        let clock = &self.options.clock;
        let begin = clock.now();
        held.file
            .write_all_at(&self.encoder.buf, self.offset)
            .map_err(|error| Error::io("write", &path())(error))?;
        let written = clock.now();
        let len = self.encoder.buf.len();
        self.offset += len as u64;
        self.encoder.buf.clear();
        self.encoder.buf.shrink_to(KEEP_BUFFER);
        self.observe(|| Observed::Write(written.saturating_sub(begin), len));
        if self.must_sync && !self.options.no_fsync {
            held.file
                .sync_data()
                .map_err(|error| Error::io("sync", &path())(error))?;
            let took = clock.now().saturating_sub(written);
            self.observe(|| Observed::Fsync(took));
        }
        self.must_sync = false;
        Ok(())
    }

    fn observe(&self, what: impl FnOnce() -> Observed) {
        if let Some(observe) = &self.options.observe {
            observe(what());
        }
    }

    fn cut_if_due(&mut self) -> Result<(), Error> {
        let quarter = self.offset.saturating_mul(4) / self.cut_at.max(1);
        if quarter > self.reported {
            self.reported = quarter;
            // Twice as fast as this one fills. Other trouble than space may be over at the cut.
            if let Some(error @ Error::NoSpace { .. }) =
                self.pipeline.progress((quarter * 50).min(100))
            {
                self.no_space(error)?;
            }
        }
        if self.offset < self.cut_at || self.options.clock.now() < self.retry_at {
            return Ok(());
        }
        match self.cut() {
            Err(Blocked::ForNow(error)) => {
                self.retry_at = self.options.clock.now() + RETRY;
                self.no_space(error)
            }
            Err(Blocked::Failed(error)) => Err(error),
            Ok(()) => Ok(()),
        }
    }

    /// A full disk is no failure yet: nothing was changed, and the current segment can grow.
    fn no_space(&self, error: Error) -> Result<(), Error> {
        if !matches!(error, Error::NoSpace { .. }) {
            return Err(error);
        }
        self.observe(|| Observed::NoSpace(error.to_string()));
        Ok(())
    }

    /// Ends the current segment at its last record and begins the next.
    ///
    /// The old segment is synced before the new one gets its name, and the name is durable (etcd
    /// #6368) before anything is acknowledged from the new one.
    fn cut(&mut self) -> Result<(), Blocked> {
        let next = self.pipeline.take().map_err(Blocked::ForNow)?;
        let old = self.segments.last().expect("never empty");
        let old_path = old.segment.path(&self.dir);
        old.file
            .set_len(self.offset)
            .map_err(Error::io("cut", &old_path))?;
        self.sync(&*old.file, &old_path)?;

        let segment = Segment {
            sequence: old.segment.sequence + 1,
            index: self.last_index + 1,
        };
        self.encoder.crc();
        self.encoder.metadata(&self.metadata);
        if !is_empty(&self.hard_state) {
            self.encoder.state(&self.hard_state);
        }
        next.file
            .write_all_at(&self.encoder.buf, 0)
            .map_err(Error::io("write", &next.path))?;
        self.sync(&*next.file, &next.path)?;
        let path = segment.path(&self.dir);
        durable_rename(&*self.fs, &next.path, &path)
            .map_err(Error::io("rename into place", &path))?;

        self.offset = self.encoder.buf.len() as u64;
        self.encoder.buf.clear();
        self.cut_at = self.options.segment_size;
        self.reported = 0;
        self.segments.push(Held {
            segment,
            file: next.file,
        });
        self.observe(|| Observed::Cut);
        Ok(())
    }

    fn sync(&self, file: &dyn File, path: &Path) -> Result<(), Error> {
        if self.options.no_fsync {
            return Ok(());
        }
        file.sync_data().map_err(Error::io("sync", path))
    }
}

/// Why no new segment was begun.
enum Blocked {
    /// Nothing was changed.
    ForNow(Error),
    Failed(Error),
}

impl From<Error> for Blocked {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

fn is_empty(state: &raftpb::HardState) -> bool {
    state.term() == 0 && state.vote() == 0 && state.commit() == 0
}
