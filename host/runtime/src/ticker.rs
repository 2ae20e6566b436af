//! The thread that makes the engine's epoch tick while guests run, so that they can be interrupted.
//!
//! It must not tick on an idle machine, and must never sleep while a guest runs. Each instance has a [`Gate`]; whoever
//! polls a guest enters it first. The ticker parks only after it has seen every gate idle:
//!
//! ```text
//!   guest (enter)                     ticker (try_park)
//!   G1  gate = RUNNING                T1  parked = true
//!   G2  if parked { wake }            T2  if any gate is not IDLE { parked = false; go on }
//!                                     T3  sleep while parked
//! ```
//!
//! All four accesses are SeqCst, so there is one order of them. If G1 comes before the load in T2, the ticker sees the
//! guest and goes on. Otherwise T1 < T2 < G1 < G2, so G2 sees `parked`, or that another guest has already cleared it,
//! and wakes the ticker. Either way it ticks while the guest runs. It goes on ticking at least until the guest has
//! left its gate: a gate that is RUNNING keeps it from parking.

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::thread::Thread;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::clock::TICK;

/// The next tick if no guest was running at the last one, on average. Nearly every turn is over within microseconds, and
/// each tick costs a wake-up of a thread: so it comes often only to those that are there to be interrupted.
const QUIET_TICK: Duration = Duration::from_millis(4);
/// So much earlier or later it comes, by chance: whoever runs at a tick is charged with the time since the one before, and
/// must neither be able to run only in between nor be caught each time.
const QUIET_TICK_SPREAD: f64 = 0.25;
/// So long after the last look the ticker looks whether it may park.
const LOOK_AFTER: Duration = Duration::from_millis(20);
/// Looking at more gates than this at each tick would cost more than the ticks.
const GATES_MAX: usize = 256;

/// No guest has run since the ticker last looked whether it may park.
const IDLE: u8 = 0;
/// A guest is being polled.
const RUNNING: u8 = 1;
/// A guest has run since then.
const RECENT: u8 = 2;

/// Ticks until it is dropped.
pub(crate) struct Ticker {
    shared: Arc<Shared>,
}

impl Ticker {
    /// Starts the thread, which calls `tick` once a millisecond while a guest runs on and on, and every few milliseconds while
    /// guests come and go. It ends when `tick` returns false.
    pub(crate) fn start(tick: impl FnMut() -> bool + Send + 'static) -> std::io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let of_thread = Arc::clone(&shared);
        let thread = std::thread::Builder::new()
            .name("tidegate-ticker".to_owned())
            .spawn(move || of_thread.run(tick))?
            .thread()
            .clone();
        // Set once, right here.
        let _ = shared.thread.set(thread);
        Ok(Self { shared })
    }

    /// A gate for one more guest.
    pub(crate) fn gate(&self) -> Gate {
        let state = Arc::new(State(AtomicU8::new(IDLE)));
        self.shared.gates.lock().push(Arc::downgrade(&state));
        Gate { state, shared: Arc::clone(&self.shared) }
    }

    /// How many times the epoch has ticked.
    pub(crate) fn ticks(&self) -> u64 {
        self.shared.ticks.load(Ordering::Relaxed)
    }

    /// What its pace is read from.
    pub(crate) fn pace(&self) -> Pace {
        Pace(Arc::clone(&self.shared))
    }

    /// Whether it sleeps because no guest runs.
    pub(crate) fn is_parked(&self) -> bool {
        self.shared.parked.load(Ordering::SeqCst)
    }
}

impl Drop for Ticker {
    fn drop(&mut self) {
        self.shared.ended.store(true, Ordering::SeqCst);
        self.shared.wake();
    }
}

/// How often the epoch ticks.
#[derive(Clone)]
pub(crate) struct Pace(Arc<Shared>);

impl Pace {
    /// The time between the last two ticks.
    pub(crate) fn interval(&self) -> Duration {
        Duration::from_nanos(self.0.interval_ns.load(Ordering::Relaxed))
    }

    /// How many times the epoch has ticked: one relaxed load.
    pub(crate) fn ticks(&self) -> u64 {
        self.0.ticks.load(Ordering::Relaxed)
    }
}

/// One guest's sign for the ticker that it runs.
pub(crate) struct Gate {
    state: Arc<State>,
    shared: Arc<Shared>,
}

impl Gate {
    /// The guest runs until the result is dropped.
    pub(crate) fn enter(&self) -> Running<'_> {
        self.state.0.store(RUNNING, Ordering::SeqCst);
        if self.shared.parked.load(Ordering::SeqCst) {
            self.shared.wake();
        }
        Running(&self.state)
    }
}

/// A guest runs.
pub(crate) struct Running<'a>(&'a State);

impl Drop for Running<'_> {
    fn drop(&mut self) {
        // Nothing follows that the ticker must see in order: at worst it parks one look later.
        self.0.0.store(RECENT, Ordering::Release);
    }
}

// A cache line of its own: each is written at every turn, by one thread.
#[repr(align(64))]
struct State(AtomicU8);

impl State {
    /// Whether a guest runs or has run since the last look.
    fn look(&self) -> bool {
        match self.0.load(Ordering::SeqCst) {
            IDLE => false,
            RUNNING => true,
            _ => {
                // Fails only if a guest has entered meanwhile.
                let _ = self.0.compare_exchange(RECENT, IDLE, Ordering::SeqCst, Ordering::SeqCst);
                true
            }
        }
    }
}

