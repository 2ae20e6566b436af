//! When a slot that may sleep does, and when it wakes. Pure: what there is for it and the time are handed in.
//!
//! A slot is looked at when it has nothing to do. As long as somebody needs it, that costs a flag and no clock.

use std::time::{Duration, Instant};

/// Between two tries to sleep that fail it waits no longer than this, or than its idle time if that is longer.
const WAIT_MAX: Duration = Duration::from_secs(3600);
/// So long it is idle at least, also when others want its place: a slot that has just been used is likely to be used again.
const EARLY: Duration = Duration::from_secs(1);

/// Whether a slot is awake, and when it sleeps. Call [`rests`](Self::rests) whenever the slot has nothing to do; when its
/// time has come ([`is_due`](Self::is_due)) try to sleep, and say how that went.
#[derive(Debug, Default)]
pub(super) struct Sleep {
    phase: Phase,
    /// None: something happened since the last look, or somebody needs it.
    idle: Option<Idle>,
    /// Tries in a row that failed.
    failed: u32,
    /// Something has run since the last look.
    stirred: bool,
}

#[derive(Debug, Clone, Copy)]
struct Idle {
    since: Instant,
    /// When it sleeps if nothing happens before.
    at: Instant,
    /// Somebody else wants its place: it sleeps sooner.
    hurries: bool,
}

impl Idle {
    fn due(&self) -> Instant {
        if self.hurries { self.at.min(self.since + EARLY) } else { self.at }
    }
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Phase {
    #[default]
    Awake,
    Asleep,
    /// It is to start an instance, and none has started yet.
    Waking,
}

/// What keeps a slot awake while it has nothing to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Needed {
    /// It is one of those that never sleep, clients are bound to it, or it has no instance that could sleep.
    Yes,
    /// Nobody needs it; it sleeps after so long.
    No(Duration),
}

impl Sleep {
    /// Whether it sleeps.
    pub fn is_asleep(&self) -> bool {
        self.phase == Phase::Asleep
    }

    /// Whether it woke up and has no instance yet.
    pub fn is_waking(&self) -> bool {
        self.phase == Phase::Waking
    }

    /// Something ran in the slot: a turn, or a change of its clients. On the path of every event.
    pub fn stir(&mut self) {
        self.stirred = true;
    }

    /// The slot has nothing to do. Says when it is to sleep if that stays so; looks at the clock only if nobody needs it
    /// and something ran since the last look.
    pub fn rests(&mut self, needed: Needed, now: impl FnOnce() -> Instant) -> Option<Instant> {
        let stirred = std::mem::take(&mut self.stirred);
        self.idle = match needed {
            Needed::Yes => None,
            Needed::No(idle) => match self.idle {
                Some(before) if !stirred => Some(before),
                _ => {
                    let since = now();
                    Some(Idle { since, at: since + self.wait(idle), hurries: false })
                }
            },
        };
        self.idle.map(|idle| idle.due())
    }

    /// Since when it is idle, if it would sleep sooner when it is to hurry. Not after a try that failed: that would fail
    /// again.
    pub fn could_hurry(&self) -> Option<Instant> {
        self.idle.filter(|idle| self.failed == 0 && idle.at > idle.since + EARLY).map(|idle| idle.since)
    }

    /// Somebody else wants its place: if it is idle, it sleeps as soon as it was for a short time.
    pub fn hurry(&mut self) {
        if let Some(idle) = &mut self.idle {
            idle.hurries = true;
        }
    }

    /// Whether it would not sleep yet if nobody wanted its place.
    pub fn is_early(&self, now: Instant) -> bool {
        self.idle.is_some_and(|idle| idle.hurries && now < idle.at)
    }

    /// Whether it is to sleep now. Looks at the clock only if nobody needed it at the last look.
    pub fn is_due(&self, now: impl FnOnce() -> Instant) -> bool {
        !self.stirred && self.idle.is_some_and(|idle| idle.due() <= now())
    }

    /// It could not sleep, and tries again after an idle time that is twice as long as this one.
    pub fn failed(&mut self) {
        self.failed = self.failed.saturating_add(1);
        self.idle = None;
    }

    /// Not now: it is to be idle anew before it sleeps.
    pub fn put_off(&mut self) {
        self.idle = None;
    }

    /// It sleeps.
    pub fn fell_asleep(&mut self) {
        *self = Self { phase: Phase::Asleep, ..Self::default() };
    }

    /// There is something for it.
    pub fn wakes(&mut self) {
        self.phase = Phase::Waking;
    }

    /// It has an instance. True: one that woke it up.
    pub fn started(&mut self) -> bool {
        self.idle = None;
        std::mem::take(&mut self.phase) == Phase::Waking
    }

    /// Another version serves, or none: what went before does not count for it.
    pub fn renewed(&mut self) {
        *self = Self::default();
    }

