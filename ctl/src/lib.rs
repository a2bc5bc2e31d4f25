//! The command line tools: they read flags, call the library `retcd`, and print.
//!
//! [`cli`] knows commands and flags as etcd's tools have them, [`output`] how results look, [`etcdutl`] is
//! one tool.

pub mod cli;
pub mod etcdutl;
pub mod output;
