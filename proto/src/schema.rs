//! What the messages of the services look like, as data: for whoever turns them into something else than Rust types.
//!
//! Generated from the `.proto` files as the types are, so that no field can be missing here.

/// A message.
#[derive(Debug)]
pub struct Message {
    /// Its full name, `etcdserverpb.RangeRequest`.
    pub name: &'static str,
    /// Its fields, in the order of the `.proto` file.
    pub fields: &'static [Field],
}

/// A field of a message.
#[derive(Debug)]
pub struct Field {
    /// Its number on the wire.
    pub number: u32,
    /// Its name, `range_end`.
    pub name: &'static str,
    /// Its other name in JSON, `rangeEnd`.
    pub json_name: &'static str,
    /// What it holds.
    pub kind: Kind,
    /// Whether it is a list.
    pub repeated: bool,
    /// The full name of the oneof that it belongs to.
    pub oneof: Option<&'static str>,
}

/// What a field holds.
#[derive(Clone, Copy, Debug)]
pub enum Kind {
    /// `bool`
    Bool,
    /// `int32`
    Int32,
    /// `int64`
    Int64,
    /// `uint32`
    Uint32,
    /// `uint64`
    Uint64,
    /// `string`
    String,
    /// `bytes`
    Bytes,
    /// An enumeration.
    Enum(&'static Enum),
    /// A message.
    Message(&'static Message),
}

impl Kind {
    /// The name of the type in `.proto` files.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Bool => "bool",
            Self::Int32 => "int32",
            Self::Int64 => "int64",
            Self::Uint32 => "uint32",
            Self::Uint64 => "uint64",
            Self::String => "string",
            Self::Bytes => "bytes",
            Self::Enum(_) => "enum",
            Self::Message(_) => "message",
        }
    }
}

/// An enumeration.
#[derive(Debug)]
pub struct Enum {
    /// Its full name.
    pub name: &'static str,
    /// Numbers and names.
    pub values: &'static [(i32, &'static str)],
}

/// A method of a service.
#[derive(Debug)]
pub struct Method {
    /// The full name of its service, `etcdserverpb.KV`.
    pub service: &'static str,
    /// Its name within the service.
    pub name: &'static str,
    /// What it takes, once or many times.
    pub input: &'static Message,
    /// What it returns, once or many times.
    pub output: &'static Message,
}

include!(concat!(env!("OUT_DIR"), "/schema.rs"));

/// The method of this name.
#[must_use]
pub fn method(service: &str, name: &str) -> Option<&'static Method> {
    METHODS
        .iter()
        .find(|method| method.service == service && method.name == name)
}

/// All methods of all services.
#[must_use]
pub fn methods() -> &'static [Method] {
    METHODS
}
