//! `deploy`, `rollback` and `history`: what runs where, and what should.

use serde_json::json;
use tidegate_base::AppName;
use tidegate_link::certs::Identity;
use tidegate_node::steer::{Cluster, SteerError, Wish};
use tidegate_wire::control::Canary;
use tidegate_wire::report::{self, SwapReport};
use tidegate_wire::request::{AppOverview, EntryState, HistoryEntry, Refusal, WorkerOverview};

use crate::args::{DeployArgs, HistoryArgs, RollbackArgs, Whom};
use crate::failure::{Failure, Outcome};
use crate::news::News;
use crate::output::{columns, note, print, print_json};
use crate::{date, module, run};

pub(crate) fn deploy(args: &DeployArgs) -> Outcome {
    let cluster = cluster(&args.whom)?;
    let app = &args.app;
    if args.cancel {
        cluster.cancel(app)?;
        note(format_args!("{app}: the deployment goes back; `tidegate history {app}` tells when it has"));
        return Ok(());
    }
    let canary = args.canary.map(|percent| Canary {
        percent,
        for_ms: u64::try_from(args.window.as_millis()).unwrap_or(u64::MAX),
        events_min: args.events_min.unwrap_or(Canary::EVENTS_MIN),
    });
    let module = module::find(app, args.module.as_deref(), args.whom.local.config.as_deref())?;
    let wish = Wish { app: app.clone(), module, canary, note: args.note.clone() };
    let mut news = News::stderr(args.whom.local.json);
    let ended = cluster.deploy(wish, &mut |progress| news.tell(&progress));
    news.end();
    show(&ended?, args.whom.local.json)
}

pub(crate) fn rollback(args: &RollbackArgs) -> Outcome {
    let cluster = cluster(&args.whom)?;
    let mut news = News::stderr(args.whom.local.json);
    let ended = cluster.rollback(&args.app, args.to, args.note.clone(), &mut |progress| news.tell(&progress));
    news.end();
    show(&ended?, args.whom.local.json)
}

pub(crate) fn history(args: &HistoryArgs) -> Outcome {
    let cluster = cluster(&args.whom)?;
    let app = &args.app;
    if let Some(number) = args.show {
        return show_version(app, number, cluster.history(app, u32::MAX)?, args.whom.local.json);
    }
    let entries = cluster.history(app, args.limit)?;
    if args.whom.local.json {
        print_json(&json!(entries));
    } else {
        print(&columns(&entries.iter().map(line_of_history).collect::<Vec<_>>()));
    }
    Ok(())
}

/// Whom these arguments name.
pub(crate) fn cluster(whom: &Whom) -> Result<Cluster, Failure> {
    if let (Some(address), Some(identity)) = (whom.register, &whom.identity) {
        let identity = Identity::load(identity).map_err(Failure::with(Failure::CONFIG))?;
        return Ok(Cluster::Register { address, identity });
    }
    let data_dir = match &whom.local.data_dir {
        Some(folder) => folder.clone(),
        None => run::data_dir(whom.local.config.as_ref())?,
    };
    let by = ["USER", "LOGNAME"].into_iter().find_map(|name| std::env::var(name).ok());
    Ok(Cluster::Node { data_dir, by: by.filter(|name| !name.is_empty()) })
}

/// Prints the report; a deployment that did not commit is a failure.
fn show(report: &SwapReport, json: bool) -> Outcome {
    if json {
        print_json(&json!(report));
    } else {
        print(&[report.to_string().trim_end().to_owned()]);
    }
    let (app, number) = (&report.app, report.version.number);
    let what = match &report.outcome {
        report::Outcome::Committed => return Ok(()),
        report::Outcome::RolledBack { .. } if report.away.is_empty() => "was rolled back: no slot runs it",
        report::Outcome::RolledBack { .. } => {
            "was rolled back: no slot runs it, of the workers that the register can reach"
        }
        report::Outcome::Mixed { .. } => "is neither in nor out: `tidegate apps` shows which slots run what",
    };
    Err(Failure::new(Failure::SOFTWARE, format!("{app}: version {number} {what}; the report says why")))
}

fn show_version(app: &AppName, number: u32, entries: Vec<HistoryEntry>, json: bool) -> Outcome {
    let Some(entry) = entries.into_iter().find(|entry| entry.version.number == number) else {
        return Err(SteerError::Refused(Refusal::UnknownVersion { app: app.clone(), number }).into());
    };
    if json {
        print_json(&json!(entry));
        return Ok(());
    }
    let mut lines = vec![line_of_history(&entry).join("  ").trim_end().to_owned()];
    lines.extend(entry.report.map(|report| report.to_string().trim_end().to_owned()));
    print(&lines);
    Ok(())
}

