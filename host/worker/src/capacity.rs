//! Who has which part of the pool of plugin instances. Pure.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};

use tidegate_base::AppName;

/// The places of the engine's pool, by app: one for each slot that is awake, and as many as a swap needs besides.
///
/// A swap wakes what sleeps and starts an instance beside each slot's own. Apps that are admitted and slots that wake
/// leave room for the swap of any one app; where a swap has woken many, another may have to wait until they sleep again.
#[derive(Debug)]
pub(crate) struct Capacity {
    instances: u32,
    apps: BTreeMap<AppName, Share>,
    /// Of all apps: a slot that wakes does not look at each of ten thousand.
    sums: Sums,
}

/// What the shares of all apps come to.
#[derive(Debug, Default, PartialEq, Eq)]
struct Sums {
    taken: u64,
    swapping: u64,
    /// How many apps need so many places for a swap.
    swaps: BTreeMap<u32, u32>,
}

impl Sums {
    fn add(&mut self, share: &Share) {
        self.taken += u64::from(share.taken());
        self.swapping += u64::from(share.swapping.unwrap_or(0));
        *self.swaps.entry(share.swap()).or_default() += 1;
    }

    fn take_off(&mut self, share: &Share) {
        self.taken = self.taken.saturating_sub(u64::from(share.taken()));
        self.swapping = self.swapping.saturating_sub(u64::from(share.swapping.unwrap_or(0)));
        if let Entry::Occupied(mut count) = self.swaps.entry(share.swap()) {
            *count.get_mut() -= 1;
            if *count.get() == 0 {
                count.remove();
            }
        }
    }

    /// The most places that the swap of any app needs, but for one which needs so many.
    fn swap_without(&self, own: Option<u32>) -> u32 {
        let is_another = |(swap, count): &(&u32, &u32)| Some(**swap) != own || **count > 1;
        self.swaps.iter().rev().find(is_another).map_or(0, |(swap, _)| *swap)
    }
}

#[derive(Debug, Clone, Default)]
struct Share {
    slots: u32,
    /// So many of them, the first ones, never sleep.
    min: u32,
    /// Others that are awake.
    awake: BTreeSet<u32>,
    /// Instances beside those of the slots, while it is swapped: then all slots count as awake.
    swapping: Option<u32>,
}

impl Share {
    /// The same with other numbers of slots. Those that may sleep from now on are awake until they say otherwise.
    fn resized(&self, slots: u32, min: u32) -> Self {
        let min = min.min(slots);
        let mut awake = self.awake.clone();
        awake.extend(min..self.min);
        awake.retain(|slot| (min..slots).contains(slot));
        Self { slots, min, awake, swapping: self.swapping }
    }

    /// Places of its slots.
    fn taken(&self) -> u32 {
        let awake = u32::try_from(self.awake.len()).unwrap_or(u32::MAX);
        if self.swapping.is_some() { self.slots } else { self.min.saturating_add(awake) }
    }

    /// What a swap takes besides.
    fn swap(&self) -> u32 {
        self.slots.saturating_mul(2).saturating_sub(self.taken())
    }
}

/// There is no room for more plugin instances.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoCapacity {
    /// For an app's slots, and the swap that needs most beside them.
    #[error(
        "no room for {slots} slots of {app}: this worker has places for {instances} plugin instances (`instances` of \
         [worker]), the slots of other apps take {taken}, and the swap of the largest app needs {swap} besides: raise \
         `instances`, use fewer slots, or let some of them sleep (`min_slots`)"
    )]
    Slots {
        /// The app.
        app: AppName,
        /// Its slots; those that sleep are left out.
        slots: u32,
        /// All places.
        instances: u32,
        /// The slots of other apps, those that sleep left out.
        taken: u64,
        /// The most that a swap of an app needs, this one included.
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
        /// The slots of all apps, those of other apps that sleep left out.
        taken: u64,
        /// What is being swapped.
        swapping: u64,
    },
}

impl Capacity {
    /// A pool of so many places.
    pub fn new(instances: u32) -> Self {
        Self { instances, apps: BTreeMap::new(), sums: Sums::default() }
    }

    /// Gives an app its slots, of which so many never sleep, or other numbers of them, whatever it had before.
    pub fn admit(&mut self, app: &AppName, slots: u32, min: u32) -> Result<(), NoCapacity> {
        let share = self.share(app).resized(slots, min);
        self.check(app, &share)?;
        self.put(app, share);
        Ok(())
    }

    /// As [`admit`](Self::admit), although there may be too few places; slots that find none are tried again.
    pub fn take(&mut self, app: &AppName, slots: u32, min: u32) {
        let share = self.share(app).resized(slots, min);
        self.put(app, share);
    }

