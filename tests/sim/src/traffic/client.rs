//! A client of a gateway: what is on its socket, where it is bound, and what it has been answered.

use std::collections::VecDeque;

use tidegate_base::ClientId;
use tidegate_wire::Unfinished;

use super::stamp::Stamp;
use crate::ids::LaneId;

#[derive(Debug)]
pub(crate) struct Client {
    pub id: ClientId,
    /// The app's number.
    pub app: usize,
    /// Messages on its socket that the gateway has not taken.
    pub unread: u32,
    pub lane: Option<LaneId>,
    pub attached: bool,
    /// The weight of its events that are not done.
    pub in_flight: u32,
    /// It waits for the lane's credit.
    pub paused: bool,
    /// What a slot that left had not read: goes first.
    pub stash: VecDeque<Unfinished>,
    answered: Option<Stamp>,
}

impl Client {
    pub fn new(id: ClientId, app: usize) -> Self {
        Self {
            id,
            app,
            unread: 0,
            lane: None,
            attached: false,
            in_flight: 0,
            paused: false,
            stash: VecDeque::new(),
            answered: None,
        }
    }

    /// A message of it has not come to its end.
    pub fn waits(&self) -> bool {
        self.unread > 0 || self.in_flight > 0 || !self.stash.is_empty()
    }

    /// Its lane is gone.
    pub fn unbind(&mut self) {
        (self.lane, self.attached, self.in_flight, self.paused) = (None, false, 0, false);
    }

    /// Answers come in the order of the messages, and those of one slot in that of its turns and without a step back
    /// that the slot has not made.
    pub fn on_answer(&mut self, stamp: Stamp) -> Result<(), String> {
        if let Some(last) = self.answered.replace(stamp) {
            let is_next = stamp.message > last.message && (stamp.slot != last.slot || stamp.turn > last.turn);
            if !is_next {
                return Err(format!("{} is answered {stamp:?} after {last:?}", self.id));
            }
        }
        Ok(())
    }
}
