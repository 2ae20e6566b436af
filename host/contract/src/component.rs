//! Reads the outside of a component: what it imports and exports at its top level, and their types.

use wasmparser::component_types::{
    ComponentDefinedType, ComponentEntityType, ComponentFuncType, ComponentInstanceType, ComponentValType,
};
use wasmparser::types::Types;
use wasmparser::{BinaryReaderError, Encoding, Parser, Payload, ValidPayload, Validator, WasmFeatures};

use crate::ContractError;

/// What the engine of the host runs: WebAssembly 2.0, what compilers have on by default since, and components without
/// their asynchronous part.
const FEATURES: WasmFeatures = WasmFeatures::WASM2
    .union(WasmFeatures::FLOATS)
    .union(WasmFeatures::EXTENDED_CONST)
    .union(WasmFeatures::MULTI_MEMORY)
    .union(WasmFeatures::RELAXED_SIMD)
    .union(WasmFeatures::TAIL_CALL)
    .union(WasmFeatures::COMPONENT_MODEL);

/// The outside of a valid component.
pub(crate) struct Shape {
    /// Names of the top-level imports, in order.
    pub(crate) imports: Vec<String>,
    /// Names of the top-level exports, in order.
    pub(crate) exports: Vec<String>,
    types: Types,
}

impl Shape {
    /// The functions that the component takes from an imported interface.
    pub(crate) fn functions_of_import<'a>(&'a self, name: &str) -> impl Iterator<Item = &'a str> {
        let item = self.types.as_ref().component_item_for_import(name).map(|item| &item.ty);
        let exports = item.and_then(|ty| self.instance(ty)).map(|instance| instance.exports.iter());
        exports
            .into_iter()
            .flatten()
            .filter(|(_, item)| matches!(item.ty, ComponentEntityType::Func(_)))
            .map(|(name, _)| name.as_str())
    }

    /// The parameters and the result of a function of an exported interface, such as `(u64, list<u8>) -> variant`.
    pub(crate) fn signature(&self, interface: &str, function: &str) -> Option<String> {
        let item = self.types.as_ref().component_item_for_export(interface)?;
        match self.instance(&item.ty)?.exports.get(function)?.ty {
            ComponentEntityType::Func(id) => Some(self.render_function(&self.types[id])),
            _ => None,
        }
    }

    fn instance(&self, ty: &ComponentEntityType) -> Option<&ComponentInstanceType> {
        match ty {
            ComponentEntityType::Instance(id) => Some(&self.types[*id]),
            _ => None,
        }
    }

    fn render_function(&self, function: &ComponentFuncType) -> String {
        let params: Vec<_> = function.params.iter().map(|(_, ty)| self.render(ty)).collect();
        let result = function.result.map(|ty| format!(" -> {}", self.render(&ty))).unwrap_or_default();
        let prefix = if function.async_ { "async " } else { "" };
        format!("{prefix}({}){result}", params.join(", "))
    }

    /// One level deep: what is inside a record or a variant does not show.
    fn render(&self, ty: &ComponentValType) -> String {
        let id = match ty {
            ComponentValType::Primitive(primitive) => return primitive.to_string(),
            ComponentValType::Type(id) => *id,
        };
        match &self.types[id] {
            ComponentDefinedType::Primitive(primitive) => primitive.to_string(),
            ComponentDefinedType::List { element: ComponentValType::Primitive(primitive), .. } => {
                format!("list<{primitive}>")
            }
            ComponentDefinedType::List { .. } => "list".to_owned(),
            ComponentDefinedType::Record(_) => "record".to_owned(),
            ComponentDefinedType::Variant(_) => "variant".to_owned(),
            ComponentDefinedType::Enum(_) => "enum".to_owned(),
            ComponentDefinedType::Flags(_) => "flags".to_owned(),
            ComponentDefinedType::Tuple(_) => "tuple".to_owned(),
            ComponentDefinedType::Option { .. } => "option".to_owned(),
            ComponentDefinedType::Result { .. } => "result".to_owned(),
            _ => "another type".to_owned(),
        }
    }
}

