//! What whoever asks is told.

use tidegate_base::AppName;
use tidegate_store::StoreError;
use tidegate_wire::request::Refusal;

use crate::deployment::Record;

pub(crate) fn of_store(error: StoreError) -> Refusal {
    let reason = error.to_string();
    match error {
        StoreError::Full { .. }
        | StoreError::NoRoom { .. }
        | StoreError::TooManyModules { .. }
        | StoreError::TooManyApps { .. }
        | StoreError::TooManyTokens { .. }
        | StoreError::TooManyTenants { .. } => Refusal::NoRoom { reason },
        StoreError::ModuleTooLarge { .. } => Refusal::BadModule { reason },
        StoreError::UnknownModule { digest } => Refusal::UnknownModule { digest },
        StoreError::UnknownVersion { app, number, .. } => Refusal::UnknownVersion { app, number },
        _ => Refusal::Store { reason },
    }
}

/// Another deployment of the app goes on.
pub(super) fn busy(app: AppName, running: Record, now_ms: u64) -> Refusal {
    let since_s = now_ms.saturating_sub(running.at_ms) / 1000;
    let (version, by, doing) = (running.version, running.by.into(), running.state.as_str().into());
    Refusal::Busy { app, version, by, since_s, doing }
}

/// The register has no store.
pub(super) fn no_store() -> Refusal {
    let reason = "this register keeps no versions, so nothing can be deployed: name a folder as `data_dir` in [node] \
                  and start it again";
    Refusal::Unavailable { reason: reason.to_owned() }
}

/// The register ends.
pub(super) fn stopping() -> Refusal {
    Refusal::Unavailable { reason: "the register is stopping: ask again when it runs".to_owned() }
}
