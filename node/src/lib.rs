//! The programs `node` and `engineroom`: a cluster's processes, and the tool that starts, stops and shows them.
//!
//! | module | what |
//! |---|---|
//! | `args` | the options that both programs have |
//! | `settings` | what is in force: flag, else environment, else `config.toml`, else default |
//! | `role` | the two roles of a node, from settings to the line that says it is ready |
//! | `serve` | one life of a node: start, ready, signal, drain |
//! | `run_file` | which process runs what on a profile; at most one controller |
//! | `background` | processes that outlive the one that started them |
//! | `log` | where messages go |
//! | `tool` | the subcommands of `engineroom` |
//!
//! Exit codes: 0 done; 1 something failed, or work was left unfinished; 2 wrong options; 3 no controller, or it refused;
//! 130 ended at once by a second signal.

mod args;
mod background;
mod failure;
mod log;
mod node;
mod role;
mod run_file;
mod serve;
mod settings;
mod tool;

pub use node::node;
pub use tool::engineroom;
