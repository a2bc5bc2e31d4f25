//! Compiles `proto/*.proto` with protox, a compiler in pure Rust: no `protoc` is needed.

use std::env;
use std::path::PathBuf;

use prost::Message as _;
use prost_build::Config;

#[path = "build/schema.rs"]
mod schema;

const FILES: &[&str] = &[
    "auth.proto",
    "etcdserver.proto",
    "lease.proto",
    "membership.proto",
    "mvcc.proto",
    "raft.proto",
    "raft_internal.proto",
    "rpc.proto",
    "snap.proto",
    "v3election.proto",
    "v3lock.proto",
    "version.proto",
    "wal.proto",
];

fn main() {
    println!("cargo:rerun-if-changed=proto");
    println!("cargo:rerun-if-changed=build");
    let files = protox::compile(FILES, ["proto"]).expect("the .proto files compile");
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    std::fs::write(out.join("descriptors.bin"), files.encode_to_vec())
        .expect("OUT_DIR is writable");
    std::fs::write(out.join("schema.rs"), schema::table(&files)).expect("OUT_DIR is writable");

    let mut config = Config::new();
    config.bytes(["."]);
    generate(config, files);
}

#[cfg(feature = "client")]
fn generate(config: Config, files: prost_types::FileDescriptorSet) {
    tonic_prost_build::configure()
        .build_server(false)
        .compile_fds_with_config(files, config)
        .expect("generated code is writable");
}

#[cfg(not(feature = "client"))]
fn generate(mut config: Config, files: prost_types::FileDescriptorSet) {
    config
        .compile_fds(files)
        .expect("generated code is writable");
}
