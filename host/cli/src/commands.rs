//! From a command to what does it.

use std::process::ExitCode;

use tidegate_base::Role;

use crate::args::Command;
use crate::failure::Failure;
use crate::{ask, bench, build, cert, connections, logs, manage, push, run, steer, tokens, top};

pub(crate) fn run(command: Command) -> ExitCode {
    let done = match command {
        // First: it must run before anything else opens files or starts threads.
        Command::CompileChild(args) => return tidegate_runtime::compile::child_main(args.orders),
        Command::Dev(args) => run::dev(&args),
        Command::Up(args) => run::up(&args, None),
        Command::Register(args) => run::up(&args, Some(Role::Register)),
        Command::Gateway(args) => run::up(&args, Some(Role::Gateway)),
        Command::Worker(args) => run::up(&args, Some(Role::Worker)),
        Command::New(args) => build::new(&args),
        Command::Build(args) => build::build(&args),
        Command::Deploy(args) => steer::deploy(&args),
        Command::Rollback(args) => steer::rollback(&args),
        Command::History(args) => steer::history(&args),
        Command::Apps(args) => manage::apps(&args),
        Command::Tenants(args) => manage::tenants(&args),
        Command::Tokens(args) => tokens::tokens(&args),
        Command::Push(args) => push::push(&args),
        Command::Cert(args) => cert::run(args.command),
        Command::Nodes(args) => ask::nodes(&args),
        Command::Status(args) => ask::status(&args),
        Command::Connections(args) => connections::connections(&args),
        Command::Logs(args) => logs::logs(&args),
        Command::Top(args) => top::top(&args),
        Command::Bench(args) => bench::run(args.command),
    };
    done.map_or_else(Failure::report, |()| ExitCode::SUCCESS)
}
