//! `execctl shell`: the executor's shell on this terminal.

use crate::{
    args::{Global, Shell},
    connect::connect,
    exit::Failure,
    output::Printer,
    run::{self, Job},
    session,
    signals::Signals,
    stdin,
};

/// Runs the subcommand.
pub(crate) async fn shell(global: &Global, args: Shell, printer: Printer) -> Result<u8, Failure> {
    let variables = run::variables(&args.place)?;
    let mut signals = Signals::listen()?;
    let client = signals.unless_ended(connect(global, None)).await?;
    let mut argv = vec![client.info().shell.path];
    if args.login {
        argv.push("-l".to_owned());
    }
    let job = Job {
        argv,
        place: args.place,
        tty: true,
        input: stdin::open().await,
    };
    let outcome = run::execute(&client, job, variables, &mut signals, printer).await;
    session::end(&client, &mut signals).await;
    outcome
}
