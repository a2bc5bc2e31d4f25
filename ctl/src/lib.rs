//! The command line tools: they read flags, call the library `retcd`, and print.
//!
//! [`cli`] knows commands and flags as etcd's tools have them, [`output`] how results look, [`etcdutl`] and [`tool`]
//! (the one called `retcd`) are tools, [`completion`] writes what makes shells complete names and flags.

pub mod cli;
pub mod completion;
pub mod etcdutl;
pub mod output;
pub mod tool;
