//! All of them, and the command line, over TLS.

use tidegate_harness::eventually;

use super::rust::cargo_test;
use super::{Cluster, is_there, node, sdk, succeeds};
use crate::binary::{Ran, run, said};
use crate::certified::certify;

/// A push from the command line, with these arguments besides.
fn push(cluster: &Cluster, api: &str, more: &[&str]) -> Ran {
    let arguments = ["push", "test", "hello", "--all", "--token-file", "token", "--json", "--api", api];
    run(cluster.folder.path(), &[&arguments, more].concat())
}

fn reaches(pushed: &Ran) -> bool {
    pushed.code == 0 && said(pushed)["missing"] == serde_json::json!([])
}

#[tokio::test]
async fn an_api_with_tls_is_for_those_who_trust_its_certificate_which_is_renewed_without_a_restart() {
    let cluster = Cluster::start_tls().await;
    let (at, url) = (cluster.folder.path(), cluster.url());
    let trusted = || push(&cluster, &url, &["--ca", "api-ca.pem"]);
    assert!(reaches(&trusted()));
    let distrusted = push(&cluster, &url, &[]);
    assert!(distrusted.code == 69 && distrusted.stderr.contains("--ca"), "{}", distrusted.stderr);
    let plain = push(&cluster, &url.replace("https:", "http:"), &[]);
    assert!(plain.code == 64 && plain.stderr.contains("ask https://"), "{}{}", plain.code, plain.stderr);
    if is_there("curl", "TIDEGATE_REQUIRE_CURL") {
        let mut curl = cluster.command("curl", at);
        curl.args(["-sS", "--fail-with-body", "--cacert", "api-ca.pem"]);
        curl.args([
            "-H",
            &format!("Authorization: Bearer {}", cluster.token),
            "-d",
            r#"{"to": {"uids": ["nobody"]}, "text": "x"}"#,
        ]);
        curl.arg(format!("{url}/v1/apps/default/test/send"));
        assert_eq!(succeeds(curl), r#"{"reached":0,"missing":[]}"#);
    }

    // A renewed certificate, of another authority, so that it can be told from the one before.
    std::fs::copy(at.join("api-ca.pem"), at.join("old-ca.pem")).unwrap();
    certify(at);
    assert!(reaches(&push(&cluster, &url, &["--ca", "old-ca.pem"])));
    let id = cluster.register.process.id().to_string();
    succeeds({
        let mut kill = std::process::Command::new("kill");
        kill.args(["-HUP", &id]);
        kill
    });
    eventually("the renewed certificate is shown", || reaches(&trusted()).then_some(())).await;
    assert_eq!(push(&cluster, &url, &["--ca", "old-ca.pem"]).code, 69);
}

#[tokio::test]
async fn every_client_does_everything_over_tls_and_trusts_no_stranger() {
    let cluster = Cluster::start_tls().await;
    let mut rust = cargo_test(&cluster);
    rust.args(["--test", "cluster"]);
    let told = succeeds(rust);
    assert!(told.contains("a_server_of_an_unknown_authority_is_not_talked_to ... ok"), "{told}");
    if is_there("python3", "TIDEGATE_REQUIRE_PYTHON") {
        let mut python = cluster.command("python3", &sdk("python-client"));
        python.args(["-W", "error", "-m", "unittest", "discover", "-s", "tests", "-p", "test_cluster.py"]);
        python.env("PYTHONPATH", "src").env("PYTHONDONTWRITEBYTECODE", "1");
        let told = succeeds(python);
        assert!(told.contains("Ran ") && !told.contains("skipped"), "{told}");
    }
    if node::is_ready() {
        let script = r#"
            import { Tidegate } from "./dist/index.js";
            const { TIDEGATE_API: url, TIDEGATE_TOKEN: token } = process.env;
            const app = new Tidegate({ url, token, retries: 0 }).app("test");
            console.log("counted", (await app.count("all")).value);
        "#;
        let node = || {
            let mut node = cluster.command("node", &sdk("js-client"));
            node.args(["--input-type=module", "-e", script]);
            node
        };
        let mut trusting = node();
        trusting.env("NODE_EXTRA_CA_CERTS", cluster.folder.path().join("api-ca.pem"));
        assert!(succeeds(trusting).contains("counted "));
        let distrusting = node().output().unwrap();
        let told = String::from_utf8_lossy(&distrusting.stderr);
        assert!(!distrusting.status.success() && told.contains("certificate"), "{told}");
    }
}
