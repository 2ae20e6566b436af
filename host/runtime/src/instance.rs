use std::pin::pin;
use std::sync::Arc;

use tidegate_base::{ClientId, CloseInfo, Exports, MessageKind, UpgradeDecision, UpgradeRequest};
use wasmtime::component::{
    ComponentExportIndex, ComponentNamedList, Instance as WasmInstance, Lift, Lower, TypedFunc,
};
use wasmtime::{PoolConcurrencyLimitError, Store, UpdateDeadline};

use crate::clock::{FIRST_TICKS, LongTurn, Meter, Overrun, Verdict};
use crate::fault::{Fault, SOME_RULE, SaveError, StartError};
use crate::host_functions::state::{Call, State};
use crate::host_functions::types::{
    WitCloseInfo, WitKind, WitStartInfo, WitStopReason, WitUpgradeDecision, WitUpgradeRequest,
};
use crate::template::{Callbacks, Template};
use crate::ticker::Gate;
use crate::turn::{Turn, WallTimer};
use crate::{CpuBudget, Limits, PluginHost, StartInfo, StopReason, place};

/// One plugin instance: what lives in a slot.
///
/// Each callback is one turn. It is polled within a tokio runtime with time enabled, and should run inside a
/// [`Movable`](crate::Movable), or it holds up its thread for up to `turn_cpu_ms`. A turn whose future is dropped, or
/// that ends in a [`Fault`], leaves the instance unusable: start another one. A callback that the plugin does not
/// export does nothing.
pub struct Instance<H: PluginHost> {
    store: Store<State<H>>,
    calls: Calls,
    gate: Gate,
    meter: Arc<Meter>,
    timer: WallTimer,
    limits: Limits,
    turns: u64,
    /// False while a turn runs, and for good after one that did not end well.
    usable: bool,
}

impl<H: PluginHost> Instance<H> {
    /// Makes an instance. Its initialisation is a turn, within the same limits. Cancelling it drops the host.
    ///
    /// # Errors
    /// No room in the engine's pools, more memory needed than granted, a callback of a wrong type, or a fault while
    /// it was initialised. The host is gone then.
    pub async fn start(template: &Template<H>, host: H, limits: Limits) -> Result<Self, StartError> {
        Self::start_with(template, host, limits, None).await
    }

    /// As [`start`](Self::start). What its turns use, this one included, is charged to the budget; over it they wait, for
    /// which neither `turn_cpu_ms` nor `turn_wall_ms` runs.
    ///
    /// # Errors
    /// As for [`start`](Self::start).
    pub async fn start_within(
        template: &Template<H>,
        host: H,
        limits: Limits,
        budget: &Arc<CpuBudget>,
    ) -> Result<Self, StartError> {
        Self::start_with(template, host, limits, Some(Arc::clone(budget))).await
    }

    async fn start_with(
        template: &Template<H>,
        host: H,
        limits: Limits,
        budget: Option<Arc<CpuBudget>>,
    ) -> Result<Self, StartError> {
        let exports = template.exports();
        let mut store = Store::new(template.engine().wasm(), State::new(host, &limits, exports));
        store.limiter(|state| &mut state.limiter);
        let meter = Arc::new(Meter::new(&limits, template.engine().ticker().pace(), budget));
        let of_store = Arc::clone(&meter);
        store.epoch_deadline_callback(move |store| {
            let broke_rule = store.data().host.borrow().broken_rule().is_some();
            Ok(at_tick(&of_store, broke_rule))
        });
        let gate = template.engine().ticker().gate();
        let mut timer = None;

        store.set_epoch_deadline(FIRST_TICKS);
        let started = {
            let call = pin!(template.linked().instantiate_async(&mut store));
            Turn::new(call, &gate, &meter, &mut timer).await
        };
        place::go_home().await;
        store.data().drain_stdio();
        let instance = match started {
            Ok(Ok(instance)) => instance,
            Ok(Err(error)) => return Err(start_error(&error, &store, &meter, &limits)),
            Err(overrun) => return Err(Fault::overrun(overrun, &limits, None).into()),
        };
        let calls = Calls::new(&mut store, &instance, template.callbacks())?;
        Ok(Self { store, calls, gate, meter, timer, limits, turns: 0, usable: true })
    }

