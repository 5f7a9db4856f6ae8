//! `execctl run`: a remote program as if it were a local one.

use std::{
    io,
    pin::pin,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use harness::{
    Client, Command, Error, ExitStatus, Network, OutputStream, Overflow, Process, ProcessControl,
    ProcessEvent, Stdin, TtySize,
};
use serde_json::json;
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::Notify,
    time::timeout,
};

use crate::{
    args::{Global, Place, Run},
    connect::connect,
    escape::{Escape, Typed},
    exit::Failure,
    handle::Handle,
    output::Printer,
    session,
    signals::{self, Leaving, Signals},
    sink::{Out, Sink},
    stdin::{self, Input, Kind},
    terminal::{self, RawMode},
};

/// How long output of what the program left running is awaited once it is quiet.
const DRAIN: Duration = Duration::from_secs(2);

/// A window that is being resized sends many signals; only the last size matters.
const RESIZE_PAUSE: Duration = Duration::from_millis(150);

/// Pieces typed into a terminal that wait to be sent. Further ones are dropped.
const TYPED_AHEAD: usize = 1024;

/// Exit code after the third interrupt, and after the escape: 128 + SIGINT.
pub(crate) const GIVEN_UP: u8 = 130;

/// The name of a detached program in its session, which has no other.
const PROCESS: &str = "1";

/// What a program is run with.
pub(crate) struct Job {
    pub(crate) argv: Vec<String>,
    pub(crate) place: Place,
    pub(crate) tty: bool,
    pub(crate) input: Kind,
}

/// Runs the subcommand.
pub(crate) async fn run(global: &Global, args: Run, printer: Printer) -> Result<u8, Failure> {
    let environment = variables(&args.place)?;
    let mut signals = Signals::listen()?;
    let client = signals.unless_ended(connect(global, None)).await?;
    if args.detach {
        let detached = detach(&client, args, environment, printer);
        let detached = signals.unless_ended(detached).await;
        match &detached {
            Ok(_) => client.close().await,
            // Nobody knows its name.
            Err(_) => session::end(&client, &mut signals).await,
        }
        return detached;
    }
    let input = if args.no_stdin {
        Kind::Empty
    } else {
        stdin::open().await
    };
    let job = Job {
        argv: args.command,
        place: args.place,
        tty: args.tty,
        input,
    };
    let outcome = execute(&client, job, environment, &mut signals, printer).await;
    session::end(&client, &mut signals).await;
    outcome
}

/// The variables that the flags set.
pub(crate) fn variables(place: &Place) -> Result<Vec<(String, String)>, Failure> {
    let mut variables = Vec::new();
    for flag in &place.env {
        match flag.split_once('=') {
            Some(("", _)) => return Err(Failure::usage("--env needs a name before the =")),
            Some((name, value)) => variables.push((name.to_owned(), value.to_owned())),
            None if flag.is_empty() => return Err(Failure::usage("--env needs a name")),
            // As with other tools: a name alone passes on the local value, if there is one.
            None => {
                if let Ok(value) = std::env::var(flag) {
                    variables.push((flag.clone(), value));
                }
            }
        }
    }
    Ok(variables)
}

/// Runs a program to its end and returns its exit code.
pub(crate) async fn execute(
    client: &Client,
    job: Job,
    variables: Vec<(String, String)>,
    signals: &mut Signals,
    printer: Printer,
) -> Result<u8, Failure> {
    let program = job.argv.first().cloned().unwrap_or_default();
    // One program on this connection: when its output is read too slowly it simply waits.
    let mut command = command(client, job.argv, &job.place, variables)?.overflow(Overflow::Block);
    let mut ends = true;
    let input = match job.input {
        Kind::Empty => None,
        Kind::Terminal(input) => {
            // A person's input ends rarely, and a program that ignores it should not need more of
            // the executor than it would otherwise.
            ends = client.info().capabilities.process_stdin_close;
            command = command.stdin(if ends {
                Stdin::Piped
            } else {
                Stdin::PipedWithoutEnd
            });
            Some(input)
        }
        Kind::Stream(input) => {
            command = command.stdin(Stdin::Piped);
            Some(input)
        }
    };
    if job.tty {
        command = on_terminal(command);
        ends = true;
    }
    let start = async {
        let started = client.start(command).await;
        started.map_err(|error| Failure::start(&program, error))
    };
    let process = signals.unless_ended(start).await?;
    let following = Following {
        input,
        tty: job.tty,
        size: terminal::size(),
        ends,
        leaving: Leaving::Kill,
    };
    let ended = follow(client, process, following, signals, printer).await?;
    Ok(match ended {
        Ended::Program { status, lost } if lost && status.code == 0 => crate::exit::FAILURE,
        other => other.code(),
    })
}

