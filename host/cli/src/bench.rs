//! `bench`: loads, the table, and the hidden yardstick.

use std::time::Duration;

use tidegate_bench::{
    Baseline, DensityOptions, DensityPlan, Error, FairnessOptions, Greed, MessageKind, Options, PushOptions,
    SetUp, TableOptions, Target, Work, YardstickCommand,
};

use crate::args::{
    BenchCommand, BenchCommon, BenchPushArgs, DensityArgs, FairnessArgs, GreedArg, SetUpArg, TableArgs,
};
use crate::failure::{Failure, Outcome};
use crate::output::{note, print};
use crate::swap;

pub(crate) fn run(command: BenchCommand) -> Outcome {
    let (common, work) = match command {
        BenchCommand::Echo { common, connections, in_flight, payload } => {
            (common, Work::Echo { connections, in_flight, payload })
        }
        BenchCommand::Open { common, connections, rate, payload, spin } => {
            (common, Work::Open { connections, rate, payload, spin })
        }
        BenchCommand::Broadcast { common, connections, outstanding, payload } => {
            (common, Work::Broadcast { connections, outstanding, payload })
        }
        BenchCommand::Idle { common, connections } => (common, Work::Idle { connections }),
        BenchCommand::Connect { common, at_a_time } => (common, Work::Connect { at_a_time }),
        BenchCommand::Swap(args) => return swap::run(args),
        BenchCommand::Fairness(args) => return fairness(args),
        BenchCommand::Density(args) => return density(args),
        BenchCommand::Push(args) => return push(args),
        BenchCommand::Table(args) => return table(args),
        BenchCommand::Yardstick { kind, address } => {
            let kind = kind.parse().map_err(failure)?;
            return tidegate_bench::yardstick::serve(kind, address).map_err(failure);
        }
    };
    measure(common, work)
}

fn measure(common: BenchCommon, work: Work) -> Outcome {
    let yardstick =
        if common.yardstick { Some(YardstickCommand::this_binary().map_err(failure)?) } else { None };
    let report = tidegate_bench::run(Options {
        work,
        target: Target { url: common.url, pids: common.pids },
        yardstick,
        rounds: common.rounds,
        warm_up: seconds("--warm-up", common.warm_up)?,
        span: seconds("--seconds", common.seconds)?,
        threads: common.threads,
        kind: if common.binary { MessageKind::Binary } else { MessageKind::Text },
    })
    .map_err(failure)?;
    print(&[if common.json { report.to_json() } else { report.to_string() }]);
    Ok(())
}

fn table(args: TableArgs) -> Outcome {
    let options = TableOptions {
        set_up: match args.set_up {
            SetUpArg::OneProcess => SetUp::OneProcess,
            SetUpArg::Quic => SetUp::Quic,
        },
        echo: Target { url: args.echo, pids: args.echo_pid },
        broadcast: args.broadcast.map(|url| Target { url, pids: args.broadcast_pid }),
        yardstick: YardstickCommand::this_binary().map_err(failure)?,
        rounds: args.rounds,
        warm_up: seconds("--warm-up", args.warm_up)?,
        span: seconds("--seconds", args.seconds)?,
        idle_connections: args.idle_connections,
        open_spin: args.spin,
    };
    let table = tidegate_bench::table(&options, |report| note(report)).map_err(failure)?;
    print(&[if args.json { table.to_json() } else { table.to_string() }]);
    Ok(())
}

fn fairness(args: FairnessArgs) -> Outcome {
    let greed = match args.greed {
        GreedArg::Loop => Greed::Loop { say: args.say },
        GreedArg::Flood => Greed::Flood { payload: args.flood_payload, in_flight: args.in_flight },
    };
    let options = FairnessOptions {
        connections: args.connections,
        rate: args.rate,
        payload: args.payload,
        neighbour_connections: args.neighbour_connections,
        greed,
        rounds: args.rounds,
        warm_up: seconds("--warm-up", args.warm_up)?,
        span: seconds("--seconds", args.seconds)?,
        rest: seconds("--rest", args.rest)?,
        ..FairnessOptions::new(Target { url: args.url, pids: args.pids }, args.neighbour)
    };
    let report = tidegate_bench::fairness(&options, |round| note(round)).map_err(failure)?;
    print(&[if args.json { report.to_json() } else { report.to_string() }]);
    Ok(())
}

fn density(args: DensityArgs) -> Outcome {
    let DensityArgs { apps, distinct, min_slots, listen, .. } = args;
    if let (Some(folder), Some(module)) = (args.write, args.module) {
        let plan = DensityPlan { folder, apps, module, distinct, min_slots, listen };
        let settings = tidegate_bench::write_density(&plan).map_err(failure)?;
        let settings = settings.display();
        print(&[match args.json {
            true => serde_json::json!({ "settings": settings.to_string(), "apps": apps }).to_string(),
            false => format!("wrote {settings}: start it with `tidegate up -c {settings}`"),
        }]);
        return Ok(());
    }
    let baseline = match args.baseline {
        Some(bytes) => Some(Baseline::Bytes(bytes)),
        None => (!args.baseline_pids.is_empty()).then_some(Baseline::Pids(args.baseline_pids)),
    };
    let options = DensityOptions {
        baseline,
        hold: seconds("--seconds", args.seconds)?,
        patience: seconds("--patience", args.patience)?,
        ..DensityOptions::new(Target { url: args.url, pids: args.pids }, apps)
    };
    let report = tidegate_bench::density(&options).map_err(failure)?;
    print(&[if args.json { report.to_json() } else { report.to_string() }]);
    Ok(())
}

fn push(args: BenchPushArgs) -> Outcome {
    let token = match args.token_file {
        Some(path) => std::fs::read_to_string(&path).map_err(|error| {
            Failure::new(Failure::USAGE, format!("--token-file {}: {error}", path.display()))
        })?,
        None => std::env::var("TIDEGATE_TOKEN").map_err(|_| {
            Failure::new(
                Failure::USAGE,
                "there is no token: set TIDEGATE_TOKEN, or name a file with --token-file",
            )
        })?,
    };
    let path = format!("{}/{}/{}", args.app.tenant(), args.app.app(), args.verb);
    let options = PushOptions {
        pids: args.pids,
        connections: args.connections,
        rounds: args.rounds,
        warm_up: seconds("--warm-up", args.warm_up)?,
        span: seconds("--seconds", args.seconds)?,
        ..PushOptions::new(args.url, path, token.trim().to_owned(), args.body)
    };
    let report = tidegate_bench::push(&options, |round| note(round)).map_err(failure)?;
    print(&[if args.json { report.to_json() } else { report.to_string() }]);
    Ok(())
}

fn seconds(flag: &str, value: f64) -> Result<Duration, Failure> {
    Duration::try_from_secs_f64(value).map_err(|error| {
        Failure::new(Failure::USAGE, format!("{flag}: {error}; give seconds, such as 5 or 0.5"))
    })
}

pub(crate) fn failure(error: Error) -> Failure {
    let code = match &error {
        Error::Url { .. } | Error::Option { .. } => Failure::USAGE,
        Error::Connect { .. } | Error::Handshake { .. } | Error::OpenFiles { .. } => Failure::UNAVAILABLE,
        _ => Failure::SOFTWARE,
    };
    Failure::new(code, error.to_string())
}
