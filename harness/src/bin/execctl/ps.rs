//! `execctl ps`: the programs of a session.

use harness::{ListedProcess, ProcessState};
use serde_json::json;

use crate::{
    args::{Global, Ps},
    connect::resume,
    exit::Failure,
    output::{Printer, time},
};

/// Runs the subcommand.
pub(crate) async fn ps(global: &Global, args: Ps, printer: Printer) -> Result<u8, Failure> {
    let client = resume(global, &args.handle.session).await?;
    let listed = client.processes().await;
    client.close().await;
    if !printer.is_json() {
        let head = line("PROCESS", "STATE", "CODE", "STARTED (UTC)", "PROGRAM");
        printer.result(&json!({}), &head)?;
    }
    for process in listed? {
        let wanted = args.handle.process.as_ref();
        if wanted.is_none_or(|wanted| *wanted == process.process_id) {
            show(&process, printer)?;
        }
    }
    Ok(0)
}

fn show(process: &ListedProcess, printer: Printer) -> Result<(), Failure> {
    let state = state(process.state);
    let object = json!({
        "type": "process", "process": process.process_id, "state": state,
        "exit_code": process.exit_code, "tty": process.tty,
        "started_at_ms": process.started_at_ms, "program": process.program,
    });
    let code = process
        .exit_code
        .map_or_else(|| "-".to_owned(), |code| code.to_string());
    let started = time(process.started_at_ms);
    let text = line(
        &process.process_id,
        state,
        &code,
        &started,
        &process.program,
    );
    printer.result(&object, &text)
}

fn line(process: &str, state: &str, code: &str, started: &str, program: &str) -> String {
    // Whatever moves the cursor must not come from a program's name.
    let plain = |text: &str| text.replace(char::is_control, "?");
    format!(
        "{:<10} {state:<8} {code:>4}  {started:<19}  {}",
        plain(process),
        plain(program)
    )
}

fn state(state: ProcessState) -> &'static str {
    match state {
        ProcessState::Starting => "starting",
        ProcessState::Running => "running",
        ProcessState::Exited => "exited",
        ProcessState::Closed => "closed",
        ProcessState::Unknown => "unknown",
    }
}
