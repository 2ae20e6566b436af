//! `sdk/python-client`.

use super::{Cluster, is_there, sdk, succeeds};

#[tokio::test]
async fn the_python_client_does_everything_that_the_api_describes() {
    if !is_there("python3", "TIDEGATE_REQUIRE_PYTHON") {
        return;
    }
    let cluster = Cluster::start().await;
    let mut tests = cluster.command("python3", &sdk("python-client"));
    tests.args(["-W", "error", "-m", "unittest", "discover", "-s", "tests"]);
    // The folder stays as it is.
    tests.env("PYTHONPATH", "src").env("PYTHONDONTWRITEBYTECODE", "1");
    let told = succeeds(tests);
    assert!(told.contains("Ran ") && !told.contains("skipped"), "{told}");
}
