use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use rustix::process::{Resource, getrlimit};
use wasmtime::{Config, Enabled, InstanceAllocationStrategy, PoolingAllocationConfig, WasmBacktraceDetails};

use crate::counters;
use crate::template::PerHost;
use crate::ticker::Ticker;

/// How large the pools of an [`Engine`] are. All of it is address space, reserved once; memory is used only by what
/// lives in it.
///
/// | pool | places | address space of one |
/// | --- | --- | --- |
/// | memories | 2 x `instances` | 4 GiB + 32 MiB guard, or `memory_mib` + 64 KiB where that does not fit |
/// | core instances | 20 x `instances` | none |
/// | tables | 20 x `instances` | 8 bytes x 20,000 |
/// | stacks | `instances` | 2 MiB + guard |
///
/// With the default 1,000 instances that is about 8.0 TiB, of the 128 that a process has. In use a Rust plugin's
/// instance has one memory and two tables, JavaScript and Python ones have more; a component with more than 20 core
/// instances, 50 tables or 10 memories is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EngineSettings {
    /// Most plugin instances in this process at a time: all slots, and as many again as are swapped at once.
    pub instances: u32,
    /// Most linear memory that an app may be granted per instance, in MiB: 1 to 4,096.
    pub memory_mib: u32,
}

impl Default for EngineSettings {
    fn default() -> Self {
        Self { instances: 1000, memory_mib: 1024 }
    }
}

/// Why an [`Engine`] cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// A setting is out of its range.
    #[error("the engine's {0}")]
    Setting(&'static str),
    /// The kernel allows too few mappings.
    #[error(
        "{instances} plugin instances may need {needed} memory mappings, but vm.max_map_count is {allowed}: run \
         `sysctl -w vm.max_map_count={needed}`, or lower the engine's `instances`"
    )]
    Mappings {
        /// The setting.
        instances: u32,
        /// What it may need.
        needed: u64,
        /// What there is.
        allowed: u64,
    },
    /// The process may not use enough address space.
    #[error(
        "the pools for {instances} plugin instances of {memory_mib} MiB reserve {needed_mib} MiB of address space, but \
         the process may use {allowed_mib} MiB (`ulimit -v`): raise the limit, or lower the engine's `instances` or \
         `memory_mib`"
    )]
    AddressSpace {
        /// The setting.
        instances: u32,
        /// The setting.
        memory_mib: u32,
        /// What the pools reserve at least.
        needed_mib: u64,
        /// What is allowed.
        allowed_mib: u64,
    },
    /// The thread that interrupts guests cannot be started.
    #[error("the ticker thread cannot be started: {0}")]
    Ticker(#[source] std::io::Error),
    /// The WebAssembly engine refuses.
    #[error("the WebAssembly engine cannot be set up: {0}")]
    Engine(String),
}

/// The WebAssembly engine with its pools and its ticker. One per process; a clone is a handle to the same.
#[derive(Clone)]
pub struct Engine {
    inner: Arc<Inner>,
}

struct Inner {
    wasm: wasmtime::Engine,
    layout: Layout,
    settings: EngineSettings,
    ticker: Ticker,
    /// What plugins may import, for each kind of host: the same for all modules.
    linkers: PerHost,
}

impl Engine {
    /// Reserves the pools and starts the ticker.
    ///
    /// # Errors
    /// The settings are out of range, or the kernel does not allow what they need; the message says what to change.
    pub fn new(settings: &EngineSettings) -> Result<Self, EngineError> {
        tidegate_telemetry::list(counters::ALL_COUNTERS);
        if settings.instances == 0 {
            return Err(EngineError::Setting("`instances` must be at least 1"));
        }
        if !(1..=4096).contains(&settings.memory_mib) {
            return Err(EngineError::Setting("`memory_mib` must be 1 to 4096"));
        }
        check_mappings(settings, max_map_count())?;
        let layout = Layout::choose(settings, getrlimit(Resource::As).current)?;
        if layout.reservation < 4 << 30 {
            tracing::warn!(
                instances = settings.instances,
                "too little address space for 4 GiB per memory: plugins run slower"
            );
        }
        let mut config = layout.config();
        config.allocation_strategy(InstanceAllocationStrategy::Pooling(pools(settings)));
        let wasm =
            wasmtime::Engine::new(&config).map_err(|error| EngineError::Engine(format!("{error:#}")))?;
        // Weak: the thread must not keep the engine alive.
        let weak = wasm.weak();
        let tick = move || {
            weak.upgrade().is_some_and(|engine| {
                engine.increment_epoch();
                true
            })
        };
        let ticker = Ticker::start(tick).map_err(EngineError::Ticker)?;
        Ok(Self {
            inner: Arc::new(Inner { wasm, layout, settings: *settings, ticker, linkers: PerHost::default() }),
        })
    }

