//! Tutorials that users of etcd follow, command by command, on machines made of namespaces: the servers' commands and
//! those for certificates are exactly the texts' own; where these use etcdctl of version 2, its successor's words stand.
//!
//! Each is played with genuine etcd, with ours, and with both in one cluster. What genuine etcd answers is what ours is
//! held to.

mod add_member;
mod http_to_https;
mod lab;
mod unit_file;

use lab::{Lab, Servers};

/// Plays a tutorial, if the machine allows.
fn play(subnet: [u8; 3], first: u8, servers: Servers, tutorial: fn(&mut Lab)) {
    if let Some(mut lab) = Lab::new(subnet, first, servers) {
        tutorial(&mut lab);
    }
}

macro_rules! tutorials {
    ($($name:ident: $tutorial:path, $subnet:expr, $first:expr;)*) => {$(
        mod $name {
            use super::*;

            #[test]
            fn go() {
                play($subnet, $first, Servers::Go, $tutorial);
            }

            #[test]
            fn ours() {
                play($subnet, $first, Servers::Ours, $tutorial);
            }

            #[test]
            fn mixed() {
                play($subnet, $first, Servers::Mixed, $tutorial);
            }
        }
    )*};
}

tutorials! {
    a_fourth_member_with_certificates: add_member::play, [192, 168, 111], 201;
    from_http_to_https: http_to_https::play, [192, 168, 0], 91;
    a_unit_file_with_flags: unit_file::play, [192, 168, 202], 131;
}