    /// The app is gone.
    pub fn free(&mut self, app: &AppName) {
        if let Some(share) = self.apps.remove(app) {
            self.sums.take_off(&share);
        }
    }

    /// A slot wants to wake up. One that never sleeps has its place, and so has one that is awake, or whose app is swapped.
    pub fn wake(&mut self, app: &AppName, slot: u32) -> Result<(), NoCapacity> {
        let Some(before) = self.apps.get(app) else { return Ok(()) };
        let mut share = before.clone();
        if !(share.min..share.slots).contains(&slot) || !share.awake.insert(slot) {
            return Ok(());
        }
        if share.taken() > before.taken() {
            self.check(app, &share)?;
        }
        self.put(app, share);
        Ok(())
    }

    /// A slot is awake whoever had room for it: another version has taken it over.
    pub fn is_awake(&mut self, app: &AppName, slot: u32) {
        self.change(app, |share| {
            if (share.min..share.slots).contains(&slot) {
                share.awake.insert(slot);
            }
        });
    }

    /// A slot has no instance any more, and needs none.
    pub fn sleeps(&mut self, app: &AppName, slot: u32) {
        self.change(app, |share| {
            share.awake.remove(&slot);
        });
    }

    /// An app is going to have so many instances beside those of its slots, which may all be awake.
    pub fn begin_swap(&mut self, app: &AppName, wanted: u32) -> Result<(), NoCapacity> {
        // One that is gone has nothing to keep for it.
        let own = self.share(app);
        let swapping = self.sums.swapping.saturating_sub(u64::from(own.swapping.unwrap_or(0)));
        let taken = self.sums.taken.saturating_sub(u64::from(own.taken())) + u64::from(own.slots);
        let instances = self.instances;
        if taken + swapping + u64::from(wanted) > u64::from(instances) {
            return Err(NoCapacity::Swap { wanted, instances, taken, swapping });
        }
        self.change(app, |share| share.swapping = Some(wanted));
        Ok(())
    }

    /// It has none beside them any more.
    pub fn end_swap(&mut self, app: &AppName) {
        self.change(app, |share| share.swapping = None);
    }

    fn share(&self, app: &AppName) -> Share {
        self.apps.get(app).cloned().unwrap_or_default()
    }

    /// Gives an app this share, whatever it had before.
    fn put(&mut self, app: &AppName, share: Share) {
        self.sums.add(&share);
        if let Some(before) = self.apps.insert(app.clone(), share) {
            self.sums.take_off(&before);
        }
    }

    /// Changes an app's share, if it has one.
    fn change(&mut self, app: &AppName, change: impl FnOnce(&mut Share)) {
        if let Some(share) = self.apps.get_mut(app) {
            self.sums.take_off(share);
            change(share);
            self.sums.add(share);
        }
    }

    /// Whether there is room for everybody and the swap of any one app, if `app` has this share.
    fn check(&self, app: &AppName, share: &Share) -> Result<(), NoCapacity> {
        let own = self.apps.get(app);
        let taken = self.sums.taken.saturating_sub(own.map_or(0, |own| u64::from(own.taken())));
        let swapping = u32::try_from(self.sums.swapping).unwrap_or(u32::MAX);
        let swap = self.sums.swap_without(own.map(Share::swap)).max(share.swap()).max(swapping);
        let (slots, instances) = (share.taken(), self.instances);
        if taken + u64::from(slots) + u64::from(swap) > u64::from(instances) {
            return Err(NoCapacity::Slots { app: app.clone(), slots, instances, taken, swap });
        }
        Ok(())
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
        capacity.admit(&app(1), 3, 3).unwrap();
        capacity.admit(&app(2), 3, 3).unwrap();
        let refused = capacity.admit(&app(3), 2, 2).unwrap_err();
        assert_eq!(refused, NoCapacity::Slots { app: app(3), slots: 2, instances: 10, taken: 6, swap: 3 });
        assert!(refused.to_string().contains("raise `instances`"), "{refused}");
        capacity.admit(&app(3), 1, 1).unwrap();
        capacity.admit(&app(2), 3, 3).unwrap();
        capacity.free(&app(1));
        capacity.admit(&app(3), 3, 3).unwrap();
    }

