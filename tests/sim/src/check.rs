//! What must hold, after every step and at the end of a deployment.

use std::time::Duration;

use tidegate_base::AppName;
use tidegate_register::deployment::RecordState;
use tidegate_wire::report::{Outcome, SwapReport};

use crate::cluster::Cluster;

/// After every step.
pub(crate) fn step(cluster: &Cluster) -> Result<(), String> {
    if let Some(machine) = &cluster.register.machine {
        machine.check_invariants()?;
        if machine.poll_timeout().is_some_and(|at| at <= cluster.now) {
            return Err("a time-out that has passed is asked for again".into());
        }
    }
    for worker in &cluster.workers {
        for (name, app) in &worker.apps {
            app.rollout.check_invariants().map_err(|broken| format!("{} {name}: {broken}", worker.name))?;
            for slot in &app.slots {
                let Some(runs) = slot.runs.filter(|runs| runs.number > 0) else { continue };
                let written =
                    cluster.register.store.get(&(name.clone(), runs.number)).map(|record| &record.state);
                if matches!(written, None | Some(RecordState::Prepare)) {
                    return Err(format!("a slot runs {runs} of {name}, which is written as {written:?}"));
                }
            }
        }
    }
    Ok(())
}

/// At the end of a deployment, as it is told.
pub(crate) fn ended(cluster: &Cluster, report: &SwapReport) -> Result<(), String> {
    let number = report.version.number;
    let stable = report.previous.map_or(0, |version| version.number);
    // Whoever came after the decision is on the way to it.
    let decided = Duration::from_millis(report.at_ms) + Duration::from_micros(report.times.total_us);
    for worker in &cluster.workers {
        let reported = worker.session.and_then(|session| cluster.register.reported.get(&session));
        let (Some(at), Some(app)) = (reported, worker.apps.get(&report.app)) else { continue };
        if *at > decided {
            continue;
        }
        let mut runs = app.slots.iter().map(|slot| slot.runs.map(|version| version.number));
        let fits = match &report.outcome {
            Outcome::Committed => runs.all(|runs| runs == Some(number)),
            // One that was never told to go back has touched nothing, however mixed an earlier one has left it.
            Outcome::RolledBack { .. } if report.times.back_us == 0 => runs.all(|runs| runs != Some(number)),
            Outcome::RolledBack { .. } => runs.all(|runs| runs.is_none_or(|runs| runs == stable)),
            Outcome::Mixed { reason } => !reason.is_empty(),
        };
        if !fits {
            return Err(format!("{} of {}: {} has {:?}", report.outcome, report.app, worker.name, app.slots));
        }
    }
    Ok(())
}

/// When nothing goes on any more.
pub(crate) fn history(cluster: &Cluster, app: &AppName) -> Result<(), String> {
    let records = cluster.register.store.iter().filter(|((of, _), _)| of == app);
    for (expected, ((_, number), record)) in (1..).zip(records) {
        if *number != expected || record.version.number != expected {
            return Err(format!("{app}: number {number} follows {}", expected - 1));
        }
        if !matches!(record.state, RecordState::Ended(_)) || record.report.is_none() {
            return Err(format!("{app}: version {number} is still {:?}", record.state));
        }
    }
    Ok(())
}
