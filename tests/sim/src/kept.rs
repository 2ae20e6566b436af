//! What a worker keeps of the states of slots that switched, to go back to: as its conductor does.

use std::collections::BTreeMap;

use tidegate_wire::control::VersionRef;

/// What a fresh instance gets to know.
#[derive(Debug)]
pub(crate) enum Hand {
    /// What the instance knows that runs.
    Over,
    /// What is kept of the last instance of the version to which the slot goes back, if anything is.
    Kept(Option<Vec<u8>>),
}

#[derive(Debug, Default)]
pub(crate) struct Keeper {
    kept: BTreeMap<u32, Kept>,
}

#[derive(Debug)]
struct Kept {
    of: VersionRef,
    state: Option<Vec<u8>>,
    /// The slot could not go back with what it knows now.
    is_wanted: bool,
}

impl Keeper {
    pub fn hand(&self, slot: u32, to: VersionRef) -> Hand {
        match self.kept.get(&slot).filter(|kept| kept.is_wanted && kept.of == to) {
            Some(kept) => Hand::Kept(kept.state.clone()),
            None => Hand::Over,
        }
    }

    pub fn switched(&mut self, slot: u32, from: Option<VersionRef>, state: Option<Vec<u8>>, is_lost: bool) {
        match from {
            Some(of) if !is_lost => drop(self.kept.insert(slot, Kept { of, state, is_wanted: false })),
            _ => drop(self.kept.remove(&slot)),
        }
    }

    /// True: a slot that goes back to the stable version is to try once more, with what is kept.
    pub fn not_switched(&mut self, slot: u32, to: VersionRef, state_is_gone: bool) -> bool {
        match self.kept.get_mut(&slot).filter(|kept| kept.of == to) {
            Some(kept) => !std::mem::replace(&mut kept.is_wanted, true),
            None if state_is_gone => {
                self.kept.insert(slot, Kept { of: to, state: None, is_wanted: true });
                true
            }
            None => false,
        }
    }

    pub fn forget(&mut self) {
        self.kept.clear();
    }
}
