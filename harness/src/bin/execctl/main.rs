//! `execctl`: run programs and move files on remote executors.

use std::{
    io::{self, Write as _},
    process::ExitCode,
};

mod args;
mod attach;
mod cat;
mod config;
mod connect;
mod cp;
mod doctor;
mod escape;
mod exit;
mod forward;
mod handle;
mod http;
mod info;
mod kill;
mod ls;
mod mkdir;
mod output;
mod progress;
mod proxy;
mod ps;
mod rm;
mod run;
mod session;
mod shell;
mod signals;
mod sink;
mod stat;
mod stdin;
mod target;
mod terminal;

use args::{Cli, Global, Subcommand};
use config::Config;
use exit::Failure;
use output::Printer;
use registry_client::{Connector, ConnectorConfig};
use telemetry::{
    export::Export,
    logging::{LogFormat, Logging, SpanLayer},
    trace,
};
use tokio::runtime::Handle;
use tracing::Instrument as _;

fn main() -> ExitCode {
    allocator::keep_freed();
    allocator::share_heap();
    let cli = match args::parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version are answers, not errors. Nothing can be done when printing fails.
            let _ = error.print();
            return if error.use_stderr() {
                ExitCode::from(exit::USAGE)
            } else {
                ExitCode::SUCCESS
            };
        }
    };
    let printer = Printer::new(cli.global.json);
    let runtime = match tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => {
            let failure = Failure::from(harness::Error::io("failed to start the runtime", error));
            return printer.failure(&failure);
        }
    };
    let export = match export(&cli.global, runtime.handle()) {
        Ok(export) => export,
        Err(failure) => return printer.failure(&failure),
    };
    init_logging(cli.global.verbose, export.as_ref().and_then(Export::layer));
    let name = cli.command.as_ref().map_or("execctl", Subcommand::name);
    let span = telemetry::span!("internal", name);
    let given = |name: &str| std::env::var(name.to_ascii_uppercase()).ok();
    let (parent, state) = (given(trace::PARENT), given(trace::STATE));
    trace::follow(&span, parent.as_deref(), state.as_deref());
    // A task like those that feed it: this thread would have to be woken for whatever they have.
    let work = runtime.spawn(dispatch(cli, printer).instrument(span));
    let outcome = match runtime.block_on(work) {
        Ok(outcome) => outcome,
        // Nobody cancels it.
        Err(panicked) => std::panic::resume_unwind(panicked.into_panic()),
    };
    if let Some(export) = export {
        export.finish();
    }
    // A read of standard input or a write to a stopped pager may never return.
    runtime.shutdown_background();
    match outcome {
        Ok(code) => ExitCode::from(code),
        Err(failure) => printer.failure(&failure),
    }
}

async fn dispatch(cli: Cli, printer: Printer) -> Result<u8, Failure> {
    let global = cli.global;
    if cli.check_config || cli.print_config {
        let (config, report) = Config::load_and_report(&global, &config::variables(), None);
        config?;
        let report = if cli.print_config {
            report
        } else {
            String::new()
        };
        return printed(io::stdout().lock().write_all(report.as_bytes()));
    }
    let Some(command) = cli.command else {
        return Err(Failure::usage(
            "a subcommand is missing; see execctl --help",
        ));
    };
    match command {
        Subcommand::Run(args) => run::run(&global, args, printer).await,
        Subcommand::Shell(args) => shell::shell(&global, args, printer).await,
        Subcommand::Attach(args) => attach::attach(&global, args, printer).await,
        Subcommand::Ps(args) => ps::ps(&global, args, printer).await,
        Subcommand::Kill(args) => kill::kill(&global, args, printer).await,
        Subcommand::Cp(args) => cp::cp(&global, args, printer).await,
        Subcommand::Ls(args) => ls::ls(&global, args, printer).await,
        Subcommand::Cat(args) => cat::cat(&global, args).await,
        Subcommand::Rm(args) => rm::rm(&global, args).await,
        Subcommand::Mkdir(args) => mkdir::mkdir(&global, args).await,
        Subcommand::Stat(args) => stat::stat(&global, args, printer).await,
        Subcommand::Info => info::info(&global, printer).await,
        Subcommand::Proxy(args) => proxy::proxy(&global, args, printer).await,
        Subcommand::Forward(args) => forward::forward(&global, args, printer).await,
        Subcommand::Http(args) => http::http(&global, args, printer).await,
        Subcommand::Doctor => doctor::doctor(&global, printer).await,
        Subcommand::Completions(args) => printed(args.run(args::command())),
        Subcommand::Man(args) => printed(args.run(args::command())),
        Subcommand::Reference => {
            let text = settings::generate::reference(&args::command(), &config::PROGRAM);
            printed(io::stdout().lock().write_all(text.as_bytes()))
        }
    }
}

fn printed(result: io::Result<()>) -> Result<u8, Failure> {
    result.map(|()| 0).map_err(|error| Failure::write(&error))
}

/// Begins to export spans, if that is wanted.
fn export(global: &Global, runtime: &Handle) -> Result<Option<Export>, Failure> {
    let (found, ca_file) = Config::export(global, &config::variables())?;
    let client = || {
        let config = ConnectorConfig {
            ca_file,
            ..ConnectorConfig::default()
        };
        Connector::new(config).map(|connector| connector.http().clone())
    };
    let (name, version) = (env!("CARGO_BIN_NAME"), env!("CARGO_PKG_VERSION"));
    Export::start(name, version, found.plan, client, runtime).map_err(Failure::usage)
}

fn init_logging(verbose: u8, spans: Option<SpanLayer>) {
    let default = match verbose {
        0 => "error",
        1 => "harness=info,relay_driver=info,warn",
        _ => "harness=debug,relay_driver=debug,registry_client=debug,info",
    };
    Logging {
        variable: "EXECCTL_LOG",
        default,
        format: LogFormat::Text,
        targets: true,
    }
    .start(spans);
}
