//! What is gathered on the way for the report.

use std::collections::BTreeMap;
use std::time::Duration;

use tidegate_base::NodeName;
use tidegate_wire::control::SlotSwitch;
use tidegate_wire::report::{Audit, Pauses, SwitchedAt, Times};
use tidegate_wire::rollout::SWITCHES_MAX;

use super::view::{View, rollout};

/// Switches whose turns a report tells of.
const TURNS_MAX: usize = 1024;

/// What a deployment spends its time on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Spent {
    Preparing,
    Switching,
    Judging,
    GoingBack,
}

/// Times and switches of one deployment.
#[derive(Debug)]
pub(super) struct Facts {
    began: Duration,
    spent: Spent,
    since: Duration,
    times: Times,
    switches: BTreeMap<NodeName, Switches>,
}

/// A worker's list begins anew when it restarts; what it said before stays true.
#[derive(Debug, Default)]
struct Switches {
    earlier: Vec<SlotSwitch>,
    current: Vec<SlotSwitch>,
}

/// What the switches come to.
#[derive(Debug, Default)]
pub(super) struct Sums {
    pub switched: u32,
    pub switched_back: u32,
    pub pauses: Option<Pauses>,
    pub audit: Audit,
    pub timers_carried: u64,
    pub timers_dropped: u64,
    pub state_bytes: u64,
    pub states_lost: u32,
    pub turns: Vec<SwitchedAt>,
    pub waiting_events: u64,
}

impl Facts {
    /// A deployment that was asked for at some time; what it spends its time on is known from `since` on.
    pub fn new(began: Duration, since: Duration) -> Self {
        let began = began.min(since);
        Self { began, spent: Spent::Preparing, since, times: Times::default(), switches: BTreeMap::new() }
    }

    pub fn began(&self) -> Duration {
        self.began
    }

    /// From now on time is spent on this.
    pub fn spend(&mut self, on: Spent, now: Duration) {
        let us = micros(now.saturating_sub(self.since));
        let times = &mut self.times;
        *match self.spent {
            Spent::Preparing => &mut times.prepare_us,
            Spent::Switching => &mut times.switch_us,
            Spent::Judging => &mut times.canary_us,
            Spent::GoingBack => &mut times.back_us,
        } += us;
        (self.spent, self.since) = (on, now);
    }

    /// It is over.
    pub fn end(&mut self, now: Duration) {
        self.spend(self.spent, now);
        self.times.total_us = micros(now.saturating_sub(self.began));
    }

    pub fn times(&self) -> Times {
        self.times
    }

    /// Whether a turn on new code is known of.
    pub fn had_event(&self) -> bool {
        self.times.first_event_us.is_some()
    }

    /// Takes in what the workers say of their switches.
    pub fn update(&mut self, view: &View<'_>, number: u32, now: Duration) {
        for (worker, report) in view.iter() {
            let Some(told) = rollout(report, number).map(|rollout| &rollout.switches) else { continue };
            let has_event = |switch: &SlotSwitch| switch.to == number && switch.first_event_us.is_some();
            if self.times.first_event_us.is_none() && told.iter().any(has_event) {
                self.times.first_event_us = Some(micros(now.saturating_sub(self.began)));
            }
            if told.is_empty() && !self.switches.contains_key(worker) {
                continue;
            }
            self.switches.entry(worker.clone()).or_default().update(told);
        }
    }

    /// What all switches come to.
    pub fn sums(&self, number: u32) -> Sums {
        let mut sums = Sums::default();
        let mut pauses = Vec::new();
        for (worker, switches) in &self.switches {
            for switch in switches.earlier.iter().chain(&switches.current) {
                sums.add(switch, number);
                if sums.turns.len() < TURNS_MAX {
                    sums.turns.push(switched_at(worker, switch));
                }
                pauses.push((switch.pause_us, worker, switch.slot));
            }
        }
        pauses.sort_unstable();
        // The nearest rank: of fewer than 100 it is the longest.
        let rank = (pauses.len() * 99).div_ceil(100);
        let p99 = pauses.get(rank.saturating_sub(1)).map(|(us, ..)| *us);
        if let (Some((longest_us, worker, slot)), Some(p99_us)) = (pauses.last(), p99) {
            let (longest_worker, longest_slot) = ((*worker).clone(), *slot);
            sums.pauses = Some(Pauses { longest_us: *longest_us, longest_worker, longest_slot, p99_us });
        }
        sums
    }
}

