//! Apps that come and go while the shard runs. Both cost a look at every connection of the shard, so that nothing about it
//! is kept for each message.

use std::net::TcpListener;
use std::sync::Arc;
use std::time::Instant;

use tidegate_base::{CloseCode, CloseReason};

use super::Shard;
use super::accept::Serves;
use super::conn::{Conn, Phase};
use super::deadlines::Due;
use crate::app::{App, Life};
use crate::settings::ListenerSettings;

impl Shard {
    /// An app was added that has ports of its own.
    pub(super) fn listen_for(&mut self, app: &Arc<App>, sockets: Vec<(ListenerSettings, TcpListener)>) {
        if self.stopping || app.life() == Life::Removed {
            return;
        }
        for (settings, socket) in sockets {
            let address = settings.address;
            if let Err(error) = self.listen(Serves::App(app.clone()), settings, socket) {
                tracing::error!(app = %app.name, %address, %error, "a shard cannot listen on a port of the app");
            }
        }
    }

    /// An app takes no clients any more: those that are there are told, and on-close is sent for them.
    pub(super) fn end_app(&mut self, app: &Arc<App>, epoch: u16) {
        if app.life() == Life::Removed {
            self.stop_listening_for(app);
        }
        // Its first version may have come meanwhile.
        let Some(life) = app.refuses() else { return };
        let text = life.text();
        for key in self.conns_of(app.number) {
            let Some(conn) = self.conns.get(key) else { continue };
            // Who has not said what it wants is told when it does.
            if !matches!(conn.phase, Phase::Head) {
                self.send_away(key, CloseCode::TRY_AGAIN, text);
            }
        }
        self.deadlines.set(Due::AppEnd, app.number, epoch, Instant::now());
        if app.is_over() {
            self.lose_lanes(app);
        }
    }

    /// Whoever is left of an app that takes no clients any more had time enough to go.
    pub(super) fn app_end_is_due(&mut self, number: u32, epoch: u16) {
        for key in self.conns_of(number) {
            let Some(conn) = self.conns.get(key) else { continue };
            if conn.app.as_ref().is_none_or(|app| app.epoch() != epoch || app.refuses().is_none()) {
                return;
            }
            if !matches!(conn.phase, Phase::Ended) {
                self.end(key, CloseReason::Shutdown);
            }
            // The last one takes the lanes of an app with it that was removed.
            self.forget(key);
        }
    }

    fn stop_listening_for(&mut self, app: &Arc<App>) {
        let of_app = self
            .listeners
            .iter()
            .filter(|(_, listener)| matches!(&listener.serves, Serves::App(of) if Arc::ptr_eq(of, app)));
        for number in of_app.map(|(number, _)| number).collect::<Vec<_>>() {
            self.listeners.remove(number).close(self.poll.get_ref());
        }
    }

    fn conns_of(&self, number: u32) -> Vec<usize> {
        let is_of_app = |conn: &Conn| conn.app.as_ref().is_some_and(|app| app.number == number);
        self.conns.iter().filter(|(_, conn)| is_of_app(conn)).map(|(key, _)| key).collect()
    }
}
