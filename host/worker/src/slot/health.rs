//! How a slot that keeps failing slows down, and when it gives up. Pure: time and chance are handed in.
//!
//! A fault fills a leaky score by ten; each good turn and each second of serving takes one away. The first five faults in
//! a row are answered at once by another instance; what is above that waits, twice as long with each fault. Ten in a row
//! mean that it does not get better: an app that is to be suspended then is.

use std::time::{Duration, Instant};

use crate::settings::OnFailure;

/// What one fault adds to the score: so many good turns or seconds of serving make up for it.
const FAULT: u32 = 10;
/// Up to here the next instance starts at once.
const AT_ONCE_MAX: u32 = 5 * FAULT;
/// From here on it does not get better.
const HOPELESS: u32 = 10 * FAULT;
/// The score grows no further, so that a slot whose plugin has mended itself is soon trusted again.
const SCORE_MAX: u32 = 16 * FAULT;
const WAIT_MIN: Duration = Duration::from_millis(50);
const WAIT_MAX: Duration = Duration::from_secs(30);

/// What went wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Trouble {
    /// A turn trapped or overran: the instance is gone.
    Turn,
    /// An instance did not start: the plugin's fault. It is never tried again at once.
    Start,
    /// An instance could not start for want of room: not the plugin's fault, so it never suspends the slot.
    Room,
}

/// When the next instance may start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    AtOnce,
    /// After so long.
    In(Duration),
    /// Not before another version comes.
    Never,
}

/// How the slot does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    Well,
    /// It waits before its instances start.
    BackingOff,
    /// It starts none.
    Suspended,
}

/// A slot's record of faults. Call [`started`](Self::started) when an instance serves, [`good_turn`](Self::good_turn)
/// after each turn that left it usable, [`trouble`](Self::trouble) when it broke or did not start.
#[derive(Debug)]
pub(super) struct Health {
    on_failure: OnFailure,
    /// In tenths of a fault.
    score: u32,
    state: State,
    /// Starts in a row for which there was no room.
    no_room: u32,
    /// None: no instance serves.
    serves_since: Option<Instant>,
    /// When another instance may start. None: not before another version comes.
    next: Option<Instant>,
    /// It is in the queue for a place.
    waits_for_place: bool,
}

impl Health {
    /// Nothing has happened yet.
    pub fn new(on_failure: OnFailure, now: Instant) -> Self {
        Self {
            on_failure,
            score: 0,
            state: State::Well,
            no_room: 0,
            serves_since: None,
            next: Some(now),
            waits_for_place: false,
        }
    }

    /// What becomes of the slot if it goes on failing. One that is suspended stays so.
    pub fn set_on_failure(&mut self, on_failure: OnFailure) {
        self.on_failure = on_failure;
    }

    /// An instance serves from now on.
    pub fn started(&mut self, now: Instant) {
        self.no_room = 0;
        self.serves_since = Some(now);
    }

    /// A turn left the instance usable. On the path of every event: it looks at no clock. True: the slot is well again.
    pub fn good_turn(&mut self) -> bool {
        match self.score {
            0 => false,
            1 => {
                self.score = 0;
                std::mem::replace(&mut self.state, State::Well) == State::BackingOff
            }
            score => {
                self.score = score - 1;
                false
            }
        }
    }

    /// Something went wrong at `now`. `chance`, from 0 to 1, spreads the waits of slots that failed together over a
    /// quarter of the wait to either side. Says what happens next, and whether the slot's state is another than before.
    pub fn trouble(&mut self, now: Instant, trouble: Trouble, chance: f64) -> (Next, bool) {
        self.forgive(now);
        let wait = match trouble {
            Trouble::Turn => self.fill(self.score.saturating_add(FAULT)),
            Trouble::Start => self.fill(self.score.saturating_add(FAULT).max(AT_ONCE_MAX + FAULT)),
            Trouble::Room => {
                self.no_room = self.no_room.saturating_add(1);
                Some(doubled(self.no_room - 1))
            }
        };
        let before = self.state;
        if trouble != Trouble::Room && self.on_failure == OnFailure::Suspend && self.score >= HOPELESS {
            self.state = State::Suspended;
            self.next = None;
            return (Next::Never, before != State::Suspended);
        }
        let Some(wait) = wait.map(|wait| wait.mul_f64(0.75 + chance.clamp(0.0, 1.0) / 2.0)) else {
            self.next = Some(now);
            return (Next::AtOnce, false);
        };
        self.state = State::BackingOff;
        self.next = Some(now + wait);
        (Next::In(wait), before != State::BackingOff)
    }

    /// There is no place for an instance, and the slot is in the queue for one. It looks again now and then, so that nothing
    /// that goes wrong with the queue keeps it waiting for ever.
    pub fn waits_for_place(&mut self, now: Instant) {
        self.next = self.next.map(|_| now + WAIT_MAX);
        self.waits_for_place = true;
    }

