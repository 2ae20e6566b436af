//! `wasi:config`: the app's settings, by the standard interface.

use tidegate_base::Capability;
use wasmtime::component::{ComponentType, LinkerInstance, Lower, WasmStr};
use wasmtime::{Result, StoreContextMut};

use super::state::State;
use crate::PluginHost;

/// As the interface has it.
#[derive(ComponentType, Lower)]
#[component(variant)]
enum Error {
    #[component(name = "upstream")]
    Upstream(String),
    #[component(name = "io")]
    #[expect(dead_code, reason = "the interface has it; settings are in memory")]
    Io(String),
}

pub(super) fn link<H: PluginHost>(store: &mut LinkerInstance<'_, State<H>>) -> Result<()> {
    store.func_wrap("get", |store: StoreContextMut<'_, State<H>>, (key,): (WasmStr,)| {
        let key = key.to_str(&store)?;
        let host = store.data().host.borrow();
        Ok((granted(&*host).map(|()| host.setting(&key).map(str::to_owned)),))
    })?;
    store.func_wrap("get-all", |store: StoreContextMut<'_, State<H>>, (): ()| {
        let host = store.data().host.borrow();
        Ok((granted(&*host).map(|()| host.settings()),))
    })
}

/// The grant may have been taken back since the instance was started.
fn granted(host: &impl PluginHost) -> Result<(), Error> {
    let taken_back = || format!("not granted any more: `{}`", Capability::Config.line());
    host.is_granted(Capability::Config).then_some(()).ok_or_else(|| Error::Upstream(taken_back()))
}
