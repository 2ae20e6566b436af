use std::marker::PhantomData;

use tidegate_base::Exports;
use wasmtime::component::{ComponentExportIndex, InstancePre, Linker};

use crate::PluginHost;
use crate::engine::Engine;
use crate::host_functions::link;
use crate::host_functions::state::State;
use crate::module::{Module, contract_interface};

/// A module that is linked and whose callbacks are found: what [`Instance`](crate::Instance)s are made of. One per
/// module and kind of host; a clone is a handle to the same.
pub struct Template<H: PluginHost> {
    pub(crate) engine: Engine,
    pub(crate) module: Module,
    pub(crate) linked: InstancePre<State<H>>,
    pub(crate) callbacks: Callbacks<ComponentExportIndex>,
    host: PhantomData<fn() -> H>,
}

impl<H: PluginHost> Template<H> {
    /// Links a module with the host.
    ///
    /// # Errors
    /// It imports something that the host does not offer, or does not export `on-message`.
    pub fn new(engine: &Engine, module: &Module) -> Result<Self, TemplateError> {
        let import_error = |error: wasmtime::Error| TemplateError::Import(format!("{error:#}"));
        let mut linker = Linker::new(engine.wasm());
        link(&mut linker).map_err(import_error)?;
        let linked = linker.instantiate_pre(module.component()).map_err(import_error)?;
        let component = module.component();
        let callbacks = Callbacks::find(|interface, function| {
            let interface = component.get_export_index(None, &*contract_interface(interface))?;
            component.get_export_index(Some(&interface), function)
        });
        if callbacks.message.is_none() {
            return Err(TemplateError::NoMessage);
        }
        Ok(Self { engine: engine.clone(), module: module.clone(), linked, callbacks, host: PhantomData })
    }

    /// The module.
    pub fn module(&self) -> &Module {
        &self.module
    }

    /// The callbacks that it exports.
    pub fn exports(&self) -> Exports {
        self.module.exports()
    }
}

impl<H: PluginHost> Clone for Template<H> {
    fn clone(&self) -> Self {
        Self {
            engine: self.engine.clone(),
            module: self.module.clone(),
            linked: self.linked.clone(),
            callbacks: self.callbacks.clone(),
            host: PhantomData,
        }
    }
}

/// Why a module cannot be linked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    /// An import has nothing to stand for it.
    #[error("the plugin cannot be linked: {0}; it may import `tidegate:plugin@0.1` and the base of WASI 0.2")]
    Import(String),
    /// It is no plugin.
    #[error("the component does not export `tidegate:plugin/message` with `on-message`: it is not a plugin")]
    NoMessage,
}

/// One thing for each callback.
#[derive(Clone)]
pub(crate) struct Callbacks<T> {
    pub(crate) worker_start: Option<T>,
    pub(crate) connect: Option<T>,
    pub(crate) websocket_connect: Option<T>,
    pub(crate) message: Option<T>,
    pub(crate) close: Option<T>,
    pub(crate) timer: Option<T>,
    pub(crate) worker_stop: Option<T>,
    pub(crate) save: Option<T>,
    pub(crate) restore: Option<T>,
}

impl<T> Callbacks<T> {
    fn find(find: impl Fn(&str, &str) -> Option<T>) -> Self {
        Self {
            worker_start: find("worker-start", "on-worker-start"),
            connect: find("connect", "on-connect"),
            websocket_connect: find("websocket-connect", "on-websocket-connect"),
            message: find("message", "on-message"),
            close: find("close", "on-close"),
            timer: find("timer", "on-timer"),
            worker_stop: find("worker-stop", "on-worker-stop"),
            save: find("save", "save"),
            restore: find("restore", "restore"),
        }
    }
}
