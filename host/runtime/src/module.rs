use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use tidegate_base::{Capability, Digest, Exports};
use wasmtime::component::Component;

use crate::cache::{Artifact, Key, ModuleCache};
use crate::compile::{CompileError, Compiler};
use crate::engine::Engine;
use crate::template::PerHost;

/// A compiled plugin, ready for any number of instances. A clone is a handle to the same.
#[derive(Clone)]
pub struct Module {
    inner: Arc<Loaded>,
}

struct Loaded {
    component: Component,
    digest: Digest,
    bytes: u64,
    exports: Exports,
    needs: Vec<Capability>,
    /// What it is linked to.
    linked: PerHost,
}

impl Module {
    /// Its name.
    pub fn digest(&self) -> Digest {
        self.inner.digest
    }

    /// How large the component is that it was compiled from, in bytes.
    pub fn component_bytes(&self) -> u64 {
        self.inner.bytes
    }

    /// The callbacks that it exports.
    pub fn exports(&self) -> Exports {
        self.inner.exports
    }

    /// What an app must be granted to run it.
    pub fn needs(&self) -> &[Capability] {
        &self.inner.needs
    }

    pub(crate) fn component(&self) -> &Component {
        &self.inner.component
    }

    /// Its templates.
    pub(crate) fn linked(&self) -> &PerHost {
        &self.inner.linked
    }
}

/// The same bytes.
impl PartialEq for Module {
    fn eq(&self, other: &Self) -> bool {
        self.digest() == other.digest()
    }
}

impl Eq for Module {}

impl fmt::Debug for Module {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Module").field("digest", &self.digest()).field("exports", &self.exports()).finish()
    }
}

/// Why a module cannot be loaded.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// It does not compile.
    #[error("module {digest} cannot be compiled: {reason}")]
    Compile {
        /// Which.
        digest: Digest,
        /// Why.
        #[source]
        reason: CompileError,
    },
    /// It was compiled, but the engine does not take the result.
    #[error("module {digest} was compiled but does not load: {reason}")]
    Load {
        /// Which.
        digest: Digest,
        /// Why.
        reason: String,
    },
}

/// Loads modules: from memory if one is loaded already, else from the disk cache, else it compiles them.
pub struct Modules {
    engine: Engine,
    compiler: Compiler,
    cache: Option<ModuleCache>,
    /// Modules that somebody still holds. Not larger than the most that were ever held at once.
    loaded: Mutex<HashMap<Digest, Weak<Loaded>>>,
    /// Held while compiling: one compilation uses all cores, and the second of two equal ones finds the first's result.
    compiling: Mutex<()>,
}

impl Modules {
    /// Without a cache every start compiles anew.
    pub fn new(engine: Engine, compiler: Compiler, cache: Option<ModuleCache>) -> Self {
        Self { engine, compiler, cache, loaded: Mutex::default(), compiling: Mutex::default() }
    }

    /// The engine that the modules are for.
    pub fn engine(&self) -> &Engine {
        &self.engine
    }

    /// Loads a component. **Blocks**, for seconds if it must compile: call it from `spawn_blocking` or a thread of its
    /// own, never on a shard.
    ///
    /// # Errors
    /// The bytes are not a component that compiles within the compiler's limits.
    pub fn load(&self, bytes: &[u8]) -> Result<Module, LoadError> {
        let digest = Digest::of(bytes);
        if let Some(module) = self.load_compiled(digest) {
            return Ok(module);
        }
        let _one_at_a_time = self.compiling.lock();
        if let Some(module) = self.load_compiled(digest) {
            return Ok(module);
        }
        let artifact = self.compile(digest, bytes)?;
        // Rather from the file, whose pages cost no memory that is only theirs.
        if let Some(module) = self.cached(digest) {
            return Ok(module);
        }
        let component = deserialize(&self.engine, &artifact);
        let component = component.map_err(|reason| LoadError::Load { digest, reason })?;
        Ok(self.keep(digest, bytes.len() as u64, component))
    }

