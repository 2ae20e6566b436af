use wasmtime::component::{LinkerInstance, WasmStr};
use wasmtime::{Result, StoreContextMut};

use super::state::State;
use crate::PluginHost;

pub(super) fn link<H: PluginHost>(settings: &mut LinkerInstance<'_, State<H>>) -> Result<()> {
    settings.func_wrap("get", |store: StoreContextMut<'_, State<H>>, (key,): (WasmStr,)| {
        let key = key.to_str(&store)?;
        Ok((store.data().host.borrow().setting(&key).map(str::to_owned),))
    })?;
    settings.func_wrap("all", |store: StoreContextMut<'_, State<H>>, (): ()| {
        Ok((store.data().host.borrow().settings(),))
    })
}
