//! All the disks that a power failure can leave.

use super::SimFs;
use super::content::SECTOR;
use super::disk::{Disk, Item, Keep, Op};

/// A recording of changes and syncs, with the disk they started on.
#[derive(Debug, Clone)]
pub struct Trace {
    start: Disk,
    ops: Vec<Op>,
}

/// Which images [`Trace::images`] makes at each point.
///
/// Always made: nothing unsynced survives, everything, every prefix, and everything but one item.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Seed of the random choices.
    pub seed: u64,
    /// Whether the last write is torn at every byte. Disks write whole sectors, so this goes beyond
    /// what a power failure does to a file of settled length.
    pub bytes: bool,
    /// Where there are at most so many items, every set of them survives once.
    pub subsets: usize,
    /// At most so many sets of surviving sectors of the last write; all of them if it has no more.
    pub sectors: usize,
    /// Random choices for all items and their sectors.
    pub random: usize,
}

impl Default for Plan {
    fn default() -> Self {
        Self {
            seed: 1,
            bytes: true,
            subsets: 0,
            sectors: 64,
            random: 16,
        }
    }
}

/// One disk after a power failure.
#[derive(Debug)]
pub struct Image {
    /// The disk, everything on it durable.
    pub fs: SimFs,
    /// The newest [`SimFs::mark`] before the failure.
    pub mark: u64,
    /// Number of changes and syncs before the failure.
    pub at: usize,
    kept: Vec<Keep>,
}

impl Image {
    /// What survived of the unsynced changes, oldest first, to name an image in a failing test.
    pub fn describe(&self) -> String {
        format!(
            "after call {}, mark {}, kept {:?}",
            self.at, self.mark, self.kept
        )
    }

    /// Whether a write was torn at a byte rather than between sectors.
    pub fn inside_sector(&self) -> bool {
        self.kept.iter().any(|keep| matches!(keep, Keep::Bytes(_)))
    }
}

impl Trace {
    pub(super) fn new(start: Disk) -> Self {
        Self {
            start,
            ops: Vec::new(),
        }
    }

    pub(super) fn push(&mut self, op: Op) {
        self.ops.push(op);
    }

    /// Number of points at which [`Trace::images`] pulls the plug.
    pub fn points(&self) -> usize {
        1 + self.ops.iter().filter(|op| !is_mark(op)).count()
    }

    /// The file system after so many calls, if then only the process was killed: nothing is lost,
    /// but what was not synced is still at risk.
    pub fn killed(&self, calls: usize) -> SimFs {
        let mut disk = self.start.clone();
        for op in self.ops.iter().filter(|op| !is_mark(op)).take(calls) {
            disk.apply(op);
        }
        SimFs::of(disk)
    }

    /// Calls `visit` with every image at every point before, between and after the recorded calls.
    /// Returns their number.
    pub fn images(&self, plan: &Plan, mut visit: impl FnMut(Image)) -> usize {
        let mut disk = self.start.clone();
        let mut mark = 0;
        let mut random = Random(plan.seed);
        let mut count = 0;
        let mut point = |disk: &Disk, mark: u64, at: usize| {
            choices(disk, plan, &mut random, |keep| {
                count += 1;
                visit(Image {
                    fs: SimFs::of(disk.image(keep)),
                    mark,
                    at,
                    kept: keep.to_vec(),
                });
            });
        };
        let mut at = 0;
        for op in &self.ops {
            if let Op::Mark(new) = op {
                mark = *new;
                continue;
            }
            point(&disk, mark, at);
            disk.apply(op);
            at += 1;
        }
        point(&disk, mark, at);
        count
    }
}

fn is_mark(op: &Op) -> bool {
    matches!(op, Op::Mark(_))
}

fn choices(disk: &Disk, plan: &Plan, random: &mut Random, mut visit: impl FnMut(&[Keep])) {
    let items = disk.items();
    let n = items.len();
    let mut keep = vec![Keep::No; n];
    if n <= plan.subsets.min(20) {
        for mask in 0..1_u32 << n {
            for (at, keep) in keep.iter_mut().enumerate() {
                *keep = match mask >> at & 1 {
                    0 => Keep::No,
                    _ => Keep::Yes,
                };
            }
            visit(&keep);
        }
    } else {
        prefixes_and_gaps(&mut keep, &mut visit);
    }
    tears(&items, plan, random, &mut keep, &mut visit);
    if n > 1 {
        for _ in 0..plan.random {
            for (at, item) in items.iter().enumerate() {
                keep[at] = random.keep(item);
            }
            visit(&keep);
        }
    }
}

/// The first items and no more, for each number of them; then all items but one.
fn prefixes_and_gaps(keep: &mut [Keep], visit: &mut impl FnMut(&[Keep])) {
    visit(keep);
    for at in 0..keep.len() {
        keep[at] = Keep::Yes;
        visit(keep);
    }
    if keep.len() > 1 {
        for at in 0..keep.len() - 1 {
            keep[at] = Keep::No;
            visit(keep);
            keep[at] = Keep::Yes;
        }
    }
}

/// The last write in pieces, with everything before it whole.
fn tears(
    items: &[Item],
    plan: &Plan,
    random: &mut Random,
    keep: &mut [Keep],
    visit: &mut impl FnMut(&[Keep]),
) {
    let last = items
        .iter()
        .rposition(|item| matches!(item, Item::Data { plain: false, .. }));
    let Some((at, Item::Data { start, end, .. })) = last.map(|at| (at, items[at])) else {
        return;
    };
    keep.fill(Keep::Yes);
    if plan.bytes {
        for bytes in 1..end - start {
            keep[at] = Keep::Bytes(bytes);
            visit(keep);
        }
    }
    let sectors = end.div_ceil(SECTOR) - start / SECTOR;
    if sectors < 2 {
        return;
    }
    let sets = 1_u64
        .checked_shl(u32::try_from(sectors).unwrap_or(64))
        .unwrap_or(u64::MAX);
    if sets - 2 <= plan.sectors as u64 {
        for mask in 1..sets - 1 {
            keep[at] = Keep::Sectors(mask);
            visit(keep);
        }
    } else {
        for _ in 0..plan.sectors {
            keep[at] = Keep::Sectors(random.next());
            visit(keep);
        }
    }
}

pub(super) fn random_image(disk: &Disk, seed: u64) -> SimFs {
    let mut random = Random(seed);
    let keep: Vec<Keep> = disk.items().iter().map(|item| random.keep(item)).collect();
    SimFs::of(disk.image(&keep))
}

/// SplitMix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    fn keep(&mut self, item: &Item) -> Keep {
        match (item, self.next() % 3) {
            (_, 0) => Keep::No,
            (Item::Data { end, .. }, 1) if *end > 0 => Keep::Sectors(self.next()),
            _ => Keep::Yes,
        }
    }
}
