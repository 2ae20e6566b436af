//! Which story runs which block, and why none runs the others.

use std::collections::BTreeSet;

use super::blocks::{self, Block};
use super::{root, text};

enum How {
    /// This test runs or checks it, wherever it stands.
    By(&'static str),
    /// Nothing does, because.
    Not(&'static str),
}

use How::{By, Not};

const CHECKED: How = By("settings_that_the_documents_show_are_taken");
const CLUSTER: How = By("of_01_echo_answers_as_three_processes");
const COMPILED: How = By("the_rust_of_the_guides_compiles_and_does_what_it_says");
const DEPLOYS: How = By("the_guide_to_deploying_does_what_it_says");
const ECHOES: How = By("the_guide_to_benchmarking_measures_echoes_and_pushes");

const PHP: How = Not("PHP with the original's own library; the stories of `bridge` speak as that does");
const HTTP: How = By("the_guide_to_steering_by_http_does_what_it_says");

/// Document, how the block begins, and what is done with it.
const BLOCKS: &[(&str, &str, How)] = &[
    (
        "README.md",
        "cargo run --release -- dev examples/02",
        By("two_windows_of_02_chat_room_talk_in_a_browser"),
    ),
    ("README.md", "use tidegate::*;", By("the_readme_shows_the_chat_plugin_as_it_is")),
    (
        "README.md",
        "cargo run --release -- dev examples/04",
        By("the_page_of_04_hot_swap_stays_connected_while_its_code_is_changed_twice"),
    ),
    ("README.md", "default/counter: examples/04", Not("what is printed depends on the machine")),
    ("README.md", "clients ", Not("a picture")),
    ("docs/guide/benchmarking.md", "tidegate up -c examples/01-echo", ECHOES),
    ("docs/guide/benchmarking.md", "tidegate bench swap", By("the_guide_to_benchmarking_measures_swaps")),
    (
        "docs/guide/benchmarking.md",
        "tidegate bench fairness",
        By("the_guide_to_benchmarking_measures_a_neighbour"),
    ),
    ("docs/guide/benchmarking.md", "tidegate bench push", ECHOES),
    (
        "docs/guide/benchmarking.md",
        "tidegate bench density",
        By("the_guide_to_benchmarking_measures_many_apps"),
    ),
    (
        "docs/guide/benchmarking.md",
        "cargo bench",
        Not("it compiles for a minute and measures for another; CI compiles both"),
    ),
    (
        "docs/guide/cluster.md",
        "tidegate cert init --cluster chat",
        By("a_cluster_is_set_up_as_the_guide_says"),
    ),
    ("docs/guide/cluster.md", "# register.toml", CHECKED),
    ("docs/guide/cluster.md", "# gateway.toml", CHECKED),
    ("docs/guide/cluster.md", "# worker.toml", CHECKED),
    ("docs/guide/density.md", "[[app]]", CHECKED),
    ("docs/guide/deploying.md", "tidegate deploy chat   ", DEPLOYS),
    (
        "docs/guide/deploying.md",
        "tidegate deploy chat chat.wasm --register",
        By("the_guide_to_deploying_asks_a_cluster_by_its_register"),
    ),
    ("docs/guide/deploying.md", "app          default/chat", DEPLOYS),
    ("docs/guide/deploying.md", "tidegate deploy chat chat.wasm --canary", DEPLOYS),
    ("docs/guide/deploying.md", "tidegate deploy chat --cancel", DEPLOYS),
    ("docs/guide/deploying.md", "tidegate apps", DEPLOYS),
    ("docs/guide/deploying.md", "default/chat  version 6", DEPLOYS),
    ("docs/guide/deploying.md", "-> {\"request\"", DEPLOYS),
    ("docs/guide/coming-from-gatewayworker.md", "class Events", PHP),
    ("docs/guide/coming-from-gatewayworker.md", "use serde::", COMPILED),
    ("docs/guide/coming-from-gatewayworker.md", "[[bridge]]", CHECKED),
    ("docs/guide/coming-from-gatewayworker.md", "Gateway::$registerAddress", PHP),
    ("docs/guide/coming-from-gatewayworker.md", "$client_id = Gateway::", PHP),
    ("docs/guide/coming-from-gatewayworker.md", "[gateway]", CHECKED),
    ("docs/guide/gateway-api.md", "gateway::all()", COMPILED),
    ("docs/guide/gateway-api.md", "let here =", COMPILED),
    ("docs/guide/http-api.md", "$ export TIDEGATE_TOKEN", HTTP),
    ("docs/guide/http-api.md", "$ curl -N", HTTP),
    ("docs/guide/http-api.md", "$ tidegate tokens create '*'", HTTP),
    ("docs/guide/limits.md", "[[listener]]", CHECKED),
    ("docs/guide/operations.md", "tidegate dev [PATH]", By("every_command_of_the_list_is_one")),
    ("docs/guide/operations.md", "tidegate top", By("what_the_guide_tells_scripts_of_top_is_so")),
    ("docs/guide/operations.md", "[metrics]", CHECKED),
    (
        "docs/guide/plugin.md",
        "tidegate new my-app",
        By("a_new_plugin_is_made_run_and_tested_as_the_guide_says"),
    ),
    ("docs/guide/plugin.md", "#[derive(Default, Serialize", COMPILED),
    ("docs/guide/plugin.md", "let mut gateway = testing", COMPILED),
    ("docs/guide/push.md", "# in the settings", By("the_guide_to_pushes_does_what_it_says")),
    ("docs/guide/push.md", "[admin]", CHECKED),
    ("docs/guide/push.md", "$ export TIDEGATE_TOKEN", By("the_guide_to_pushes_does_what_it_says")),
    ("docs/guide/push.md", "{\"commands\"", By("the_guide_to_pushes_does_what_it_says")),
    ("docs/guide/push.md", "{\"type\"", By("the_guide_to_pushes_does_what_it_says")),
    ("docs/guide/push.md", "$ tidegate tokens create acme", By("the_guide_to_pushes_does_what_it_says")),
    ("docs/guide/tenants.md", "tidegate tenants create acme", By("the_guide_to_tenants_does_what_it_says")),
    ("docs/guide/tenants.md", "[[tenant]]", CHECKED),
    ("docs/guide/tenants.md", "# chat.toml", By("the_guide_to_tenants_does_what_it_says")),
    (
        "examples/01-echo/README.md",
        "tidegate dev",
        By("echo_of_01_echo_answers_on_every_protocol_that_it_listens_on"),
    ),
    ("examples/01-echo/README.md", "tidegate build", CLUSTER),
    ("examples/02-chat-room/README.md", "tidegate dev", By("two_windows_of_02_chat_room_talk_in_a_browser")),
    (
        "examples/02-chat-room/README.md",
        "tidegate build",
        By("people_of_02_chat_room_talk_as_three_processes_and_get_the_page"),
    ),
    ("examples/03-state/README.md", "tidegate dev", By("state_of_03_state_lives_as_long_as_it_says")),
    (
        "examples/03-state/README.md",
        "tidegate build",
        By("state_of_03_state_lives_as_long_as_it_says_as_three_processes"),
    ),
    (
        "examples/04-hot-swap/README.md",
        "tidegate dev",
        By("the_page_of_04_hot_swap_stays_connected_while_its_code_is_changed_twice"),
    ),
    (
        "examples/04-hot-swap/README.md",
        "tidegate build",
        By("the_counter_of_04_hot_swap_counts_for_everybody_as_three_processes"),
    ),
    (
        "examples/05-two-tenants/README.md",
        "tidegate dev",
        By("the_page_of_05_two_tenants_shows_that_acme_goes_on_while_globex_hangs"),
    ),
    (
        "examples/05-two-tenants/README.md",
        "tidegate build",
        By("attacks_of_globex_of_05_two_tenants_cost_acme_nothing_as_three_processes"),
    ),
    (
        "examples/06-push/README.md",
        "tidegate dev",
        By("the_shop_of_06_push_tells_every_device_of_a_user_once"),
    ),
    (
        "examples/06-push/README.md",
        "tidegate build",
        By("the_shop_of_06_push_tells_every_device_as_three_processes"),
    ),
    ("examples/systemd/README.md", "useradd", Not("it needs root and systemd; `systemd` checks the unit")),
    (
        "sdk/client/README.md",
        "use tidegate_client",
        By("the_rust_client_does_everything_that_the_api_describes"),
    ),
    ("sdk/client/README.md", "use serde_json", By("the_rust_client_does_everything_that_the_api_describes")),
    ("sdk/js-client/README.md", "$ npm install", By("what_the_clients_show_of_themselves_runs")),
    ("sdk/js-client/README.md", "import { Tidegate }", By("what_the_clients_show_of_themselves_runs")),
    ("sdk/js-client/README.md", "import { readFile }", By("what_the_clients_show_of_steering_runs")),
    (
        "sdk/js-client/README.md",
        "import { Connection }",
        Not("it needs Node 22, which CI does not have; a story runs the same in a browser"),
    ),
    ("sdk/python-client/README.md", "$ pip install", By("what_the_clients_show_of_themselves_runs")),
    ("sdk/python-client/README.md", "from tidegate_client", By("what_the_clients_show_of_themselves_runs")),
    ("sdk/python-client/README.md", "from pathlib", By("what_the_clients_show_of_steering_runs")),
    (
        "sdk/rust/README.md",
        "use tidegate::*;",
        Not("a test of the SDK's documentation, which CI runs natively"),
    ),
    ("sdk/rust/README.md", "[lib]", Not("a part of a Cargo.toml; those of the examples are built")),
    (
        "sdk/rust/README.md",
        "# use tidegate",
        Not("a test of the SDK's documentation, which CI runs natively"),
    ),
];

/// All documents for users.
fn pages() -> Vec<String> {
    let mut pages = vec!["README.md".to_owned(), "sdk/rust/API.md".to_owned()];
    let names = |folder: &str| {
        let entries = std::fs::read_dir(root().join(folder)).unwrap();
        let mut names: Vec<_> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    };
    pages.extend(
        names("docs/guide")
            .into_iter()
            .filter(|name| name.ends_with(".md"))
            .map(|name| format!("docs/guide/{name}")),
    );
    for folder in ["examples", "sdk"] {
        let readmes = names(folder).into_iter().map(|name| format!("{folder}/{name}/README.md"));
        pages.extend(readmes.filter(|page| root().join(page).exists()));
    }
    pages
}

fn is_of((page, first, _): &(&str, &str, How), block: &Block) -> bool {
    *page == block.page && block.begins_with(first)
}

#[test]
fn every_block_of_every_document_is_run_or_has_a_reason_why_not() {
    let all: Vec<Block> = pages().iter().flat_map(|page| blocks::of(page, &text(page))).collect();
    assert!(all.len() > 50, "the documents are not read any more");
    let unknown: Vec<String> = all
        .iter()
        .filter(|block| !BLOCKS.iter().any(|known| is_of(known, block)))
        .map(ToString::to_string)
        .collect();
    assert!(unknown.is_empty(), "neither run nor in the list:\n{}", unknown.join("\n"));
    let stale: Vec<String> = BLOCKS
        .iter()
        .filter(|known| !all.iter().any(|block| is_of(known, block)))
        .map(|(page, first, _)| format!("{page}: {first}"))
        .collect();
    assert!(stale.is_empty(), "in the list, but nowhere else:\n{}", stale.join("\n"));
}

#[test]
fn the_tests_that_are_said_to_run_blocks_are_there_and_reasons_are_given() {
    let mut sources = String::new();
    collect(&root().join("tests"), &mut sources);
    for (page, first, how) in BLOCKS {
        match how {
            By(test) => assert!(sources.contains(&format!("{test}()")), "{page}: {first}: no test {test}"),
            Not(reason) => assert!(reason.len() > 8, "{page}: {first}"),
        }
    }
    let keys: BTreeSet<_> = BLOCKS.iter().map(|(page, first, _)| (page, first)).collect();
    assert_eq!(keys.len(), BLOCKS.len(), "a block is there twice");
}

fn collect(folder: &std::path::Path, into: &mut String) {
    for entry in std::fs::read_dir(folder).unwrap().map(Result::unwrap) {
        let path = entry.path();
        if path.is_dir() && !path.ends_with("target") {
            collect(&path, into);
        } else if path.extension().is_some_and(|kind| kind == "rs") {
            into.push_str(&std::fs::read_to_string(path).unwrap());
        }
    }
}
