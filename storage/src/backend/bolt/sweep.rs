//! When space is given back, and in which steps; [`tidy`](super::tidy) does one of them in one tree.

use bytes::Bytes;

use super::BoltBackend;
use super::meta::Meta;
use super::page::{BUCKET, PageId};
use super::state::{State, head_in};
use super::tidy::Step;
use super::tree::{Head, Tree};
use super::tx::Tx;
use super::writer::Writer;
use crate::backend::Error;

/// Below so many bytes a database is not worth tidying.
const MIN_TIDY: u64 = 1 << 20;

/// Commits after a sweep until the last pages that it let go can be cut off: one makes them free, one more takes the
/// end of the file out of the other meta page too.
const SETTLING: u8 = 3;

/// Where tidying stands.
#[derive(Default)]
pub(super) enum Sweep {
    #[default]
    Idle,
    /// Going through the trees.
    Moving {
        /// Trees still to go through, the next one last.
        buckets: Vec<Bytes>,
        /// The key to go on at in it.
        from: Bytes,
        target: PageId,
    },
    /// Nothing but commits are needed, so many, and as many more as there are pieces to cut off the file.
    Settling(u8),
    /// Done when so many pages were unused and so many bytes used: without a change of these, another one is no use.
    Done { unused: u64, used: u64 },
}

impl BoltBackend {
    /// One step of tidying; false when there is nothing to do. `eager` also does what is not worth while by itself.
    pub(super) fn step(&self, eager: bool) -> Result<bool, Error> {
        let writer = &mut self.writer.lock();
        if matches!(writer.sweep, Sweep::Idle | Sweep::Done { .. }) {
            let state = self.shared.current.load();
            if !eager && !writer.is_untidy(&state.meta) {
                return Ok(false);
            }
            writer.sweep = self.begin_sweep(writer, &state)?;
        }
        match std::mem::take(&mut writer.sweep) {
            Sweep::Moving {
                mut buckets,
                mut from,
                target,
            } => {
                self.transact(writer, |tx, base| {
                    move_some(tx, base, &mut buckets, &mut from, target)
                })?;
                writer.sweep = if buckets.is_empty() {
                    Sweep::Settling(SETTLING)
                } else {
                    Sweep::Moving {
                        buckets,
                        from,
                        target,
                    }
                };
                Ok(true)
            }
            Sweep::Settling(left) if left > 0 => {
                self.transact(writer, |_, _| Ok(Vec::new()))?;
                let high_water = self.shared.current.load().meta.high_water;
                let needed = writer.needed(&self.shared.pager, high_water);
                let left = if writer.has_excess(needed) {
                    left
                } else {
                    left - 1
                };
                writer.sweep = Sweep::Settling(left);
                Ok(true)
            }
            _ => {
                writer.sweep = Sweep::Done {
                    unused: writer.freelist.unused_pages(),
                    used: writer.used,
                };
                Ok(false)
            }
        }
    }

    fn begin_sweep(&self, writer: &Writer, state: &State) -> Result<Sweep, Error> {
        let pager = &self.shared.pager;
        let in_use = state.meta.high_water - writer.freelist.unused_pages();
        // What the trees need when packed, but for the pages that a step needs twice.
        let packed = (writer.used / pager.capacity() as u64).min(in_use);
        let tree = Tree {
            pager,
            root: &state.root,
            high_water: state.meta.high_water,
        };
        let mut buckets = Vec::new();
        let mut leaves = tree.leaves(b"")?;
        while let Some(page) = leaves.next()? {
            let names = (0..page.len()).filter(|n| page.flags(*n) & BUCKET != 0);
            buckets.extend(names.map(|n| Bytes::copy_from_slice(page.key(n))));
        }
        buckets.reverse();
        Ok(Sweep::Moving {
            buckets,
            from: Bytes::new(),
            target: packed + packed / 16 + 16,
        })
    }
}

impl Writer {
    /// Whether a quarter of the file is not in use, or pages are less than three quarters full, and a sweep
    /// has not just been through.
    fn is_untidy(&self, meta: &Meta) -> bool {
        let page_size = u64::from(meta.page_size);
        let unused = self.freelist.unused_pages();
        let in_use = meta.high_water - unused;
        let holes = unused > in_use / 4 && unused * page_size > MIN_TIDY;
        let loose = self.used < in_use * page_size / 4 * 3 && in_use * page_size > MIN_TIDY;
        let changed = match self.sweep {
            Sweep::Done {
                unused: before,
                used,
            } => unused > before + in_use / 8 || self.used.abs_diff(used) > used / 8,
            _ => true,
        };
        (holes || loose) && changed
    }
}

/// Takes a step through as many trees as there is budget for.
fn move_some(
    tx: &mut Tx<'_>,
    base: &State,
    buckets: &mut Vec<Bytes>,
    from: &mut Bytes,
    target: PageId,
) -> Result<Vec<(Bytes, Head)>, Error> {
    let mut step = Step::new(target);
    let mut heads = Vec::new();
    while step.has_budget()
        && let Some(name) = buckets.last()
    {
        if let Some(head) = head_in(tx.pager, &base.root, base.meta.high_water, name)?
            && let Some(head) = tx.tidy(&head, from, &mut step)?
        {
            heads.push((name.clone(), head));
        }
        match step.next.take() {
            Some(next) => {
                *from = Bytes::copy_from_slice(&next);
                break;
            }
            None => {
                // The tree of buckets moves when one of them has another head.
                if buckets.len() == 1 && heads.is_empty() && base.meta.root >= target {
                    let head = head_in(tx.pager, &base.root, base.meta.high_water, name)?;
                    heads.extend(head.map(|head| (name.clone(), head)));
                }
                buckets.pop();
                *from = Bytes::new();
            }
        }
    }
    Ok(heads)
}