    /// What it was made with.
    pub fn settings(&self) -> &EngineSettings {
        &self.inner.settings
    }

    /// What its pools hold now. Takes a lock of each pool.
    pub fn pool(&self) -> PoolUse {
        let metrics = self.inner.wasm.pooling_allocator_metrics();
        let held = metrics.map(|pools| (pools.component_instances(), pools.unused_memory_bytes_resident()));
        let (instances, kept_bytes) = held.unwrap_or_default();
        PoolUse { instances, instances_max: self.inner.settings.instances, kept_bytes }
    }

    /// Whether the thread that interrupts guests sleeps, because none has run for some 20 ms.
    pub fn is_idle(&self) -> bool {
        self.inner.ticker.is_parked()
    }

    /// How many times guests that ran then could have been interrupted: every millisecond while one runs on and on, every
    /// few milliseconds while guests come and go, not at all while none runs.
    pub fn ticks(&self) -> u64 {
        self.inner.ticker.ticks()
    }

    pub(crate) fn wasm(&self) -> &wasmtime::Engine {
        &self.inner.wasm
    }

    pub(crate) fn ticker(&self) -> &Ticker {
        &self.inner.ticker
    }

    pub(crate) fn linkers(&self) -> &PerHost {
        &self.inner.linkers
    }

    pub(crate) fn layout(&self) -> Layout {
        self.inner.layout
    }

    /// What compiled code must have been compiled for, to run here.
    pub(crate) fn compatibility(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        self.inner.wasm.precompile_compatibility_hash().hash(&mut hasher);
        hasher.finish()
    }
}

/// What an engine's pools hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PoolUse {
    /// Plugin instances.
    pub instances: u64,
    /// Most that there may be.
    pub instances_max: u32,
    /// Bytes that are kept for instances to come, in places that no instance has now: at most 4 MiB each.
    pub kept_bytes: usize,
}

/// How a linear memory lies in the address space. Compiled code depends on it: with 4 GiB for each memory an access
/// cannot leave its memory's place, so no bounds are checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Layout {
    pub(crate) reservation: u64,
    pub(crate) guard: u64,
}

impl Layout {
    fn choose(settings: &EngineSettings, address_space: Option<u64>) -> Result<Self, EngineError> {
        let allowed = address_space.unwrap_or(u64::MAX).min(ADDRESS_SPACE_MAX);
        let wide = Self { reservation: 4 << 30, guard: 32 << 20 };
        let narrow = Self { reservation: u64::from(settings.memory_mib) << 20, guard: 64 << 10 };
        if wide.needs(settings) <= allowed {
            return Ok(wide);
        }
        let needed = narrow.needs(settings);
        if needed <= allowed {
            return Ok(narrow);
        }
        Err(EngineError::AddressSpace {
            instances: settings.instances,
            memory_mib: settings.memory_mib,
            needed_mib: needed >> 20,
            allowed_mib: allowed >> 20,
        })
    }

    fn needs(self, settings: &EngineSettings) -> u64 {
        let tables = u64::from(TABLES_PER_INSTANCE) * TABLE_ELEMENTS as u64 * 8;
        let memories = u64::from(MEMORIES_PER_INSTANCE) * (self.reservation + self.guard);
        let stack = STACK_BYTES as u64 + (64 << 10);
        u64::from(settings.instances) * (tables + memories + stack) + REST_OF_THE_PROCESS
    }

    /// What code is compiled for, without pools: the compile child needs none.
    pub(crate) fn config(self) -> Config {
        let mut config = Config::new();
        config
            .concurrency_support(false)
            .epoch_interruption(true)
            .memory_init_cow(true)
            .memory_reservation(self.reservation)
            .memory_guard_size(self.guard)
            // A memory in a pool never moves, so its base can stay in a register.
            .memory_may_move(false)
            .max_wasm_stack(WASM_STACK_BYTES)
            .async_stack_size(STACK_BYTES)
            // For debuggers of native code only; backtraces of plugins need none.
            .native_unwind_info(false)
            // Names come from the name section. A plugin's DWARF is untrusted input that nobody needs to parse here.
            .wasm_backtrace_details(WasmBacktraceDetails::Disable);
        config
    }
}

