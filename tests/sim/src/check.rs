//! What must hold, after every step and at the end of a deployment.

use std::time::Duration;

use tidegate_base::AppName;
use tidegate_register::deployment::RecordState;
use tidegate_wire::control::VersionRef;
use tidegate_wire::report::{Audit, Outcome, SwapReport};

use crate::cluster::Cluster;
use crate::register::Register;

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
    told(cluster, report)?;
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

/// A slot moves to an earlier version only if the later one has not been committed.
pub(crate) fn step_back(
    register: &Register,
    app: &AppName,
    from: Option<VersionRef>,
    to: VersionRef,
) -> Result<(), String> {
    let Some(from) = from.filter(|from| from.number > to.number) else { return Ok(()) };
    let written = register.store.get(&(app.clone(), from.number)).map(|record| &record.state);
    match written {
        Some(state) if *state != RecordState::Ended(Outcome::Committed) => Ok(()),
        _ => Err(format!("a slot of {app} goes from {from}, which is {written:?}, back to {to}")),
    }
}

/// What a deployment is told to have done to messages.
fn told(cluster: &Cluster, report: &SwapReport) -> Result<(), String> {
    if report.audit != Audit::default() {
        return Err(format!("{}: {:?}", report.version, report.audit));
    }
    let app = cluster.apps.iter().position(|app| *app == report.app).unwrap_or_default();
    for at in &report.turns {
        let worker = cluster.workers.iter().position(|worker| worker.name == at.worker);
        if !worker.is_some_and(|worker| cluster.ledger.has_divided(worker, app, at)) {
            return Err(format!("{}: no slot has switched as it is told: {at:?}", report.version));
        }
    }
    let lost = report.clients.map_or(0, |clients| clients.lost);
    if lost > cluster.ledger.totals.lost || (lost > 0 && !may_lose(cluster)) {
        return Err(format!("{}: {lost} events are said to be lost", report.version));
    }
    Ok(())
}

/// When every message has come to its end.
pub(crate) fn messages(cluster: &Cluster) -> Result<(), String> {
    if let Some((client, number)) = cluster.ledger.pending() {
        return Err(format!("nothing has become of message {number} of {client}"));
    }
    let lost = cluster.ledger.totals.lost;
    let counts = cluster.gateways.iter().flat_map(|gateway| &gateway.counts);
    let counted: u64 = counts.map(|counts| counts.lost).sum();
    match counted == lost && (lost == 0 || may_lose(cluster)) {
        true => Ok(()),
        false => Err(format!("{lost} messages are lost, {counted} are counted: {:?}", cluster.summary)),
    }
}

/// Whether anything has happened by which messages are lost.
fn may_lose(cluster: &Cluster) -> bool {
    cluster.summary.worker_deaths + cluster.summary.lanes_broken > 0
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
