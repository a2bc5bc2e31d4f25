//! Bad flags and bad data directories: a sentence that names what is wrong, the right exit code, and
//! nothing altered.

mod config_file;
mod disk;
mod every;
mod flags;
mod help;
