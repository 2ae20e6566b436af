//! From a request on a WebSocket port to its app: on an app's own port it is known before, on a shared one the request's
//! host and path say it.

use std::collections::VecDeque;
use std::sync::Arc;

use tidegate_base::CloseReason;

use super::Shard;
use super::accept::Serves;
use super::upgrade::HEAD_BYTES_MAX;
use crate::app::{App, Life};
use crate::counters;
use crate::protocol::http::{self, AcceptKey, Head, HeadError};
use crate::routes::Host;
use crate::settings::{Heartbeat, SharedHeartbeat};

/// What a request is for.
#[derive(Debug, Clone, Copy)]
pub(super) enum Asked {
    /// A WebSocket, behind a head of so many bytes.
    Upgrade(AcceptKey, usize),
    File,
}

/// Why a request is not served.
#[derive(Debug, thiserror::Error)]
pub(super) enum Refusal {
    #[error(transparent)]
    Head(#[from] HeadError),
    /// The text must not tell what other apps there are.
    #[error("there is nothing here: no app has a route for this host and path")]
    NoRoute,
    #[error("{}", .0.text())]
    Away(Life),
    #[error("this app has as many clients as it may: try again later")]
    Full,
    #[error("too many clients connect to this app at once: try again in a second")]
    TooFast,
}

impl Refusal {
    fn status(&self) -> u16 {
        match self {
            Self::Head(error) => error.status(),
            Self::NoRoute => 404,
            Self::Away(_) | Self::Full | Self::TooFast => 503,
        }
    }

    /// In how many seconds it may be worth another try.
    fn retry_after_s(&self) -> Option<u32> {
        match self {
            Self::Head(_) | Self::NoRoute | Self::Away(Life::Removed) => None,
            Self::Away(_) | Self::Full => Some(http::RETRY_AFTER_S),
            Self::TooFast => Some(1),
        }
    }
}

/// The connections of a shard whose app is not known yet.
#[derive(Debug)]
pub(super) struct Unrouted {
    count: usize,
    max: usize,
    /// The oldest first; those that are routed or gone leave it when they are the first, at the latest when the time for a
    /// head is over.
    order: VecDeque<u32>,
}

impl Unrouted {
    pub fn new(max: usize) -> Self {
        Self { count: 0, max: max.max(1), order: VecDeque::new() }
    }

    /// One more.
    pub fn add(&mut self, client: u32) {
        self.count += 1;
        self.order.push_back(client);
    }

    /// One is routed, or gone.
    pub fn remove(&mut self) {
        self.count -= 1;
    }
}

impl Shard {
    /// Makes room for one more connection whose app is not known. Who says at once what it wants is not kept out by those
    /// who do not say it: the oldest of them goes.
    pub(super) fn make_room(&mut self) {
        while let Some(oldest) = self.unrouted.order.front().copied() {
            let key = self.by_client.get(&oldest).copied();
            let waits = key.filter(|key| self.conns.get(*key).is_some_and(|conn| conn.app.is_none()));
            match waits {
                Some(_) if self.unrouted.count < self.unrouted.max => return,
                Some(key) => {
                    counters::CROWDED_OUT.inc();
                    self.end(key, CloseReason::Protocol);
                }
                None => {}
            }
            self.unrouted.order.pop_front();
        }
    }

    /// What a connection asks for, once its head is there; its app is known then, and takes it.
    pub(super) fn read_request(&mut self, key: usize) -> Result<Option<Asked>, Refusal> {
        let Some((asked, app)) = self.find_app(key)? else { return Ok(None) };
        // Files need no version.
        let is_served = |life: &Life| *life == Life::Empty && matches!(asked, Asked::File);
        if let Some(life) = app.refuses().filter(|life| !is_served(life)) {
            return Err(Refusal::Away(life));
        }
        if self.conns.get(key).is_some_and(|conn| conn.app.is_none()) {
            self.enter(key, app)?;
        }
        Ok(Some(asked))
    }

    /// Answers a request that is not served.
    pub(super) fn refuse_request(&mut self, key: usize, refusal: &Refusal) {
        tracing::debug!(%refusal, "a client's request is refused");
        match refusal {
            Refusal::NoRoute => counters::UNROUTED.inc(),
            Refusal::Away(_) => counters::TURNED_AWAY.inc(),
            Refusal::Full | Refusal::TooFast => counters::REFUSED.inc(),
            Refusal::Head(_) => {}
        }
        let (status, after_s, text) = (refusal.status(), refusal.retry_after_s(), refusal.to_string());
        let range = self.batch.encode(|out| http::refusal_until(status, &text, after_s, out));
        self.refuse(key, &range);
    }

    fn find_app(&self, key: usize) -> Result<Option<(Asked, Arc<App>)>, Refusal> {
        let Some(conn) = self.conns.get(key) else { return Ok(None) };
        let Some(head) = http::parse_head(&conn.partial, HEAD_BYTES_MAX)? else { return Ok(None) };
        let app = match &conn.app {
            Some(app) => app.clone(),
            None => self.route(&head)?,
        };
        let Some(accept) = head.upgrade() else { return Ok(Some((Asked::File, app))) };
        if let Some(listener) = self.listeners.get(conn.listener) {
            let shared = app.shared();
            let own = shared.origins.as_ref().filter(|_| matches!(listener.serves, Serves::Routes));
            head.check_origin(own.unwrap_or(&listener.settings.origins))?;
        }
        Ok(Some((Asked::Upgrade(accept, head.bytes()), app)))
    }

    fn route(&self, head: &Head<'_>) -> Result<Arc<App>, Refusal> {
        let host = head.only_host().and_then(Host::parse).ok_or(HeadError::NoHost)?;
        let routes = self.registry.routes();
        let found = routes.find(&host, head.path()).ok_or(Refusal::NoRoute)?;
        Ok(found.to.clone())
    }

    /// The connection is one of the app's from here on.
    fn enter(&mut self, key: usize, app: Arc<App>) -> Result<(), Refusal> {
        if !app.pace.admits(&app.limits.rates, self.now) {
            return Err(Refusal::TooFast);
        }
        if !app.admit() {
            return Err(Refusal::Full);
        }
        app.pace.admitted(&app.limits.rates, self.now);
        app.count(self.index, |counts| &counts.opened, 1);
        if let Some(conn) = self.conns.get_mut(key) {
            conn.app = Some(app);
            self.unrouted.remove();
        }
        Ok(())
    }

    /// How it is found out whether a client is still there.
    pub(super) fn heartbeat_of(&self, key: usize) -> Option<Heartbeat> {
        let conn = self.conns.get(key)?;
        let listener = self.listeners.get(conn.listener)?;
        if let (Serves::Routes, Some(app)) = (&listener.serves, &conn.app) {
            match &app.shared().heartbeat {
                SharedHeartbeat::OfListener => {}
                SharedHeartbeat::Off => return None,
                SharedHeartbeat::Own(heartbeat) => return Some(heartbeat.clone()),
            }
        }
        listener.settings.heartbeat.clone()
    }
}
