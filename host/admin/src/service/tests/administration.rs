//! Apps and tenants that are made at run time, nodes and status.

use axum::http::request::Builder;

use super::conforms::conforms;
use super::*;

fn with(token: &str, method: &str, path: &str) -> Builder {
    let request = axum::http::Request::builder().method(method).uri(path);
    let request = request.header(header::HOST, "localhost:7480");
    request.header(header::AUTHORIZATION, format!("Bearer {token}"))
}

impl Server {
    async fn says(&self, token: &str, method: &str, path: &str, body: &str) -> (u16, Value) {
        let request = with(token, method, path).body(Body::from(body.to_owned())).unwrap();
        let response = self.router.clone().oneshot(request).await.unwrap();
        let status = response.status().as_u16();
        let body = axum::body::to_bytes(response.into_body(), 1 << 20).await.unwrap();
        (status, serde_json::from_slice(&body).unwrap())
    }

    fn last_order(&self) -> String {
        self.fake.played.orders.lock().pop().unwrap_or_default()
    }
}

const APP: &str = "/v1/apps/acme/new";
const TENANT: &str = "/v1/tenants/acme";

#[tokio::test]
async fn an_admin_makes_changes_suspends_and_removes_apps_of_its_tenant() {
    let server = server();
    let suspend = format!("{APP}/suspend");
    let resume = format!("{APP}/resume");
    for (method, path, body, status, order) in [
        ("POST", APP, r#"{"slots":2,"settings":{"k":{"secret":"hunter2"}}}"#, 201, "slots: Some(2)"),
        ("POST", APP, "", 201, "create an app by token admin"),
        ("PUT", APP, r#"{"slots":3}"#, 200, "configure an app by token admin"),
        ("POST", &*suspend, "", 200, "suspend an app"),
        ("POST", &*resume, "", 200, "resume an app"),
        ("DELETE", APP, "", 200, "delete an app"),
    ] {
        let (said, effect) = server.says("admin", method, path, body).await;
        assert_eq!(said, status, "{method} {path}: {effect}");
        conforms("Effect", &effect);
        let given = server.last_order();
        assert!(given.contains(order) && !given.contains("hunter2"), "{given}");
    }
    for (token, path, body, status, name) in [
        ("deploy", APP, "{}", 403, "forbidden"),
        ("push", APP, "{}", 403, "forbidden"),
        ("admin", "/v1/apps/globex/new", "{}", 403, "forbidden"),
        ("admin", APP, r#"{"slot":1}"#, 400, "bad-body"),
        ("admin", APP, "", 400, "bad-body"),
        ("admin", "/v1/apps/acme/fixed", "{}", 409, "fixed"),
    ] {
        let (said, problem) = server.says(token, "PUT", path, body).await;
        assert_eq!((said, kind(&problem)), (status, name), "{path} {body}: {problem}");
    }
    assert_eq!(server.says("operator", "POST", "/v1/apps/globex/new", "").await.0, 201);
}

#[tokio::test]
async fn operators_give_orders_about_tenants_and_an_admin_only_looks_at_its_own() {
    let server = server();
    let quotas = r#"{"slots_max":4,"cpu_share_millis":null}"#;
    let suspend = format!("{TENANT}/suspend");
    let resume = format!("{TENANT}/resume");
    for (method, path, body, status, order) in [
        ("POST", TENANT, quotas, 201, "slots_max: Some(4)"),
        ("PATCH", TENANT, quotas, 200, "(CpuShare, None)"),
        ("POST", &*suspend, "", 200, "suspend a tenant by token admin"),
        ("POST", &*resume, "", 200, "resume a tenant"),
        ("DELETE", TENANT, "", 200, "delete a tenant"),
    ] {
        let (said, problem) = server.says("admin", method, path, body).await;
        assert_eq!((said, kind(&problem)), (403, "forbidden"), "{method} {path}");
        assert!(problem["detail"].as_str().unwrap().contains("create '*' --role admin"), "{problem}");
        let (said, effect) = server.says("operator", method, path, body).await;
        assert_eq!(said, status, "{method} {path}: {effect}");
        conforms("Effect", &effect);
        let given = server.last_order();
        assert!(given.contains(order), "{given}");
    }
    for (body, status) in [
        ("{}", 422),
        (r#"{"slots":1}"#, 400),
        (r#"{"slots_max":-1}"#, 400),
        (r#"{"cpu_share_millis":1}"#, 422),
        ("[]", 400),
    ] {
        assert_eq!(server.says("operator", "PATCH", TENANT, body).await.0, status, "{body}");
    }
    let count = async |token| {
        let (_, tenants) = server.says(token, "GET", "/v1/tenants", "").await;
        conforms("Tenants", &tenants);
        tenants["tenants"].as_array().unwrap().len()
    };
    assert_eq!((count("admin").await, count("operator").await), (1, 2));
    let (status, tenant) = server.says("admin", "GET", TENANT, "").await;
    conforms("Tenant", &tenant);
    assert_eq!((status, &tenant["quotas"]), (200, &json!({"slots_max": 4})));
    assert_eq!(server.says("admin", "GET", "/v1/tenants/globex", "").await.0, 403);
    let (status, problem) = server.says("operator", "GET", "/v1/tenants/none", "").await;
    assert_eq!((status, kind(&problem)), (404, "no-such-tenant"));
    assert_eq!(server.says("deploy", "GET", "/v1/tenants", "").await.0, 403);
}

#[tokio::test]
async fn hosts_that_tenants_share_are_given_by_operators_and_kept_by_admins() {
    let server = server();
    for (token, method, path, routes, status) in [
        ("admin", "POST", APP, r#"["shop.example.com/login"]"#, 403),
        ("admin", "PUT", "/v1/apps/acme/chat", r#"["chat.example.com", "*"]"#, 403),
        ("admin", "PUT", "/v1/apps/acme/chat", r#"["chat.example.com"]"#, 200),
        ("admin", "PUT", "/v1/apps/acme/chat", "[]", 200),
        ("operator", "PUT", "/v1/apps/acme/chat", r#"["*"]"#, 200),
    ] {
        let body = format!(r#"{{"routes": {routes}}}"#);
        let (said, answer) = server.says(token, method, path, &body).await;
        assert_eq!(said, status, "{token} {routes}: {answer}");
        if status == 403 {
            let detail = answer["detail"].as_str().unwrap();
            assert!(kind(&answer) == "forbidden" && detail.contains("operators"), "{detail}");
            assert_eq!(server.last_order(), "");
        }
    }
}

#[tokio::test]
async fn nodes_and_status_are_told_to_admins_without_the_apps_of_others() {
    let server = server();
    let (status, nodes) = server.says("admin", "GET", "/v1/nodes", "").await;
    conforms("Nodes", &nodes);
    assert_eq!((status, &nodes["nodes"][0]["gateway"]), (200, &json!("000000000001")));
    assert_eq!(nodes["nodes"][0].get("address"), None);
    let (_, nodes) = server.says("operator", "GET", "/v1/nodes", "").await;
    conforms("Nodes", &nodes);
    assert_eq!(nodes["nodes"][0]["address"], "127.0.0.1:1");
    let (_, status) = server.says("admin", "GET", "/v1/status", "").await;
    conforms("Status", &status);
    assert_eq!(status["apps"], json!([{"app": "acme/chat", "clients": 3}]));
    let (_, status) = server.says("operator", "GET", "/v1/status", "").await;
    assert_eq!(status["apps"].as_array().unwrap().len(), 2);
    for path in ["/v1/nodes", "/v1/status"] {
        assert_eq!(server.says("deploy", "GET", path, "").await.0, 403, "{path}");
    }
}

#[tokio::test]
async fn an_admin_sees_the_connections_of_an_app_and_nobody_else_does() {
    let server = server();
    let path = "/v1/apps/acme/chat/connections";
    let (status, found) = server.says("admin", "GET", path, "").await;
    conforms("Connections", &found);
    assert_eq!((status, &found["total"], &found["connections"][0]["uid"]), (200, &json!(7), &json!("ann")));
    assert_eq!(found["missing"][0]["reason"], "it hangs");
    assert_eq!(server.last_order(), "connections acme/chat None None 1000");
    let narrow = format!("{path}?limit=3&uid=ann%20b&client=0000000000010000002a");
    assert_eq!(server.says("admin", "GET", &narrow, "").await.0, 200);
    let asked = server.last_order();
    assert!(asked.contains("0000000000010000002a") && asked.ends_with("Some(\"ann b\") 3"), "{asked}");
    for (token, path, status, name) in [
        ("deploy", path, 403, "forbidden"),
        ("push", path, 403, "forbidden"),
        ("admin", "/v1/apps/globex/secret/connections", 403, "forbidden"),
        ("admin", "/v1/apps/acme/none/connections", 404, "no-such-app"),
        ("admin", &*format!("{path}?limit=10001"), 422, "invalid"),
        ("admin", &*format!("{path}?client=x"), 422, "invalid"),
    ] {
        let (said, problem) = server.says(token, "GET", path, "").await;
        assert_eq!((said, kind(&problem)), (status, name), "{path}: {problem}");
    }
}

#[tokio::test]
async fn who_may_deploy_an_app_reads_its_log_and_goes_on_where_it_was() {
    let server = server();
    let path = "/v1/apps/acme/chat/logs";
    let (status, logs) = server.says("deploy", "GET", path, "").await;
    conforms("Logs", &logs);
    assert_eq!((status, &logs["lines"][0]["text"], &logs["missed"]), (200, &json!("careful"), &json!(1)));
    assert_eq!(server.last_order(), "logs acme/chat Trace 100 ");
    let next = logs["next"].as_str().unwrap();
    let behind = format!("{path}?after={next}&level=warn&limit=7");
    assert_eq!(server.says("deploy", "GET", &behind, "").await.0, 200);
    assert_eq!(server.last_order(), format!("logs acme/chat Warn 7 {next}"));
    for (token, path, status, name) in [
        ("push", path, 403, "forbidden"),
        ("deploy", "/v1/apps/globex/secret/logs", 403, "forbidden"),
        ("deploy", "/v1/apps/acme/none/logs", 404, "no-such-app"),
        ("deploy", &*format!("{path}?after=x"), 422, "invalid"),
        ("deploy", &*format!("{path}?level=loud"), 422, "invalid"),
        ("deploy", &*format!("{path}?limit=0"), 422, "invalid"),
    ] {
        let (said, problem) = server.says(token, "GET", path, "").await;
        assert_eq!((said, kind(&problem)), (status, name), "{path}: {problem}");
    }
}
