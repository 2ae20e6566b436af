//! What is in one slot.

use crate::control::VersionRef;

/// The instances of one slot.
#[derive(Debug, Clone, Default)]
pub(super) struct Slot {
    /// The version that it runs.
    pub runs: Option<VersionRef>,
    /// The version that is ready beside it.
    pub prepared: Option<VersionRef>,
    /// What it was asked to do and has not answered yet.
    pub doing: Option<Doing>,
    /// Versions that failed here and are not tried again: the stable one, the new one, or both.
    pub refused: Vec<VersionRef>,
}

/// What a slot was asked to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Doing {
    Start(VersionRef),
    Prepare(VersionRef),
    Switch(VersionRef),
    Discard,
    Empty,
}

impl Slot {
    /// What it does, or has ready, failed; the version that it is about. None: it did nothing that can fail.
    pub fn fail(&mut self) -> Option<VersionRef> {
        match self.doing {
            Some(Doing::Start(version) | Doing::Prepare(version)) => {
                self.doing = None;
                Some(version)
            }
            Some(Doing::Switch(_)) => {
                self.doing = None;
                self.prepared.take()
            }
            // It is to go anyway; the answer to the discarding is still to come.
            Some(Doing::Discard) => None,
            // What it runs is to go, and there is nothing beside it.
            Some(Doing::Empty) => None,
            None => self.prepared.take(),
        }
    }

    /// Every version that it holds an instance of or starts one of.
    pub fn versions(&self) -> impl Iterator<Item = VersionRef> {
        let doing = match self.doing {
            Some(Doing::Start(version) | Doing::Prepare(version) | Doing::Switch(version)) => Some(version),
            Some(Doing::Discard | Doing::Empty) | None => None,
        };
        [self.runs, self.prepared, doing].into_iter().flatten()
    }

    pub fn check(&self) -> Result<(), String> {
        let fits = match self.doing {
            Some(Doing::Start(_)) => self.runs.is_none() && self.prepared.is_none(),
            Some(Doing::Prepare(version)) => self.prepared.is_none() && self.runs != Some(version),
            Some(Doing::Switch(version)) => self.prepared == Some(version) && self.runs != Some(version),
            Some(Doing::Discard) => self.prepared.is_some(),
            Some(Doing::Empty) => self.runs.is_some() && self.prepared.is_none(),
            None => true,
        };
        match () {
            () if !fits => Err(format!("it does what it cannot: {self:?}")),
            () if self.prepared.is_some() && self.prepared == self.runs => {
                Err(format!("it has ready what it runs: {self:?}"))
            }
            () if self.refused.len() > 2 => {
                Err(format!("it was asked for a version that it refused: {self:?}"))
            }
            () => Ok(()),
        }
    }
}
