//! JSON for protobuf messages, without Rust types in between: between the text and the bytes on the wire stands only a
//! table of fields ([`retcd_proto::schema`]).
//!
//! Names, forms of values and texts of errors are those of Go's `protojson` and `encoding/json`, which etcd's gateway
//! uses: `Values` cuts values out of a stream of bytes and says what `encoding/json` says of bad JSON, [`to_wire`] says
//! what `protojson` says of a value that does not fit.

mod number;
mod read;
mod scan;
mod text;
mod token;
mod values;
mod write;

pub(crate) use read::to_wire;
pub(crate) use text::push_string;
pub(crate) use values::{Bad, Values};
pub(crate) use write::to_json;

#[cfg(test)]
mod tests;
