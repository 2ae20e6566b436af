//! Looking at connections one by one, without keeping anybody waiting: shards are asked in turn, for a bounded part of theirs at
//! a time, and serve their clients between two parts.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tidegate_base::ClientId;
use tidegate_wire::question::{CONNECTIONS_MAX, Connection, ConnectionFilter, ConnectionList};
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout_at};

use crate::app::App;
use crate::links::LinkContext;
use crate::shard::inbox::ShardMsg;
use crate::shard::look::{AT_ONCE_MAX, Look, Seen, Whom};

/// How long all of a look takes; what was not seen by then is not told.
const LOOK_WAIT: Duration = Duration::from_millis(1500);
/// About the bytes of all that is told, as JSON: less than what an answer may have.
const BYTES_MAX: usize = 3 * 1024 * 1024;
/// About the bytes of one connection without its names.
const ONE_BYTES: usize = 300;

/// Somebody who looks at the connections of a gateway.
#[derive(Debug, Clone)]
pub struct Lookout {
    pub(crate) context: LinkContext,
}

impl Lookout {
    /// Connections of this gateway. They are of slightly different moments. On a tokio runtime.
    pub async fn connections(&self, of: &ConnectionFilter) -> ConnectionList {
        let registry = &self.context.registry;
        let (apps, only) = match &of.app {
            None => (registry.all(), None),
            Some(name) => match registry.get(name) {
                Some(app) => (vec![Arc::clone(&app)], Some(app.number)),
                None => return ConnectionList::default(),
            },
        };
        let mut found = Found::new(of.limit.min(CONNECTIONS_MAX));
        let until = Instant::now() + LOOK_WAIT;
        let total = match (of.client, &of.uid) {
            (Some(client), uid) => {
                self.of_client(client, only, until, &mut found).await;
                if let Some(uid) = uid {
                    found.list.retain(|it| it.uid.as_ref() == Some(uid));
                }
                found.list.len() as u64
            }
            (None, Some(uid)) => self.of_uid(uid, &apps, until, &mut found).await,
            (None, None) => {
                self.walk(only, until, &mut found).await;
                apps.iter().map(|app| app.connections() as u64).sum()
            }
        };
        ConnectionList { total, connections: found.list }
    }

    async fn of_client(&self, client: ClientId, only: Option<u32>, until: Instant, found: &mut Found) {
        if client.gateway != self.context.gateway {
            return;
        }
        let shard = client.connection as usize % self.context.inboxes.len().max(1);
        self.look(shard, Whom::These(vec![client.connection]), only, until, found).await;
    }

    /// Returns how many have the uid.
    async fn of_uid(&self, uid: &str, apps: &[Arc<App>], until: Instant, found: &mut Found) -> u64 {
        let mut total = 0;
        for app in apps {
            let room = found.room();
            let (count, clients) = app.hub.lock().of_uid(uid, room);
            total += count as u64;
            let mut by_shard: BTreeMap<usize, Vec<u32>> = BTreeMap::new();
            for client in clients {
                by_shard.entry(client as usize % self.context.inboxes.len().max(1)).or_default().push(client);
            }
            for (shard, clients) in by_shard {
                for some in clients.chunks(AT_ONCE_MAX) {
                    self.look(shard, Whom::These(some.to_vec()), Some(app.number), until, found).await;
                }
            }
        }
        total
    }

    /// One shard after the other, until there are enough.
    async fn walk(&self, only: Option<u32>, until: Instant, found: &mut Found) {
        for shard in 0..self.context.inboxes.len() {
            let mut next = Some(0);
            while let Some(from) = next.filter(|_| found.room() > 0) {
                next = self.look(shard, Whom::From(from), only, until, found).await;
            }
        }
    }

    /// One part of a shard's connections. Returns where the next part begins, if there is one.
    async fn look(
        &self,
        shard: usize,
        whom: Whom,
        app: Option<u32>,
        until: Instant,
        found: &mut Found,
    ) -> Option<usize> {
        let (tell, seen) = oneshot::channel();
        let look = Look { whom, app, at_most: found.room().min(AT_ONCE_MAX), tell };
        self.context.inboxes.get(shard)?.push(ShardMsg::Look(Box::new(look)));
        // A shard that has stopped answers nothing.
        let Ok(Ok(Seen { connections, next })) = timeout_at(until, seen).await else { return None };
        for (link, mut connection) in connections {
            connection.worker = link.and_then(|link| self.context.open.worker(link));
            found.push(connection);
        }
        next
    }
}

/// What was seen so far.
struct Found {
    list: Vec<Connection>,
    limit: usize,
    bytes: usize,
}

impl Found {
    fn new(limit: u32) -> Self {
        Self { list: Vec::new(), limit: limit as usize, bytes: 0 }
    }

    /// How many more may come.
    fn room(&self) -> usize {
        if self.bytes >= BYTES_MAX { 0 } else { self.limit.saturating_sub(self.list.len()) }
    }

    fn push(&mut self, connection: Connection) {
        if self.room() > 0 {
            // Twice, since JSON may write two for one of a name.
            let names = connection.uid.as_ref().map_or(0, String::len) + connection.app.as_str().len();
            self.bytes += ONE_BYTES + 2 * names;
            self.list.push(connection);
        }
    }
}
