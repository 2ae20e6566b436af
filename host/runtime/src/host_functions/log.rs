use tidegate_base::limits::LOG_LINE_BYTES_MAX;
use wasmtime::component::{LinkerInstance, WasmStr};
use wasmtime::{Result, StoreContextMut};

use super::cut;
use super::state::State;
use super::types::WitLogLevel;
use crate::PluginHost;

pub(super) fn link<H: PluginHost>(log: &mut LinkerInstance<'_, State<H>>) -> Result<()> {
    log.func_wrap("write", |store: StoreContextMut<'_, State<H>>, args: (WitLogLevel, WasmStr)| {
        let (level, line) = args;
        let line = line.to_str(&store)?;
        // What was printed before comes before.
        store.data().drain_stdio();
        store.data().host.borrow_mut().log(level.into(), cut(&line, LOG_LINE_BYTES_MAX));
        Ok(())
    })
}
