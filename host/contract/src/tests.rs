//! Checks whole components, written in the text form.

use proptest::prelude::*;

use super::*;

/// The declaration of an exported callback with the given flat parameters.
fn export(name: &str, function: &str, params: &str) -> String {
    format!(
        r#"(core module $m-{function} (func (export "f") {core}))
           (core instance $c-{function} (instantiate $m-{function}))
           (func $f-{function} {params} (canon lift (core func $c-{function} "f")))
           (instance $i-{function} (export "{function}" (func $f-{function})))
           (export "{name}" (instance $i-{function}))"#,
        core = core_params(params),
    )
}

fn core_params(params: &str) -> String {
    let each = params.matches("(param").count();
    let types: Vec<_> =
        params.split("(param").skip(1).map(|text| if text.contains("u64") { "i64" } else { "i32" }).collect();
    assert_eq!(each, types.len());
    types.iter().map(|ty| format!("(param {ty})")).collect()
}

/// A component whose on-message has the right type: strings and lists need a memory and `realloc`.
const MESSAGE: &str = r#"
    (core module $m
        (memory (export "mem") 1)
        (func (export "realloc") (param i32 i32 i32 i32) (result i32) i32.const 0)
        (func (export "on-message") (param i64 i32 i32 i32 i32)))
    (core instance $c (instantiate $m))
    (type $kind' (enum "text" "binary" "raw"))
    (import "tidegate:plugin/types@0.1.0" (instance $types
        (type $k (enum "text" "binary" "raw"))
        (export "message-kind" (type (eq $k)))))
    (alias export $types "message-kind" (type $kind))
    (func $on-message (param "gateway" u64) (param "connection" u32) (param "kind" $kind) (param "payload" (list u8))
        (canon lift (core func $c "on-message") (memory $c "mem") (realloc (func $c "realloc"))))
    (instance $message (export "on-message" (func $on-message)))
    (export "tidegate:plugin/message@0.1.0" (instance $message))
"#;

fn component(parts: &[&str]) -> Vec<u8> {
    wat::parse_str(format!("(component {})", parts.concat())).unwrap()
}

fn refusal(parts: &[&str]) -> ContractError {
    check(&component(parts)).unwrap_err()
}

#[test]
fn a_plugin_with_only_on_message_is_accepted() {
    let contract = check(&component(&[MESSAGE])).unwrap();
    assert_eq!(contract.exports, Exports::MESSAGE);
    assert_eq!(contract.version, CONTRACT_VERSION);
    assert_eq!(contract.imports.len(), 1);
    assert_eq!(contract.imports[0].provider, Provider::Contract);
}

#[test]
fn callbacks_and_imports_are_listed() {
    let connect = export(
        "tidegate:plugin/connect@0.1.3",
        "on-connect",
        r#"(param "gateway" u64) (param "connection" u32)"#,
    );
    let imports = r#"(import "wasi:random/random@0.2.4" (instance))
        (import "tidegate:plugin/gateway@0.1.0" (instance (export "disband" (func (param "group" string)))))"#;
    let contract = check(&component(&[imports, MESSAGE, &connect])).unwrap();
    assert_eq!(contract.exports, Exports::MESSAGE.with(Exports::CONNECT));
    assert_eq!(contract.version.to_string(), "0.1.3");
    let names: Vec<_> = contract.imports.iter().map(|import| import.name.as_str()).collect();
    assert_eq!(
        names,
        ["wasi:random/random@0.2.4", "tidegate:plugin/gateway@0.1.0", "tidegate:plugin/types@0.1.0"]
    );
    assert_eq!(contract.imports[0].provider, Provider::Base);
    let json = serde_json::to_string(&contract).unwrap();
    assert_eq!(serde_json::from_str::<Contract>(&json).unwrap(), contract);
}

#[test]
fn a_plugin_without_on_message_is_told_how_to_write_one() {
    let error = refusal(&[]);
    assert_eq!(error, ContractError::NoMessage { is_program: false });
    assert!(error.to_string().contains("fn on_message"), "{error}");
}

#[test]
fn a_program_is_told_to_become_a_library() {
    let run = export("wasi:cli/run@0.2.3", "run", "");
    let error = refusal(&[&run]);
    assert_eq!(error, ContractError::NoMessage { is_program: true });
    assert!(error.to_string().contains("main.rs"), "{error}");
}

#[test]
fn another_minor_version_of_the_contract_is_refused_with_both_versions() {
    for (version, mend) in
        [("0.2.0", "update Tidegate"), ("0.0.9", "with the SDK of this version"), ("1.0.0", "update")]
    {
        let error = refusal(&[&MESSAGE.replace("@0.1.0", &format!("@{version}"))]).to_string();
        assert!(error.contains(version) && error.contains("0.1.0") && error.contains(mend), "{error}");
    }
}

#[test]
fn an_unknown_callback_is_refused() {
    let error = refusal(&[MESSAGE, &export("tidegate:plugin/bell@0.1.0", "on-bell", "")]);
    assert_eq!(error, ContractError::UnknownExport { name: "tidegate:plugin/bell@0.1.0".into() });
}

#[test]
fn a_callback_of_another_type_is_refused_with_both_types() {
    let wrong = export("tidegate:plugin/connect@0.1.0", "on-connect", r#"(param "client" u32)"#);
    let error = refusal(&[MESSAGE, &wrong]).to_string();
    assert!(error.contains("(u64, u32)") && error.contains("found (u32)"), "{error}");

    let missing = export("tidegate:plugin/connect@0.1.0", "on-open", "");
    let error = refusal(&[MESSAGE, &missing]).to_string();
    assert!(error.contains("no such function"), "{error}");
}

#[test]
fn a_host_function_or_interface_of_a_newer_contract_is_refused_by_name() {
    let newer = r#"(import "tidegate:plugin/gateway@0.1.9" (instance (export "teleport" (func))))"#;
    let error = refusal(&[newer, MESSAGE]).to_string();
    assert!(error.contains("teleport") && error.contains("update Tidegate"), "{error}");

    let error = refusal(&[r#"(import "tidegate:plugin/keys@0.1.9" (instance))"#, MESSAGE]).to_string();
    assert!(error.contains("tidegate:plugin/keys@0.1.9") && error.contains("timers"), "{error}");
}

#[test]
fn a_foreign_import_is_refused_wherever_it_stands() {
    let error = refusal(&[MESSAGE, r#"(import "acme:db/sql@1.0.0" (instance))"#]);
    assert_eq!(error, ContractError::NotGrantable { name: "acme:db/sql@1.0.0".into() });
    let error = refusal(&[MESSAGE, r#"(import "wasi:http/types@0.2.0" (instance))"#]);
    assert!(matches!(error, ContractError::NotGranted { package: "wasi:http", .. }));
}

#[test]
fn imports_and_exports_of_nested_components_do_not_count() {
    let nested = r#"(component (import "acme:db/sql" (instance)) (import "b" (func)))"#;
    let contract = check(&component(&[nested, MESSAGE])).unwrap();
    assert_eq!(contract.imports.len(), 1);
    let only_nested = format!("(component {MESSAGE})");
    assert_eq!(refusal(&[&only_nested]), ContractError::NoMessage { is_program: false });
}

#[test]
fn a_core_module_is_told_apart() {
    let module = wat::parse_str("(module)").unwrap();
    let error = check(&module).unwrap_err();
    assert_eq!(error, ContractError::CoreModule);
    assert!(error.to_string().contains("tidegate build"), "{error}");
}

#[test]
fn what_is_no_wasm_is_named() {
    for (bytes, says) in [
        (&b""[..], "empty"),
        (b"\x7fELF\x02\x01\x01\0\0\0", "native"),
        (b"  (component)", "text form"),
        (b"\0asm\x0d", "first 8 bytes"),
        (b"#!/bin/sh\necho", "does not begin"),
    ] {
        let error = check(bytes).unwrap_err().to_string();
        assert!(error.contains(says), "{error}");
    }
}

#[test]
fn a_broken_body_is_refused_with_its_offset() {
    let bytes = component(&[MESSAGE]);
    let body = wat::parse_str("(component (core module (func (result i32) i32.const 7)))").unwrap();
    let at = body.windows(2).position(|pair| pair == [0x41, 7]).unwrap();
    let mut broken = body.clone();
    broken[at] = 0x42; // i64.const: the result is of another type
    let error = check(&broken).unwrap_err();
    assert!(matches!(error, ContractError::Broken { offset, .. } if offset >= at), "{error:?}");
    assert!(check(&bytes[..bytes.len() - 3]).is_err());
}

#[test]
fn sizes_and_counts_are_bounded() {
    let bytes = component(&[MESSAGE]);
    let limits = Limits { component_bytes_max: bytes.len() - 1, ..Limits::default() };
    assert!(matches!(check_with(&bytes, &limits), Err(ContractError::TooLarge { .. })));
    let limits = Limits { names_max: 0, ..Limits::default() };
    assert_eq!(check_with(&bytes, &limits), Err(ContractError::TooManyNames { limit: 0 }));
    let limits = Limits { component_bytes_max: bytes.len(), names_max: 1 };
    assert!(check_with(&bytes, &limits).is_ok());
}

/// A component with everything that a callback of the state's hand-over needs: a memory and `realloc`.
fn state_callback(name: &str) -> String {
    let (params, result, core) = match name {
        "save" => ("", "(result (list u8))", "(result i32) i32.const 0"),
        _ => (r#"(param "state" (list u8))"#, "", "(param i32 i32)"),
    };
    format!(
        r#"(core module $m-{name}
            (memory (export "mem") 1)
            (func (export "realloc") (param i32 i32 i32 i32) (result i32) i32.const 0)
            (func (export "f") {core}))
           (core instance $c-{name} (instantiate $m-{name}))
           (func $f-{name} {params} {result}
            (canon lift (core func $c-{name} "f") (memory $c-{name} "mem") (realloc (func $c-{name} "realloc"))))
           (instance $i-{name} (export "{name}" (func $f-{name})))
           (export "tidegate:plugin/{name}@0.1.0" (instance $i-{name}))"#
    )
}

#[test]
fn state_is_handed_over_by_save_and_restore_or_not_at_all() {
    let (save, restore) = (state_callback("save"), state_callback("restore"));
    let contract = check(&component(&[MESSAGE, &save, &restore])).unwrap();
    assert_eq!(contract.exports, Exports::MESSAGE.with(Exports::SAVE).with(Exports::RESTORE));
    let error = refusal(&[MESSAGE, &save]);
    assert_eq!(error, ContractError::HalfState { has: "save", lacks: "restore" });
    assert!(error.to_string().contains("implement both or none"), "{error}");
    assert_eq!(refusal(&[MESSAGE, &restore]), ContractError::HalfState { has: "restore", lacks: "save" });
}

#[test]
fn a_save_of_another_type_is_refused_with_both_types() {
    let error = refusal(&[MESSAGE, &export("tidegate:plugin/save@0.1.0", "save", "")]).to_string();
    assert!(error.contains("() -> list<u8>") && error.contains("found ()"), "{error}");
}

/// Whether some world of the WIT file exports an interface, which makes it a callback.
fn is_exported(interface: &str) -> bool {
    include_str!("../../../sdk/wit/plugin.wit").contains(&format!("export {interface};"))
}

/// `interface -> functions` of the WIT file, and its version, read line by line.
fn wit_interfaces() -> (String, Vec<(String, Vec<String>)>) {
    let wit = include_str!("../../../sdk/wit/plugin.wit");
    let mut version = String::new();
    let mut interfaces: Vec<(String, Vec<String>)> = Vec::new();
    let mut in_interface = false;
    for line in wit.lines().map(str::trim).filter(|line| !line.starts_with("//")) {
        if let Some(rest) = line.strip_prefix("package tidegate:plugin@") {
            version = rest.trim_end_matches(';').to_owned();
        } else if let Some(rest) = line.strip_prefix("interface ") {
            interfaces.push((rest.trim_end_matches(" {").to_owned(), Vec::new()));
            in_interface = true;
        } else if line.starts_with("world ") {
            in_interface = false;
        } else if let Some((name, _)) = line.split_once(": func(").filter(|_| in_interface) {
            interfaces.last_mut().unwrap().1.push(name.to_owned());
        }
    }
    (version, interfaces)
}

#[test]
fn the_tables_say_what_the_wit_file_says() {
    let (version, interfaces) = wit_interfaces();
    assert_eq!(version, CONTRACT_VERSION.to_string());
    let (callbacks, hosts): (Vec<_>, Vec<_>) =
        interfaces.into_iter().partition(|(name, _)| is_exported(name));
    let ours: Vec<_> = CALLBACKS
        .iter()
        .map(|callback| (callback.interface.to_owned(), vec![callback.function.to_owned()]))
        .collect();
    assert_eq!(callbacks, ours);
    let ours: Vec<_> = import::HOST_INTERFACES
        .iter()
        .map(|(name, functions)| {
            (name.to_string(), functions.iter().map(|name| name.to_string()).collect::<Vec<_>>())
        })
        .collect();
    assert_eq!(hosts, ours);
}

proptest! {
    #[test]
    fn random_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..512)) {
        let _ = check(&bytes);
        let mut with_preamble = b"\0asm\x0d\0\x01\0".to_vec();
        with_preamble.extend(bytes);
        let _ = check(&with_preamble);
    }

    #[test]
    fn a_cut_component_is_refused_unless_only_debug_names_are_gone(cut in any::<prop::sample::Index>()) {
        let bytes = component(&[MESSAGE]);
        let cut = &bytes[..cut.index(bytes.len())];
        if let Ok(contract) = check(cut) {
            prop_assert_eq!(Ok(contract), check(&bytes));
        }
    }

    #[test]
    fn a_changed_component_never_panics(at in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let mut bytes = component(&[MESSAGE]);
        let at = at.index(bytes.len());
        bytes[at] = byte;
        let _ = check(&bytes);
    }
}
