//! The apps of a gateway by name, which may come and go, and what workers have announced of them and of others.
//!
//! Nothing here is on a message's path: shards, clients and lanes hold their app itself. Names are looked up when a worker
//! announces slots, when a lane says hello, and when a request on a shared port asks for a route.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use parking_lot::{Mutex, RwLock};
use rustc_hash::FxHashMap;
use tidegate_base::{AppName, Exports, GatewayId, limits};
use tidegate_link::ControlTx;
use tidegate_wire::control::{AppSlots, SlotUp};

use crate::app::{App, Life, Waiter};
use crate::routes::{Route, Routes};
use crate::settings::{APPS_MAX, AppLimits, AppSettings, AppState, ListenerSettings, SharedSettings};

/// Why an app cannot be added or changed. Nothing was changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AppError {
    /// No such app.
    #[error("there is no app {0} on this gateway: add it first")]
    Unknown(AppName),
    /// An address cannot be listened on.
    #[error("app {app} cannot listen on {address}: {error}; is something else running there?")]
    Listen {
        /// The app.
        app: AppName,
        /// The address.
        address: SocketAddr,
        /// What the system said.
        error: std::io::Error,
    },
    /// What an app has from its beginning to its end is to change.
    #[error(
        "app {0} has other ports of its own or another `web` folder: remove it before it is added with these"
    )]
    PortsDiffer(AppName),
    /// The route is another app's.
    #[error(
        "app {app} cannot have the route {route}: {owner} has it; take another host or path, or remove it there"
    )]
    RouteTaken {
        /// Who wants it.
        app: AppName,
        /// The route.
        route: Route,
        /// Who has it.
        owner: AppName,
    },
    /// More routes than one app may have.
    #[error(
        "app {app} has {routes} routes, at most {} are allowed: use wildcards or shorter paths",
        limits::ROUTES_MAX
    )]
    TooManyRoutes {
        /// The app.
        app: AppName,
        /// How many it has.
        routes: usize,
    },
    /// More apps than a gateway may have.
    #[error(
        "this gateway has {APPS_MAX} apps already, app {0} is one too many: remove others, or use another gateway"
    )]
    TooManyApps(AppName),
    /// Every number was given to an app.
    #[error("the numbers of apps are used up, app {0} gets none: restart this gateway")]
    NumbersUsedUp(AppName),
}

/// The apps, the routes to them, and the slots that each link has announced.
#[derive(Debug)]
pub(crate) struct Registry {
    gateway: GatewayId,
    shards: usize,
    inner: Mutex<Inner>,
    /// Read for each connection on a shared port. Changed in place, so that an app costs what it has of routes however many
    /// others there are; copied only if somebody looks at it at that very moment.
    routes: RwLock<Arc<RouteTable>>,
}

/// Where requests on shared ports go.
pub(crate) type RouteTable = Routes<Arc<App>>;

#[derive(Debug, Default)]
struct Inner {
    apps: BTreeMap<AppName, Entry>,
    /// What each link said last: an app that comes later finds its slots here. Bounded by the number of links and what
    /// one control message holds.
    links: FxHashMap<u64, Announced>,
    last_number: u32,
}

#[derive(Debug)]
struct Entry {
    app: Arc<App>,
    listeners: Vec<ListenerSettings>,
    web: Option<PathBuf>,
    from_start: bool,
}

#[derive(Debug)]
struct Announced {
    home: usize,
    control: ControlTx,
    slots: Vec<AppSlots>,
}

/// What adding an app came to.
#[derive(Debug)]
pub(crate) enum Added {
    New(Arc<App>),
    /// It was there: it has these settings now, and if its life has changed, this is the epoch.
    Changed(Arc<App>, Option<u16>),
}

impl Registry {
    pub fn new(gateway: GatewayId, shards: usize) -> Self {
        Self { gateway, shards, inner: Mutex::default(), routes: RwLock::default() }
    }

    pub fn get(&self, name: &AppName) -> Option<Arc<App>> {
        self.inner.lock().apps.get(name).map(|entry| entry.app.clone())
    }

