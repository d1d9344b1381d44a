//! `engineroom`: starts, stops and shows a cluster.

use std::process::ExitCode;

fn main() -> ExitCode {
    engineroom_node::engineroom()
}
