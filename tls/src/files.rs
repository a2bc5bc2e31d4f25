//! Files that are read again when they have changed.

use std::fs::{self, File, Metadata};
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use parking_lot::Mutex;
use slog::{Logger, info, warn};

use crate::setup::SetupError;

/// No file of certificates is longer; a larger one is a mistake that must not cost memory.
pub(crate) const MAX_BYTES: u64 = 64 << 20;

/// A file changed this recently may change again without its times telling.
const SETTLED: Duration = Duration::from_secs(2);

/// What the system says of a file. Equal stamps of a settled file mean equal contents.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    length: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Stamp {
    fn of(metadata: &Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            length: metadata.len(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }

    /// Whether the file has been left alone long enough for its times to tell.
    fn is_settled(&self, now: SystemTime) -> bool {
        let seconds = u64::try_from(self.changed.0.max(self.modified.0)).unwrap_or(0);
        let changed = UNIX_EPOCH + Duration::from_secs(seconds + 1);
        now.duration_since(changed).is_ok_and(|age| age > SETTLED)
    }
}

/// A file as last read.
#[derive(Debug)]
struct Read {
    /// `None` when the next look has to read it whatever its times say.
    stamp: Option<Stamp>,
    content: Vec<u8>,
}

fn read(path: &Path) -> io::Result<Read> {
    let file = File::open(path)?;
    let metadata = file.metadata()?;
    if metadata.is_dir() {
        return Err(io::ErrorKind::IsADirectory.into());
    }
    let mut content = Vec::new();
    let length = file.take(MAX_BYTES + 1).read_to_end(&mut content)?;
    if length as u64 > MAX_BYTES {
        return Err(io::Error::new(
            io::ErrorKind::FileTooLarge,
            "file too large",
        ));
    }
    // The stamp is that from before the reading: what came in meanwhile differs from it.
    let stamp = Stamp::of(&metadata);
    let stamp = stamp.is_settled(SystemTime::now()).then_some(stamp);
    Ok(Read { stamp, content })
}

/// The whole content of a file that may hold certificates.
pub(crate) fn content(path: &Path) -> io::Result<Vec<u8>> {
    read(path).map(|read| read.content)
}

/// How contents become something of use, and why they do not. Handed the contents in the order of the files.
pub(crate) type Parse<T> = Box<dyn Fn(&[&[u8]]) -> Result<T, SetupError> + Send + Sync>;

/// Something made from files, and made again when they change.
///
/// What has been made once stays until the files have something better.
pub(crate) struct Watched<T> {
    what: &'static str,
    paths: Vec<PathBuf>,
    parse: Parse<T>,
    logger: Logger,
    /// Held for the look at the files, a few microseconds; never across an await.
    state: Mutex<State<T>>,
}

struct State<T> {
    files: Vec<Option<Read>>,
    value: Arc<T>,
    /// The last complaint, so that it is not made again for each connection.
    complaint: Option<String>,
}

impl<T> Watched<T> {
    /// Makes the first one.
    ///
    /// # Errors
    /// The files cannot be read or are of no use.
    pub(crate) fn new(
        what: &'static str,
        paths: Vec<PathBuf>,
        logger: Logger,
        parse: Parse<T>,
    ) -> Result<Self, SetupError> {
        let files = read_all(&paths)?;
        let value = Arc::new(parse(&contents(&files))?);
        let state = State {
            files: files.into_iter().map(Some).collect(),
            value,
            complaint: None,
        };
        Ok(Self {
            what,
            paths,
            parse,
            logger,
            state: Mutex::new(state),
        })
    }

    /// The newest there is.
    pub(crate) fn current(&self) -> Arc<T> {
        let mut state = self.state.lock();
        if self.is_unchanged(&state) {
            return Arc::clone(&state.value);
        }
        match read_all(&self.paths) {
            Ok(files) => self.take(&mut state, files),
            Err(error) => {
                state.files.iter_mut().for_each(|file| *file = None);
                self.complain(&mut state, &error);
            }
        }
        Arc::clone(&state.value)
    }

