//! The `retcd` binary: a thin shell over the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    retcd_ctl::cli::main(&retcd_ctl::tool::ROOT)
}
