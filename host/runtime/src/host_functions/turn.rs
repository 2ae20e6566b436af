use tidegate_base::Addresses;
use tidegate_base::limits::FAIL_REASON_BYTES_MAX;
use wasmtime::component::{ComponentType, LinkerInstance, Lower, WasmStr};
use wasmtime::{Result, StoreContextMut};

use super::cut;
use super::state::State;
use crate::PluginHost;

pub(super) fn link<H: PluginHost>(turn: &mut LinkerInstance<'_, State<H>>) -> Result<()> {
    turn.func_wrap("fail", |store: StoreContextMut<'_, State<H>>, (reason,): (WasmStr,)| {
        let reason = reason.to_str(&store)?;
        store.data().host.borrow_mut().fail(cut(&reason, FAIL_REASON_BYTES_MAX));
        Ok(())
    })?;
    turn.func_wrap("addresses", |store: StoreContextMut<'_, State<H>>, (): ()| {
        Ok((store.data().host.borrow().addresses().map(WitAddresses::from),))
    })?;
    turn.func_wrap("session", |store: StoreContextMut<'_, State<H>>, (): ()| {
        Ok((store.data().host.borrow_mut().session().map(str::to_owned),))
    })
}

#[derive(ComponentType, Lower)]
#[component(record)]
struct WitAddresses {
    remote: String,
    local: String,
    protocol: &'static str,
}

impl From<Addresses> for WitAddresses {
    fn from(addresses: Addresses) -> Self {
        Self {
            remote: addresses.remote.to_string(),
            local: addresses.local.to_string(),
            protocol: addresses.protocol.as_str(),
        }
    }
}
