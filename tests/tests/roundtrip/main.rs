//! Genuine etcd 3.7.1 and ours take turns on one data directory, and exchange snapshots: both see the same.
//!
//! `RETCD_ROUNDTRIP_KEYS` sets how many keys the first turn puts (3,000 by default), `RETCD_ROUNDTRIP_SEED` the chance.

mod files;
mod handover;
mod killed;
mod offline;
mod planted;
mod rig;
mod shown;
mod snapshots;
mod turns;