    /// All apps, by name.
    pub fn all(&self) -> Vec<Arc<App>> {
        self.inner.lock().apps.values().map(|entry| entry.app.clone()).collect()
    }

    /// The active apps that the gateway was started with.
    pub fn awaited(&self) -> Vec<Arc<App>> {
        let inner = self.inner.lock();
        let active = inner.apps.values().filter(|entry| entry.from_start && entry.app.life() == Life::Active);
        active.map(|entry| entry.app.clone()).collect()
    }

    /// The routes as they are now.
    pub fn routes(&self) -> Arc<RouteTable> {
        self.routes.read().clone()
    }

    /// Whether an app is there already with these ports.
    pub fn knows(&self, settings: &AppSettings) -> Result<bool, AppError> {
        match self.inner.lock().apps.get(&settings.name) {
            None => Ok(false),
            Some(entry) if entry.listeners == settings.listeners && entry.web == settings.web => Ok(true),
            Some(_) => Err(AppError::PortsDiffer(settings.name.clone())),
        }
    }

    /// Adds an app, with the slots that were announced of it, or gives one that is there these settings.
    pub fn add(&self, settings: &AppSettings, from_start: bool) -> Result<Added, AppError> {
        if self.knows(settings)? {
            let app = self.configure(&settings.name, &settings.limits, &settings.shared)?;
            let epoch = app.set_life(settings.state.into());
            return Ok(Added::Changed(app, epoch));
        }
        let name = &settings.name;
        let inner = &mut *self.inner.lock();
        if inner.apps.len() >= APPS_MAX {
            return Err(AppError::TooManyApps(name.clone()));
        }
        let number = inner.last_number.checked_add(1).ok_or_else(|| AppError::NumbersUsedUp(name.clone()))?;
        let app = Arc::new(App::new(self.gateway, number, settings, self.shards));
        self.lead(&app, &[], &settings.shared.routes)?;
        inner.last_number = number;
        for (link, announced) in &inner.links {
            let up: Vec<_> = slots_of(&announced.slots, name).collect();
            // Nobody can have waited for them yet.
            app.set_slots(*link, announced.home, &up, &announced.control);
        }
        let (listeners, web) = (settings.listeners.clone(), settings.web.clone());
        inner.apps.insert(name.clone(), Entry { app: app.clone(), listeners, web, from_start });
        Ok(Added::New(app))
    }

    /// Gives an app other limits and routes.
    pub fn configure(
        &self,
        name: &AppName,
        limits: &AppLimits,
        shared: &SharedSettings,
    ) -> Result<Arc<App>, AppError> {
        let inner = self.inner.lock();
        let entry = inner.apps.get(name).ok_or_else(|| AppError::Unknown(name.clone()))?;
        let before = entry.app.shared();
        if before.routes != shared.routes {
            self.lead(&entry.app, &before.routes, &shared.routes)?;
        }
        entry.app.configure(limits, shared.clone());
        Ok(entry.app.clone())
    }

    /// Changes the state of an app. Returns it with the epoch, if it was in another one.
    pub fn set_state(&self, name: &AppName, state: AppState) -> Result<(Arc<App>, Option<u16>), AppError> {
        let app = self.get(name).ok_or_else(|| AppError::Unknown(name.clone()))?;
        let epoch = app.set_life(state.into());
        Ok((app, epoch))
    }

    /// Forgets an app; its clients and lanes are still there. None: there was none.
    pub fn remove(&self, name: &AppName) -> Option<(Arc<App>, u16)> {
        let inner = &mut *self.inner.lock();
        let app = inner.apps.remove(name)?.app;
        // Nothing comes instead that could be somebody else's.
        let _ = self.lead(&app, &app.shared().routes, &[]);
        let epoch = app.set_life(Life::Removed)?;
        Some((app, epoch))
    }