fn line_of_history(entry: &HistoryEntry) -> Vec<String> {
    let HistoryEntry { version, again, by, note, at_ms, state, .. } = entry;
    let again = again.map(|earlier| format!("again version {earlier}"));
    let note = (!note.is_empty()).then(|| first_line(note));
    let reason = match state {
        EntryState::Ended(outcome) => outcome.reason().map(first_line),
        EntryState::Running(_) => None,
    };
    let words: Vec<_> = [again, note, reason].into_iter().flatten().collect();
    vec![
        version.number.to_string(),
        date::of_epoch_ms(*at_ms),
        short(version.digest),
        state.as_str().to_owned(),
        by.clone(),
        words.join("; "),
    ]
}

pub(crate) fn line_of_app(overview: &AppOverview) -> Vec<String> {
    let AppOverview { app, stable, deploying, workers, created } = overview;
    let stable = match (stable, created) {
        (Some(version), _) => version.to_string(),
        (None, Some(_)) => "nothing deployed".to_owned(),
        (None, None) => "what the settings name".to_owned(),
    };
    let slots: usize = workers.iter().map(|worker| worker.slots.len()).sum();
    let deploying = deploying.as_ref().map(|deploying| {
        let version = deploying.version;
        let of_it = |slot: &&Option<u32>| **slot == Some(version.number);
        let switched = workers.iter().flat_map(|worker| &worker.slots).filter(of_it).count();
        format!("{} on {switched} of them, {} (by {})", version, deploying.doing, deploying.by)
    });
    // Deployments end; why a worker does not get on is there as long as it is so.
    let suspended =
        created.as_ref().and_then(|created| match (created.suspended, created.tenant_suspended) {
            (true, _) => Some("suspended".to_owned()),
            (false, true) => Some("its tenant is suspended".to_owned()),
            (false, false) => None,
        });
    let last = [suspended, deploying.or_else(|| strays(overview)), failures(overview)];
    let last: Vec<_> = last.into_iter().flatten().collect();
    let many = |count: usize, noun: &str| format!("{count} {noun}{}", if count == 1 { "" } else { "s" });
    let mut place = format!("{} on {}", many(slots, "slot"), many(workers.len(), "worker"));
    let asleep: u32 = workers.iter().map(|worker| worker.asleep).fold(0, u32::saturating_add);
    if asleep > 0 {
        place.push_str(&format!(", {asleep} asleep"));
    }
    vec![app.to_string(), stable, place, overview.health().to_string(), last.join("; ")]
}

/// Why workers do not get on.
fn failures(overview: &AppOverview) -> Option<String> {
    let of = |it: &WorkerOverview| {
        let failure = it.failure.as_ref()?;
        Some(format!("{}: {}", it.worker, first_line(&failure.to_string())))
    };
    let troubles = overview.created.iter().flat_map(|created| &created.troubles);
    let troubles = troubles.map(|it| format!("{}: {}", it.node.name, first_line(&it.reason)));
    let failures: Vec<_> = overview.workers.iter().filter_map(of).chain(troubles).collect();
    (!failures.is_empty()).then(|| failures.join("; "))
}

/// Slots that run something else than they should, though nothing is being deployed.
fn strays(overview: &AppOverview) -> Option<String> {
    let should = overview.stable?.number;
    let of_worker = overview.workers.iter().flat_map(|worker| {
        let slots = (0_u32..).zip(&worker.slots);
        slots.filter_map(move |(slot, runs)| Some((worker, slot, (*runs)?)))
    });
    let strays = of_worker.filter(|(_, _, runs)| *runs != should);
    let strays: Vec<_> =
        strays.map(|(it, slot, runs)| format!("slot {slot} of {} runs version {runs}", it.worker)).collect();
    (!strays.is_empty()).then(|| strays.join(", "))
}

fn short(digest: tidegate_base::Digest) -> String {
    format!("sha256:{}", digest.to_string().get(..12).unwrap_or_default())
}

