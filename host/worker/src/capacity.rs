//! Who has which part of the pool of plugin instances. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use tidegate_base::AppName;

use crate::queue::{Queue, SlotKey};

/// The places of the engine's pool, by app: one for each slot that is awake, and as many as a swap needs besides.
///
/// A swap wakes what sleeps and starts an instance beside each slot's own. Apps that are admitted and slots that wake
/// leave room for the swap of any one app; where a swap has woken many, another may have to wait until they sleep again.
///
/// A slot that finds no place waits in a queue, first come first served: as soon as there is a place for it, it has it.
/// As many idle slots as wait are asked to sleep. Whoever changes anything tells the slots of
/// [`take_told`](Self::take_told) afterwards.
#[derive(Debug, Clone)]
pub(crate) struct Capacity {
    instances: u32,
    apps: BTreeMap<AppName, Share>,
    /// Of all apps: a slot that wakes does not look at each of ten thousand.
    sums: Sums,
    queue: Queue,
    told: Vec<(SlotKey, Told)>,
}

/// What a slot is to be told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Told {
    /// It waited, and has a place now.
    HasPlace,
    /// Another one waits: it is to sleep as soon as it was idle for a short time, or to say that it is not idle.
    SleepSoon,
}

/// What the shares of all apps come to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Sums {
    taken: u64,
    swapping: u64,
    /// How many places each app needs for a swap.
    swaps: BTreeSet<(u32, AppName)>,
}

impl Sums {
    fn add(&mut self, app: &AppName, share: &Share) {
        self.taken += u64::from(share.taken());
        self.swapping += u64::from(share.swapping.unwrap_or(0));
        self.swaps.insert((share.swap(), app.clone()));
    }

    fn take_off(&mut self, app: &AppName, share: &Share) {
        self.taken = self.taken.saturating_sub(u64::from(share.taken()));
        self.swapping = self.swapping.saturating_sub(u64::from(share.swapping.unwrap_or(0)));
        self.swaps.remove(&(share.swap(), app.clone()));
    }

    /// The most places that the swap of any other app needs.
    fn swap_without(&self, own: &AppName) -> u32 {
        self.swaps.iter().rev().find(|(_, app)| app != own).map_or(0, |(swap, _)| *swap)
    }