    /// A link has these slots, and only these. Returns who may try to bind now.
    pub fn announce(&self, link: u64, home: usize, slots: Vec<AppSlots>, control: &ControlTx) -> Vec<Waiter> {
        let inner = &mut *self.inner.lock();
        let freed = inner.tell_apps(link, home, &slots, control);
        inner.links.insert(link, Announced { home, control: control.clone(), slots });
        freed
    }

    /// These routes lead to an app instead of those. If one of them is another app's, nothing is changed.
    fn lead(&self, app: &Arc<App>, before: &[Route], now: &[Route]) -> Result<(), AppError> {
        if now.len() > limits::ROUTES_MAX {
            return Err(AppError::TooManyRoutes { app: app.name.clone(), routes: now.len() });
        }
        let mut table = self.routes.write();
        for route in now {
            if let Some(owner) = table.get(route).filter(|owner| owner.name != app.name) {
                let owner = owner.name.clone();
                return Err(AppError::RouteTaken { app: app.name.clone(), route: route.clone(), owner });
            }
        }
        let table = Arc::make_mut(&mut table);
        for route in before {
            table.remove(route);
        }
        for route in now {
            // Named twice, it is the same.
            let _ = table.insert(route, app.clone());
        }
        Ok(())
    }

    /// A link is gone, and its slots with it.
    pub fn link_gone(&self, link: u64) -> Vec<Waiter> {
        let inner = &mut *self.inner.lock();
        let Some(Announced { home, control, .. }) = inner.links.remove(&link) else { return Vec::new() };
        inner.tell_apps(link, home, &[], &control)
    }
}

impl Inner {
    fn tell_apps(&self, link: u64, home: usize, slots: &[AppSlots], control: &ControlTx) -> Vec<Waiter> {
        let mut by_app: FxHashMap<&AppName, Vec<(SlotUp, Exports)>> = FxHashMap::default();
        for of_app in slots {
            // One entry per version: while a swap goes on, slots of a worker run different ones.
            let up = of_app.slots.iter().map(|slot| (*slot, of_app.exports));
            by_app.entry(&of_app.app).or_default().extend(up);
        }
        let up = |name| by_app.get(name).map(Vec::as_slice).unwrap_or_default();
        self.apps
            .iter()
            .flat_map(|(name, entry)| entry.app.set_slots(link, home, up(name), control))
            .collect()
    }
}

fn slots_of<'a>(slots: &'a [AppSlots], name: &'a AppName) -> impl Iterator<Item = (SlotUp, Exports)> + 'a {
    let of_app = slots.iter().filter(move |of| of.app == *name);
    of_app.flat_map(|of| of.slots.iter().map(move |slot| (*slot, of.exports)))
}

#[cfg(test)]
mod tests {
    use tidegate_base::{NodeName, Role};
    use tidegate_link::{Peer, memory_pair};

    use super::*;
    use crate::routes::Host;

    fn name(app: &str) -> AppName {
        AppName::new(app).unwrap()
    }

    fn settings(app: &str, routes: &[&str]) -> AppSettings {
        let routes = routes.iter().map(|route| route.parse().unwrap()).collect();
        let shared = SharedSettings { routes, ..SharedSettings::default() };
        AppSettings { shared, ..AppSettings::new(name(app)) }
    }

    fn peer(role: Role, name: &str) -> Peer {
        Peer { role, name: NodeName::new(name).unwrap(), address: None }
    }

    fn registry(apps: &[(&str, &[&str])]) -> Registry {
        let registry = Registry::new(GatewayId::new(1), 2);
        for (app, routes) in apps {
            assert!(matches!(registry.add(&settings(app, routes), true), Ok(Added::New(_))));
        }
        registry
    }

    fn app_at(registry: &Registry, host: &str) -> Option<String> {
        let found = registry.routes().find(&Host::parse(host)?, "/")?.to.name.to_string();
        Some(found)
    }