    #[test]
    fn a_swap_finds_room_for_all_of_its_instances_or_none() {
        let mut capacity = Capacity::new(9);
        [1, 2].iter().for_each(|number| capacity.admit(&app(*number), 3, 3).unwrap());
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

    #[test]
    fn slots_that_sleep_take_no_place_and_one_wakes_as_long_as_every_app_can_be_swapped() {
        let mut capacity = Capacity::new(6);
        (0..100).for_each(|number| capacity.admit(&app(number), 1, 0).unwrap());
        (0..4).for_each(|number| capacity.wake(&app(number), 0).unwrap());
        let refused = capacity.wake(&app(4), 0).unwrap_err();
        // One that sleeps needs two places for its swap, and the four that are awake have theirs.
        assert_eq!(refused, NoCapacity::Slots { app: app(4), slots: 1, instances: 6, taken: 4, swap: 2 });
        capacity.wake(&app(0), 0).unwrap();
        capacity.sleeps(&app(0), 0);
        capacity.wake(&app(4), 0).unwrap();
        assert!(capacity.admit(&app(100), 1, 1).is_err());
        capacity.admit(&app(100), 1, 0).unwrap();
    }

    #[test]
    fn a_slot_that_may_sleep_from_now_on_is_awake_until_it_sleeps() {
        let mut capacity = Capacity::new(8);
        capacity.admit(&app(1), 4, 4).unwrap();
        capacity.admit(&app(1), 4, 1).unwrap();
        assert!(capacity.admit(&app(2), 1, 1).is_err(), "four are awake still");
        (1..4).for_each(|slot| capacity.sleeps(&app(1), slot));
        assert!(capacity.admit(&app(2), 1, 1).is_err(), "its swap needs seven places besides");
        capacity.admit(&app(1), 3, 1).unwrap();
        capacity.admit(&app(2), 1, 1).unwrap();
    }

    #[test]
    fn a_swap_counts_the_slots_that_it_wakes() {
        let mut capacity = Capacity::new(8);
        capacity.admit(&app(1), 3, 0).unwrap();
        capacity.admit(&app(2), 3, 0).unwrap();
        capacity.begin_swap(&app(1), 3).unwrap();
        // It wakes anyway, and has its place by then.
        capacity.wake(&app(1), 2).unwrap();
        let refused = capacity.begin_swap(&app(2), 3).unwrap_err();
        assert_eq!(refused, NoCapacity::Swap { wanted: 3, instances: 8, taken: 6, swapping: 3 });
        (0..3).for_each(|slot| capacity.is_awake(&app(1), slot));
        capacity.end_swap(&app(1));
        assert!(capacity.begin_swap(&app(2), 3).is_err());
        capacity.sleeps(&app(1), 0);
        capacity.begin_swap(&app(2), 3).unwrap();
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
                    0 | 1 => drop(capacity.admit(&name, count, count)),
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

        #[test]
        fn whatever_wakes_and_is_swapped_finds_its_place(
            instances in 1_u32..40,
            story in prop::collection::vec((0_u32..4, 0_u32..8, 1_u32..6, 0_u32..6), 0..80),
        ) {
            let mut capacity = Capacity::new(instances);
            for (number, what, count, slot) in story {
                let name = app(number);
                let known = capacity.apps.get(&name).cloned().unwrap_or_default();
                match what {
                    0 => drop(capacity.admit(&name, count, slot)),
                    1 => capacity.free(&name),
                    2 => drop(capacity.begin_swap(&name, known.slots)),
                    3 => capacity.end_swap(&name),
                    4 | 5 => drop(capacity.wake(&name, slot % known.slots.max(1))),
                    // Only a swap takes slots over, and it has room for them.
                    6 if known.swapping.is_some() => capacity.is_awake(&name, slot),
                    _ => capacity.sleeps(&name, slot),
                }
                let taken = capacity.apps.values().map(|share| share.taken()).sum::<u32>();
                let swapping = capacity.apps.values().filter_map(|share| share.swapping).sum::<u32>();
                prop_assert!(taken + swapping <= instances);
                let mut sums = Sums::default();
                capacity.apps.values().for_each(|share| sums.add(share));
                prop_assert_eq!(&capacity.sums, &sums);
                for share in capacity.apps.values() {
                    prop_assert!(share.awake.iter().all(|slot| (share.min..share.slots).contains(slot)));
                }
            }
        }

        #[test]
        fn without_a_swap_every_app_could_be_swapped_and_then_every_slot_is_awake(
            instances in 1_u32..40,
            story in prop::collection::vec((0_u32..4, 0_u32..4, 1_u32..6, 0_u32..6), 0..80),
        ) {
            let mut capacity = Capacity::new(instances);
            for (number, what, count, slot) in story {
                let name = app(number);
                let slots = capacity.apps.get(&name).map_or(0, |share| share.slots);
                match what {
                    0 => drop(capacity.admit(&name, count, slot)),
                    1 | 2 => drop(capacity.wake(&name, slot % slots.max(1))),
                    _ => capacity.sleeps(&name, slot),
                }
                for (name, share) in capacity.apps.clone() {
                    prop_assert_eq!(capacity.begin_swap(&name, share.slots), Ok(()));
                    capacity.end_swap(&name);
                }
            }
        }
    }
}
