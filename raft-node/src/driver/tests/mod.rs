//! Tests of the running node, on real and simulated disks.

mod cluster;
mod crash;
mod life;
mod rig;
mod stall;
