//! Command lanes: what somebody outside of the plugins asks of an app's clients, by a pusher. Each thing asked is
//! answered once this gateway has it, with how many clients it is about.

use std::sync::Arc;

use tidegate_base::Command;
use tidegate_link::LaneTx;
use tidegate_wire::command_lane::Asked;
use tidegate_wire::fanout::{Target, target};
use tidegate_wire::{CommandLane, FrameError, RawFrame};

use super::Shard;
use super::apply::refused;
use crate::app::App;
use crate::counters;

/// The sending end of a command lane.
pub(super) struct CommandEnd {
    tx: LaneTx,
    lane: CommandLane,
}

impl CommandEnd {
    pub fn new(tx: LaneTx) -> Self {
        Self { tx, lane: CommandLane::default() }
    }

    /// Its state, while frames are read into it.
    pub fn take(&mut self) -> CommandLane {
        std::mem::take(&mut self.lane)
    }

    /// Its state again; what was answered leaves.
    pub fn put_back(&mut self, mut lane: CommandLane) {
        if let Some(batch) = lane.take_batch() {
            // A closed lane is noticed by its reader.
            let _ = self.tx.send(batch);
        }
        self.lane = lane;
    }

    /// The pusher hears that the lane is lost.
    pub fn reset(self) {
        self.tx.reset();
    }
}

impl Shard {
    /// Does what one frame of a command lane asks, and notes the answer.
    pub(super) fn on_asked(
        &mut self,
        app: &Arc<App>,
        lane: &mut CommandLane,
        frame: &RawFrame<'_>,
    ) -> Result<(), FrameError> {
        match lane.read(frame, self.gateway)? {
            Asked::Command(command) => {
                counters::COMMANDS_FROM_OUTSIDE.inc();
                self.command_from_outside(app, lane, command);
            }
            Asked::Query(query) => lane.answer(&app.hub.lock().answer(&query)),
        }
        Ok(())
    }

    fn command_from_outside(&mut self, app: &Arc<App>, lane: &mut CommandLane, command: Command<'_>) {
        let (bytes, max) = (payload_bytes(&command), app.limits.payload_bytes_max());
        if bytes > max {
            counters::COMMANDS_REFUSED.inc();
            return lane.refused(&format!(
                "the message has {bytes} bytes, the app's messages at most {max}: send a smaller one, or raise \
                 `payload_bytes_max` of the app"
            ));
        }
        if !is_there(app, &command) {
            return lane.reached(0);
        }
        let applied = self.command(app, None, command);
        match &applied {
            Ok(clients) => lane.reached(u32::try_from(*clients).unwrap_or(u32::MAX)),
            Err(error) => lane.refused(&error.to_string()),
        }
        refused(app, applied);
    }
}

/// Whether the one client that a command names is there. True for a command that names an audience.
fn is_there(app: &App, command: &Command<'_>) -> bool {
    let Target::Client(client) = target(command) else { return true };
    let hub = app.hub.lock();
    match command {
        Command::SendTo(..) => hub.is_open(client.connection),
        _ => hub.is_live(client.connection),
    }
}

fn payload_bytes(command: &Command<'_>) -> usize {
    let message = match command {
        Command::SendTo(_, message) | Command::Send { message, .. } => Some(message),
        Command::Close { farewell, .. } => farewell.as_ref(),
        _ => None,
    };
    message.map_or(0, |message| message.payload.len())
}
