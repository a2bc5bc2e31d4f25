//! The listeners before a member that is a few lines long.

mod fake;
mod gateway;
mod grpc;
mod http;
mod lifecycle;
mod pings;
mod wire;