/// Starts a program and leaves it.
async fn detach(
    client: &Client,
    args: Run,
    variables: Vec<(String, String)>,
    printer: Printer,
) -> Result<u8, Failure> {
    let program = args.command.first().cloned().unwrap_or_default();
    let mut command = command(client, args.command, &args.place, variables)?.id(PROCESS);
    if args.stdin {
        command = command.stdin(if client.info().capabilities.process_stdin_close {
            Stdin::Piped
        } else {
            Stdin::PipedWithoutEnd
        });
    }
    if args.tty {
        command = on_terminal(command);
    }
    let kept = match client.keep(Duration::from_secs(args.keep_secs)).await {
        Ok(kept) => Some(kept.as_secs()),
        Err(Error::Unsupported(_)) => {
            printer.note("this executor decides itself how long it keeps the program: Codex 0.169 keeps it 80 s");
            None
        }
        Err(error) => return Err(Failure::from(error)),
    };
    let started = client.start(command).await;
    let process = started.map_err(|error| Failure::start(&program, error))?;
    let handle = Handle::new(client.session_id(), process.id());
    let object = json!({
        "type": "detached", "handle": handle.to_string(), "session": client.session_id(),
        "process": process.id(), "kept_secs": kept,
    });
    let printed = printer.result(&object, &handle.to_string());
    if printed.is_err() {
        // Without its handle nobody could ever find it, and not every executor ends sessions.
        let _ = process.control().terminate().await;
    }
    printed.map(|()| 0)
}

/// The program with its place and variables.
fn command(
    client: &Client,
    argv: Vec<String>,
    place: &Place,
    variables: Vec<(String, String)>,
) -> Result<Command, Failure> {
    let mut command = Command::new(argv);
    for (name, value) in variables {
        command = command.env(name, value);
    }
    if let Some(directory) = &place.workdir {
        command = command.cwd(client.resolve(directory)?);
    }
    if !place.allow_host.is_empty() {
        command = command.network(Network::only(place.allow_host.iter().cloned()));
    }
    Ok(command)
}

fn on_terminal(command: Command) -> Command {
    let command = command.tty(terminal::size().unwrap_or_default());
    match std::env::var("TERM") {
        Ok(term) => command.env("TERM", term),
        Err(_) => command,
    }
}

/// How a running program is followed.
pub(crate) struct Following {
    pub(crate) input: Option<Input>,
    pub(crate) tty: bool,
    /// The size that its terminal has, as far as known.
    pub(crate) size: Option<TtySize>,
    /// Whether its input should be possible to end, so that a failure to is no surprise.
    pub(crate) ends: bool,
    pub(crate) leaving: Leaving,
}

/// Follows a running program until it has ended or the user leaves.
pub(crate) async fn follow(
    client: &Client,
    mut process: Process,
    following: Following,
    signals: &mut Signals,
    printer: Printer,
) -> Result<Ended, Failure> {
    let Following {
        input,
        tty,
        size,
        ends,
        leaving,
    } = following;
    let control = process.control().clone();
    let raw = if tty { RawMode::enter() } else { None };
    let discard = Discard::default();
    let outcome = {
        let output = pin!(copy_output(&mut process, &discard, leaving, printer));
        let typed = pin!(copy_input(input, &control, raw.is_some(), ends, printer));
        let signals = pin!(signals::handle(
            signals, client, &control, &discard, leaving, printer
        ));
        let resizes = pin!(follow_size(&control, tty, size));
        tokio::select! {
            outcome = output => outcome,
            code = typed => Ok(Ended::Left(code)),
            code = signals => Ok(Ended::Left(code)),
            () = resizes => Ok(Ended::Left(GIVEN_UP)),
        }
    };
    drop(raw);
    if let Ok(Ended::Program { status, .. }) = &outcome {
        if printer.is_json() {
            let object = json!({
                "type": "exited", "exit_code": status.code,
                "sandbox_denied": status.sandbox_denied,
            });
            printer.result(&object, "")?;
        }
    } else if leaving == Leaving::Kill && !client.info().capabilities.session_close {
        // Nobody listens to the program any more; it must not run on unseen. It ends with the
        // session, where that can be ended; should the connection hang, when the session expires.
        let _ = timeout(DRAIN, end(&control, &mut process)).await;
    }
    outcome
}

