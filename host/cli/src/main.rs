//! The `tidegate` binary: arguments in, exit code out. What the commands do lies in the libraries.

mod args;
mod ask;
mod bench;
mod build;
mod cert;
mod date;
mod failure;
mod module;
mod news;
mod output;
mod run;
mod steer;
mod swap;
mod watch;

use std::process::ExitCode;

use clap::Parser;

use args::{Cli, Command};
use failure::Failure;

fn main() -> ExitCode {
    let command = match Cli::try_parse() {
        Ok(cli) => cli.command,
        Err(error) => return failure::of_arguments(&error),
    };
    let done = match command {
        // First: it must run before anything else opens files or starts threads.
        Command::CompileChild(args) => return tidegate_runtime::compile::child_main(args.orders),
        Command::Dev(args) => run::dev(&args),
        Command::Up(args) => run::up(&args, None),
        Command::Register(args) => run::up(&args, Some(tidegate_base::Role::Register)),
        Command::Gateway(args) => run::up(&args, Some(tidegate_base::Role::Gateway)),
        Command::Worker(args) => run::up(&args, Some(tidegate_base::Role::Worker)),
        Command::New(args) => build::new(&args),
        Command::Build(args) => build::build(&args),
        Command::Deploy(args) => steer::deploy(&args),
        Command::Rollback(args) => steer::rollback(&args),
        Command::History(args) => steer::history(&args),
        Command::Apps(args) => steer::apps(&args),
        Command::Cert(args) => cert::run(args.command),
        Command::Nodes(args) => ask::nodes(&args),
        Command::Status(args) => ask::status(&args),
        Command::Bench(args) => bench::run(args.command),
    };
    done.map_or_else(Failure::report, |()| ExitCode::SUCCESS)
}