    /// The app whose swap needs most.
    fn largest(&self) -> Option<&AppName> {
        self.swaps.last().map(|(_, app)| app)
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

    /// Whether the slot has its place for good, or took it as it woke.
    fn has_place(&self, slot: u32) -> bool {
        !(self.min..self.slots).contains(&slot) || self.awake.contains(&slot)
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
        Self {
            instances,
            apps: BTreeMap::new(),
            sums: Sums::default(),
            queue: Queue::default(),
            told: Vec::new(),
        }
    }

    /// Gives an app its slots, of which so many never sleep, or other numbers of them, whatever it had before.
    pub fn admit(&mut self, app: &AppName, slots: u32, min: u32) -> Result<(), NoCapacity> {
        let share = self.share(app).resized(slots, min);
        self.check(app, &share)?;
        self.put(app, share);
        self.give_to(app);
        Ok(())
    }

    /// As [`admit`](Self::admit), although there may be too few places; slots that find none wait for one.
    pub fn take(&mut self, app: &AppName, slots: u32, min: u32) {
        let share = self.share(app).resized(slots, min);
        self.put(app, share);
        self.give_to(app);
    }

    /// The app is gone.
    pub fn free(&mut self, app: &AppName) {
        self.queue.forget(app);
        if let Some(share) = self.apps.remove(app) {
            self.sums.take_off(app, &share);
        }
        self.give();
    }

    /// A slot wants to wake up. One that never sleeps has its place, and so has one that is awake, or whose app is swapped.
    ///
    /// # Errors
    /// There is none: the slot waits from now on, and is told when it has one.
    pub fn wake(&mut self, app: &AppName, slot: u32) -> Result<(), NoCapacity> {
        if self.apps.get(app).is_none_or(|share| share.has_place(slot)) {
            return Ok(());
        }
        let key = SlotKey { app: app.clone(), slot };
        self.queue.wait(key.clone());
        self.give();
        if let Some(share) = self.woken(&key) {
            self.find_place(app, &share)?;
            self.place(key.clone(), share);
        }
        // It hears of it by what this returns.
        self.told.retain(|(of, _)| *of != key);
        Ok(())
    }

    /// A slot is awake whoever had room for it: another version has taken it over.
    pub fn is_awake(&mut self, app: &AppName, slot: u32) {
        self.queue.leave(&SlotKey { app: app.clone(), slot });
        self.change(app, |share| {
            if (share.min..share.slots).contains(&slot) {
                share.awake.insert(slot);
            }
        });
        self.give();
    }

    /// A slot has no instance any more, and needs none.
    pub fn sleeps(&mut self, app: &AppName, slot: u32) {
        let key = SlotKey { app: app.clone(), slot };
        self.queue.leave(&key);
        self.queue.busy(&key);
        self.change(app, |share| {
            share.awake.remove(&slot);
        });
        self.give();
    }

    /// A slot could sleep, since it is idle from then on. None: it could not, or is idle no more.
    pub fn idles(&mut self, app: &AppName, slot: u32, since: Option<Instant>) {
        let key = SlotKey { app: app.clone(), slot };
        match since {
            Some(since) => self.queue.idles(key, since),
            None => self.queue.busy(&key),
        }
        self.ask();
    }

    /// A slot has ended: it neither waits nor could sleep. Its place is its app's.
    pub fn leaves(&mut self, app: &AppName, slot: u32) {
        let key = SlotKey { app: app.clone(), slot };
        self.queue.leave(&key);
        self.queue.busy(&key);
        self.ask();
    }

    /// What slots are to be told, in order.
    pub fn take_told(&mut self) -> Vec<(SlotKey, Told)> {
        std::mem::take(&mut self.told)
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
        self.give_to(app);
        Ok(())
    }

    /// It has none beside them any more.
    pub fn end_swap(&mut self, app: &AppName) {
        self.change(app, |share| share.swapping = None);
        self.give();
    }

    /// Gives what is free to those that wait, and asks others to sleep if that is not enough.
    fn give(&mut self) {
        while let Some((key, share)) = self.next_that_fits() {
            self.place(key, share);
        }
        self.ask();
    }

    /// As [`give`](Self::give), after an app's share has changed: its own slots may find room whoever waits before them.
    fn give_to(&mut self, app: &AppName) {
        for key in self.queue.waiting_of(app) {
            match self.woken(&key) {
                None => {
                    self.queue.leave(&key);
                    self.told.push((key, Told::HasPlace));
                }
                Some(share) if self.find_place(app, &share).is_ok() => self.place(key, share),
                Some(_) => {}
            }
        }
        self.give();
    }

    /// The first that waits and fits. If the first does not, nobody does, except for slots of the app whose swap alone needs
    /// most: what one of them takes as it wakes, its app's swap needs less, so that it keeps nobody from a place.
    fn next_that_fits(&self) -> Option<(SlotKey, Share)> {
        let first = self.queue.first()?;
        let of_largest = || self.sums.largest().and_then(|app| self.queue.first_of(app));
        [Some(first), of_largest()].into_iter().flatten().find_map(|key| {
            let share = self.woken(key)?;
            self.find_place(&key.app, &share).is_ok().then(|| (key.clone(), share))
        })
    }

    /// Whether there is room for what an app takes as one of its slots wakes. While it is swapped that is nothing.
    fn find_place(&self, app: &AppName, share: &Share) -> Result<(), NoCapacity> {
        let is_taken = self.apps.get(app).is_some_and(|before| before.taken() >= share.taken());
        if is_taken { Ok(()) } else { self.check(app, share) }
    }

    /// The share of a slot's app with this slot awake, too. None: the slot has its place.
    fn woken(&self, key: &SlotKey) -> Option<Share> {
        let mut share = self.apps.get(&key.app).filter(|share| !share.has_place(key.slot))?.clone();
        share.awake.insert(key.slot);
        Some(share)
    }

    /// A slot that waited has its place.
    fn place(&mut self, key: SlotKey, share: Share) {
        self.queue.leave(&key);
        self.put(&key.app, share);
        self.told.push((key, Told::HasPlace));
    }

    /// Asks as many idle slots to sleep as wait.
    fn ask(&mut self) {
        let Self { queue, apps, sums, told, .. } = self;
        // All slots of an app that is swapped are awake.
        let may = |key: &SlotKey| apps.get(&key.app).is_some_and(|share| share.swapping.is_none());
        // What it gives back, its app's swap needs more: that is room if another app's swap needs more still.
        let makes_room = |key: &SlotKey| {
            apps.get(&key.app).is_some_and(|share| share.swap() < sums.swap_without(&key.app))
        };
        while queue.wants_more() {
            let Some(key) = queue.ask(may, makes_room) else { break };
            told.push((key, Told::SleepSoon));
        }
    }

    fn share(&self, app: &AppName) -> Share {
        self.apps.get(app).cloned().unwrap_or_default()
    }

    /// Gives an app this share, whatever it had before.
    fn put(&mut self, app: &AppName, share: Share) {
        if let Some(before) = self.apps.get(app) {
            self.sums.take_off(app, before);
        }
        self.sums.add(app, &share);
        self.apps.insert(app.clone(), share);
    }

    /// Changes an app's share, if it has one.
    fn change(&mut self, app: &AppName, change: impl FnOnce(&mut Share)) {
        if let Some(share) = self.apps.get_mut(app) {
            self.sums.take_off(app, share);
            change(share);
            self.sums.add(app, share);
        }
    }

    /// Whether there is room for everybody and the swap of any one app, if `app` has this share.
    fn check(&self, app: &AppName, share: &Share) -> Result<(), NoCapacity> {
        let own = self.apps.get(app).map_or(0, Share::taken);
        let taken = self.sums.taken.saturating_sub(u64::from(own));
        let swapping = u32::try_from(self.sums.swapping).unwrap_or(u32::MAX);
        let swap = self.sums.swap_without(app).max(share.swap()).max(swapping);
        let (slots, instances) = (share.taken(), self.instances);
        if taken + u64::from(slots) + u64::from(swap) > u64::from(instances) {
            return Err(NoCapacity::Slots { app: app.clone(), slots, instances, taken, swap });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

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

    fn key(number: u32, slot: u32) -> SlotKey {
        SlotKey { app: app(number), slot }
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
        assert_eq!(capacity.take_told(), []);
        capacity.sleeps(&app(0), 0);
        assert_eq!(capacity.take_told(), [(key(4, 0), Told::HasPlace)]);
        capacity.wake(&app(4), 0).unwrap();
        assert!(capacity.admit(&app(100), 1, 1).is_err());
        capacity.admit(&app(100), 1, 0).unwrap();
    }

    #[test]
    fn places_are_given_first_come_first_served_and_nobody_else_takes_them() {
        let mut capacity = Capacity::new(4);
        (0..9).for_each(|number| capacity.admit(&app(number), 1, 0).unwrap());
        (0..2).for_each(|number| capacity.wake(&app(number), 0).unwrap());
        (2..5).for_each(|number| assert!(capacity.wake(&app(number), 0).is_err()));
        // It asks again, and keeps its turn.
        assert!(capacity.wake(&app(2), 0).is_err());
        capacity.sleeps(&app(0), 0);
        assert_eq!(capacity.take_told(), [(key(2, 0), Told::HasPlace)]);
        assert!(capacity.wake(&app(5), 0).is_err());
        // One that waits goes, and one that has a place: both with their apps.
        capacity.free(&app(3));
        capacity.free(&app(1));
        assert_eq!(capacity.take_told(), [(key(4, 0), Told::HasPlace)]);
        // It has one that never sleeps from now on, whoever waits.
        capacity.take(&app(5), 1, 1);
        assert_eq!(capacity.take_told(), [(key(5, 0), Told::HasPlace)]);
    }

    #[test]
    fn slots_of_an_app_that_is_swapped_have_their_places_whoever_waits_before_them() {
        let mut capacity = Capacity::new(6);
        capacity.admit(&app(1), 2, 0).unwrap();
        (2..6).for_each(|number| capacity.admit(&app(number), 1, 0).unwrap());
        (2..4).for_each(|number| capacity.wake(&app(number), 0).unwrap());
        assert!(capacity.wake(&app(4), 0).is_err() && capacity.wake(&app(5), 0).is_err());
        // The largest app's swap needs one less as one of its slots wakes.
        capacity.wake(&app(1), 0).unwrap();
        assert_eq!(capacity.take_told(), []);
        capacity.begin_swap(&app(1), 1).unwrap();
        capacity.wake(&app(1), 1).unwrap();
        capacity.end_swap(&app(1));
        assert_eq!(capacity.take_told(), []);
        [2, 3].iter().for_each(|number| capacity.sleeps(&app(*number), 0));
        assert_eq!(capacity.take_told(), [(key(4, 0), Told::HasPlace), (key(5, 0), Told::HasPlace)]);
    }

    #[test]
    fn as_many_idle_slots_as_wait_are_asked_to_sleep_the_longest_idle_first() {
        let (mut capacity, now) = (Capacity::new(1002), Instant::now());
        (0..10_000).for_each(|number| capacity.admit(&app(number), 1, 0).unwrap());
        for number in 0..1000 {
            capacity.wake(&app(number), 0).unwrap();
            capacity.idles(&app(number), 0, Some(now + Duration::from_millis((number * 7 % 1000).into())));
        }
        assert_eq!(capacity.take_told(), [], "nobody waits");
        assert!(capacity.wake(&app(1000), 0).is_err());
        assert_eq!(capacity.take_told(), [(key(0, 0), Told::SleepSoon)]);
        assert!(capacity.wake(&app(1001), 0).is_err() && capacity.wake(&app(1002), 0).is_err());
        assert_eq!(capacity.take_told(), [(key(143, 0), Told::SleepSoon), (key(286, 0), Told::SleepSoon)]);
        // One cannot after all, one ends: others are asked. One sleeps.
        capacity.idles(&app(0), 0, None);
        assert_eq!(capacity.take_told(), [(key(429, 0), Told::SleepSoon)]);
        capacity.leaves(&app(143), 0);
        assert_eq!(capacity.take_told(), [(key(572, 0), Told::SleepSoon)]);
        capacity.sleeps(&app(286), 0);
        assert_eq!(capacity.take_told(), [(key(1000, 0), Told::HasPlace)]);
    }

    #[test]
    fn who_becomes_idle_while_others_wait_is_asked_at_once() {
        let (mut capacity, now) = (Capacity::new(3), Instant::now());
        (0..3).for_each(|number| capacity.admit(&app(number), 1, 0).unwrap());
        capacity.wake(&app(0), 0).unwrap();
        assert!(capacity.wake(&app(1), 0).is_err());
        assert_eq!(capacity.take_told(), []);
        capacity.idles(&app(0), 0, Some(now));
        assert_eq!(capacity.take_told(), [(key(0, 0), Told::SleepSoon)]);
        // It was used once more meanwhile.
        capacity.idles(&app(0), 0, Some(now + Duration::from_secs(1)));
        assert_eq!(capacity.take_told(), [(key(0, 0), Told::SleepSoon)]);
    }

    #[test]
    fn where_the_sleep_of_one_slot_makes_no_room_more_are_asked_until_there_is() {
        let (mut capacity, now) = (Capacity::new(6), Instant::now());
        for number in 0..3 {
            capacity.admit(&app(number), 2, 0).unwrap();
            capacity.wake(&app(number), 0).unwrap();
            capacity.idles(&app(number), 0, (number > 0).then_some(now));
        }
        // Three are awake, and the swap of each app needs three more. When one sleeps, that of its app needs four.
        assert!(capacity.wake(&app(0), 1).is_err());
        assert_eq!(capacity.take_told(), [(key(1, 0), Told::SleepSoon)]);
        capacity.sleeps(&app(1), 0);
        assert_eq!(capacity.take_told(), [(key(2, 0), Told::SleepSoon)]);
        capacity.sleeps(&app(2), 0);
        assert_eq!(capacity.take_told(), [(key(0, 1), Told::HasPlace)]);
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
                capacity.apps.iter().for_each(|(app, share)| sums.add(app, share));
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
                    // Of one that waits, a swap would make one that is awake.
                    let mut capacity = capacity.clone();
                    prop_assert_eq!(capacity.begin_swap(&name, share.slots), Ok(()));
                }
            }
        }

        /// Slots that do as they are told, and some that are used all the time.
        #[test]
        fn nobody_waits_for_a_place_that_is_free_and_who_waits_gets_one_as_soon_as_enough_can_sleep(
            instances in 4_u32..20,
            apps in prop::collection::vec((1_u32..4, 0_u32..2), 1..8),
            story in prop::collection::vec((0_usize..8, 0_u32..4, 0_u8..8, 0_u64..1000), 0..80),
        ) {
            let (mut capacity, now) = (Capacity::new(instances), Instant::now());
            let mut known: Vec<(AppName, u32)> = Vec::new();
            for (number, (slots, min)) in (0_u32..).zip(apps) {
                if capacity.admit(&app(number), slots, min.min(slots)).is_ok() {
                    known.push((app(number), slots));
                }
            }
            prop_assume!(!known.is_empty());
            for (of, slot, what, ms) in story {
                let (name, slots) = &known[of % known.len()];
                let slot = slot % slots;
                match what {
                    0..=2 => drop(capacity.wake(name, slot)),
                    3 => capacity.sleeps(name, slot),
                    4 => drop(capacity.begin_swap(name, *slots)),
                    5 => capacity.end_swap(name),
                    6 => capacity.idles(name, slot, None),
                    _ if capacity.apps[name].awake.contains(&slot) => {
                        capacity.idles(name, slot, Some(now + Duration::from_millis(ms)));
                    }
                    _ => {}
                }
                for (name, _) in &known {
                    for key in capacity.queue.waiting_of(name) {
                        let share = capacity.woken(&key).expect("who has a place does not wait");
                        prop_assert!(capacity.find_place(name, &share).is_err(), "{:?} waits", key);
                    }
                }
                capacity.told.clear();
            }
            // Now nobody is used any more: whoever waits has its turn.
            known.iter().for_each(|(name, _)| capacity.end_swap(name));
            for (name, slots) in &known {
                for slot in 0..*slots {
                    if capacity.apps[name].awake.contains(&slot) {
                        capacity.idles(name, slot, Some(now));
                    }
                }
            }
            for _ in 0..1000 {
                let told = capacity.take_told();
                if told.is_empty() {
                    break;
                }
                for (key, what) in told {
                    match what {
                        Told::SleepSoon => capacity.sleeps(&key.app, key.slot),
                        Told::HasPlace => capacity.idles(&key.app, key.slot, Some(now)),
                    }
                }
            }
            let min = capacity.apps.values().map(|share| share.min).sum::<u32>();
            let swap = capacity.apps.values().map(|share| share.slots * 2 - share.min).max().unwrap_or(0);
            // Else some apps have no room for a single slot beside the swap of the largest.
            if min + 1 + swap <= instances {
                prop_assert_eq!(capacity.queue.first(), None);
            }
        }
    }
}
