//! Tests of the running node, on real and simulated disks.

mod crash;
mod life;
mod rig;
