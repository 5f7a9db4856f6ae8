//! Entry point of `exec-cloud`.

use std::process::ExitCode;

fn main() -> ExitCode {
    allocator::keep_freed();
    server::cli::main()
}