impl Sums {
    fn add(&mut self, switch: &SlotSwitch, number: u32) {
        self.switched += u32::from(switch.to == number);
        self.switched_back += u32::from(switch.to != number && switch.from == Some(number));
        self.audit.lost += u64::from(switch.lost);
        self.audit.repeated += u64::from(switch.repeated);
        self.audit.reordered += u64::from(switch.reordered);
        self.timers_carried += u64::from(switch.timers_carried);
        self.timers_dropped += u64::from(switch.timers_dropped);
        self.state_bytes = self.state_bytes.saturating_add(switch.state_bytes);
        self.states_lost += u32::from(switch.state_lost);
        self.waiting_events += u64::from(switch.waiting_events);
    }
}

fn switched_at(worker: &NodeName, switch: &SlotSwitch) -> SwitchedAt {
    let SlotSwitch { slot, from, to, after_turn, .. } = *switch;
    SwitchedAt { worker: worker.clone(), slot, from, to, after_turn }
}

impl Switches {
    fn update(&mut self, told: &[SlotSwitch]) {
        let goes_on = match (self.current.first(), told.first()) {
            (Some(known), Some(told)) => known.is_same(told),
            (known, _) => known.is_none(),
        };
        if !goes_on {
            let room = SWITCHES_MAX.saturating_sub(self.earlier.len());
            self.earlier.extend(self.current.drain(..).take(room));
        }
        self.current = told.iter().take(SWITCHES_MAX).copied().collect();
    }
}

pub(super) fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use tidegate_wire::control::{AppReport, RolloutReport, Step};

    use super::*;
    use crate::deployment::view::tests::{report, view_of};

    const START: Duration = Duration::from_secs(50);

    fn switch(slot: u32, pause_us: u64) -> SlotSwitch {
        let (state_bytes, timers_carried, timers_dropped) = (10, 2, 1);
        let counts =
            SlotSwitch { state_bytes, timers_carried, timers_dropped, lost: 1, ..SlotSwitch::default() };
        SlotSwitch { slot, from: Some(1), to: 2, pause_us, ..counts }
    }

    fn says(switches: Vec<SlotSwitch>) -> AppReport {
        let rollout = RolloutReport { version: 2, step: Step::Switching, failure: None, switches };
        AppReport { rollout: Some(rollout), ..report(&[Some(1)]) }
    }

    fn facts(story: &[Vec<SlotSwitch>]) -> Facts {
        let mut facts = Facts::new(START, START);
        let reports: Vec<_> = story.iter().map(|switches| says(switches.clone())).collect();
        for (at, report) in reports.chunks(1).enumerate() {
            facts.update(&view_of(report).1, 2, START + Duration::from_millis(at as u64));
        }
        facts
    }

    #[test]
    fn a_list_that_grows_is_counted_once_and_one_that_begins_anew_is_added() {
        let first = SlotSwitch { first_event_us: Some(3), ..switch(0, 5) };
        let story = [vec![], vec![switch(0, 5)], vec![first, switch(1, 7)], vec![], vec![switch(0, 9)]];
        let facts = facts(&story);
        let sums = facts.sums(2);
        assert_eq!((sums.switched, sums.state_bytes, sums.audit.lost), (3, 30, 3));
        assert_eq!((sums.timers_carried, sums.timers_dropped), (6, 3));
        assert_eq!(sums.pauses.map(|pauses| (pauses.longest_us, pauses.p99_us)), Some((9, 9)));
        assert_eq!(facts.times().first_event_us, Some(2_000));
    }

    #[test]
    fn ninety_nine_of_a_hundred_pauses_are_no_longer_than_the_p99() {
        let sums = facts(&[(1..=200).map(|at| switch(at, u64::from(at))).collect()]).sums(2);
        assert_eq!(sums.pauses.map(|pauses| (pauses.longest_us, pauses.p99_us)), Some((200, 198)));
    }

    #[test]
    fn switches_back_are_counted_apart() {
        let back = SlotSwitch { from: Some(2), to: 1, ..switch(0, 1) };
        let sums = facts(&[vec![switch(0, 1), back]]).sums(2);
        assert_eq!((sums.switched, sums.switched_back), (1, 1));
    }

    #[test]
    fn time_goes_to_what_it_is_spent_on() {
        let mut facts = Facts::new(START, START);
        let ms = |ms| START + Duration::from_millis(ms);
        facts.spend(Spent::Switching, ms(10));
        facts.spend(Spent::Judging, ms(11));
        facts.spend(Spent::GoingBack, ms(31));
        facts.end(ms(36));
        let Times { prepare_us, switch_us, canary_us, back_us, total_us, first_event_us } = facts.times();
        assert_eq!(
            [prepare_us, switch_us, canary_us, back_us, total_us],
            [10_000, 1_000, 20_000, 5_000, 36_000]
        );
        assert_eq!(first_event_us, None);
    }
}