/// Enough of a text for a line of a list.
fn first_line(text: &str) -> String {
    const CHARS_MAX: usize = 100;
    let line = text.lines().next().unwrap_or_default();
    match line.char_indices().nth(CHARS_MAX) {
        Some((at, _)) => format!("{}…", line.get(..at).unwrap_or_default()),
        None => line.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use tidegate_base::{Digest, NodeName, Role};
    use tidegate_wire::control::{Failure, Stage, VersionRef, VersionTally};
    use tidegate_wire::request::{Created, Deploying, NodeRef, NodeTrouble};

    use super::*;

    fn version(number: u32) -> VersionRef {
        VersionRef { number, digest: Digest::of(b"") }
    }

    fn overview(slots: [&[Option<u32>]; 2]) -> AppOverview {
        let worker = |(name, slots): (&str, &[Option<u32>])| {
            let worker = NodeName::new(name).unwrap();
            let tallies = vec![VersionTally { version: 2, turns: 5, traps: 1, ..VersionTally::default() }];
            WorkerOverview { worker, slots: slots.to_vec(), step: None, failure: None, tallies, asleep: 0 }
        };
        let workers = ["w1", "w2"].into_iter().zip(slots).map(worker).collect();
        let app = AppName::new("chat").unwrap();
        AppOverview { app, stable: Some(version(2)), deploying: None, workers, created: None }
    }

    #[test]
    fn an_app_is_a_line_with_what_it_runs_where() {
        let calm = overview([&[Some(2), Some(2)], &[None]]);
        let (version_2, health) =
            ("version 2 (sha256:e3b0c44298fc)", "10 turns, 0 errors, 2 traps, 0 overruns");
        let line = ["default/chat", version_2, "3 slots on 2 workers", health, ""];
        assert_eq!(line_of_app(&calm), line);
        let mut mixed = overview([&[Some(2)], &[Some(2), Some(3)]]);
        assert_eq!(line_of_app(&mixed)[4], "slot 1 of w2 runs version 3");
        mixed.workers[1].failure = Some(Failure::new(Some(1), Stage::Restore, "no\n 0: restore\n".into()));
        let why = "slot 1 of w2 runs version 3; w2: slot 1, restore in the new version: no";
        assert_eq!(line_of_app(&mixed)[4], why);
        mixed.workers[1].failure = None;
        mixed.workers[0].asleep = 1;
        assert_eq!(line_of_app(&mixed)[2], "3 slots on 2 workers, 1 asleep");
        let (by, doing) = ("ann".into(), "switching".into());
        let deploying = Some(Deploying { version: version(3), by, at_ms: 0, doing });
        let line = line_of_app(&AppOverview { deploying, ..mixed });
        assert_eq!(line[4], "version 3 (sha256:e3b0c44298fc) on 1 of them, switching (by ann)");
        let fresh = AppOverview { stable: None, ..overview([&[Some(0)], &[]]) };
        let quiet = "0 turns, 0 errors, 0 traps, 0 overruns";
        assert_eq!(line_of_app(&fresh)[1..], ["what the settings name", "1 slot on 2 workers", quiet, ""]);
    }

    #[test]
    fn an_app_that_was_made_at_run_time_says_that_it_is_suspended_and_what_nodes_cannot_do() {
        let node = NodeRef { role: Role::Worker, name: NodeName::new("w2").unwrap() };
        let app = AppName::new("chat").unwrap();
        let troubles = vec![NodeTrouble { node, app, reason: "no room".into() }];
        let created = |suspended, tenant_suspended, troubles| {
            let spec = Box::default();
            Some(Created { suspended, tenant_suspended, spec, troubles })
        };
        let fresh = AppOverview { stable: None, ..overview([&[], &[]]) };
        let line = |created| line_of_app(&AppOverview { created, ..fresh.clone() });
        assert_eq!(
            line(created(false, false, Vec::new()))[1..3],
            ["nothing deployed", "0 slots on 2 workers"]
        );
        assert_eq!(line(created(false, true, Vec::new()))[4], "its tenant is suspended");
        assert_eq!(line(created(true, true, troubles))[4], "suspended; w2: no room");
    }

    #[test]
    fn a_line_of_a_history_has_the_first_line_of_the_reason() {
        let reason = format!("w2: slot 0, on-worker-start: {}\n 0: start", "é".repeat(100));
        let entry = HistoryEntry {
            version: version(7),
            again: Some(4),
            by: "ann".into(),
            note: "as before".into(),
            at_ms: 1_000,
            canary: None,
            state: EntryState::Ended(report::Outcome::RolledBack { reason }),
            report: None,
        };
        let line = line_of_history(&entry);
        let fixed = ["7", "1970-01-01 00:00:01", "sha256:e3b0c44298fc", "rolled back", "ann"];
        assert_eq!(line[..5], fixed);
        let words = &line[5];
        assert!(words.starts_with("again version 4; as before; w2: slot 0"), "{words}");
        assert!(words.ends_with("éé…") && !words.contains("0: start"), "{words}");
    }
}
