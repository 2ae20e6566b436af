//! Links to gateways: what is announced to them, and what they ask for.

use std::sync::Arc;

use tidegate_base::GatewayId;
use tidegate_link::Link;
use tidegate_wire::control::{AppSlots, Control};
use tokio::sync::watch;

use crate::inbox::{Inbox, SlotMsg};
use crate::settings::WorkerApp;

/// The slots of one shard, as a link's task needs them.
#[derive(Debug, Clone)]
pub(crate) struct ShardSlots {
    pub slots: Arc<[SlotEntry]>,
    /// Turns true when the worker stops: nothing is announced any more.
    pub leaving: watch::Receiver<bool>,
}

/// How a slot is reached.
#[derive(Debug, Clone)]
pub(crate) struct SlotEntry {
    pub app: Arc<WorkerApp>,
    pub slot: u32,
    pub inbox: Arc<Inbox>,
}

/// Serves a link to a gateway until it ends.
pub(crate) async fn serve(mut shard: ShardSlots, link: Link) {
    let Some((control, mut from_gateway)) = link.take_control() else { return };
    let first = match from_gateway.recv().await {
        Ok(message) => Control::from_bytes(&message),
        Err(error) => return tracing::debug!(%error, "a link ended before the gateway said who it is"),
    };
    let Ok(Control::Gateway { id }) = first else {
        return link.close(tidegate_link::code::FIRST_FREE, "a gateway says its id first");
    };
    tracing::info!(gateway = %link.peer().name, %id, "linked to a gateway");
    for entry in shard.slots.iter() {
        entry.inbox.push(SlotMsg::LinkUp(id, link.clone()));
    }
    let mut announced = control.send(Control::Slots(shard.up()).to_bytes()).is_ok();
    while announced {
        tokio::select! {
            changed = shard.leaving.changed() => {
                announced = changed.is_ok() && control.send(Control::Slots(shard.up()).to_bytes()).is_ok();
            }
            message = from_gateway.recv() => match message.as_deref().map(Control::from_bytes) {
                Ok(Ok(Control::LaneWanted { app, slot })) => shard.lane_wanted(id, &app, slot),
                Ok(Ok(other)) => tracing::warn!(?other, "a gateway sent what a worker does not understand"),
                Ok(Err(error)) => tracing::warn!(%error, "a gateway sent what a worker does not understand"),
                Err(_) => break,
            },
        }
    }
    // A worker that leaves keeps the link until its slots have finished.
    let error = link.closed().await;
    tracing::info!(gateway = %link.peer().name, %error, "not linked to a gateway any more");
    for entry in shard.slots.iter() {
        entry.inbox.push(SlotMsg::LinkDown(id));
    }
}

impl ShardSlots {
    fn up(&self) -> Vec<AppSlots> {
        let mut apps: Vec<AppSlots> = Vec::new();
        if *self.leaving.borrow() {
            return apps;
        }
        for entry in self.slots.iter() {
            match apps.iter_mut().find(|a| a.app == entry.app.name) {
                Some(app) => app.slots.push(entry.slot),
                None => apps.push(AppSlots {
                    app: entry.app.name.clone(),
                    version: entry.app.version,
                    exports: entry.app.module.exports(),
                    slots: vec![entry.slot],
                }),
            }
        }
        apps
    }

    fn lane_wanted(&self, gateway: GatewayId, app: &tidegate_base::AppName, slot: u32) {
        match self.slots.iter().find(|e| e.app.name == *app && e.slot == slot) {
            Some(entry) => entry.inbox.push(SlotMsg::LaneWanted(gateway)),
            None => tracing::warn!(%app, slot, "a gateway wants a lane to a slot that is not here"),
        }
    }
}