    /// A module that is loaded, or was compiled before and is in the cache: for that nobody needs its bytes, and it waits for
    /// no other compilation. **Blocks** for as long as it takes to read a file of that size.
    pub fn load_compiled(&self, digest: Digest) -> Option<Module> {
        self.find(digest).or_else(|| self.cached(digest))
    }

    fn keep(&self, digest: Digest, bytes: u64, component: Component) -> Module {
        let (exports, needs) = (exports(&component), needs(&self.engine, &component));
        let inner = Arc::new(Loaded { component, digest, bytes, exports, needs, linked: PerHost::default() });
        let mut loaded = self.loaded.lock();
        loaded.retain(|_, module| module.strong_count() > 0);
        loaded.insert(digest, Arc::downgrade(&inner));
        Module { inner }
    }

    /// Whether somebody holds this module, loaded.
    pub fn is_loaded(&self, digest: Digest) -> bool {
        self.find(digest).is_some()
    }

    fn find(&self, digest: Digest) -> Option<Module> {
        self.loaded.lock().get(&digest)?.upgrade().map(|inner| Module { inner })
    }

    fn key(&self, digest: Digest) -> Key {
        Key { digest, compatibility: self.engine.compatibility() }
    }

    fn cached(&self, digest: Digest) -> Option<Module> {
        let artifact = self.cache.as_ref()?.get(&self.key(digest))?;
        match map(&self.engine, &artifact) {
            Ok(component) => Some(self.keep(digest, artifact.source_bytes(), component)),
            // The checksum holds, so this is an artifact of another engine: compile again, and overwrite it.
            Err(reason) => {
                tracing::warn!(%digest, reason, "a cached module does not load");
                None
            }
        }
    }

    fn compile(&self, digest: Digest, bytes: &[u8]) -> Result<Vec<u8>, LoadError> {
        let key = self.key(digest);
        let compile_error = |reason| LoadError::Compile { digest, reason };
        let artifact = self.compiler.compile(self.engine.layout(), bytes).map_err(compile_error)?;
        if let Some(cache) = &self.cache
            && let Err(error) = cache.put(&key, bytes.len() as u64, &artifact)
        {
            // The module works all the same; the next start compiles it again.
            tracing::warn!(%digest, %error, "a compiled module cannot be cached");
        }
        Ok(artifact)
    }
}

/// Maps compiled code: what is not run is not in memory, and what is run is there once for all who map it.
#[expect(unsafe_code, reason = "compiled code can only be loaded by an unsafe function")]
fn map(engine: &Engine, artifact: &Artifact) -> Result<Component, String> {
    // SAFETY: wasmtime requires that the file is what it serialized itself, and stays unaltered while it is mapped. It is
    // the open file whose checksum was verified, in a directory that only this user can write to, and files there are
    // replaced or removed, never written to.
    unsafe { Component::deserialize_file(engine.wasm(), artifact.path()) }
        .map_err(|error| format!("{error:#}"))
}

#[expect(unsafe_code, reason = "compiled code can only be loaded by an unsafe function")]
fn deserialize(engine: &Engine, artifact: &[u8]) -> Result<Component, String> {
    // SAFETY: wasmtime requires that the bytes are what it serialized itself, unaltered. They come from the compiler
    // of this process, or from the compile child, which is the same binary.
    unsafe { Component::deserialize(engine.wasm(), artifact) }.map_err(|error| format!("{error:#}"))
}

fn exports(component: &Component) -> Exports {
    let has = |interface: &str| component.get_export_index(None, &*contract_interface(interface)).is_some();
    let found = Exports::NAMES.iter().filter(|(_, interface)| has(interface));
    found.fold(Exports::empty(), |all, (export, _)| all.with(*export))
}

fn needs(engine: &Engine, component: &Component) -> Vec<Capability> {
    let ty = component.component_type();
    let mut needs: Vec<_> =
        ty.imports(engine.wasm()).filter_map(|(name, _)| tidegate_contract::capability(name)).collect();
    needs.sort_unstable();
    needs.dedup();
    needs
}

/// The full name of an interface of the contract.
pub(crate) fn contract_interface(interface: &str) -> String {
    format!("tidegate:plugin/{interface}@0.1.0")
}