/// Kills the program and waits until what was put beside it is removed.
async fn end(control: &ProcessControl, process: &mut Process) -> Result<(), Error> {
    control.terminate().await?;
    process.wait().await?;
    Ok(())
}

/// Why a program is not followed any more.
pub(crate) enum Ended {
    /// The program has ended; `lost` tells whether a part of its output is missing.
    Program { status: ExitStatus, lost: bool },
    /// The user went away, with this exit code.
    Left(u8),
}

impl Ended {
    /// The exit code of this program.
    pub(crate) fn code(&self) -> u8 {
        match self {
            Self::Program { status, .. } => {
                u8::try_from(status.code & 0xff).unwrap_or(crate::exit::FAILURE)
            }
            Self::Left(code) => *code,
        }
    }
}

/// Whether output is thrown away, because the user wants the program dead rather than read.
#[derive(Default)]
pub(crate) struct Discard {
    on: AtomicBool,
    changed: Notify,
}

impl Discard {
    pub(crate) fn switch_on(&self) {
        self.on.store(true, Ordering::Release);
        self.changed.notify_one();
    }

    /// Waits for `written` no longer than until output is thrown away.
    async fn unless_on(&self, written: impl Future<Output = ()>) {
        if self.on.load(Ordering::Acquire) {
            return;
        }
        tokio::select! {
            () = written => {}
            () = self.changed.notified() => {}
        }
    }
}

/// Copies output until the program has ended and everything is written, or thrown away.
async fn copy_output(
    process: &mut Process,
    discard: &Discard,
    leaving: Leaving,
    printer: Printer,
) -> Result<Ended, Failure> {
    let done = Sink::run(async |sink| {
        let outcome = copy_pieces(process, sink, discard, leaving, printer).await;
        // Whatever happened, what came before it is shown.
        discard.unless_on(sink.written()).await;
        outcome
    });
    match done.await {
        Ok(outcome) => outcome,
        // The reader has had enough, as in `run yes | head`.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
            Ok(Ended::Left(crate::exit::BROKEN_PIPE))
        }
        Err(error) => Err(Failure::other(format!("failed to write output: {error}"))),
    }
}

async fn copy_pieces(
    process: &mut Process,
    sink: &Sink,
    discard: &Discard,
    leaving: Leaving,
    printer: Printer,
) -> Result<Ended, Failure> {
    let (mut status, mut lost) = (None, false);
    loop {
        let next = match status {
            None => process.next_event().await,
            Some(status) => match timeout(DRAIN, process.next_event()).await {
                Ok(next) => next,
                Err(_) => return Ok(Ended::Program { status, lost }),
            },
        };
        let event = match next {
            Some(Ok(event)) => event,
            // Not worth killing the program for, but nobody may take the output for complete.
            Some(Err(Error::OutputLost { first, last })) => {
                lost = true;
                // It is told where the gap is.
                discard.unless_on(sink.written()).await;
                if printer.is_json() {
                    let object = json!({ "type": "lost", "first": first, "last": last });
                    printer.result(&object, "")?;
                } else if leaving == Leaving::Keep {
                    printer.note("a part of the output is missing here: the executor keeps only the newest 1 MiB");
                } else {
                    printer.note("a part of the output was lost while the connection was down");
                }
                continue;
            }
            Some(Err(error)) => return Err(Failure::from(error)),
            None => match status {
                Some(status) => return Ok(Ended::Program { status, lost }),
                None => return Err(Failure::from(Error::ProcessGone)),
            },
        };
        match event {
            ProcessEvent::Exited(exit) => status = Some(exit),
            ProcessEvent::Output { stream, chunk } => {
                let write = async {
                    if printer.is_json() {
                        let line = json_line(stream, &chunk);
                        return sink.write(Out::Results, line.into()).await;
                    }
                    let out = match stream {
                        OutputStream::Stderr => Out::Errors,
                        OutputStream::Stdout | OutputStream::Pty => Out::Results,
                    };
                    sink.write(out, chunk).await;
                };
                discard.unless_on(write).await;
            }
            _ => {}
        }
    }
}

