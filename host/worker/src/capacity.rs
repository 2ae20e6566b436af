//! Who has which part of the pool of plugin instances. Pure.

use std::collections::BTreeMap;

use tidegate_base::AppName;

/// The places of the engine's pool, by app: one for each slot, and as many again while they are swapped.
#[derive(Debug)]
pub(crate) struct Capacity {
    instances: u32,
    apps: BTreeMap<AppName, Share>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Share {
    slots: u32,
    /// Instances beside those of the slots.
    swapping: u32,
}

/// There is no room for more plugin instances.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoCapacity {
    /// For an app's slots, and a swap of the largest app beside them.
    #[error(
        "no room for {slots} slots of {app}: this worker has places for {instances} plugin instances (`instances` of \
         [worker]), the slots of other apps take {taken}, and the swap of the largest app needs {swap} besides: raise \
         `instances`, or use fewer slots"
    )]
    Slots {
        /// The app.
        app: AppName,
        /// Its slots.
        slots: u32,
        /// All places.
        instances: u32,
        /// The slots of other apps.
        taken: u64,
        /// The most slots that an app has, this one included.
        swap: u32,
    },
    /// For the instances of a new version beside those that run.
    #[error(
        "no room for {wanted} more plugin instances: this worker has places for {instances} (`instances` of [worker]), \
         slots take {taken} and other deployments {swapping}: deploy again when those have ended, raise `instances`, \
         or use fewer slots"
    )]
    Swap {
        /// How many there would be.
        wanted: u32,
        /// All places.
        instances: u32,
        /// The slots of all apps.
        taken: u64,
        /// What is being swapped.
        swapping: u64,
    },
}

impl Capacity {
    /// A pool of so many places.
    pub fn new(instances: u32) -> Self {
        Self { instances, apps: BTreeMap::new() }
    }

    /// Gives an app its slots, or another number of them, whatever it had before.
    pub fn admit(&mut self, app: &AppName, slots: u32) -> Result<(), NoCapacity> {
        let others = || self.apps.iter().filter(|(name, _)| *name != app).map(|(_, share)| share.slots);
        let taken = others().map(u64::from).sum::<u64>();
        let swap = others().fold(slots, u32::max);
        let instances = self.instances;
        if taken + u64::from(slots) + u64::from(swap) > u64::from(instances) {
            return Err(NoCapacity::Slots { app: app.clone(), slots, instances, taken, swap });
        }
        self.take(app, slots);
        Ok(())
    }

    /// Gives an app its slots although there may be too few places; those that find none are tried again.
    pub fn take(&mut self, app: &AppName, slots: u32) {
        self.apps.entry(app.clone()).or_default().slots = slots;
    }

    /// The app is gone.
    pub fn free(&mut self, app: &AppName) {
        self.apps.remove(app);
    }

    /// An app is going to have so many instances beside those of its slots.
    pub fn begin_swap(&mut self, app: &AppName, wanted: u32) -> Result<(), NoCapacity> {
        let sum = |of: fn(&Share) -> u32| self.apps.values().map(|share| u64::from(of(share))).sum::<u64>();
        let own = self.apps.get(app).map_or(0, |share| share.swapping);
        let (taken, swapping) = (sum(|share| share.slots), sum(|share| share.swapping) - u64::from(own));
        let instances = self.instances;
        if taken + swapping + u64::from(wanted) > u64::from(instances) {
            return Err(NoCapacity::Swap { wanted, instances, taken, swapping });
        }
        // One that is gone has nothing to keep for it.
        if let Some(share) = self.apps.get_mut(app) {
            share.swapping = wanted;
        }
        Ok(())
    }

    /// It has none beside them any more.
    pub fn end_swap(&mut self, app: &AppName) {
        if let Some(share) = self.apps.get_mut(app) {
            share.swapping = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn app(number: u32) -> AppName {
        AppName::new(&format!("app-{number}")).unwrap()
    }

    #[test]
    fn slots_are_admitted_as_long_as_the_largest_app_can_be_swapped() {
        let mut capacity = Capacity::new(10);
        capacity.admit(&app(1), 3).unwrap();
        capacity.admit(&app(2), 3).unwrap();
        let refused = capacity.admit(&app(3), 2).unwrap_err();
        assert_eq!(refused, NoCapacity::Slots { app: app(3), slots: 2, instances: 10, taken: 6, swap: 3 });
        assert!(refused.to_string().contains("raise `instances`"), "{refused}");
        capacity.admit(&app(3), 1).unwrap();
        capacity.admit(&app(2), 3).unwrap();
        capacity.free(&app(1));
        capacity.admit(&app(3), 3).unwrap();
    }

    #[test]
    fn a_swap_finds_room_for_all_of_its_instances_or_none() {
        let mut capacity = Capacity::new(9);
        [1, 2].iter().for_each(|number| capacity.admit(&app(*number), 3).unwrap());
        capacity.begin_swap(&app(1), 3).unwrap();
        capacity.begin_swap(&app(1), 3).unwrap();
        let refused = capacity.begin_swap(&app(2), 3).unwrap_err();
        assert_eq!(refused, NoCapacity::Swap { wanted: 3, instances: 9, taken: 6, swapping: 3 });
        capacity.end_swap(&app(1));
        capacity.begin_swap(&app(2), 3).unwrap();
        capacity.free(&app(2));
        capacity.begin_swap(&app(2), 6).unwrap();
        capacity.begin_swap(&app(1), 6).unwrap();
    }

    proptest! {
        #[test]
        fn never_more_are_given_than_there_are(
            instances in 1_u32..30,
            story in prop::collection::vec((0_u32..4, 0_u32..5, 1_u32..8), 0..60),
        ) {
            let mut capacity = Capacity::new(instances);
            for (number, what, count) in story {
                let name = app(number);
                match what {
                    0 | 1 => drop(capacity.admit(&name, count)),
                    2 => capacity.free(&name),
                    3 => {
                        let slots = capacity.apps.get(&name).map_or(0, |share| share.slots);
                        drop(capacity.begin_swap(&name, slots));
                    }
                    _ => capacity.end_swap(&name),
                }
                let slots = capacity.apps.values().map(|share| share.slots);
                prop_assert!(slots.clone().sum::<u32>() + slots.max().unwrap_or(0) <= instances);
            }
        }
    }
}
