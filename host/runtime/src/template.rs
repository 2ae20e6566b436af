use std::any::{Any, TypeId};
use std::sync::Arc;

use parking_lot::Mutex;
use tidegate_base::Exports;
use wasmtime::component::{ComponentExportIndex, InstancePre, Linker};

use crate::PluginHost;
use crate::engine::Engine;
use crate::host_functions::link;
use crate::host_functions::state::State;
use crate::module::{Module, contract_interface};

/// A module that is linked and whose callbacks are found: what [`Instance`](crate::Instance)s are made of. One per
/// module and kind of host, however many apps run it; a clone is a handle to the same.
pub struct Template<H: PluginHost> {
    engine: Engine,
    module: Module,
    linked: Arc<Linked<H>>,
}

/// What the module itself keeps. It must not hold the module, or neither would ever go.
struct Linked<H: PluginHost> {
    instances: InstancePre<State<H>>,
    callbacks: Callbacks<ComponentExportIndex>,
}

impl<H: PluginHost> Template<H> {
    /// Links a module with the host, unless somebody has a template of the two already.
    ///
    /// # Errors
    /// It imports something that the host does not offer, or does not export `on-message`.
    pub fn new(engine: &Engine, module: &Module) -> Result<Self, TemplateError> {
        let linked = module.linked().get_or_make(|| Linked::new(engine, module))?;
        Ok(Self { engine: engine.clone(), module: module.clone(), linked })
    }

    /// The module.
    pub fn module(&self) -> &Module {
        &self.module
    }

    /// The callbacks that it exports.
    pub fn exports(&self) -> Exports {
        self.module().exports()
    }

    pub(crate) fn engine(&self) -> &Engine {
        &self.engine
    }

    pub(crate) fn linked(&self) -> &InstancePre<State<H>> {
        &self.linked.instances
    }

    pub(crate) fn callbacks(&self) -> &Callbacks<ComponentExportIndex> {
        &self.linked.callbacks
    }
}

impl<H: PluginHost> Clone for Template<H> {
    fn clone(&self) -> Self {
        Self { engine: self.engine.clone(), module: self.module.clone(), linked: Arc::clone(&self.linked) }
    }
}

impl<H: PluginHost> Linked<H> {
    fn new(engine: &Engine, module: &Module) -> Result<Self, TemplateError> {
        let import_error = |error: wasmtime::Error| TemplateError::Import(format!("{error:#}"));
        let linker = engine.linkers().get_or_make(|| {
            let mut linker = Linker::<State<H>>::new(engine.wasm());
            link(&mut linker).map(|()| linker)
        });
        let instances = linker.and_then(|linker| linker.instantiate_pre(module.component()));
        let instances = instances.map_err(import_error)?;
        let component = module.component();
        let callbacks = Callbacks::find(|interface, function| {
            let interface = component.get_export_index(None, &*contract_interface(interface))?;
            component.get_export_index(Some(&interface), function)
        });
        if callbacks.message.is_none() {
            return Err(TemplateError::NoMessage);
        }
        Ok(Self { instances, callbacks })
    }
}

/// Things of which there is one for each kind of host: in a worker, one. They go with whoever has this.
#[derive(Default)]
pub(crate) struct PerHost {
    made: Mutex<Vec<(TypeId, Arc<dyn Any + Send + Sync>)>>,
}

impl PerHost {
    /// The one of this type, made if there is none. Nobody makes another one meanwhile.
    fn get_or_make<T: Send + Sync + 'static, E>(
        &self,
        make: impl FnOnce() -> Result<T, E>,
    ) -> Result<Arc<T>, E> {
        let mut made = self.made.lock();
        let of = TypeId::of::<T>();
        let known = made.iter().find(|(known, _)| *known == of).map(|(_, known)| Arc::clone(known));
        if let Some(known) = known.and_then(|known| known.downcast::<T>().ok()) {
            return Ok(known);
        }
        let new = Arc::new(make()?);
        made.push((of, Arc::clone(&new) as Arc<dyn Any + Send + Sync>));
        Ok(new)
    }
}

/// Why a module cannot be linked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    /// An import has nothing to stand for it.
    #[error(
        "the plugin cannot be linked: {0}; it may import `tidegate:plugin@0.1`, the base of WASI 0.2, and \
             what its app can be granted"
    )]
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