fn json_line(stream: OutputStream, chunk: &[u8]) -> String {
    let stream = match stream {
        OutputStream::Stdout => "stdout",
        OutputStream::Stderr => "stderr",
        OutputStream::Pty => "pty",
    };
    // Output need not be text, and a chunk may end within a character.
    let data = exec_proto::base64::encode(chunk);
    format!(
        "{}\n",
        json!({ "type": "output", "stream": stream, "data_base64": data })
    )
}

/// Sends what is typed or piped, then the end. Returns only when the user leaves.
async fn copy_input(
    input: Option<Input>,
    control: &ProcessControl,
    interactive: bool,
    ends: bool,
    printer: Printer,
) -> u8 {
    let Some(mut input) = input else {
        return std::future::pending().await;
    };
    let mut escape = Escape::new();
    // In raw mode the terminal is read on while a write hangs, so that the escape is seen.
    let ahead = if interactive { TYPED_AHEAD } else { 1 };
    let (sender, mut pieces) = tokio::sync::mpsc::channel::<bytes::Bytes>(ahead);
    let write = async {
        while let Some(piece) = pieces.recv().await {
            match control.write(piece).await {
                Ok(()) => {}
                // The program reads no more; whether that is a failure is its own business.
                Err(Error::StdinClosed | Error::ProcessGone) => return,
                // The events end with the same error, which is reported there.
                Err(error) => {
                    tracing::debug!(error = %error, "input was not delivered");
                    return;
                }
            }
        }
        match control.close_stdin().await {
            Ok(()) => {}
            Err(Error::Unsupported(_)) if !ends => {
                printer.note(
                    "this executor cannot end the input of a program; use -t, or pipe the input",
                );
            }
            Err(error) => tracing::debug!(error = %error, "the end of input was not delivered"),
        }
    };
    let read = async {
        while let Some(piece) = input.next().await {
            let piece = match piece {
                Ok(piece) => piece,
                Err(error) => {
                    printer.note(&format!("failed to read standard input: {error}"));
                    break;
                }
            };
            if !interactive {
                if sender.send(piece).await.is_err() {
                    break;
                }
                continue;
            }
            match escape.take(&piece) {
                Typed::Leave => return Some(GIVEN_UP),
                // Someone who types on into a hanging connection loses keys, but can leave.
                Typed::Send(bytes) => drop(sender.try_send(bytes.into())),
            }
        }
        drop(sender);
        None
    };
    let (mut read, mut write) = (pin!(read), pin!(write));
    tokio::select! {
        left = &mut read => match left {
            Some(code) => return code,
            None => write.await,
        },
        () = &mut write => if let Some(code) = read.await {
            return code;
        },
    }
    std::future::pending().await
}

/// Tells the remote terminal when the local one changes its size. Never returns.
async fn follow_size(control: &ProcessControl, tty: bool, mut known: Option<TtySize>) {
    let changes = if tty {
        signal(SignalKind::window_change()).ok()
    } else {
        None
    };
    let Some(mut changes) = changes else {
        return std::future::pending().await;
    };
    loop {
        let now = terminal::size();
        if let Some(size) = now.filter(|_| now != known) {
            known = now;
            if let Err(error) = control.resize(size).await {
                tracing::debug!(error = %error, "the terminal keeps its old size");
            }
        }
        if changes.recv().await.is_none() {
            return std::future::pending().await;
        }
        tokio::time::sleep(RESIZE_PAUSE).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_are_set_or_passed_on() {
        let place = |env: &[&str]| Place {
            env: env.iter().map(|text| (*text).to_owned()).collect(),
            ..Place::default()
        };
        let set = variables(&place(&["A=1", "B=x=y", "C="])).unwrap();
        let expected = [("A", "1"), ("B", "x=y"), ("C", "")];
        assert_eq!(
            set,
            expected.map(|(name, value)| (name.to_owned(), value.to_owned()))
        );
        assert_eq!(variables(&place(&["PATH"])).unwrap()[0].0, "PATH");
        assert!(
            variables(&place(&["EXECCTL_NO_SUCH_VARIABLE"]))
                .unwrap()
                .is_empty()
        );
        assert!(variables(&place(&["=x"])).is_err());
    }

    #[test]
    fn output_that_is_not_text_survives_json() {
        let line = json_line(OutputStream::Stderr, &[0xff, 0]);
        let value: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(value["stream"], "stderr");
        assert_eq!(value["data_base64"], "/wA=");
    }
}
