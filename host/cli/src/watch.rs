//! What `dev` says of plugins that change while they run.

use std::time::Duration;

use tidegate_node::Node;
use tidegate_node::watch::{Changed, Watch, Watching};

use crate::failure::Failure;
use crate::output::{Output, note};

/// Begins to watch; the answer is held as long as it should go on.
pub(crate) fn start(watch: Watch, node: &Node, output: Output) -> Result<Option<Watching>, Failure> {
    let Some(deployer) = node.deployer() else { return Ok(None) };
    let tell = move |changed: Changed| tell(&changed, output);
    watch.start(&deployer, tell).map(Some).map_err(Failure::with(Failure::SOFTWARE))
}

fn tell(changed: &Changed, output: Output) {
    match changed {
        Changed::Building { app, paths } => {
            let named = paths.first().map(|path| path.display().to_string()).unwrap_or_default();
            let more = match paths.len() {
                0 | 1 => String::new(),
                many => format!(" and {} more", many - 1),
            };
            note(format_args!("{app}: {named}{more} changed, building"));
        }
        Changed::Same { app } => note(format_args!("{app}: the same code as runs already")),
        Changed::Broken { app, error } => {
            note(format_args!("{app}: {error}\n{app}: the code that ran goes on"))
        }
        Changed::Unread { app, path, error } => {
            note(format_args!(
                "{app}: cannot read {}: {error}\n{app}: the code that ran goes on",
                path.display()
            ));
        }
        Changed::Refused { app, refusal } => {
            note(format_args!("{app}: {refusal}\n{app}: the code that ran goes on"))
        }
        Changed::Waiting { app, refusal } => {
            note(format_args!(
                "{app}: {refusal}
{app}: what was saved is deployed when that is over"
            ));
        }
        Changed::Deployed(report) if output.json => output.deployed(report),
        Changed::Deployed(report) => {
            let app = &report.app;
            if let Some(reason) = report.outcome.reason() {
                return note(format_args!("{app}: {}\n{app}: the code that ran goes on", reason.trim_end()));
            }
            let pause = report.pauses.as_ref().map_or(0, |pauses| pauses.longest_us);
            let held = report.clients.map_or(0, |clients| clients.after);
            let took = Duration::from_micros(report.times.total_us);
            note(format_args!(
                "{app}: version {} runs after {took:.0?}; {held} connected, {} slots paused for {:.1?} at most",
                report.version.number,
                report.switched,
                Duration::from_micros(pause)
            ));
        }
    }
}