#[derive(Default)]
struct Shared {
    parked: AtomicBool,
    ended: AtomicBool,
    ticks: AtomicU64,
    interval_ns: AtomicU64,
    gates: Mutex<Vec<Weak<State>>>,
    thread: OnceLock<Thread>,
}

impl Shared {
    fn run(&self, mut tick: impl FnMut() -> bool) {
        let (mut slept, mut last) = (Duration::ZERO, Instant::now());
        while !self.ended.load(Ordering::SeqCst) {
            let next = if self.any_guest_runs() { TICK } else { quiet_tick(fastrand::f64()) };
            std::thread::sleep(next);
            let now = Instant::now();
            let interval = u64::try_from((now - last).as_nanos()).unwrap_or(u64::MAX);
            self.interval_ns.store(interval, Ordering::Relaxed);
            last = now;
            if !tick() {
                return;
            }
            self.ticks.fetch_add(1, Ordering::Relaxed);
            slept += next;
            if slept >= LOOK_AFTER {
                slept = Duration::ZERO;
                if self.may_park() {
                    // T3. The end is checked as well: its wake-up may have come before T1.
                    while self.parked.load(Ordering::SeqCst) && !self.ended.load(Ordering::SeqCst) {
                        std::thread::park();
                    }
                    last = Instant::now();
                }
            }
        }
    }

    /// Whether a guest is being polled right now, or there are too many to look at.
    fn any_guest_runs(&self) -> bool {
        let gates = self.gates.lock();
        let runs =
            |gate: &Weak<State>| gate.upgrade().is_some_and(|gate| gate.0.load(Ordering::Relaxed) == RUNNING);
        gates.len() > GATES_MAX || gates.iter().any(runs)
    }

    /// T1 and T2 of the protocol.
    fn may_park(&self) -> bool {
        self.parked.store(true, Ordering::SeqCst);
        if self.any_gate_is_busy() {
            self.parked.store(false, Ordering::SeqCst);
            return false;
        }
        true
    }

    fn any_gate_is_busy(&self) -> bool {
        let mut gates = self.gates.lock();
        let mut busy = false;
        // A new gate is entered only after it is in the list, so none is missed; the list is held while looking.
        gates.retain(|gate| match gate.upgrade() {
            Some(gate) => {
                busy |= gate.look();
                true
            }
            None => false,
        });
        busy
    }

    fn wake(&self) {
        self.parked.store(false, Ordering::SeqCst);
        if let Some(thread) = self.thread.get() {
            thread.unpark();
        }
    }
}

/// `chance` is 0 to 1.
fn quiet_tick(chance: f64) -> Duration {
    QUIET_TICK.mul_f64(1.0 + QUIET_TICK_SPREAD * (2.0 * chance - 1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quiet_ticks_come_by_chance_around_their_mean() {
        let ms = |chance| quiet_tick(chance).as_micros();
        assert_eq!((ms(0.0), ms(0.5), ms(1.0)), (3_000, 4_000, 5_000));
    }

    fn until(condition: impl Fn() -> bool) {
        while !condition() {
            std::thread::yield_now();
        }
    }

    #[test]
    fn it_ticks_while_a_guest_runs_and_parks_when_none_does() {
        let ticker = Ticker::start(|| true).unwrap();
        until(|| ticker.is_parked());
        let gate = ticker.gate();
        for _ in 0..3 {
            let before = ticker.ticks();
            let running = gate.enter();
            assert!(!ticker.is_parked());
            until(|| ticker.ticks() > before + 60);
            drop(running);
            until(|| ticker.is_parked());
        }
    }

    #[test]
    fn the_thread_ends_with_the_ticker() {
        let token = Arc::new(());
        let of_thread = Arc::clone(&token);
        let ticker = Ticker::start(move || Arc::strong_count(&of_thread) > 0).unwrap();
        until(|| ticker.is_parked());
        drop(ticker);
        until(|| Arc::strong_count(&token) == 1);
    }

    #[test]
    fn gates_of_gone_guests_are_forgotten() {
        let ticker = Ticker::start(|| true).unwrap();
        let gates: Vec<_> = (0..10).map(|_| ticker.gate()).collect();
        let running = gates[3].enter();
        drop(running);
        drop(gates);
        until(|| ticker.shared.gates.lock().is_empty());
    }

    /// Every order of the steps of the protocol above, one at a time, which is what SeqCst means.
    #[test]
    fn no_interleaving_loses_a_wake_up() {
        fn explore(guest: u8, ticker: u8, running: bool, parked: bool, woken: bool, asleep: bool) -> u32 {
            if guest == 2 && ticker == 2 {
                assert!(!asleep || !parked || woken, "the guest runs and nobody ticks");
                return 1;
            }
            let mut orders = 0;
            if guest == 0 {
                orders += explore(1, ticker, true, parked, woken, asleep);
            } else if guest == 1 {
                orders += explore(2, ticker, running, false, woken || parked, asleep);
            }
            if ticker == 0 {
                orders += explore(guest, 1, running, true, woken, asleep);
            } else if ticker == 1 {
                let sleeps = !running;
                orders += explore(guest, 2, running, sleeps && parked, woken, sleeps);
            }
            orders
        }
        assert_eq!(explore(0, 0, false, false, false, false), 6);
    }
}