/// Validate a component and read its outside. Nested modules and components are validated, but their imports and
/// exports are not the component's own.
pub(crate) fn read(bytes: &[u8], names_max: usize) -> Result<Shape, ContractError> {
    check_preamble(bytes)?;
    let mut validator = Validator::new_with_features(FEATURES);
    let mut outside = Outside { depth: 0, names_max, imports: Vec::new(), exports: Vec::new() };
    let mut types = None;
    let mut bodies = Vec::new();
    for payload in Parser::new(0).parse_all(bytes) {
        let payload = payload?;
        match validator.payload(&payload)? {
            ValidPayload::Func(function, body) => bodies.push((function, body)),
            ValidPayload::End(end) => types = Some(end),
            _ => {}
        }
        outside.see(&payload)?;
    }
    let mut allocations = wasmparser::FuncValidatorAllocations::default();
    for (function, body) in bodies {
        let mut function = function.into_validator(allocations);
        function.validate(&body)?;
        allocations = function.into_allocations();
    }
    match types {
        Some(types) => Ok(Shape { imports: outside.imports, exports: outside.exports, types }),
        None => Err(ContractError::Broken { offset: bytes.len(), reason: "it ends too early".to_owned() }),
    }
}

/// Collects the names at the top level while sections go by.
struct Outside {
    depth: u32,
    names_max: usize,
    imports: Vec<String>,
    exports: Vec<String>,
}

impl Outside {
    fn see(&mut self, payload: &Payload<'_>) -> Result<(), ContractError> {
        match payload {
            Payload::Version { encoding, .. } => {
                if self.depth == 0 && *encoding == Encoding::Module {
                    return Err(ContractError::CoreModule);
                }
                self.depth += 1;
            }
            Payload::End(_) => self.depth = self.depth.saturating_sub(1),
            Payload::ComponentImportSection(section) if self.depth == 1 => {
                for import in section.clone() {
                    push_bounded(&mut self.imports, import?.name.name, self.names_max)?;
                }
            }
            Payload::ComponentExportSection(section) if self.depth == 1 => {
                for export in section.clone() {
                    push_bounded(&mut self.exports, export?.name.name, self.names_max)?;
                }
            }
            _ => {}
        }
        Ok(())
    }
}

fn push_bounded(names: &mut Vec<String>, name: &str, limit: usize) -> Result<(), ContractError> {
    if names.len() == limit {
        return Err(ContractError::TooManyNames { limit });
    }
    names.push(name.to_owned());
    Ok(())
}

/// Tell apart what is no component at all before the validator complains about its bytes.
fn check_preamble(bytes: &[u8]) -> Result<(), ContractError> {
    let Some(preamble) = bytes.get(..8) else {
        return Err(ContractError::NotWasm { found: describe_foreign(bytes) });
    };
    if !preamble.starts_with(b"\0asm") {
        return Err(ContractError::NotWasm { found: describe_foreign(bytes) });
    }
    // Bytes 6 and 7 are the layer: 0 for a core module, 1 for a component.
    if preamble[6..] == [0, 0] {
        return Err(ContractError::CoreModule);
    }
    Ok(())
}

fn describe_foreign(bytes: &[u8]) -> &'static str {
    let text = bytes.trim_ascii_start();
    match bytes {
        [] => "the file is empty",
        [b'\x7f', b'E', b'L', b'F', ..] => "this is a native program or library",
        _ if text.starts_with(b"(module") || text.starts_with(b"(component") => {
            "this is WebAssembly in its text form, not in its binary form"
        }
        [b'\0', b'a', b's', b'm', ..] => "the file ends within its first 8 bytes",
        _ => "it does not begin with the bytes `\\0asm`",
    }
}

impl From<BinaryReaderError> for ContractError {
    fn from(error: BinaryReaderError) -> Self {
        Self::Broken { offset: error.offset(), reason: error.message().to_owned() }
    }
}
