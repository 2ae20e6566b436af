//! `logs`: the last lines of an app's log on all workers, and what comes.

use std::collections::BTreeSet;
use std::thread::sleep;
use std::time::Duration;

use serde_json::json;
use tidegate_node::inquiry::Inquiry;
use tidegate_node::steer::SteerError;
use tidegate_wire::question::{Cursors, LogFilter, Logs, Missing, WorkerLine};
use tidegate_wire::request::Refusal;

use crate::args::LogsArgs;
use crate::connections::say_missing;
use crate::date;
use crate::failure::{Failure, Outcome};
use crate::output::{is_printed, note, plain};
use crate::steer::cluster;

/// How often somebody who follows asks.
const EVERY: Duration = Duration::from_millis(500);
/// How long he waits when nobody has answered.
const AGAIN: Duration = Duration::from_secs(2);
/// Lines of each worker that come at a time.
const PAGE: u32 = 1000;

pub(crate) fn logs(args: &LogsArgs) -> Outcome {
    let LogsArgs { app, follow, lines, level, whom } = args;
    let mut inquiry = Inquiry::new(cluster(whom)?);
    let mut of = LogFilter { app: app.clone(), level: *level, limit: *lines, after: Cursors::default() };
    let first = inquiry.logs(&of)?;
    if first.workers == 0 && first.missing.is_empty() && !follow {
        let text = format!("no worker has app {app}: look at `tidegate apps` and `tidegate nodes`");
        return Err(Failure::new(Failure::UNAVAILABLE, text));
    }
    say_missing(&first.missing);
    let mut missing = names(&first.missing);
    let mut is_open = show(&first, whom.local.json);
    of = LogFilter { limit: PAGE, after: first.next, ..of };
    while *follow && is_open {
        sleep(EVERY);
        match inquiry.logs(&of) {
            Ok(more) => {
                // Each is named once, until it has answered.
                let now = names(&more.missing);
                let news: Vec<_> =
                    more.missing.iter().filter(|it| !missing.contains(it.node.as_str())).cloned().collect();
                say_missing(&news);
                missing = now;
                is_open = show(&more, whom.local.json);
                of.after = more.next;
            }
            Err(error) => {
                let failure = lasting(error)?;
                note(format_args!("{failure}; asking again"));
                sleep(AGAIN);
            }
        }
    }
    inquiry.close();
    Ok(())
}

/// An error after which asking again may help; others end the command.
fn lasting(error: SteerError) -> Result<SteerError, Failure> {
    match error {
        SteerError::Refused(Refusal::TooMuch { .. } | Refusal::Unavailable { .. })
        | SteerError::Node(_)
        | SteerError::Register(_) => Ok(error),
        ended => Err(ended.into()),
    }
}

fn names(missing: &[Missing]) -> BTreeSet<String> {
    missing.iter().map(|it| it.node.to_string()).collect()
}

/// Prints lines. False: nobody reads them any more.
fn show(logs: &Logs, is_json: bool) -> bool {
    let mut lines = Vec::new();
    if logs.missed > 0 {
        lines.push(match is_json {
            true => json!({ "missed": logs.missed }).to_string(),
            false => format!("... {} lines are not there any more", logs.missed),
        });
    }
    lines.extend(logs.lines.iter().map(|line| if is_json { json!(line).to_string() } else { written(line) }));
    is_printed(&lines)
}

/// A line for people: when, where, how loud, what. What the plugin wrote comes behind a colon.
fn written(WorkerLine { worker, line }: &WorkerLine) -> String {
    let (when, level) = (date::of_epoch_ms(line.at_ms), line.level.name());
    let mark = if line.by_plugin { ":" } else { " --" };
    // A backtrace has lines of its own.
    let text: Vec<_> = line.text.trim_end().lines().map(plain).collect();
    format!("{when} {worker}/{} v{} {level:5}{mark} {}", line.slot, line.version, text.join("\n    "))
}
