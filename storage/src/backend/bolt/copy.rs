//! A copy of a database as one commit left it, read while commits go on.

use std::io;
use std::sync::Arc;

use bytes::{Buf, Bytes};

use super::freelist::Stretch;
use super::page::{Page, PageId};
use super::{Shared, State};

/// Bytes read at once.
const CHUNK: usize = 256 << 10;

/// The bytes of a copy: two meta pages, then the pages in order. Pages that are not in use come as zeros, whatever they
/// hold; the others are checked on the way.
pub(super) struct Copy {
    shared: Arc<Shared>,
    state: Arc<State>,
    /// Stretches still to come that are not in use.
    unused: std::vec::IntoIter<Stretch>,
    gap: Option<Stretch>,
    next: PageId,
    buffer: Bytes,
}

impl Copy {
    /// `unused` are the pages that the state does not use.
    pub(super) fn new(shared: Arc<Shared>, state: Arc<State>, unused: Vec<Stretch>) -> Copy {
        let mut metas = Vec::with_capacity(2 * shared.pager.page_size());
        for (id, txid) in [(0, state.meta.txid), (1, state.meta.txid.saturating_sub(1))] {
            let mut meta = state.meta;
            // The copy has no free list: its reader finds the free pages by itself.
            meta.freelist = None;
            meta.txid = txid;
            metas.extend_from_slice(&meta.encode(id));
            metas.resize((id as usize + 1) * shared.pager.page_size(), 0);
        }
        let mut unused = unused.into_iter();
        Copy {
            gap: unused.next(),
            unused,
            shared,
            state,
            next: 2,
            buffer: metas.into(),
        }
    }

    /// Bytes of the whole.
    pub(super) fn len(&self) -> u64 {
        self.state.meta.high_water * self.shared.pager.page_size() as u64
    }

    fn refill(&mut self) -> Result<(), super::Error> {
        let pager = &self.shared.pager;
        let high_water = self.state.meta.high_water;
        let most = (CHUNK / pager.page_size()) as u64;
        let end = match self.gap {
            Some(gap) if gap.start <= self.next => {
                let end = gap.start + gap.pages;
                let pages = most.min(end - self.next);
                self.buffer = vec![0; pages as usize * pager.page_size()].into();
                self.next += pages;
                if self.next == end {
                    self.gap = self.unused.next();
                }
                return Ok(());
            }
            Some(gap) => gap.start,
            None => high_water,
        };
        if self.next == end {
            return Ok(());
        }
        let pages = most.min(end - self.next) as usize;
        let stretch = pager.read_stretch(self.next, pages)?;
        let mut at = self.next;
        while at < self.next + pages as u64 {
            let page = match pager.page_of_stretch(&stretch, self.next, at, high_water) {
                Some(page) => page?,
                // It goes on behind the chunk.
                None => self.whole(at)?,
            };
            at += (page.len_in_file() / pager.page_size()) as u64;
        }
        self.buffer = if at > self.next + pages as u64 {
            pager.read_stretch(self.next, (at - self.next) as usize)?
        } else {
            stretch
        };
        self.next = at;
        Ok(())
    }

    fn whole(&self, id: PageId) -> Result<Page, super::Error> {
        let pager = &self.shared.pager;
        let bytes = pager.read_raw(id, self.state.meta.high_water)?;
        Page::parse(bytes, id).map_err(|detail| pager.corrupt(id, detail))
    }
}

impl io::Read for Copy {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if self.buffer.is_empty() {
            self.refill().map_err(io::Error::other)?;
        }
        let len = out.len().min(self.buffer.len());
        out[..len].copy_from_slice(&self.buffer[..len]);
        self.buffer.advance(len);
        Ok(len)
    }
}
