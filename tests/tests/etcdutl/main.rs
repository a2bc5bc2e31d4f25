//! Our `etcdutl` beside Go's on the same files: what it prints, how it ends, what it leaves, and whether
//! genuine members start on that.

mod flags;
mod restore;
mod rig;
mod serve;
mod status;
