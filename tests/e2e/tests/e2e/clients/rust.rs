//! `sdk/client`.

use std::process::Command;

use super::{Cluster, sdk, succeeds};

/// `cargo test` of the client, against this cluster.
pub fn cargo_test(cluster: &Cluster) -> Command {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let folder = sdk("client");
    let mut tests = cluster.command(cargo, &folder);
    // With its unit tests and examples; into a folder of its own, since it shares no crate with the server.
    tests.args(["test", "--release", "--locked"]);
    tests.env("CARGO_TARGET_DIR", folder.join("../../target/client"));
    // What the surrounding `cargo test` says is not of this crate.
    for name in std::env::vars_os().filter_map(|(name, _)| name.into_string().ok()) {
        if name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_") {
            tests.env_remove(name);
        }
    }
    tests
}

#[tokio::test]
async fn the_rust_client_does_everything_that_the_api_describes() {
    let cluster = Cluster::start().await;
    let told = succeeds(cargo_test(&cluster));
    for test in [
        "every_operation_does_what_it_says_on_two_gateways",
        "every_operation_that_is_no_push_does_what_it_says",
    ] {
        assert!(told.contains(&format!("{test} ... ok")), "{told}");
    }
}
