//! Writes what `src/schema.rs` includes: the messages of the services as static data.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use prost_types::field_descriptor_proto::{Label, Type};
use prost_types::{
    DescriptorProto, EnumDescriptorProto, FieldDescriptorProto, FileDescriptorSet,
    MethodDescriptorProto,
};

/// The source text of the table: what the methods of all services take and return, and what that is made of.
pub(crate) fn table(files: &FileDescriptorSet) -> String {
    let types = Types::of(files);
    let mut wanted = BTreeSet::new();
    let mut methods = String::new();
    for file in &files.file {
        for service in &file.service {
            for method in &service.method {
                let full = format!("{}.{}", file.package(), service.name());
                methods += &method_line(&full, method, &types, &mut wanted);
            }
        }
    }
    let mut out = String::new();
    for (name, values) in &types.enums {
        if !wanted.contains(name) {
            continue;
        }
        let pairs: Vec<_> = values
            .value
            .iter()
            .map(|value| format!("({}, {:?})", value.number(), value.name()))
            .collect();
        let _ = writeln!(
            out,
            "static {}: Enum = Enum {{ name: {:?}, values: &[{}] }};",
            ident(name),
            name,
            pairs.join(", ")
        );
    }
    for (name, message) in &types.messages {
        if !wanted.contains(name) {
            continue;
        }
        let fields: String = message
            .field
            .iter()
            .map(|field| field_text(name, message, field))
            .collect();
        let _ = writeln!(
            out,
            "static {}: Message = Message {{ name: {name:?}, fields: &[{fields}] }};",
            ident(name),
        );
    }
    let _ = writeln!(out, "static METHODS: &[Method] = &[{methods}];");
    out
}

/// All types by full name, without the dot in front.
struct Types<'a> {
    messages: BTreeMap<String, &'a DescriptorProto>,
    enums: BTreeMap<String, &'a EnumDescriptorProto>,
}

impl<'a> Types<'a> {
    fn of(files: &'a FileDescriptorSet) -> Self {
        let (mut messages, mut enums) = (BTreeMap::new(), BTreeMap::new());
        for file in &files.file {
            let package = file.package();
            for values in &file.enum_type {
                enums.insert(format!("{package}.{}", values.name()), values);
            }
            for message in &file.message_type {
                let name = format!("{package}.{}", message.name());
                for values in &message.enum_type {
                    enums.insert(format!("{name}.{}", values.name()), values);
                }
                messages.insert(name, message);
            }
        }
        Self { messages, enums }
    }

    /// Notes a type and all that it is made of.
    fn want(&self, name: &str, wanted: &mut BTreeSet<String>) {
        if !wanted.insert(name.to_owned()) {
            return;
        }
        if let Some(message) = self.messages.get(name) {
            for field in &message.field {
                if matches!(field.r#type(), Type::Message | Type::Enum) {
                    self.want(field.type_name().trim_start_matches('.'), wanted);
                }
            }
        }
    }
}

fn method_line(
    service: &str,
    method: &MethodDescriptorProto,
    types: &Types<'_>,
    wanted: &mut BTreeSet<String>,
) -> String {
    let input = method.input_type().trim_start_matches('.');
    let output = method.output_type().trim_start_matches('.');
    types.want(input, wanted);
    types.want(output, wanted);
    format!(
        "Method {{ service: {service:?}, name: {:?}, input: &{}, output: &{} }},\n",
        method.name(),
        ident(input),
        ident(output),
    )
}

fn field_text(scope: &str, message: &DescriptorProto, field: &FieldDescriptorProto) -> String {
    let of_type = ident(field.type_name().trim_start_matches('.'));
    let kind = match field.r#type() {
        Type::Bool => "Kind::Bool".to_owned(),
        Type::Int32 => "Kind::Int32".to_owned(),
        Type::Int64 => "Kind::Int64".to_owned(),
        Type::Uint32 => "Kind::Uint32".to_owned(),
        Type::Uint64 => "Kind::Uint64".to_owned(),
        Type::String => "Kind::String".to_owned(),
        Type::Bytes => "Kind::Bytes".to_owned(),
        Type::Enum => format!("Kind::Enum(&{of_type})"),
        Type::Message => format!("Kind::Message(&{of_type})"),
        other => panic!(
            "{scope}.{}: the table has no kind for {other:?}",
            field.name()
        ),
    };
    let oneof = field
        .oneof_index
        .and_then(|at| message.oneof_decl.get(usize::try_from(at).ok()?));
    let oneof = match oneof {
        None => "None".to_owned(),
        Some(oneof) => format!("Some({:?})", format!("{scope}.{}", oneof.name())),
    };
    format!(
        "Field {{ number: {}, name: {:?}, json_name: {:?}, kind: {kind}, repeated: {}, oneof: {oneof} }},\n",
        field.number(),
        field.name(),
        json_name(field.name()),
        field.label() == Label::Repeated,
    )
}

/// The name in JSON: underscores go, and the letter behind one becomes large.
fn json_name(name: &str) -> String {
    let mut out = String::new();
    let mut large = false;
    for letter in name.chars() {
        match letter {
            '_' => large = true,
            _ if std::mem::take(&mut large) => out.push(letter.to_ascii_uppercase()),
            _ => out.push(letter),
        }
    }
    out
}

/// The name of a static: `etcdserverpb.RangeRequest.SortOrder` is `ETCDSERVERPB_RANGEREQUEST_SORTORDER`.
fn ident(name: &str) -> String {
    name.replace('.', "_").to_ascii_uppercase()
}
