//! How long the machine itself holds up a thread: what a pause is to be compared with.

use std::hint::black_box;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::stats::{Latency, Nanos};
use crate::{Error, Result};

/// How long the piece of work takes that is done again and again, when nothing disturbs it.
const WORK: Duration = Duration::from_micros(100);
/// From one piece to the next: together a hundredth of one core.
const PERIOD: Duration = Duration::from_millis(10);
/// Pieces by which the size of the work is found; the quickest is the one that nothing disturbed.
const TRIALS: u32 = 32;

/// A thread that does the same piece of work again and again and notes by how much longer it took than undisturbed.
#[derive(Debug)]
pub(super) struct Jitter {
    state: Arc<AtomicU8>,
    /// Locked a hundred times a second.
    seen: Arc<Mutex<Nanos>>,
}

const WAITS: u8 = 0;
const RUNS: u8 = 1;
const ENDS: u8 = 2;

impl Jitter {
    /// Starts the thread, which notes nothing yet. Takes a few milliseconds to see how fast the machine is.
    pub(super) fn start() -> Result<Jitter> {
        let state = Arc::new(AtomicU8::new(WAITS));
        let seen = Arc::new(Mutex::new(Nanos::new()));
        let (of_thread, notes) = (Arc::clone(&state), Arc::clone(&seen));
        let (rounds, undisturbed) = calibrate();
        let work = move || {
            loop {
                match of_thread.load(Ordering::Relaxed) {
                    ENDS => return,
                    RUNS => {
                        let more = timed(rounds).saturating_sub(undisturbed);
                        lock(&notes).record(nanos_of(more));
                    }
                    _ => {}
                }
                std::thread::sleep(PERIOD);
            }
        };
        let thread = std::thread::Builder::new().name("bench-jitter".to_owned());
        thread.spawn(work).map_err(Error::io("starting the thread that sees jitter"))?;
        Ok(Jitter { state, seen })
    }

    /// From now on it counts.
    pub(super) fn begin(&self) {
        self.state.store(RUNS, Ordering::Relaxed);
    }

    /// What was seen so far; none if it never began.
    pub(super) fn seen(&self) -> Option<Latency> {
        lock(&self.seen).summary()
    }
}

impl Drop for Jitter {
    fn drop(&mut self) {
        // The thread ends within a period, whoever waits for it.
        self.state.store(ENDS, Ordering::Relaxed);
    }
}

/// How many rounds of computing make a piece of work, and how long it takes undisturbed.
fn calibrate() -> (u64, Duration) {
    let quickest = |rounds| (0..TRIALS).map(|_| timed(rounds)).min().unwrap_or(WORK);
    let mut rounds = 1 << 10;
    while rounds < 1 << 30 && quickest(rounds) < WORK {
        rounds *= 2;
    }
    (rounds, quickest(rounds))
}

fn timed(rounds: u64) -> Duration {
    let began = Instant::now();
    black_box((0..rounds).fold(1_u64, |sum, round| black_box(sum.rotate_left(7) ^ round)));
    began.elapsed()
}

fn lock(seen: &Mutex<Nanos>) -> MutexGuard<'_, Nanos> {
    seen.lock().unwrap_or_else(PoisonError::into_inner)
}

fn nanos_of(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_comes_after_the_beginning_is_seen() {
        let jitter = Jitter::start().unwrap();
        assert_eq!(jitter.seen(), None);
        jitter.begin();
        let deadline = Instant::now() + Duration::from_secs(30);
        while jitter.seen().is_none() {
            assert!(Instant::now() < deadline, "it never looked");
            std::thread::yield_now();
        }
    }

    #[test]
    fn a_piece_of_work_takes_as_long_as_it_should_when_nothing_disturbs_it() {
        let (rounds, undisturbed) = calibrate();
        assert!(rounds.is_power_of_two() && undisturbed > Duration::ZERO);
        assert!(timed(0) < timed(1 << 24), "the work is not optimized away");
    }
}
