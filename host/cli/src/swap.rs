//! `bench swap`: versions deployed in turn under load.

use std::path::PathBuf;

use serde_json::json;
use tidegate_base::{AppName, Digest};
use tidegate_bench::{Deployed, Pace, SwapOptions, SwapRecord, Target};
use tidegate_node::ModuleRef;
use tidegate_node::steer::{Cluster, Wish};
use tidegate_wire::report;

use crate::args::SwapArgs;
use crate::bench::failure;
use crate::failure::{Failure, Outcome};
use crate::output::{note, print};
use crate::{module, steer};

pub(crate) fn run(args: SwapArgs) -> Outcome {
    let mut versions = Versions::new(steer::cluster(&args.whom)?, args.app, &args.modules)?;
    let options = SwapOptions {
        connections: args.connections,
        pace: match args.in_flight {
            Some(in_flight) => Pace::Closed { in_flight },
            None => Pace::Open { rate: args.rate },
        },
        payload: args.payload,
        first: args.first,
        swaps: args.swaps,
        warm_up_swaps: args.warm_up_swaps,
        warm_up: args.warm_up,
        pause: args.pause,
        swap_limit: args.swap_limit,
        give_up: args.give_up,
        ..SwapOptions::new(Target { url: args.url, pids: args.pids })
    };
    let deploy = move |number| versions.deploy(number);
    let report = tidegate_bench::swap(&options, deploy, |swap| note(line(swap)));
    let report = report.map_err(failure)?;
    print(&[if args.whom.local.json { report.to_json() } else { report.to_string() }]);
    if report.held {
        return Ok(());
    }
    let why = report.failure.as_deref().unwrap_or("messages or connections did not come through whole");
    Err(Failure::new(Failure::SOFTWARE, format!("the swaps did not hold: {why}")))
}

/// What is deployed in turn.
struct Versions {
    cluster: Cluster,
    app: AppName,
    /// The word with which each answers; its bytes, until it was deployed once.
    modules: Vec<(String, ModuleRef)>,
}

impl Versions {
    fn new(cluster: Cluster, app: AppName, named: &[(String, PathBuf)]) -> Result<Self, Failure> {
        if named.len() < 2 {
            let reason = "--module: name two at least, so that there is something to swap";
            return Err(Failure::new(Failure::USAGE, reason));
        }
        let read = |(word, path): &(String, PathBuf)| Ok((word.clone(), module::read(path)?));
        let modules = named.iter().map(read).collect::<Result<_, Failure>>()?;
        Ok(Self { cluster, app, modules })
    }

    fn deploy(&mut self, number: u32) -> Result<Deployed, String> {
        let at = number as usize % self.modules.len().max(1);
        let (word, module) = self.modules.get_mut(at).ok_or("there are no modules")?;
        let note = format!("swap {number} of a benchmark");
        let wish = Wish { app: self.app.clone(), module: module.clone(), canary: None, note };
        let report = self.cluster.deploy(wish, &mut |_| {}).map_err(|error| error.to_string())?;
        if let ModuleRef::Bytes(bytes) = module {
            // From now on it is there.
            *module = ModuleRef::Digest(Digest::of(bytes));
        }
        match &report.outcome {
            report::Outcome::Committed => Ok(Deployed {
                version: word.clone(),
                pause_us: report.pauses.as_ref().map(|pauses| pauses.longest_us),
                state_bytes: report.state_bytes,
                report: Some(json!(report)),
            }),
            outcome => Err(outcome.to_string()),
        }
    }
}

fn line(swap: &SwapRecord) -> String {
    let ms = |us: Option<f64>| us.map_or_else(|| "?".to_owned(), |us| format!("{:.1} ms", us / 1e3));
    let (gap, calm) = (ms(Some(swap.longest_gap_us)), ms(swap.calm_gap_us));
    let (first, back) = (ms(swap.first_new_us), ms(swap.returned_us));
    format!("swap {}: new code after {first}, done after {back}, longest gap {gap}, calm {calm}", swap.number)
}