    /// Whether it can be called. False while a turn runs, after a fault, and after a turn was dropped.
    pub fn is_usable(&self) -> bool {
        self.usable
    }

    /// The callbacks that the plugin exports.
    pub fn exports(&self) -> Exports {
        self.store.data().exports
    }

    /// The host.
    pub fn host(&mut self) -> &mut H {
        self.store.data_mut().host.get_mut()
    }

    /// Ends the instance, without calling it, and gives the host back.
    pub fn into_host(self) -> H {
        self.store.into_data().into_host()
    }

    /// How many times its engine has ticked: a coarse clock that costs one load. See [`Engine::ticks`](crate::Engine::ticks).
    pub fn ticks(&self) -> u64 {
        self.meter.ticks()
    }

    /// How many calls it has run: those of callbacks that the plugin does not export are none.
    pub fn turns(&self) -> u64 {
        self.turns
    }

    /// What is known of the times of the last turn, if it was not over within its first tick and without waiting. Costs one load
    /// for a short turn.
    pub fn long_turn(&self) -> Option<LongTurn> {
        self.meter.long()
    }

    /// Bytes of linear memory that the instance has.
    pub fn memory_bytes(&self) -> usize {
        self.store.data().limiter.memory_bytes()
    }

    /// Before anything else.
    ///
    /// # Errors
    /// See [`Fault`].
    pub async fn on_worker_start(&mut self, info: &StartInfo) -> Result<(), Fault> {
        let Some(call) = self.calls.worker_start else { return Ok(()) };
        self.turn(call, (info.into(),)).await
    }

    /// A client is connected.
    ///
    /// # Errors
    /// See [`Fault`].
    pub async fn on_connect(&mut self, client: ClientId) -> Result<(), Fault> {
        let Some(call) = self.calls.connect else { return Ok(()) };
        self.turn(call, (client.gateway.get(), client.connection)).await
    }

    /// A client asks to upgrade. A plugin that does not export the callback accepts without a subprotocol.
    ///
    /// # Errors
    /// See [`Fault`].
    pub async fn on_websocket_connect(
        &mut self,
        client: ClientId,
        request: &UpgradeRequest,
    ) -> Result<UpgradeDecision, Fault> {
        let Some(call) = self.calls.websocket_connect else { return Ok(UpgradeDecision::Accept(None)) };
        let params = (client.gateway.get(), client.connection, request.into());
        let (decision,) = self.turn::<_, (WitUpgradeDecision,)>(call, params).await?;
        Ok(decision.into())
    }

    /// A client sent a message.
    ///
    /// # Errors
    /// See [`Fault`].
    pub async fn on_message(
        &mut self,
        client: ClientId,
        kind: MessageKind,
        payload: &[u8],
    ) -> Result<(), Fault> {
        let call = self.calls.message;
        self.turn(call, (client.gateway.get(), client.connection, kind.into(), payload)).await
    }

    /// A client is gone.
    ///
    /// # Errors
    /// See [`Fault`].
    pub async fn on_close(&mut self, client: ClientId, info: &CloseInfo) -> Result<(), Fault> {
        let Some(call) = self.calls.close else { return Ok(()) };
        self.turn(call, (client.gateway.get(), client.connection, info.into())).await
    }

    /// A timer is due.
    ///
    /// # Errors
    /// See [`Fault`].
    pub async fn on_timer(&mut self, key: &str) -> Result<(), Fault> {
        let Some(call) = self.calls.timer else { return Ok(()) };
        self.turn(call, (key,)).await
    }

