//! `exec-server`: the executor's program.

use std::{
    io::{self, Write as _},
    process::ExitCode,
};

use agent::{
    cli::{self, Cli, Command, Options},
    config, credential, doctor, events, first_process,
    program::{self, Failure},
    sandbox,
};
use secrecy::SecretString;
use telemetry::{export::Export, logging::Logging};

fn main() -> ExitCode {
    if let Some(code) = sandbox::run_if_first_process() {
        return code;
    }
    if let Some(ended) = first_process::run_if_first() {
        return ended.unwrap_or_else(|error| fail(&Failure::Runtime(error.into())));
    }
    // First of all, while there are no threads: this may start the program again.
    let secret = match credential::shield() {
        Ok(secret) => secret,
        Err(error) => return fail(&Failure::Runtime(error.into())),
    };
    allocator::keep_freed();
    allocator::share_heap();
    let cli = Cli::of_process();
    let options = match cli.command {
        None => cli.options,
        Some(Command::Forward(options)) => Options {
            forward: true,
            ..*options
        },
        Some(Command::Sandbox(arguments)) => return sandbox::command::run(&arguments),
        Some(Command::Doctor(arguments)) => return examined(*arguments, secret),
        Some(Command::Completions(arguments)) => return printed(arguments.run(cli::command())),
        Some(Command::Man(arguments)) => return printed(arguments.run(cli::command())),
        Some(Command::Reference) => {
            let text = settings::generate::reference(&cli::command(), &config::PROGRAM);
            return printed(io::stdout().lock().write_all(text.as_bytes()));
        }
    };
    let (check, print) = (options.check_config, options.print_config);
    let lookup = |name: &str| std::env::var(name).ok();
    let (settings, report) = config::load(options, &lookup, secret.is_some());
    let settings = match settings {
        Ok(settings) => settings,
        Err(error) => return fail(&Failure::Configuration(error.0)),
    };
    if print {
        return printed(io::stdout().lock().write_all(report.as_bytes()));
    }
    if check {
        return ExitCode::SUCCESS;
    }
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&Failure::Runtime(error.into())),
    };
    let plan = settings.export.plan.clone();
    let client = || program::export_client(&settings);
    let (name, version) = (env!("CARGO_BIN_NAME"), env!("CARGO_PKG_VERSION"));
    let mut export = match Export::start(name, version, plan, client, runtime.handle()) {
        Ok(export) => export,
        Err(problem) => return fail(&Failure::Configuration(vec![problem])),
    };
    Logging {
        variable: "RUST_LOG",
        default: "info",
        format: settings.log_format,
        targets: false,
    }
    .start(export.as_ref().and_then(Export::layer));
    for warning in &settings.export.warnings {
        events::export_differs(warning);
    }
    let ended = runtime.block_on(program::run(settings, secret, export.as_mut()));
    if let Some(export) = export {
        export.finish();
    }
    // A blocked read of standard input must not hold the process up.
    runtime.shutdown_background();
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => fail(&failure),
    }
}

/// Looks at everything instead of doing it.
fn examined(arguments: cli::DoctorArguments, secret: Option<SecretString>) -> ExitCode {
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&Failure::Runtime(error.into())),
    };
    let code = runtime.block_on(doctor::run(arguments, secret));
    runtime.shutdown_background();
    match code {
        Ok(code) => ExitCode::from(code),
        Err(error) => fail(&Failure::Runtime(error.into())),
    }
}

/// The exit code of something that only prints.
fn printed(result: io::Result<()>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&Failure::Runtime(error.into())),
    }
}

/// Says what is wrong, one line each, and gives the exit code for it.
fn fail(failure: &Failure) -> ExitCode {
    let (lines, code) = match failure {
        Failure::Configuration(problems) => (problems.clone(), 64),
        Failure::Runtime(error) => (vec![format!("{error:#}")], 1),
    };
    let mut stderr = io::stderr().lock();
    for line in lines {
        // Nowhere to report it to.
        let _ = writeln!(stderr, "error: {}", line.replace('\n', " "));
    }
    ExitCode::from(code)
}
