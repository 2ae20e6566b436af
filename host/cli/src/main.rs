//! The `tidegate` binary: arguments in, exit code out. What the commands do lies in the libraries.
// They panic when nothing can be printed, as on a full disk: `output` does not.
#![warn(clippy::print_stderr, clippy::print_stdout)]

mod args;
mod ask;
mod bench;
mod build;
mod cert;
mod commands;
mod connections;
mod date;
mod failure;
mod logs;
mod manage;
mod module;
mod news;
mod notify;
mod output;
mod push;
mod run;
mod steer;
mod swap;
mod tokens;
mod top;
mod watch;

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    match args::Cli::try_parse() {
        Ok(cli) => commands::run(cli.command),
        Err(error) => failure::of_arguments(&error),
    }
}
