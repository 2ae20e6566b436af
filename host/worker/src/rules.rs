//! What one turn may ask for, and a slot have.

use std::borrow::Cow;

use tidegate_base::{Command, Exports, Message};

use crate::settings::WorkerApp;

/// What one turn may ask for.
#[derive(Debug, Default)]
pub(crate) struct Rules {
    commands: usize,
    output_bytes: usize,
}

impl Rules {
    /// Counts a command, or a change of a timer, in. Else: the limit that it breaks.
    pub fn count(&mut self, app: &WorkerApp) -> Result<(), String> {
        self.commands += 1;
        let max = app.commands_per_turn_max;
        if self.commands > max {
            return Err(format!("the turn asks for more than {max} commands (commands_per_turn_max)"));
        }
        Ok(())
    }

    /// Counts a command in, with its bytes. Else: the limit that it breaks.
    pub fn admit(&mut self, app: &WorkerApp, command: &Command<'_>) -> Result<(), String> {
        self.count(app)?;
        command.check().map_err(|broken| broken.to_string())?;
        let payload = payload(command).map_or(0, |m| m.payload.len());
        if payload > app.payload_bytes_max {
            let max = app.payload_bytes_max;
            return Err(format!("a message of {payload} bytes; the app allows {max} (payload_bytes_max)"));
        }
        self.output_bytes += payload + size_hint(command);
        if self.output_bytes > app.turn_output_bytes_max {
            let max = app.turn_output_bytes_max;
            return Err(format!("the turn's commands have more than {max} bytes (turn_output_bytes_max)"));
        }
        Ok(())
    }
}

/// How many timers a slot may have.
#[derive(Debug, Clone, Copy)]
pub(crate) struct TimerRule {
    pub has_callback: bool,
    timers_max: usize,
}

impl TimerRule {
    pub fn of(app: &WorkerApp) -> Self {
        let has_callback = app.exports().has(Exports::TIMER);
        Self { has_callback, timers_max: app.timers_max }
    }

    /// Whether there may be so many. Else: why not.
    pub fn admit(self, timers: usize) -> Result<(), String> {
        let max = self.timers_max;
        match self.has_callback {
            false => Err("a timer is set, but the plugin has no on_timer callback".into()),
            true if timers > max => {
                Err(format!("the slot has {max} timers, the app allows no more (timers_max)"))
            }
            true => Ok(()),
        }
    }
}

fn payload<'a>(command: &Command<'a>) -> Option<Message<'a>> {
    match command {
        Command::SendTo(_, message) | Command::Send { message, .. } => Some(*message),
        Command::Close { farewell, .. } => *farewell,
        _ => None,
    }
}

/// About the bytes of a command without its payload.
fn size_hint(command: &Command<'_>) -> usize {
    let names = |names: &[Cow<'_, str>]| names.iter().map(|n| n.len() + 1).sum::<usize>();
    let audience = |to: &tidegate_base::Audience<'_>| match to {
        tidegate_base::Audience::All => 0,
        tidegate_base::Audience::Clients(clients) => clients.len() * 4,
        tidegate_base::Audience::Uids(list) | tidegate_base::Audience::Groups(list) => names(list),
    };
    16 + match command {
        Command::Send { to, except, .. }
        | Command::Close { to, except, .. }
        | Command::Destroy { to, except } => audience(to) + except.len() * 4,
        Command::SetSession(_, session) => session.as_ref().map_or(0, |s| s.len()),
        Command::UpdateSession(_, text) | Command::Bind(_, text) | Command::Join(_, text) => text.len(),
        _ => 0,
    }
}
