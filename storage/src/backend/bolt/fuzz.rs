//! A way in for the fuzzer, which wants single pages.

use bytes::Bytes;

use super::freelist::Freelist;
use super::meta::Meta;
use super::page::{HEADER, Header, Page};
use super::tree::Head;

/// Reads bytes as a page of each kind, and all that is in it.
#[doc(hidden)]
pub fn fuzz_page(bytes: &[u8]) {
    if Meta::decode(bytes).is_ok_and(|meta| meta.encode(meta.page()).len() > bytes.len()) {
        unreachable!("a meta page is longer than what it was read from");
    }
    if bytes.len() < HEADER {
        return;
    }
    if let Ok(listed) = Freelist::decode(bytes) {
        assert!(listed.len() * 8 <= bytes.len());
    }
    let bytes = Bytes::copy_from_slice(bytes);
    if let Ok(Head { root, .. }) = Head::decode(&bytes) {
        drop(root);
    }
    let Ok(page) = Page::parse(bytes.clone(), Header::read(&bytes).id) else {
        return;
    };
    assert!(page.used() <= bytes.len());
    for n in 0..page.len() {
        assert_eq!(page.search(page.key(n)), Ok(n));
        assert_eq!(page.child_for(page.key(n)), n);
        match page.kind() {
            super::page::Kind::Branch => drop(page.child(n)),
            super::page::Kind::Leaf => drop(page.shared_value(n)),
        }
    }
}
