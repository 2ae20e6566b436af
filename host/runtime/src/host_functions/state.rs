use std::cell::RefCell;

use tidegate_base::{Command, Exports};
use wasmtime_wasi::{ResourceTable, WasiCtx, WasiCtxView, WasiView};

use crate::limits::Limiter;
use crate::stdio::Stdio;
use crate::{Limits, LogLevel, PluginHost};

/// Most resources of the host (streams, pollables) that a plugin may hold.
const RESOURCES_MAX: usize = 10_000;
/// Most random bytes that a plugin gets at once.
const RANDOM_BYTES_MAX: u64 = 1 << 20;

/// Why `save` fails that sends, joins, sets a timer or the like.
pub(crate) const SAVE_CHANGES: &str = "save must change nothing, since the swap may still be given up: commands and \
     timers are refused in it; use on-worker-stop, or restore of the new version";

/// What kind of call runs: those that hand state over may do less.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Call {
    /// Any other callback.
    Event,
    /// `save`: no commands, no timers, no queries.
    Save,
    /// `restore`: no queries.
    Restore,
}

impl Call {
    /// Why it must not ask its buckets, if it must not.
    pub(crate) const fn refuses_keys(self) -> Option<&'static str> {
        match self {
            Self::Event => None,
            Self::Save => {
                Some("save must not use keys: the slot serves nobody while its state is handed over")
            }
            Self::Restore => {
                Some("restore must not use keys: the slot serves nobody while its state is handed over")
            }
        }
    }

    /// Why it must not ask the gateways, if it must not.
    pub(crate) const fn refuses_queries(self) -> Option<&'static str> {
        match self {
            Self::Event => None,
            Self::Save => {
                Some("save must not ask the gateways: the slot serves nobody while its state is handed over")
            }
            Self::Restore => {
                Some("restore must not ask the gateways: the slot's lanes still belong to the old version")
            }
        }
    }
}

/// What belongs to one instance besides wasm: the data of its store.
pub(crate) struct State<H> {
    /// In a cell, so that the host can be called while wasm memory is borrowed from the same store. Host functions
    /// never nest, so it is never borrowed twice.
    pub(crate) host: RefCell<H>,
    pub(crate) limiter: Limiter,
    pub(crate) stdio: Stdio,
    pub(crate) exports: Exports,
    pub(crate) call: Call,
    wasi: WasiCtx,
    table: ResourceTable,
}

impl<H: PluginHost> State<H> {
    /// The base of WASI: no files, no arguments, no network; of the environment what is granted.
    pub(crate) fn new(host: H, limits: &Limits, exports: Exports) -> Self {
        let stdio = Stdio::default();
        let wasi = WasiCtx::builder()
            .stdout(stdio.stream(LogLevel::Info))
            .stderr(stdio.stream(LogLevel::Warn))
            .max_random_size(RANDOM_BYTES_MAX)
            .envs(&host.environment())
            .build();
        let mut table = ResourceTable::new();
        table.set_max_capacity(RESOURCES_MAX);
        Self {
            host: RefCell::new(host),
            limiter: Limiter::new(limits),
            stdio,
            exports,
            call: Call::Event,
            wasi,
            table,
        }
    }

    /// One command of the turn, unless it is one that must change nothing.
    pub(crate) fn command(&self, command: Command<'_>) {
        match self.call {
            Call::Save => self.host.borrow_mut().break_rule(SAVE_CHANGES),
            Call::Event | Call::Restore => self.host.borrow_mut().command(command),
        }
    }

    /// Hands what the plugin has printed to the host.
    pub(crate) fn drain_stdio(&self) {
        self.stdio.drain(|level, line| self.host.borrow_mut().log(level, line));
    }

    /// The resources of the host that the plugin holds.
    pub(crate) fn resources_ref(&self) -> &ResourceTable {
        &self.table
    }

    /// The same, to be changed.
    pub(crate) fn resources(&mut self) -> &mut ResourceTable {
        &mut self.table
    }

    pub(crate) fn into_host(self) -> H {
        self.drain_stdio();
        self.host.into_inner()
    }
}

impl<H: PluginHost> WasiView for State<H> {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView { ctx: &mut self.wasi, table: &mut self.table }
    }
}
