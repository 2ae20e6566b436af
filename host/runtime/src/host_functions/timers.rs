use std::time::Duration;

use tidegate_base::limits::TIMER_PERIOD_MS_MIN;
use tidegate_base::{Exports, check_name};
use wasmtime::component::{LinkerInstance, WasmStr};
use wasmtime::{Result, StoreContextMut};

use super::state::{Call, SAVE_CHANGES, State};
use crate::PluginHost;

pub(super) fn link<H: PluginHost>(timers: &mut LinkerInstance<'_, State<H>>) -> Result<()> {
    timers.func_wrap("set", set)?;
    timers.func_wrap("cancel", |store: StoreContextMut<'_, State<H>>, (key,): (WasmStr,)| {
        let key = key.to_str(&store)?;
        let mut host = store.data().host.borrow_mut();
        match store.data().call {
            Call::Save => host.break_rule(SAVE_CHANGES),
            Call::Event | Call::Restore => host.cancel_timer(&key),
        }
        Ok(())
    })
}

fn set<H: PluginHost>(
    store: StoreContextMut<'_, State<H>>,
    (key, after, every): (WasmStr, u64, u64),
) -> Result<()> {
    let key = key.to_str(&store)?;
    let mut host = store.data().host.borrow_mut();
    if store.data().call == Call::Save {
        host.break_rule(SAVE_CHANGES);
    } else if let Err(invalid) = check_name(&key) {
        host.break_rule(&invalid.to_string());
    } else if every != 0 && every < TIMER_PERIOD_MS_MIN {
        host.break_rule(&format!(
            "a timer repeats every {TIMER_PERIOD_MS_MIN} ms at most, not every {every} ms"
        ));
    } else if !store.data().exports.has(Exports::TIMER) {
        host.break_rule("a timer was set, but the plugin does not implement on-timer");
    } else {
        let every = (every != 0).then(|| Duration::from_millis(every));
        host.set_timer(&key, Duration::from_millis(after), every);
    }
    Ok(())
}