    fn wait(&self, idle: Duration) -> Duration {
        let times = 1_u32.checked_shl(self.failed).unwrap_or(u32::MAX);
        idle.saturating_mul(times).min(WAIT_MAX.max(idle))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const IDLE: Duration = Duration::from_millis(100);

    fn never() -> Instant {
        panic!("it looks at the clock")
    }

    #[test]
    fn it_sleeps_when_nothing_has_run_for_its_idle_time_and_nobody_needs_it() {
        let now = Instant::now();
        let mut sleep = Sleep::default();
        sleep.stir();
        assert_eq!(sleep.rests(Needed::No(IDLE), || now), Some(now + IDLE));
        // A look in between changes nothing.
        assert_eq!(sleep.rests(Needed::No(IDLE), never), Some(now + IDLE));
        assert!(!sleep.is_due(|| now + IDLE / 2));
        sleep.stir();
        assert!(!sleep.is_due(never));
        let later = now + IDLE / 2;
        assert_eq!(sleep.rests(Needed::No(IDLE), || later), Some(later + IDLE));
        assert!(sleep.is_due(|| later + IDLE));
        sleep.fell_asleep();
        assert!(sleep.is_asleep() && !sleep.is_due(never));
        sleep.wakes();
        assert!(!sleep.is_asleep() && sleep.is_waking() && !sleep.is_due(never));
        assert!(sleep.started() && !sleep.started() && !sleep.is_waking());
    }

    #[test]
    fn when_others_want_its_place_it_sleeps_after_a_short_time_but_not_before_and_not_if_it_is_used_again() {
        let (now, idle) = (Instant::now(), Duration::from_secs(60));
        let mut sleep = Sleep::default();
        sleep.hurry();
        assert_eq!((sleep.could_hurry(), sleep.rests(Needed::No(idle), || now)), (None, Some(now + idle)));
        assert_eq!(sleep.could_hurry(), Some(now));
        sleep.hurry();
        assert_eq!(sleep.rests(Needed::No(idle), never), Some(now + EARLY));
        assert!(!sleep.is_due(|| now + EARLY / 2) && sleep.is_due(|| now + EARLY));
        assert!(sleep.is_early(now + EARLY) && !sleep.is_early(now + idle));
        sleep.stir();
        let later = now + EARLY;
        assert_eq!(sleep.rests(Needed::No(idle), || later), Some(later + idle));
        sleep.hurry();
        assert_eq!(sleep.rests(Needed::Yes, never), None);
        assert_eq!(
            sleep.rests(Needed::No(idle), || later),
            Some(later + idle),
            "that was before it was needed"
        );
        sleep.failed();
        sleep.rests(Needed::No(idle), || later);
        assert_eq!(sleep.could_hurry(), None, "it would fail again");
        let mut sleep = Sleep::default();
        sleep.rests(Needed::No(EARLY), || now);
        assert_eq!(sleep.could_hurry(), None, "it sleeps soon enough");
    }

    #[test]
    fn as_long_as_somebody_needs_it_it_looks_at_no_clock() {
        let now = Instant::now();
        let mut sleep = Sleep::default();
        for _ in 0..3 {
            sleep.stir();
            assert_eq!(sleep.rests(Needed::Yes, never), None);
            assert!(!sleep.is_due(never));
        }
        // The time that it was needed does not count.
        assert_eq!(sleep.rests(Needed::No(IDLE), || now), Some(now + IDLE));
    }

    #[test]
    fn after_each_try_that_fails_it_waits_twice_as_long_up_to_an_hour() {
        let now = Instant::now();
        let waits = |idle: Duration, tries: usize| {
            let mut sleep = Sleep::default();
            let wait = |sleep: &mut Sleep| sleep.rests(Needed::No(idle), || now).unwrap() - now;
            let mut all = vec![wait(&mut sleep)];
            for _ in 0..tries {
                sleep.failed();
                all.push(wait(&mut sleep));
            }
            sleep.fell_asleep();
            sleep.wakes();
            sleep.started();
            assert_eq!(wait(&mut sleep), idle, "that it slept makes up for it");
            all
        };
        let seconds = |waits: Vec<Duration>| waits.iter().map(Duration::as_secs).collect::<Vec<_>>();
        assert_eq!(seconds(waits(Duration::from_secs(60), 7)), [60, 120, 240, 480, 960, 1920, 3600, 3600]);
        assert_eq!(seconds(waits(Duration::from_secs(7200), 2)), [7200; 3]);
        assert_eq!(waits(IDLE, 100).last(), Some(&WAIT_MAX));
    }

    proptest! {
        /// The slot as it is meant: it knows when it was needed or something ran for the last time.
        #[test]
        fn it_never_sleeps_before_it_was_idle_long_enough_and_never_waits_longer(
            story in prop::collection::vec((0_u8..6, 0_u64..80), 1..200),
        ) {
            let mut now = Instant::now();
            let mut sleep = Sleep::default();
            // When somebody needed it or something ran, as far as it was looked at, and how long it is to be idle.
            let (mut busy, mut wait, mut stirred) = (now, IDLE, true);
            let (mut needed, mut was_needed) = (true, true);
            sleep.stir();
            for (what, ms) in story {
                now += Duration::from_millis(ms);
                match what {
                    0 => {
                        sleep.stir();
                        stirred = true;
                    }
                    1 => needed = true,
                    2 => needed = false,
                    3 if sleep.is_due(|| now) => {
                        sleep.failed();
                        (busy, wait) = (now, (wait * 2).min(WAIT_MAX));
                        stirred = true;
                    }
                    _ => {}
                }
                let rests = sleep.rests(if needed { Needed::Yes } else { Needed::No(IDLE) }, || now);
                // Of the last time that it was needed it learns by the first look at which it is not.
                if std::mem::take(&mut stirred) || needed || was_needed {
                    busy = now;
                }
                was_needed = needed;
                prop_assert_eq!(rests, (!needed).then_some(busy + wait));
                prop_assert_eq!(sleep.is_due(|| now), !needed && now >= busy + wait);
                if sleep.is_due(|| now) && what == 4 {
                    sleep.fell_asleep();
                    prop_assert!(sleep.is_asleep());
                    sleep.wakes();
                    prop_assert!(sleep.started());
                    (busy, wait, stirred) = (now, IDLE, true);
                    prop_assert!(!sleep.is_due(|| now + WAIT_MAX));
                }
            }
        }
    }
}