    /// Before the instance ends.
    ///
    /// # Errors
    /// See [`Fault`].
    pub async fn on_worker_stop(&mut self, reason: StopReason) -> Result<(), Fault> {
        let Some(call) = self.calls.worker_stop else { return Ok(()) };
        self.turn(call, (reason.into(),)).await
    }

    /// The plugin's state, to be handed to `restore` of another instance; none if the plugin does not export `save`.
    /// A turn that may neither change nor ask anything: commands, timers and queries in it fail it. If it failed, as the
    /// host knows, what it returns means nothing. Copied once, out of wasm memory.
    ///
    /// # Errors
    /// [`SaveError::TooLarge`] if the state has more than `bytes_max` bytes: the instance lives on. Else see [`Fault`].
    pub async fn save(&mut self, bytes_max: usize) -> Result<Option<Vec<u8>>, SaveError> {
        let Some(call) = self.calls.save else { return Ok(None) };
        // The engine traps a call that hands over more than so many bytes. By default that is more than a state may
        // have, so that one which is too large is told with its size; where it is less, the app's limit counts.
        let lifted_max = self.store.hostcall_fuel();
        self.store.set_hostcall_fuel(lifted_max.max(bytes_max));
        let saved = self.turn_of::<_, (Vec<u8>,)>(Call::Save, call, ()).await;
        self.store.set_hostcall_fuel(lifted_max);
        let (state,) = saved?;
        if state.len() > bytes_max {
            return Err(SaveError::TooLarge { bytes: state.len(), bytes_max });
        }
        Ok(Some(state))
    }

    /// Hands over what `save` of another instance returned. Does nothing if the plugin does not export `restore`. A turn
    /// whose queries fail it. Copied once, into wasm memory.
    ///
    /// # Errors
    /// See [`Fault`].
    pub async fn restore(&mut self, state: &[u8]) -> Result<(), Fault> {
        let Some(call) = self.calls.restore else { return Ok(()) };
        self.turn_of(Call::Restore, call, (state,)).await
    }

    async fn turn_of<P, R>(&mut self, kind: Call, call: TypedFunc<P, R>, params: P) -> Result<R, Fault>
    where
        P: ComponentNamedList + Lower,
        R: ComponentNamedList + Lift + 'static,
    {
        self.store.data_mut().call = kind;
        let ended = self.turn(call, params).await;
        self.store.data_mut().call = Call::Event;
        ended
    }

    async fn turn<P, R>(&mut self, call: TypedFunc<P, R>, params: P) -> Result<R, Fault>
    where
        P: ComponentNamedList + Lower,
        R: ComponentNamedList + Lift + 'static,
    {
        // Stays false if this future is dropped.
        if !std::mem::replace(&mut self.usable, false) {
            return Err(Fault::Unusable);
        }
        self.turns += 1;
        match self.store.data().call {
            Call::Event => self.meter.begin(),
            Call::Save | Call::Restore => self.meter.begin_handover(),
        }
        self.store.set_epoch_deadline(FIRST_TICKS);
        let ended = {
            let call = pin!(call.call_async(&mut self.store, params));
            Turn::new(call, &self.gate, &self.meter, &mut self.timer).await
        };
        place::go_home().await;
        self.store.data().drain_stdio();
        match ended {
            Ok(Ok(result)) => {
                self.usable = true;
                Ok(result)
            }
            Ok(Err(error)) => Err(fault(&error, &self.store, &self.meter, &self.limits)),
            Err(overrun) => Err(Fault::overrun(overrun, &self.limits, None)),
        }
    }
}

/// What the engine does when an epoch deadline has passed.
fn at_tick(meter: &Arc<Meter>, broke_rule: bool) -> UpdateDeadline {
    match meter.tick(broke_rule) {
        Verdict::Wait => UpdateDeadline::YieldCustom(1, Box::pin(Arc::clone(meter).wait_for_budget())),
        Verdict::Yield if place::should_yield() => UpdateDeadline::YieldCustom(1, Box::pin(place::go_away())),
        Verdict::Continue | Verdict::Yield => {
            place::give_way();
            UpdateDeadline::Continue(1)
        }
        Verdict::Stop(_) => UpdateDeadline::Interrupt,
    }
}

