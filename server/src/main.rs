//! Entry point of `exec-cloud`.

use std::process::ExitCode;

fn main() -> ExitCode {
    server::cli::main()
}
