//! What a register tells gateways and workers of the apps that were made at run time, and what they say to it.

use serde::{Deserialize, Serialize};
use tidegate_base::{AppName, AppSpec, Label, Usage};

/// Most bytes of all apps of a catalog together, as they go over the wire. Twice as many fit into the queue of a link.
pub const CATALOG_BYTES_MAX: usize = 6 << 20;

/// Bytes of one part, about: an app more, at most.
const PART_BYTES: usize = 512 << 10;

/// Bytes of a tenant's share, at most: a name of 63 and a number.
const SHARE_BYTES_MAX: usize = 70;

/// Most [`Trouble`]s that a node tells of.
pub const TROUBLES_MAX: usize = 1000;

/// Bytes of the reason of a [`Trouble`].
const REASON_BYTES_MAX: usize = 512;

/// An app that was made at run time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CatalogApp {
    /// Its name.
    pub app: AppName,
    /// The revision with which it was made: another app of the same name, made later, has another one.
    pub born: u64,
    /// It, or its tenant, is suspended: it has no clients and no slots.
    pub suspended: bool,
    /// It has no version, and is not getting its first one: nobody can serve its clients. Only gateways are told.
    pub empty: bool,
    /// Its settings. Gateways are not told secrets.
    pub spec: AppSpec,
}

/// What all apps of a tenant may use of the processors of each worker, those of settings files too.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TenantShare {
    /// The tenant.
    pub tenant: Label,
    /// Thousandths of a core.
    pub cpu_share_millis: u32,
}

/// All apps that were made at run time.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Catalog {
    /// Grows with every change, over restarts of the register as well.
    pub revision: u64,
    /// By name.
    pub apps: Vec<CatalogApp>,
    /// The tenants that have one, by name.
    pub shares: Vec<TenantShare>,
}

/// Some of the apps of a [`Catalog`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CatalogPart {
    /// Of the catalog.
    pub revision: u64,
    /// Which part, from 0.
    pub part: u32,
    /// More parts of the same revision follow.
    pub more: bool,
    /// Its apps.
    pub apps: Vec<CatalogApp>,
    /// All shares of tenants: in the first part.
    pub shares: Vec<TenantShare>,
}

/// What a node cannot do of what a catalog says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trouble {
    /// The app.
    pub app: AppName,
    /// Why, and how to mend it: cut at 512 bytes.
    pub reason: String,
}

/// An app that stands in a node's settings file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FixedApp {
    /// Its name.
    pub app: AppName,
    /// What it has there: nothing of what the node's role does not look at.
    pub usage: Usage,
}

impl CatalogApp {
    /// How many bytes it has on the wire.
    pub fn bytes(&self) -> usize {
        postcard::to_extend(self, Vec::new()).map_or(usize::MAX, |bytes: Vec<u8>| bytes.len())
    }
}

impl Catalog {
    /// The parts in which it is sent: one at least.
    pub fn into_parts(self) -> Vec<CatalogPart> {
        let revision = self.revision;
        let first = CatalogPart { revision, part: 0, more: false, apps: Vec::new(), shares: self.shares };
        let mut parts = vec![first];
        let mut bytes = 0_usize;
        for app in self.apps {
            let of_app = app.bytes();
            let number = u32::try_from(parts.len()).unwrap_or(u32::MAX);
            if let Some(last) = parts.last_mut() {
                if bytes.saturating_add(of_app) <= PART_BYTES || last.apps.is_empty() {
                    bytes = bytes.saturating_add(of_app);
                    last.apps.push(app);
                    continue;
                }
                last.more = true;
            }
            bytes = of_app;
            let shares = Vec::new();
            parts.push(CatalogPart { revision, part: number, more: false, apps: vec![app], shares });
        }
        parts
    }
}

/// Puts the parts of a catalog together as they come on one link.
#[derive(Debug, Default)]
pub struct CatalogParts {
    so_far: Catalog,
    next: u32,
    bytes: usize,
}

impl CatalogParts {
    /// Takes the next part. Returns the catalog when it is whole. A part that does not continue what came before is passed
    /// over, with all that came: another list follows it.
    pub fn push(&mut self, part: CatalogPart) -> Option<Catalog> {
        let CatalogPart { revision, part: number, more, apps, shares } = part;
        let mut bytes = self.bytes;
        if number == 0 {
            bytes = shares.len().saturating_mul(SHARE_BYTES_MAX);
            *self = Self { so_far: Catalog { revision, apps: Vec::new(), shares }, next: 0, bytes };
        }
        bytes = apps.iter().map(CatalogApp::bytes).fold(bytes, usize::saturating_add);
        if number != self.next || revision != self.so_far.revision || bytes > 2 * CATALOG_BYTES_MAX {
            *self = Self { next: u32::MAX, ..Self::default() };
            return None;
        }
        self.so_far.apps.extend(apps);
        self.bytes = bytes;
        self.next = number.saturating_add(1);
        (!more).then(|| {
            self.next = u32::MAX;
            std::mem::take(&mut self.so_far)
        })
    }
}

impl Trouble {
    /// A trouble; a reason that is too long is cut.
    pub fn new(app: AppName, mut reason: String) -> Self {
        reason.truncate(reason.floor_char_boundary(REASON_BYTES_MAX));
        Self { app, reason }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn app(name: &str, route_bytes: usize) -> CatalogApp {
        let spec = AppSpec { routes: vec!["x".repeat(route_bytes)], ..AppSpec::default() };
        CatalogApp { app: AppName::new(name).unwrap(), born: 1, suspended: false, empty: false, spec }
    }

    proptest! {
        #[test]
        fn a_catalog_survives_its_parts_whatever_came_before(
            sizes in prop::collection::vec(0..300_000_usize, 0..12),
            stray in 0..4_u32,
        ) {
            let apps: Vec<_> = sizes.iter().enumerate().map(|(n, bytes)| app(&format!("a{n}"), *bytes)).collect();
            let share = |n: usize| TenantShare { tenant: Label::new(&format!("t{n}")).unwrap(), cpu_share_millis: 10 };
            let catalog = Catalog { revision: 7, apps, shares: (0..sizes.len()).map(share).collect() };
            let parts = catalog.clone().into_parts();
            let mut assembled = CatalogParts::default();
            let apps = vec![app("b", 1)];
            let before = CatalogPart { revision: 6, part: stray, more: true, apps, shares: Vec::new() };
            prop_assert_eq!(assembled.push(before), None);
            let last = parts.len() - 1;
            for (at, part) in parts.into_iter().enumerate() {
                let bytes: usize = part.apps.iter().map(CatalogApp::bytes).sum();
                prop_assert!(bytes <= PART_BYTES + 300_100);
                let whole = assembled.push(part);
                prop_assert_eq!(whole.is_some(), at == last);
                if let Some(whole) = whole {
                    prop_assert_eq!(&whole, &catalog);
                }
            }
        }
    }

    #[test]
    fn an_empty_catalog_is_one_part_and_parts_out_of_order_are_none() {
        let empty = || Catalog { revision: 3, ..Catalog::default() };
        let parts = empty().into_parts();
        assert_eq!(parts.len(), 1);
        let mut assembled = CatalogParts::default();
        let part = |part, more| CatalogPart { revision: 3, part, more, apps: Vec::new(), shares: Vec::new() };
        assert_eq!(assembled.push(part(1, false)), None);
        assert_eq!(assembled.push(part(0, true)), None);
        assert_eq!(assembled.push(part(2, false)), None);
        assert_eq!(assembled.push(part(1, false)), None, "the list is spoilt");
        assert_eq!(assembled.push(part(0, false)), Some(empty()));
    }
}
