mod exchange;
mod faults;
mod refusals;
mod rig;
mod snapshots;
