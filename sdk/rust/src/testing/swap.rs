//! A swap in a test: one version of the plugin hands the slot over to the next.

use std::fmt;

use super::setup::attributed;
use super::turn::{self, Held, Mode, World};
use super::{FakeGateway, misuse};
use crate::plugin::Callbacks;
use crate::turn::run;
use crate::{Plugin, Result, Saved, StartInfo, StartReason, StopReason};

/// The most state that is handed over, in bytes.
const STATE_BYTES_MAX: usize = 16 * 1024 * 1024;

/// A swap that did not happen: the old version goes on as if nothing had been.
pub struct SwapRefused<P> {
    /// The old version with all that is around it.
    pub gateway: FakeGateway<P>,
    /// Why.
    pub reason: String,
}

impl<P> fmt::Debug for SwapRefused<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SwapRefused").field("reason", &self.reason).finish_non_exhaustive()
    }
}

impl<P: Plugin> FakeGateway<P> {
    /// The plugin's next version takes the slot over, as in a deployment; `Q` may be the same type or another one.
    ///
    /// `on_worker_start` of the new version (reason `Swap`, the version one higher), `save` of the old one, `restore` of
    /// the new one; then timers and commands that the new one asked for take effect, timers of the old one whose keys the
    /// new one has neither set nor cancelled go on, and the old one gets `on_worker_stop`. The clients do not notice.
    ///
    /// # Panics
    /// The swap is refused, or `Q` has no `#[tidegate::plugin]`.
    #[must_use]
    pub fn swap<Q: Plugin>(self) -> FakeGateway<Q> {
        match self.try_swap() {
            Ok(gateway) => gateway,
            Err(refused) => misuse(&format!("the swap is refused: {}", refused.reason)),
        }
    }

    /// As [`swap`](Self::swap), for a test of what refuses it.
    ///
    /// # Errors
    /// `on_worker_start`, `save` or `restore` fails, or the state has more than 16 MiB.
    ///
    /// # Panics
    /// `Q` has no `#[tidegate::plugin]`.
    pub fn try_swap<Q: Plugin>(mut self) -> Result<FakeGateway<Q>, Box<SwapRefused<P>>> {
        attributed::<Q>();
        let version = self.start.version.saturating_add(1);
        let start = StartInfo { version, reason: StartReason::Swap, ..self.start.clone() };
        let mut plugin = Q::default();
        self.world.has_on_timer = Q::CALLBACKS.has(Callbacks::TIMER);
        match hand_over(&mut self.world, &self.plugin, &mut plugin, start.clone()) {
            Ok(held) => Ok(self.switched(plugin, start, held)),
            Err(reason) => {
                self.world.has_on_timer = P::CALLBACKS.has(Callbacks::TIMER);
                Err(Box::new(SwapRefused { gateway: self, reason }))
            }
        }
    }

    fn switched<Q: Plugin>(mut self, plugin: Q, start: StartInfo, held: Held) -> FakeGateway<Q> {
        let mut world = turn::release(std::mem::take(&mut self.world), held);
        if P::CALLBACKS.has(Callbacks::WORKER_STOP) {
            // Timers that it still sets end with it.
            let (_, stopped) =
                held_turn(&mut world, Mode::Stop, || self.plugin.on_worker_stop(StopReason::Swap));
            match stopped {
                Ok(held) => world = turn::release(world, held),
                Err(reason) => world.failures.push(reason),
            }
        }
        if !Q::CALLBACKS.has(Callbacks::TIMER) {
            world.timers.clear();
        }
        let mut gateway = FakeGateway { plugin, world, start };
        gateway.settle();
        gateway
    }
}

/// Starts the new version and gives it the old one's state; what it asked for, if all went well.
fn hand_over<P: Plugin, Q: Plugin>(
    world: &mut World,
    old: &P,
    new: &mut Q,
    start: StartInfo,
) -> Result<Held, String> {
    let mut held = Held::default();
    if Q::CALLBACKS.has(Callbacks::WORKER_START) {
        held = held_turn(world, Mode::Start, || new.on_worker_start(start)).1?;
    }
    if P::CALLBACKS.has(Callbacks::SAVE) && Q::CALLBACKS.has(Callbacks::RESTORE) {
        let (saved, well) = held_turn(world, Mode::Save, || old.save());
        well?;
        let state = saved.map(Saved::into_bytes).unwrap_or_default();
        if state.len() > STATE_BYTES_MAX {
            return Err(format!(
                "the state has {} bytes, at most {STATE_BYTES_MAX} are allowed",
                state.len()
            ));
        }
        let restored = held_turn(world, Mode::Restore, || new.restore(Saved::of_bytes(state)?)).1?;
        held.extend(restored);
    }
    Ok(held)
}

/// A turn whose commands and timers wait; what it returned, and those, or why it failed.
fn held_turn<T>(
    world: &mut World,
    mode: Mode,
    callback: impl FnOnce() -> Result<T>,
) -> (Option<T>, Result<Held, String>) {
    turn::enter(std::mem::take(world), None, None, mode);
    let result = run(None, callback);
    let (after, held) = turn::finish_held();
    *world = after;
    (result, held)
}
