//! What a worker keeps of its sleeping slots.

use std::fmt;
use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Room for the states of sleeping slots, of all apps together.
#[derive(Debug)]
pub(crate) struct StateRoom {
    bytes_max: usize,
    taken: AtomicUsize,
}

/// The state of a slot that sleeps. Its room is free again when it is dropped.
pub(crate) struct StoredState {
    bytes: Vec<u8>,
    room: Arc<StateRoom>,
}

/// A state that finds no room.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "its state has {bytes} bytes, and the states of the worker's sleeping slots may have {bytes_max} together, of which \
     {taken} are taken: raise `sleep_state_mib` of [worker]"
)]
pub(crate) struct NoStateRoom {
    bytes: usize,
    bytes_max: usize,
    taken: usize,
}

impl StateRoom {
    pub fn new(bytes_max: usize) -> Arc<Self> {
        Arc::new(Self { bytes_max, taken: AtomicUsize::new(0) })
    }

    /// Keeps a state.
    pub fn keep(self: &Arc<Self>, bytes: Vec<u8>) -> Result<StoredState, NoStateRoom> {
        let len = bytes.len();
        let more = |taken: usize| taken.checked_add(len).filter(|sum| *sum <= self.bytes_max);
        match self.taken.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more) {
            Ok(_) => Ok(StoredState { bytes, room: Arc::clone(self) }),
            Err(taken) => Err(NoStateRoom { bytes: len, bytes_max: self.bytes_max, taken }),
        }
    }
}

impl Deref for StoredState {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for StoredState {
    fn drop(&mut self) {
        self.room.taken.fetch_sub(self.bytes.len(), Ordering::Relaxed);
    }
}

impl fmt::Debug for StoredState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StoredState").field("bytes", &self.bytes.len()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_are_kept_as_long_as_there_is_room_for_them_and_give_it_back() {
        let room = StateRoom::new(10);
        let kept = room.keep(vec![1; 6]).unwrap();
        let refused = room.keep(vec![2; 5]).unwrap_err();
        assert_eq!(refused, NoStateRoom { bytes: 5, bytes_max: 10, taken: 6 });
        assert!(refused.to_string().contains("raise `sleep_state_mib`"), "{refused}");
        let (other, nothing) = (room.keep(vec![3; 4]).unwrap(), room.keep(Vec::new()).unwrap());
        assert_eq!((&*kept, &*other, &*nothing), (&[1; 6][..], &[3; 4][..], &[][..]));
        drop((kept, other));
        assert_eq!(room.keep(vec![2; 10]).unwrap().len(), 10);
    }
}
