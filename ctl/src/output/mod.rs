//! How results look.

mod size;
mod table;

use crate::cli::{Failure, exit};

pub use size::bytes;
pub use table::table;

/// `--write-out`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// One line of values.
    Simple,
    /// One line for each value, with its name.
    Fields,
    /// One JSON object.
    Json,
    /// A message.
    Protobuf,
    /// A frame around all values.
    Table,
}

impl Form {
    /// # Errors
    /// For an unknown one, as etcd's tools say it.
    pub fn parse(text: &str) -> Result<Self, Failure> {
        Ok(match text {
            "simple" => Self::Simple,
            "fields" => Self::Fields,
            "json" => Self::Json,
            "protobuf" => Self::Protobuf,
            "table" => Self::Table,
            _ => {
                return Err(Failure::new(exit::BAD_FEATURE, "unsupported output format"));
            }
        })
    }
}
