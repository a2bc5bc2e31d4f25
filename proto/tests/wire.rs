//! Compares the .proto files with `wire.txt`, which lists etcd 3.7's messages, fields, enum values
//! and methods, one a line. Both directions: nothing may be missing, nothing may be more.

use std::collections::BTreeSet;

use prost::Message as _;
use prost_types::field_descriptor_proto::{Label, Type};
use prost_types::{DescriptorProto, EnumDescriptorProto, FileDescriptorSet};

#[test]
fn proto_files_match_the_table_of_etcd() {
    let files = FileDescriptorSet::decode(retcd_proto::DESCRIPTORS).expect("descriptors");
    let mut ours = BTreeSet::new();
    for file in &files.file {
        let package = file.package();
        if matches!(package, "google.protobuf" | "versionpb") {
            continue; // descriptors, and options that no etcd message carries on the wire
        }
        for message in &file.message_type {
            describe(&mut ours, package, message);
        }
        for values in &file.enum_type {
            describe_enum(&mut ours, package, values);
        }
        for service in &file.service {
            for method in &service.method {
                let kind = match (method.client_streaming(), method.server_streaming()) {
                    (true, true) => "bidi",
                    (false, true) => "server",
                    (false, false) => "unary",
                    (true, false) => "client",
                };
                let (service, method) = (service.name(), method.name());
                ours.insert(format!("rpc /{package}.{service}/{method} {kind}"));
            }
        }
    }
    let etcd: BTreeSet<String> = include_str!("wire.txt")
        .lines()
        .map(str::to_owned)
        .collect();

    let missing: Vec<_> = etcd.difference(&ours).collect();
    let extra: Vec<_> = ours.difference(&etcd).collect();
    assert!(
        missing.is_empty() && extra.is_empty(),
        "missing: {missing:#?}\nextra: {extra:#?}"
    );
}

fn describe(lines: &mut BTreeSet<String>, package: &str, message: &DescriptorProto) {
    let name = message.name();
    if message.field.is_empty() {
        lines.insert(format!("{package}.{name}"));
    }
    for field in &message.field {
        let kind = match field.r#type() {
            Type::Int64 => "int64",
            Type::Uint64 => "uint64",
            Type::Uint32 => "uint32",
            Type::Bool => "bool",
            Type::String => "string",
            Type::Bytes => "bytes",
            Type::Message | Type::Enum => field.type_name().rsplit('.').next().unwrap_or_default(),
            other => panic!("{package}.{name}: etcd has no field of type {other:?}"),
        };
        let repeated = match field.label() {
            Label::Repeated => "repeated ",
            _ => "",
        };
        let oneof = field.oneof_index.map_or_else(String::new, |i| {
            format!(" oneof {}", message.oneof_decl[i as usize].name())
        });
        let (number, field) = (field.number(), field.name());
        lines.insert(format!(
            "{package}.{name} {number} {field} {repeated}{kind}{oneof}"
        ));
    }
    for values in &message.enum_type {
        describe_enum(lines, &format!("{package}.{name}"), values);
    }
    assert!(message.nested_type.is_empty(), "etcd nests no messages");
}

fn describe_enum(lines: &mut BTreeSet<String>, scope: &str, values: &EnumDescriptorProto) {
    for value in &values.value {
        let (number, value) = (value.number(), value.name());
        lines.insert(format!("enum {scope}.{} {number} {value}", values.name()));
    }
}
