//! What readers see of a commit.

use bytes::Bytes;

use super::Shared;
use super::meta::Meta;
use super::page::{BUCKET, PageId};
use super::tree::{Head, Root, Tree};
use crate::backend::{Bucket, Error};

/// A commit as readers see it. As long as somebody holds it, its pages are not overwritten.
pub(super) struct State {
    pub(super) meta: Meta,
    /// The tree of buckets, from [`Meta::root`].
    pub(super) root: Root,
    /// The ten buckets that we know; none for one that is not there.
    heads: [Option<Head>; Bucket::ALL.len()],
}

impl State {
    /// The state of `meta`, its buckets looked up.
    pub(super) fn load(pager: &super::pager::Pager, meta: Meta) -> Result<State, Error> {
        let mut state = State {
            meta,
            root: Root::Page(meta.root),
            heads: Default::default(),
        };
        for bucket in Bucket::ALL {
            let head = head_in(
                pager,
                &state.root,
                meta.high_water,
                bucket.name().as_bytes(),
            )?;
            state.heads[bucket.index()] = head;
        }
        Ok(state)
    }

    /// The state of the next commit, with other buckets.
    pub(super) fn next(&self, meta: Meta, heads: impl IntoIterator<Item = (Bytes, Head)>) -> State {
        let mut next = State {
            meta,
            root: Root::Page(meta.root),
            heads: self.heads.clone(),
        };
        for (name, head) in heads {
            if let Some(bucket) = Bucket::ALL.iter().find(|b| b.name().as_bytes() == name) {
                next.heads[bucket.index()] = Some(head);
            }
        }
        next
    }

    pub(super) fn head(&self, bucket: Bucket) -> Option<&Head> {
        self.heads[bucket.index()].as_ref()
    }

    /// The tree of a bucket.
    pub(super) fn tree<'a>(&'a self, shared: &'a Shared, bucket: Bucket) -> Option<Tree<'a>> {
        Some(Tree {
            pager: &shared.pager,
            root: &self.head(bucket)?.root,
            high_water: self.meta.high_water,
        })
    }
}

/// The bucket of this name in the tree of buckets.
pub(super) fn head_in(
    pager: &super::pager::Pager,
    root: &Root,
    high_water: PageId,
    name: &[u8],
) -> Result<Option<Head>, Error> {
    let tree = Tree {
        pager,
        root,
        high_water,
    };
    let Some(item) = tree.item(name)? else {
        return Ok(None);
    };
    let name = name.escape_ascii();
    if item.flags & BUCKET == 0 {
        return Err(pager.corrupt(0, format!("{name} is not a bucket")));
    }
    // The page that has it may be large: the bucket keeps its own bytes only.
    let value = Bytes::copy_from_slice(&item.value);
    let head = Head::decode(&value);
    Ok(Some(head.map_err(|detail| {
        pager.corrupt(0, format!("bucket {name}: {detail}"))
    })?))
}
