use std::time::Duration;

use wasmtime::ResourceLimiter;

use crate::engine::TABLE_ELEMENTS;

/// What one instance may use. All of it holds per instance, the two clocks per turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Linear memory, all memories of the instance together, in MiB. Never more than the engine's.
    pub memory_mib: u32,
    /// CPU time of a turn, in milliseconds. Waiting for the host or for the app's [budget](crate::CpuBudget) does not
    /// count. A turn is stopped at most 10 ms later.
    pub turn_cpu_ms: u64,
    /// Time of a turn from its begin to its end, in milliseconds, waiting for the host included, for the budget not.
    pub turn_wall_ms: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { memory_mib: 64, turn_cpu_ms: 50, turn_wall_ms: 15_000 }
    }
}

impl Limits {
    pub(crate) const fn cpu(&self) -> Duration {
        Duration::from_millis(self.turn_cpu_ms)
    }

    pub(crate) const fn wall(&self) -> Duration {
        Duration::from_millis(self.turn_wall_ms)
    }
}

/// Most elements of all tables of an instance together: function references, 8 bytes each.
const TABLE_ELEMENTS_MAX: usize = 100_000;

/// Counts what an instance's memories and tables have grown to, and refuses what is over its limits: `memory.grow`
/// then returns -1, and the plugin usually aborts.
pub(crate) struct Limiter {
    memory_max: usize,
    memory: usize,
    tables: usize,
    refused: bool,
    table_refused: bool,
}

impl Limiter {
    pub(crate) fn new(limits: &Limits) -> Self {
        let memory_max = usize::try_from(limits.memory_mib).unwrap_or(usize::MAX).saturating_mul(1 << 20);
        Self { memory_max, memory: 0, tables: 0, refused: false, table_refused: false }
    }

    /// A note for the error message of an instance that was refused memory, or elements of a table.
    pub(crate) fn note(&self) -> Option<String> {
        if self.refused {
            let mib = self.memory_max >> 20;
            return Some(format!("memory limit {mib} MiB reached; memory_mib of the app raises it"));
        }
        self.table_refused.then(|| {
            format!(
                "table limit reached: {TABLE_ELEMENTS} elements of one table, {TABLE_ELEMENTS_MAX} of all of an instance"
            )
        })
    }

    /// Bytes of linear memory that the instance has now.
    pub(crate) fn memory_bytes(&self) -> usize {
        self.memory
    }
}

impl ResourceLimiter for Limiter {
    fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        _maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        let total = self.memory.saturating_add(desired.saturating_sub(current));
        let fits = total <= self.memory_max;
        if fits {
            self.memory = total;
        } else {
            self.refused = true;
        }
        Ok(fits)
    }

    // After a refusal of ours too, so it says nothing about whether `memory_growing` was counted: a growth that the
    // engine fails after we allowed it stays counted, which errs on the safe side.
    fn memory_grow_failed(&mut self, _error: wasmtime::Error) -> wasmtime::Result<()> {
        self.refused = true;
        Ok(())
    }

    fn table_growing(
        &mut self,
        current: usize,
        desired: usize,
        _maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        let total = self.tables.saturating_add(desired.saturating_sub(current));
        let fits = total <= TABLE_ELEMENTS_MAX;
        if fits {
            self.tables = total;
        } else {
            self.table_refused = true;
        }
        Ok(fits)
    }

    fn table_grow_failed(&mut self, _error: wasmtime::Error) -> wasmtime::Result<()> {
        self.table_refused = true;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: usize = 1 << 20;

    #[test]
    fn memories_of_an_instance_share_one_limit() {
        let mut limiter = Limiter::new(&Limits { memory_mib: 4, ..Limits::default() });
        assert!(limiter.memory_growing(0, 2 * MIB, None).unwrap());
        assert!(limiter.memory_growing(0, MIB, None).unwrap());
        assert_eq!(limiter.note(), None);
        assert!(!limiter.memory_growing(2 * MIB, 4 * MIB, None).unwrap());
        assert!(limiter.memory_growing(2 * MIB, 3 * MIB, None).unwrap());
        assert_eq!(limiter.memory_bytes(), 4 * MIB);
        assert!(limiter.note().unwrap().contains("memory limit 4 MiB"));
    }

    #[test]
    fn tables_are_bounded() {
        let mut limiter = Limiter::new(&Limits::default());
        assert!(limiter.table_growing(0, 60_000, None).unwrap());
        assert_eq!(limiter.note(), None);
        assert!(!limiter.table_growing(0, 60_000, None).unwrap());
        assert!(limiter.note().unwrap().contains("table limit"));
    }
}