    #[test]
    fn a_route_is_one_apps_and_a_refused_change_changes_nothing() {
        let registry = registry(&[("a", &["a.example.com", "a.example.com/"]), ("b", &["b.example.com"])]);
        let wrong = settings("c", &["c.example.com", "b.example.com"]);
        let error = registry.add(&wrong, false).unwrap_err().to_string();
        assert!(error.contains("default/c") && error.contains("default/b has it"), "{error}");
        assert!(registry.get(&name("c")).is_none() && app_at(&registry, "c.example.com").is_none());
        let wrong = settings("a", &["x.example.com", "b.example.com"]);
        assert!(registry.configure(&wrong.name, &wrong.limits, &wrong.shared).is_err());
        assert_eq!(app_at(&registry, "a.example.com").as_deref(), Some("default/a"));
        assert_eq!(app_at(&registry, "x.example.com"), None);
        let many: Vec<String> = (0..=limits::ROUTES_MAX).map(|n| format!("h{n}")).collect();
        let many = settings("c", &many.iter().map(String::as_str).collect::<Vec<_>>());
        assert!(matches!(registry.add(&many, false), Err(AppError::TooManyRoutes { routes: 65, .. })));
    }

    #[test]
    fn routes_move_with_the_settings_and_go_with_the_app() {
        let registry = registry(&[("a", &["x.example.com"]), ("b", &["*"])]);
        let moved = settings("a", &["y.example.com"]);
        registry.configure(&moved.name, &moved.limits, &moved.shared).unwrap();
        let at = |host| app_at(&registry, host);
        assert_eq!(at("x.example.com").as_deref(), Some("default/b"));
        assert_eq!(at("y.example.com").as_deref(), Some("default/a"));
        assert_eq!(registry.remove(&name("a")).unwrap().0.life(), Life::Removed);
        assert!(registry.remove(&name("a")).is_none());
        assert_eq!(at("y.example.com").as_deref(), Some("default/b"));
    }

    #[test]
    fn an_app_that_comes_back_is_another_one() {
        let registry = registry(&[("a", &[])]);
        let (before, _) = registry.remove(&name("a")).unwrap();
        let Added::New(after) = registry.add(&settings("a", &[]), false).unwrap() else { panic!("new") };
        assert_ne!(before.number, after.number);
        assert_eq!((registry.all().len(), registry.awaited().len()), (1, 0));
    }

    #[test]
    fn an_app_without_a_version_refuses_clients_until_a_slot_is_up_or_it_is_said_to_have_one() {
        let registry = Registry::new(GatewayId::new(1), 2);
        let mut empty = settings("a", &["h"]);
        empty.state = AppState::Empty;
        let Ok(Added::New(app)) = registry.add(&empty, false) else { panic!("new") };
        assert_eq!(app.refuses(), Some(Life::Empty));
        let (link, _there) = memory_pair(peer(Role::Worker, "w"), peer(Role::Gateway, "g"));
        let (control, _) = link.take_control().unwrap();
        let up = SlotUp { slot: 0, generation: 1 };
        let slots =
            vec![AppSlots { app: name("a"), version: 1, exports: Exports::default(), slots: vec![up] }];
        registry.announce(3, 0, slots, &control);
        assert_eq!((app.life(), app.refuses()), (Life::Empty, None));
        registry.link_gone(3);
        assert_eq!(app.refuses(), Some(Life::Empty));
        registry.set_state(&name("a"), AppState::Active).unwrap();
        assert_eq!(app.refuses(), None);
    }

    #[test]
    fn what_is_added_twice_has_the_second_settings() {
        let registry = registry(&[("a", &[])]);
        let mut again = settings("a", &["h"]);
        again.state = AppState::Suspended;
        let Added::Changed(app, Some(epoch)) = registry.add(&again, false).unwrap() else { panic!("known") };
        assert_eq!((app.life(), app.epoch()), (Life::Suspended, epoch));
        assert!(matches!(registry.add(&again, false), Ok(Added::Changed(_, None))));
        assert_eq!(app_at(&registry, "h").as_deref(), Some("default/a"));
        again.web = Some("/tmp".into());
        assert!(matches!(registry.add(&again, false), Err(AppError::PortsDiffer(_))));
    }
}
