//! `node`: a controller or an engine node.

use std::process::ExitCode;

fn main() -> ExitCode {
    engineroom_node::node()
}
