//! The gateways that a pusher knows, and the lanes to them. Plain data: who opens and closes what it says is elsewhere.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tidegate_base::{AppName, GatewayId, NodeName};
use tidegate_link::Link;

use crate::call::Worth;
use crate::hearing::{Hearing, Moment};
use crate::lane::Lane;

/// Gateways that are listed, linked, or both.
#[derive(Debug, Default)]
pub(crate) struct Table {
    gateways: Vec<Gateway>,
}

/// One of them.
#[derive(Debug)]
pub(crate) struct Gateway {
    pub id: GatewayId,
    pub name: NodeName,
    listed: bool,
    link: Option<Link>,
    lanes: HashMap<AppName, Arc<Lane>>,
    /// Its lanes tell it what they hear.
    hearing: Arc<Mutex<Hearing>>,
}

/// Why there is no lane.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NoLane {
    NotLinked,
    /// There are as many as there may be, and all of them are in use.
    TooMany,
}

/// A lane to one gateway.
#[derive(Debug)]
pub(crate) enum Found {
    /// It runs.
    There(Arc<Lane>),
    /// It is new: run it on this link.
    New(Arc<Lane>, Link),
}

impl Table {
    /// All of them, in no order.
    pub fn gateways(&mut self) -> &mut [Gateway] {
        &mut self.gateways
    }

    /// These are in the cluster, and only these. One that is not and has no link is forgotten.
    pub fn list(&mut self, listed: &[(GatewayId, NodeName)]) {
        self.gateways.iter_mut().for_each(|gateway| gateway.listed = false);
        for (id, name) in listed {
            self.gateway(*id, name).listed = true;
        }
        self.forget();
    }

    /// A gateway is linked. A link that it had before is let go of: it is the same gateway, so that one is stale.
    pub fn link_up(&mut self, id: GatewayId, link: Link) {
        let name = link.peer().name.clone();
        let gateway = self.gateway(id, &name);
        gateway.link = Some(link);
        gateway.lanes.clear();
        gateway.hearing.lock().on_heard();
    }

    /// A gateway has let a whole wait pass for what was asked of it at this moment.
    pub fn waited_out(&mut self, id: GatewayId, asked: Moment) {
        for gateway in self.gateways.iter().filter(|gateway| gateway.id == id) {
            gateway.hearing.lock().on_waited_out(asked);
        }
    }

    /// This link has ended.
    pub fn link_down(&mut self, id: GatewayId, is_it: impl Fn(&Link) -> bool) {
        for gateway in self.gateways.iter_mut().filter(|gateway| gateway.id == id) {
            if gateway.link.as_ref().is_some_and(&is_it) {
                gateway.link = None;
                gateway.lanes.clear();
            }
        }
        self.forget();
    }

    /// Ends the lanes that were not used for so long.
    pub fn sweep(&mut self, now: Instant, idle: Duration) {
        for gateway in &mut self.gateways {
            gateway.lanes.retain(|_, lane| {
                let unused =
                    lane.idle_since().is_some_and(|since| now.saturating_duration_since(since) >= idle);
                if unused {
                    lane.leave();
                }
                !unused && !lane.has_ended()
            });
        }
    }

    fn gateway(&mut self, id: GatewayId, name: &NodeName) -> &mut Gateway {
        let known = self.gateways.iter().position(|gateway| gateway.id == id);
        let at = known.unwrap_or(self.gateways.len());
        if known.is_none() {
            let (lanes, hearing) = (HashMap::new(), Arc::default());
            self.gateways.push(Gateway { id, name: name.clone(), listed: false, link: None, lanes, hearing });
        }
        #[expect(clippy::indexing_slicing, reason = "it was found or pushed there in the lines above")]
        &mut self.gateways[at]
    }

    fn forget(&mut self) {
        self.gateways.retain(|gateway| gateway.listed || gateway.link.is_some());
    }
}

impl Gateway {
    /// Whether it has a link.
    pub fn is_linked(&self) -> bool {
        self.link.is_some()
    }

    /// How long it is to be waited for.
    pub fn worth(&self) -> Worth {
        let hearing = self.hearing.lock();
        if hearing.is_silent() { Worth::Little } else { Worth::Whole(hearing.now()) }
    }

    /// The lane for an app; `anew`: the one that is there has ended.
    pub fn lane(&mut self, app: &AppName, max: usize, anew: bool) -> Result<Found, NoLane> {
        let link = self.link.as_ref().ok_or(NoLane::NotLinked)?;
        match self.lanes.get(app) {
            Some(lane) if !anew => return Ok(Found::There(Arc::clone(lane))),
            _ => drop(self.lanes.remove(app)),
        }
        if self.lanes.len() >= max {
            self.lanes.retain(|_, lane| !lane.has_ended());
        }
        if self.lanes.len() >= max {
            let idle = self.lanes.iter().filter_map(|(app, lane)| Some((lane.idle_since()?, app)));
            let oldest = idle.min().map(|(_, app)| app.clone()).ok_or(NoLane::TooMany)?;
            if let Some(lane) = self.lanes.remove(&oldest) {
                lane.leave();
            }
        }
        let lane = Lane::new(self.id, app, Instant::now(), Arc::clone(&self.hearing));
        self.lanes.insert(app.clone(), Arc::clone(&lane));
        Ok(Found::New(lane, link.clone()))
    }
}