    /// It has its place.
    pub fn has_place(&mut self, now: Instant) {
        if std::mem::take(&mut self.waits_for_place) {
            self.next = self.next.map(|_| now);
        }
    }

    /// When another instance may start. None: not before another version comes.
    pub fn next(&self) -> Option<Instant> {
        self.next
    }

    /// Whether another instance may start now.
    pub fn may_start(&self, now: Instant) -> bool {
        self.next.is_some_and(|at| at <= now)
    }

    /// The instance has ended in good order: the time that it served counts, and what comes until the next does not.
    pub fn ended(&mut self, now: Instant) {
        self.forgive(now);
    }

    /// Whether it does not keep failing, with the time that it has served.
    pub fn is_well(&self, now: Instant) -> bool {
        let served = self.serves_since.map_or(0, |since| now.saturating_duration_since(since).as_secs());
        self.state == State::Well || self.state == State::BackingOff && u64::from(self.score) <= served
    }

    /// The time that it served since its instance started counts for it.
    fn forgive(&mut self, now: Instant) {
        let Some(since) = self.serves_since.take() else { return };
        let served = now.saturating_duration_since(since).as_secs();
        self.score = self.score.saturating_sub(u32::try_from(served).unwrap_or(u32::MAX));
        if self.score == 0 {
            self.state = State::Well;
        }
    }

    /// How long to wait at this score. None: not at all.
    fn fill(&mut self, score: u32) -> Option<Duration> {
        self.score = score.min(SCORE_MAX);
        let above = self.score.checked_sub(AT_ONCE_MAX + 1)?;
        Some(doubled(above / FAULT))
    }
}

