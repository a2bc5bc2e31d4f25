mod exchange;
mod faults;
mod pool;
mod refusals;
mod rig;
mod snapshots;
