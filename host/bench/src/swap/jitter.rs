//! How long the machine itself holds up a thread: what a pause is to be compared with.

use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::thread::JoinHandle;
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
    thread: Option<JoinHandle<Nanos>>,
}

const WAITS: u8 = 0;
const RUNS: u8 = 1;
const ENDS: u8 = 2;

impl Jitter {
    /// Starts the thread, which notes nothing yet. Takes a few milliseconds to see how fast the machine is.
    pub(super) fn start() -> Result<Jitter> {
        let state = Arc::new(AtomicU8::new(WAITS));
        let shared = Arc::clone(&state);
        let (rounds, undisturbed) = calibrate();
        let work = move || {
            let mut nanos = Nanos::new();
            loop {
                match shared.load(Ordering::Relaxed) {
                    ENDS => return nanos,
                    RUNS => nanos.record(nanos_of(timed(rounds).saturating_sub(undisturbed))),
                    _ => {}
                }
                std::thread::sleep(PERIOD);
            }
        };
        let thread = std::thread::Builder::new().name("bench-jitter".to_owned());
        let thread = thread.spawn(work).map_err(Error::io("starting the thread that sees jitter"))?;
        Ok(Jitter { state, thread: Some(thread) })
    }

    /// From now on it counts.
    pub(super) fn begin(&self) {
        self.state.store(RUNS, Ordering::Relaxed);
    }

    /// What was seen; none if it never began.
    pub(super) fn stop(&mut self) -> Option<Latency> {
        self.state.store(ENDS, Ordering::Relaxed);
        self.thread.take()?.join().ok()?.summary()
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

fn nanos_of(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_said_of_a_time_that_never_began() {
        assert_eq!(Jitter::start().unwrap().stop(), None);
    }

    #[test]
    fn what_disturbs_is_seen_from_the_beginning_on() {
        let mut jitter = Jitter::start().unwrap();
        jitter.begin();
        // The thread looks every few milliseconds: this one waits until it has, by doing as much as it does.
        let (rounds, undisturbed) = calibrate();
        let until = Instant::now() + Duration::from_millis(200);
        while Instant::now() < until {
            timed(rounds);
        }
        let seen = jitter.stop().unwrap();
        assert!(seen.max_us >= 0.0 && undisturbed > Duration::ZERO);
    }
}
