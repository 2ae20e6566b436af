//! The host's side of the contract, linked by hand. Generated bindings would copy every list and string into host
//! memory first; here names and payloads are borrowed from wasm memory for as long as the host looks at them.
//!
//! One module per interface of `tidegate:plugin`, and [`state`] with what they work on.

mod config;
mod gateway;
mod keyvalue;
mod log;
mod query;
mod settings;
pub(crate) mod state;
mod timers;
mod turn;
pub(crate) mod types;
mod wasi;

use wasmtime::Result;
use wasmtime::component::{Linker, LinkerInstance};

use crate::PluginHost;
use crate::module::contract_interface;
use state::State;

/// Links everything that a plugin may import. What needs a grant is linked for all, and asks for it at every call; whoever
/// loads a module sees by [`Module::needs`](crate::Module::needs) what its app must be granted.
pub(crate) fn link<H: PluginHost>(linker: &mut Linker<State<H>>) -> Result<()> {
    wasi::link(linker)?;
    config::link(&mut linker.instance(tidegate_contract::WASI_CONFIG)?)?;
    keyvalue::link(linker)?;
    gateway::link(&mut interface(linker, "gateway")?)?;
    log::link(&mut interface(linker, "log")?)?;
    query::link(&mut interface(linker, "query")?)?;
    settings::link(&mut interface(linker, "settings")?)?;
    timers::link(&mut interface(linker, "timers")?)?;
    turn::link(&mut interface(linker, "turn")?)?;
    // Types only, and so nothing to link; but an import of it must be satisfied.
    interface(linker, "types").map(drop)
}

fn interface<'a, T: 'static>(linker: &'a mut Linker<T>, name: &str) -> Result<LinkerInstance<'a, T>> {
    linker.instance(&contract_interface(name))
}

/// Cuts a text at a character boundary.
fn cut(text: &str, bytes_max: usize) -> &str {
    &text[..text.floor_char_boundary(bytes_max)]
}