fn doubled(times: u32) -> Duration {
    WAIT_MIN.saturating_mul(1_u32.checked_shl(times).unwrap_or(u32::MAX)).min(WAIT_MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// No spread.
    const MIDDLE: f64 = 0.5;

    fn health(on_failure: OnFailure) -> (Health, Instant) {
        let now = Instant::now();
        let mut health = Health::new(on_failure, now);
        health.started(now);
        (health, now)
    }

    /// The waits of so many turns that fault in a row, in milliseconds; 0: at once.
    fn waits(health: &mut Health, now: &mut Instant, faults: usize) -> Vec<u128> {
        let mut all = Vec::new();
        for _ in 0..faults {
            let (next, _) = health.trouble(*now, Trouble::Turn, MIDDLE);
            match next {
                Next::AtOnce => all.push(0),
                Next::In(wait) => {
                    all.push(wait.as_millis());
                    assert!(!health.may_start(*now));
                    *now += wait;
                }
                Next::Never => panic!("suspended"),
            }
            assert!(health.may_start(*now));
            health.started(*now);
        }
        all
    }

    #[test]
    fn the_first_faults_restart_at_once_and_then_the_wait_doubles_to_half_a_minute() {
        let (mut health, mut now) = health(OnFailure::Restart);
        let waited = waits(&mut health, &mut now, 18);
        assert_eq!(waited[..5], [0; 5]);
        assert_eq!(waited[5..10], [50, 100, 200, 400, 800]);
        assert_eq!(waited[10..], [1600, 3200, 6400, 12_800, 25_600, 30_000, 30_000, 30_000]);
        assert_eq!(health.state, State::BackingOff);
    }

    #[test]
    fn ten_good_turns_make_up_for_a_fault() {
        let (mut health, mut now) = health(OnFailure::Suspend);
        for _ in 0..100 {
            assert_eq!(waits(&mut health, &mut now, 1), [0]);
            (0..10).for_each(|_| assert!(!health.good_turn()));
        }
        assert_eq!(waits(&mut health, &mut now, 6)[5], 50);
        let well: Vec<bool> = (0..100).map(|_| health.good_turn()).collect();
        assert_eq!(well.iter().filter(|well| **well).count(), 1, "it is told once that it is well");
        assert!(well[59]);
        assert_eq!(waits(&mut health, &mut now, 6), [0, 0, 0, 0, 0, 50]);
    }

    #[test]
    fn time_that_it_serves_counts_for_it_and_time_that_it_waits_does_not() {
        let (mut health, mut now) = health(OnFailure::Restart);
        waits(&mut health, &mut now, 8);
        now += Duration::from_secs(3600);
        assert_eq!(waits(&mut health, &mut now, 1), [0]);
        waits(&mut health, &mut now, 7);
        let (next, _) = health.trouble(now, Trouble::Turn, MIDDLE);
        assert_eq!(next, Next::In(Duration::from_millis(400)));
        // Late: nobody was served meanwhile.
        now += Duration::from_secs(3600);
        health.started(now);
        assert_eq!(waits(&mut health, &mut now, 1), [800]);
    }

    #[test]
    fn it_is_well_when_good_turns_or_time_have_made_up_for_its_faults_and_time_without_an_instance_counts_for_nothing()
     {
        let (mut health, mut now) = health(OnFailure::Restart);
        waits(&mut health, &mut now, 6);
        assert!(!health.is_well(now) && !health.is_well(now + Duration::from_secs(59)));
        assert!(health.is_well(now + Duration::from_secs(60)));
        health.ended(now + Duration::from_secs(20));
        assert!(!health.is_well(now + Duration::from_secs(3600)));
        now += Duration::from_secs(3600);
        health.started(now);
        assert!(!health.is_well(now + Duration::from_secs(39)));
        for _ in 0..40 {
            health.good_turn();
        }
        assert!(health.is_well(now));
    }

    #[test]
    fn a_slot_is_suspended_by_ten_faults_in_a_row_and_stays_so() {
        let (mut health, mut now) = health(OnFailure::Suspend);
        waits(&mut health, &mut now, 9);
        assert_eq!(health.trouble(now, Trouble::Turn, MIDDLE), (Next::Never, true));
        assert_eq!(health.trouble(now, Trouble::Turn, MIDDLE), (Next::Never, false));
        assert_eq!(health.next(), None);
        assert!(!health.may_start(now + Duration::from_secs(1_000_000)));
    }

    #[test]
    fn a_start_that_fails_is_never_tried_again_at_once() {
        let (mut health, mut now) = health(OnFailure::Suspend);
        let mut waited = Vec::new();
        let last = loop {
            match health.trouble(now, Trouble::Start, MIDDLE) {
                (Next::In(wait), is_news) => {
                    assert_eq!(is_news, waited.is_empty());
                    now += wait;
                    waited.push(wait.as_millis());
                }
                (last, _) => break last,
            }
        };
        assert_eq!((waited, last), (vec![50, 100, 200, 400], Next::Never));
    }

    #[test]
    fn want_of_room_never_suspends_and_counts_for_no_fault() {
        let (mut health, mut now) = health(OnFailure::Suspend);
        let mut last = Duration::ZERO;
        for _ in 0..40 {
            let (Next::In(wait), _) = health.trouble(now, Trouble::Room, MIDDLE) else { panic!("it waits") };
            assert!(wait >= last);
            (last, now) = (wait, now + wait);
        }
        assert_eq!(last, WAIT_MAX);
        health.started(now);
        assert_eq!(waits(&mut health, &mut now, 1), [0]);
    }

    proptest! {
        #[test]
        fn however_it_fails_the_waits_are_bounded_and_faults_without_good_turns_never_speed_up(
            steps in prop::collection::vec((0_u8..4, 0_u64..3_000, 0.0..=1.0_f64), 1..200),
            suspends: bool,
        ) {
            let (mut health, mut now) =
                health(if suspends { OnFailure::Suspend } else { OnFailure::Restart });
            let mut at_once = 0;
            for (what, ms, chance) in steps {
                now += Duration::from_millis(ms);
                let trouble = match what {
                    0 => Trouble::Turn,
                    1 => Trouble::Start,
                    2 => Trouble::Room,
                    _ => {
                        let before = health.score;
                        health.good_turn();
                        prop_assert_eq!(health.score, before.saturating_sub(1));
                        continue;
                    }
                };
                let score = health.score;
                let was_suspended = health.state == State::Suspended;
                let (next, _) = health.trouble(now, trouble, chance);
                prop_assert!(health.score <= SCORE_MAX);
                match next {
                    Next::AtOnce => {
                        at_once += 1;
                        prop_assert!(score <= AT_ONCE_MAX && trouble == Trouble::Turn);
                        prop_assert!(health.may_start(now));
                    }
                    Next::In(wait) => {
                        prop_assert!(wait >= WAIT_MIN.mul_f64(0.74) && wait <= WAIT_MAX.mul_f64(1.26));
                        prop_assert!(!health.may_start(now) && health.may_start(now + wait));
                    }
                    Next::Never => {
                        prop_assert!(suspends && health.next().is_none());
                        prop_assert!(was_suspended || health.score >= HOPELESS);
                    }
                }
                if health.next().is_some() {
                    now = now.max(health.next().unwrap());
                    health.started(now);
                }
            }
            prop_assert!(at_once <= 200);
        }

        #[test]
        fn without_a_good_turn_or_time_a_row_of_faults_starts_few_instances(faults in 1_usize..500) {
            let (mut health, mut now) = health(OnFailure::Restart);
            let began = now;
            let waited = waits(&mut health, &mut now, faults);
            prop_assert_eq!(waited.iter().filter(|wait| **wait == 0).count(), faults.min(5));
            prop_assert!(waited.windows(2).all(|pair| pair[0] <= pair[1]));
            prop_assert!(now - began >= WAIT_MIN * u32::try_from(faults.saturating_sub(5)).unwrap());
        }
    }
}
