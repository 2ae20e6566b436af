//! `API.md` maps every PHP method to something that exists, and misses none of either side.

#![expect(clippy::unwrap_used, reason = "a helper of a test fails by panicking")]

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// The public methods of `GatewayWorker\Lib\Gateway` 4.0.0 and `GatewayClient\Gateway` 3.1.1.
const PHP_METHODS: [&str; 45] = [
    "sendToAll",
    "sendToClient",
    "sendToCurrentClient",
    "sendToUid",
    "sendToGroup",
    "closeClient",
    "closeCurrentClient",
    "destoryClient",
    "destoryCurrentClient",
    "bindUid",
    "unbindUid",
    "joinGroup",
    "leaveGroup",
    "ungroup",
    "setSession",
    "updateSession",
    "setSocketSession",
    "setBusinessWorker",
    "isOnline",
    "isUidOnline",
    "getSession",
    "getClientIdByUid",
    "getUidByClientId",
    "getAllClientSessions",
    "getClientSessionsByGroup",
    "getAllClientInfo",
    "getClientInfoByGroup",
    "getAllClientIdCount",
    "getAllClientCount",
    "getClientIdCountByGroup",
    "getClientCountByGroup",
    "getAllClientIdList",
    "getClientIdListByGroup",
    "getAllUidList",
    "getAllUidCount",
    "getUidListByGroup",
    "getUidCountByGroup",
    "getAllGroupIdList",
    "getAllGroupUidList",
    "getAllGroupUidCount",
    "getAllGroupClientIdList",
    "getAllGroupClientIdCount",
    "isUidsOnline",
    "batchGetClientIdByUid",
    "batchGetClientIdCountByGroup",
];

/// The only one without a counterpart: a plugin needs no set-up.
const WITHOUT_COUNTERPART: [&str; 1] = ["setBusinessWorker"];

#[test]
fn every_php_method_is_in_the_table_and_nothing_else() {
    let listed: BTreeSet<String> = rows().iter().map(|(php, _)| leading_name(php)).collect();
    let expected: BTreeSet<String> = PHP_METHODS.iter().map(|name| (*name).to_owned()).collect();
    assert_eq!(listed, expected);
}

#[test]
fn every_method_has_a_counterpart_that_exists() {
    let defined = public_functions(&["src", "src/gateway"]);
    for (php, rust) in rows() {
        let called = called_names(&rust);
        if WITHOUT_COUNTERPART.contains(&leading_name(&php).as_str()) {
            assert_eq!(rust.trim(), "-");
            continue;
        }
        assert!(called.iter().any(|name| rust.contains(&format!("gateway::{name}"))), "{php}: {rust}");
        for name in called {
            assert!(defined.contains(&name), "{php}: API.md names {name}(), which the SDK does not have");
        }
    }
}

#[test]
fn every_function_of_the_gateway_module_is_in_the_document() {
    let named = called_names(&document());
    for name in public_functions(&["src/gateway"]) {
        assert!(named.contains(&name), "gateway::{name} is not in API.md");
    }
}

fn document() -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("API.md")).unwrap()
}

/// The first two cells of each row of the three-column tables, whose first is a PHP method in backticks.
fn rows() -> Vec<(String, String)> {
    let document = document();
    let rows = document.lines().filter(|line| line.starts_with("| `"));
    let rows: Vec<_> = rows
        .map(|line| line.split(" | ").map(str::trim).collect::<Vec<_>>())
        .filter(|cells| cells.len() == 3)
        .map(|cells| (cells[0].trim_start_matches("| ").to_owned(), cells[1].to_owned()))
        .collect();
    assert!(rows.len() > 40, "the tables of API.md are not read any more");
    rows
}

fn leading_name(cell: &str) -> String {
    cell.trim_start_matches('`').chars().take_while(char::is_ascii_alphanumeric).collect()
}

/// The snake_case names in backticks that are followed by a parenthesis or by `::<T>(`.
fn called_names(text: &str) -> BTreeSet<String> {
    let code = text.split('`').skip(1).step_by(2);
    code.flat_map(|code| {
        let code = code.replace("::<T>", "");
        let ends: Vec<usize> = code.match_indices('(').map(|(at, _)| at).collect();
        let names: Vec<String> = ends
            .iter()
            .filter_map(|end| {
                code[..*end].rsplit(|c: char| !c.is_ascii_lowercase() && c != '_').next().map(str::to_owned)
            })
            .filter(|name| !name.is_empty() && !code.contains('$'))
            .collect();
        names
    })
    .collect()
}

fn public_functions(folders: &[&str]) -> BTreeSet<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let files = folders.iter().flat_map(|folder| fs::read_dir(root.join(folder)).unwrap());
    let sources = files
        .map(|file| file.unwrap().path())
        .filter(|path| path.is_file())
        .map(|path| fs::read_to_string(path).unwrap());
    let mut names = BTreeSet::new();
    for source in sources {
        for line in source.lines().map(str::trim_start) {
            let declared = line.strip_prefix("pub fn ").or_else(|| line.strip_prefix("pub const fn "));
            names.extend(declared.map(leading_snake_name));
        }
    }
    names
}

fn leading_snake_name(text: &str) -> String {
    text.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect()
}
