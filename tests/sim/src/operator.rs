//! Whoever deploys, rolls back and cancels.

use std::time::Duration;

use tidegate_base::{AppName, Digest};
use tidegate_register::deployment::{DeployRequest, Record, RecordState};
use tidegate_wire::control::Canary;
use tidegate_wire::report::Outcome;

use crate::random::Random;
use crate::register::Register;

/// A deployment of a module that behaves in one way or another; or of one that was committed before.
pub(crate) fn wish(app: &AppName, register: &Register, random: &mut Random) -> DeployRequest {
    let committed: Vec<&Record> = register
        .store
        .iter()
        .filter(|((of, _), record)| of == app && record.state == RecordState::Ended(Outcome::Committed))
        .map(|(_, record)| record)
        .collect();
    let earlier = committed.get(random.below(committed.len() as u64 * 4 + 1) as usize);
    let canary = random.one_in(3).then(|| Canary {
        percent: 1 + random.below(99) as u8,
        for_ms: 1_000 + random.below(10_000),
        events_min: 1 + random.below(300),
    });
    let request = good(app, random);
    match earlier {
        Some(earlier) => DeployRequest {
            digest: earlier.version.digest,
            again: Some(earlier.version.number),
            canary,
            ..request
        },
        None => {
            let mut bytes = *request.digest.as_bytes();
            bytes[0] = random.below(10) as u8;
            DeployRequest { digest: Digest::from_bytes(bytes), canary, ..request }
        }
    }
}

/// A deployment of a module without faults.
pub(crate) fn good(app: &AppName, random: &mut Random) -> DeployRequest {
    let mut bytes = [9; 32];
    bytes[1..9].copy_from_slice(&random.next().to_be_bytes());
    DeployRequest {
        app: app.clone(),
        digest: Digest::from_bytes(bytes),
        again: None,
        canary: None,
        by: "ann".into(),
        note: String::new(),
        waited: Duration::ZERO,
    }
}
