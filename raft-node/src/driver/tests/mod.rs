//! Tests of the running node, on real and simulated disks.

mod behind;
mod cluster;
mod crash;
mod leads;
mod life;
mod purge;
mod received;
mod rig;
mod stall;
