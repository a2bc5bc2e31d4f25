//! Watching: telling clients what changes, as it changes and from history.
//!
//! ```text
//! apply thread ──▶ Ring ──▶ Hub, a thread of its own ──▶ Inbox of each stream ──▶ Session ──▶ client
//!                                                          history, read by ──▶ Session
//! ```
//!
//! The apply thread leaves what it published in a bounded ring and never waits. The hub finds who watches for it
//! and puts it, by reference, into bounded inboxes. A watcher whose inbox is full *falls behind*: it is taken out
//! of the hub, reads on from history with a cursor of its own when its client reads again, and joins the hub
//! where its cursor ends. Whatever falls out on the way is read from history: there is no gap, and a watcher for
//! which that is compacted is cancelled.

mod catch_up;
mod event;
mod hub;
mod inbox;
mod ranges;
mod reply;
mod ring;
mod session;
mod spec;

pub(crate) use hub::Hub;
pub(crate) use session::{Requests, Session};