    fn is_unchanged(&self, state: &State<T>) -> bool {
        let mut files = self.paths.iter().zip(&state.files);
        files.all(|(path, read)| {
            let known = read.as_ref().and_then(|read| read.stamp);
            known.is_some_and(|known| {
                fs::metadata(path).is_ok_and(|metadata| Stamp::of(&metadata) == known)
            })
        })
    }

    fn take(&self, state: &mut State<T>, files: Vec<Read>) {
        let same = state
            .files
            .iter()
            .zip(&files)
            .all(|(old, new)| old.as_ref().is_some_and(|old| old.content == new.content));
        let made = (!same).then(|| (self.parse)(&contents(&files)));
        state.files = files.into_iter().map(Some).collect();
        match made {
            None => {}
            Some(Ok(value)) => {
                state.value = Arc::new(value);
                state.complaint = None;
                info!(self.logger, "read again after a change"; "what" => self.what, "files" => self.names());
            }
            Some(Err(error)) => self.complain(state, &error),
        }
    }

    fn complain(&self, state: &mut State<T>, error: &SetupError) {
        let complaint = error.to_string();
        if state.complaint.as_ref() != Some(&complaint) {
            warn!(self.logger, "cannot use what has changed; going on with what there was before";
                "what" => self.what, "files" => self.names(), "error" => &complaint);
            state.complaint = Some(complaint);
        }
    }

    fn names(&self) -> String {
        let names = self.paths.iter().map(|path| path.display().to_string());
        names.collect::<Vec<_>>().join(",")
    }
}

fn read_all(paths: &[PathBuf]) -> Result<Vec<Read>, SetupError> {
    let read = |path: &PathBuf| {
        read(path).map_err(|source| SetupError::File {
            path: path.clone(),
            source,
        })
    };
    paths.iter().map(read).collect()
}

fn contents(files: &[Read]) -> Vec<&[u8]> {
    files.iter().map(|file| file.content.as_slice()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn watched(paths: &[&Path]) -> Watched<Vec<String>> {
        let parse = |contents: &[&[u8]]| {
            let text = |content: &&[u8]| String::from_utf8_lossy(content).into_owned();
            let texts: Vec<_> = contents.iter().map(text).collect();
            match texts.iter().any(|text| text == "bad") {
                false => Ok(texts),
                true => Err(SetupError::NoVersion),
            }
        };
        let paths = paths.iter().map(|path| path.to_path_buf()).collect();
        let logger = Logger::root(slog::Discard, slog::o!());
        Watched::new("test", paths, logger, Box::new(parse)).expect("the files are there")
    }

    #[test]
    fn each_change_is_seen_at_once_and_bad_ones_are_not_taken() {
        let dir = tempfile::tempdir().expect("a directory");
        let (a, b) = (dir.path().join("a"), dir.path().join("b"));
        fs::write(&a, "1").expect("written");
        fs::write(&b, "1").expect("written");
        let watched = watched(&[&a, &b]);
        for round in 0..100 {
            // Same length, within one tick of the file system's clock.
            let text = (round % 10).to_string();
            fs::write(&a, &text).expect("written");
            assert_eq!(watched.current()[0], text, "round {round}");
        }
        fs::write(&b, "bad").expect("written");
        assert_eq!(watched.current()[..], ["9", "1"]);
        fs::remove_file(&a).expect("removed");
        assert_eq!(watched.current()[..], ["9", "1"]);
        fs::write(&a, "2").expect("written");
        assert_eq!(watched.current()[..], ["9", "1"]);
        fs::write(&b, "2").expect("written");
        assert_eq!(watched.current()[..], ["2", "2"]);
    }

    #[test]
    fn a_settled_file_is_not_read_again_until_it_is_replaced() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("a");
        fs::write(&path, "old").expect("written");
        let stamp = Stamp::of(&fs::metadata(&path).expect("there"));
        assert!(!stamp.is_settled(SystemTime::now()));
        assert!(stamp.is_settled(SystemTime::now() + Duration::from_secs(10)));
        let other = dir.path().join("b");
        fs::write(&other, "new").expect("written");
        fs::rename(&other, &path).expect("renamed");
        assert_ne!(stamp, Stamp::of(&fs::metadata(&path).expect("there")));
    }
}
