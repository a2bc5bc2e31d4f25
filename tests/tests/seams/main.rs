//! A member dies at a named point of a change of the membership or of a snapshot's way, as by `kill -9`, and comes back: the
//! change happens wholly or not at all, everybody agrees on it, and nothing acknowledged is lost.
//!
//! `RETCD_SEAM_ROUNDS` sets how often each point is played (1 by default), `RETCD_REPLACE_LOOPS` how often a member is
//! wiped, removed, added and joined with nobody looking (2).

mod points;
mod replace;
mod rig;

use std::env;

fn number(variable: &str, default: u64) -> u64 {
    env::var(variable).ok().and_then(|s| s.parse().ok()).unwrap_or(default)
}
