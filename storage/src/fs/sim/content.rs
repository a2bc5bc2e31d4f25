//! Bytes of a simulated file: pages shared between versions until one of them writes.

use std::sync::Arc;

const PAGE: usize = 4096;
/// What a disk writes as a whole.
pub(super) const SECTOR: u64 = 512;

type Page = Arc<[u8; PAGE]>;

/// A cheap-to-clone file content. A missing page reads as zeros.
#[derive(Debug, Clone, Default)]
pub(super) struct Content {
    len: u64,
    pages: Arc<Vec<Option<Page>>>,
}

impl Content {
    pub(super) fn len(&self) -> u64 {
        self.len
    }

    /// The part of `start..start + len` that lies in one page: page number, offset in it, length.
    fn span(start: u64, len: usize) -> (usize, usize, usize) {
        let at = (start % PAGE as u64) as usize;
        ((start / PAGE as u64) as usize, at, len.min(PAGE - at))
    }

    pub(super) fn read_at(&self, buf: &mut [u8], offset: u64) -> usize {
        let left = usize::try_from(self.len.saturating_sub(offset)).unwrap_or(usize::MAX);
        let total = buf.len().min(left);
        let mut done = 0;
        while done < total {
            let (page, at, len) = Self::span(offset + done as u64, total - done);
            let target = &mut buf[done..done + len];
            match self.pages.get(page).and_then(Option::as_ref) {
                Some(bytes) => target.copy_from_slice(&bytes[at..at + len]),
                None => target.fill(0),
            }
            done += len;
        }
        total
    }

    pub(super) fn write(&mut self, bytes: &[u8], offset: u64) {
        self.len = self.len.max(offset + bytes.len() as u64);
        let mut done = 0;
        while done < bytes.len() {
            let (page, at, len) = Self::span(offset + done as u64, bytes.len() - done);
            let source = &bytes[done..done + len];
            if self.pages.get(page).is_some_and(Option::is_some) || source.iter().any(|b| *b != 0) {
                self.page_mut(page)[at..at + len].copy_from_slice(source);
            }
            done += len;
        }
    }

    pub(super) fn set_len(&mut self, len: u64) {
        if len < self.len {
            let (page, at, _) = Self::span(len, 0);
            let pages = Arc::make_mut(&mut self.pages);
            pages.truncate(page + usize::from(at > 0));
            if at > 0
                && let Some(Some(last)) = pages.get_mut(page)
            {
                Arc::make_mut(last)[at..].fill(0);
            }
        }
        self.len = len;
    }

    /// Takes `start..end` over from another version of the same file, and its length when the
    /// range ends beyond ours.
    pub(super) fn copy_from(&mut self, other: &Content, start: u64, end: u64) {
        let end = end.min(other.len);
        if start >= end {
            return;
        }
        let mut buf = [0; PAGE];
        let mut at = start;
        while at < end {
            let (_, _, len) = Self::span(at, usize::try_from(end - at).unwrap_or(PAGE));
            let read = other.read_at(&mut buf[..len], at);
            self.write(&buf[..read], at);
            at += len as u64;
        }
    }

    fn page_mut(&mut self, page: usize) -> &mut [u8; PAGE] {
        let pages = Arc::make_mut(&mut self.pages);
        if pages.len() <= page {
            pages.resize(page + 1, None);
        }
        Arc::make_mut(pages[page].get_or_insert_with(|| Arc::new([0; PAGE])))
    }
}