const CORE_INSTANCES_PER_INSTANCE: u32 = 20;
const MEMORIES_PER_INSTANCE: u32 = 2;
const TABLES_PER_INSTANCE: u32 = 20;
pub(crate) const TABLE_ELEMENTS: usize = 20_000;
/// A guest's call stack. The rest of the fiber's is for host functions.
const WASM_STACK_BYTES: usize = 512 << 10;
const STACK_BYTES: usize = 2 << 20;
/// So much of what an instance wrote to stays with its place in the pool when it ends, cleared, for the next one there: the
/// first write to a page costs over a microsecond, and an instance that takes over a MiB of state needs three times
/// that. Only where the kernel (Linux from 6.7 on) can say which pages were written to; else each place would keep all of it.
const MEMORY_KEPT_BYTES: usize = 4 << 20;
/// 100 of the 128 TiB of a 47-bit address space.
const ADDRESS_SPACE_MAX: u64 = 100 << 40;
/// Code, heap, stacks, files: not what the pools reserve.
const REST_OF_THE_PROCESS: u64 = 1 << 30;
/// Mappings that one instance may need: its stack and guard (2), two memories of image, heap and rest each (6), and
/// its tables (4).
const MAPPINGS_PER_INSTANCE: u64 = 12;
/// Mappings of the rest of the process.
const MAPPINGS_OF_THE_PROCESS: u64 = 2_000;

fn pools(settings: &EngineSettings) -> PoolingAllocationConfig {
    let instances = settings.instances;
    let mut pools = PoolingAllocationConfig::new();
    pools
        .total_component_instances(instances)
        .total_core_instances(instances.saturating_mul(CORE_INSTANCES_PER_INSTANCE))
        .total_memories(instances.saturating_mul(MEMORIES_PER_INSTANCE))
        .total_tables(instances.saturating_mul(TABLES_PER_INSTANCE))
        .total_stacks(instances)
        .max_core_instances_per_component(CORE_INSTANCES_PER_INSTANCE)
        .max_memories_per_component(10)
        .max_tables_per_component(50)
        .table_elements(TABLE_ELEMENTS)
        .max_memory_size(usize::try_from(settings.memory_mib).unwrap_or(0) << 20);
    // A place that was used before is used again before a new one, so that what is kept is bounded by the most instances
    // there ever were at once.
    pools.max_unused_warm_slots(0);
    if PoolingAllocationConfig::is_pagemap_scan_available() {
        pools.pagemap_scan(Enabled::Yes).linear_memory_keep_resident(MEMORY_KEPT_BYTES);
    }
    pools
}

fn check_mappings(settings: &EngineSettings, allowed: Option<u64>) -> Result<(), EngineError> {
    let needed = u64::from(settings.instances) * MAPPINGS_PER_INSTANCE + MAPPINGS_OF_THE_PROCESS;
    match allowed {
        Some(allowed) if allowed < needed => {
            Err(EngineError::Mappings { instances: settings.instances, needed, allowed })
        }
        // Where the kernel does not say, its own error at the limit must do.
        _ => Ok(()),
    }
}

fn max_map_count() -> Option<u64> {
    std::fs::read_to_string("/proc/sys/vm/max_map_count").ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memories_get_4_gib_each_if_the_address_space_has_room() {
        let settings = EngineSettings::default();
        assert_eq!(Layout::choose(&settings, None).unwrap().reservation, 4 << 30);
        assert_eq!(Layout::choose(&settings, None).unwrap().needs(&settings) >> 40, 7);
        let many = EngineSettings { instances: 50_000, memory_mib: 64 };
        assert_eq!(Layout::choose(&many, None).unwrap().reservation, 64 << 20);
        assert_eq!(Layout::choose(&settings, Some(3 << 40)).unwrap().reservation, 1 << 30);
    }

    #[test]
    fn what_cannot_fit_is_refused_with_the_mend() {
        let error = Layout::choose(&EngineSettings::default(), Some(8 << 30)).unwrap_err().to_string();
        assert!(error.contains("ulimit -v") && error.contains("8192 MiB"), "{error}");
        let many = EngineSettings { instances: 10_000, ..EngineSettings::default() };
        let error = check_mappings(&many, Some(65_530)).unwrap_err().to_string();
        assert!(error.contains("sysctl -w vm.max_map_count=122000"), "{error}");
        assert!(check_mappings(&EngineSettings::default(), Some(65_530)).is_ok());
    }

    #[test]
    fn settings_out_of_range_are_refused() {
        for settings in [
            EngineSettings { instances: 0, ..EngineSettings::default() },
            EngineSettings { memory_mib: 0, ..EngineSettings::default() },
            EngineSettings { memory_mib: 4097, ..EngineSettings::default() },
        ] {
            assert!(matches!(Engine::new(&settings), Err(EngineError::Setting(_))), "{settings:?}");
        }
    }

    #[test]
    fn the_compile_child_compiles_for_the_engine_with_pools() {
        let engine = Engine::new(&EngineSettings { instances: 2, memory_mib: 16 }).unwrap();
        let plain = wasmtime::Engine::new(&engine.layout().config()).unwrap();
        let mut hasher = DefaultHasher::new();
        plain.precompile_compatibility_hash().hash(&mut hasher);
        assert_eq!(engine.compatibility(), hasher.finish());
    }
}
