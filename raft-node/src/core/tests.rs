//! Scripts for the core.