fn fault<H: PluginHost>(
    error: &wasmtime::Error,
    store: &Store<State<H>>,
    meter: &Meter,
    limits: &Limits,
) -> Fault {
    match meter.overrun() {
        Some(Overrun::Rule) => {
            let host = store.data().host.borrow();
            Fault::rule(host.broken_rule().unwrap_or(SOME_RULE), Some(error))
        }
        Some(overrun) => Fault::overrun(overrun, limits, Some(error)),
        None => Fault::from_error(error, store.data().limiter.note()),
    }
}

fn start_error<H: PluginHost>(
    error: &wasmtime::Error,
    store: &Store<State<H>>,
    meter: &Meter,
    limits: &Limits,
) -> StartError {
    if error.is::<PoolConcurrencyLimitError>() {
        return StartError::NoRoom(error.root_cause().to_string());
    }
    match store.data().limiter.note() {
        // Refused before any of its code ran.
        Some(note) if !error.is::<wasmtime::Trap>() => StartError::Memory(format!("{note} ({error:#})")),
        _ => fault(error, store, meter, limits).into(),
    }
}

/// The callbacks of an instance with their types. Lifetimes shrink at each call.
struct Calls {
    worker_start: Option<TypedFunc<(WitStartInfo<'static>,), ()>>,
    connect: Option<TypedFunc<(u64, u32), ()>>,
    websocket_connect: Option<TypedFunc<(u64, u32, WitUpgradeRequest<'static>), (WitUpgradeDecision,)>>,
    message: TypedFunc<(u64, u32, WitKind, &'static [u8]), ()>,
    close: Option<TypedFunc<(u64, u32, WitCloseInfo<'static>), ()>>,
    timer: Option<TypedFunc<(&'static str,), ()>>,
    worker_stop: Option<TypedFunc<(WitStopReason,), ()>>,
    save: Option<TypedFunc<(), (Vec<u8>,)>>,
    restore: Option<TypedFunc<(&'static [u8],), ()>>,
}

impl Calls {
    fn new<H: PluginHost>(
        store: &mut Store<State<H>>,
        instance: &WasmInstance,
        found: &Callbacks<ComponentExportIndex>,
    ) -> Result<Self, StartError> {
        let message = typed(store, instance, found.message.as_ref(), "on-message")?;
        let missing = || StartError::WrongType { callback: "on-message", reason: "it is missing".to_owned() };
        Ok(Self {
            worker_start: typed(store, instance, found.worker_start.as_ref(), "on-worker-start")?,
            connect: typed(store, instance, found.connect.as_ref(), "on-connect")?,
            websocket_connect: typed(
                store,
                instance,
                found.websocket_connect.as_ref(),
                "on-websocket-connect",
            )?,
            message: message.ok_or_else(missing)?,
            close: typed(store, instance, found.close.as_ref(), "on-close")?,
            timer: typed(store, instance, found.timer.as_ref(), "on-timer")?,
            worker_stop: typed(store, instance, found.worker_stop.as_ref(), "on-worker-stop")?,
            save: typed(store, instance, found.save.as_ref(), "save")?,
            restore: typed(store, instance, found.restore.as_ref(), "restore")?,
        })
    }
}

fn typed<P, R, H: PluginHost>(
    store: &mut Store<State<H>>,
    instance: &WasmInstance,
    index: Option<&ComponentExportIndex>,
    callback: &'static str,
) -> Result<Option<TypedFunc<P, R>>, StartError>
where
    P: ComponentNamedList + Lower,
    R: ComponentNamedList + Lift,
{
    index
        .map(|index| instance.get_typed_func(&mut *store, index))
        .transpose()
        .map_err(|error| StartError::WrongType { callback, reason: format!("{error:#}") })
}
