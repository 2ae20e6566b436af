//! What whoever asks is told.

use tidegate_store::StoreError;
use tidegate_wire::request::Refusal;

pub(super) fn of_store(error: StoreError) -> Refusal {
    let reason = error.to_string();
    match error {
        StoreError::Full { .. }
        | StoreError::NoRoom { .. }
        | StoreError::TooManyModules { .. }
        | StoreError::TooManyApps { .. } => Refusal::NoRoom { reason },
        StoreError::ModuleTooLarge { .. } => Refusal::BadModule { reason },
        StoreError::UnknownModule { digest } => Refusal::UnknownModule { digest },
        StoreError::UnknownVersion { app, number, .. } => Refusal::UnknownVersion { app, number },
        _ => Refusal::Store { reason },
    }
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
