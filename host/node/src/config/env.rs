//! Environment variables: `TIDEGATE_<SECTION>_<KEY>` for every key of the sections, not of apps. Lists are separated
//! by commas. They are stronger than the file and weaker than flags.

use std::ffi::OsString;
use std::path::PathBuf;
use std::str::FromStr;

use super::ConfigError;
use super::file::{Admin, File};
use super::locate::closest;

/// Every variable with its meaning in `[section] key`.
pub const VARIABLES: [&str; 46] = [
    "TIDEGATE_NODE_NAME",
    "TIDEGATE_NODE_DATA_DIR",
    "TIDEGATE_NODE_ROLES",
    "TIDEGATE_NODE_SHARDS",
    "TIDEGATE_NODE_LOG",
    "TIDEGATE_NODE_STOP_WAIT_MS",
    "TIDEGATE_CLUSTER_NAME",
    "TIDEGATE_CLUSTER_REGISTERS",
    "TIDEGATE_CLUSTER_IDENTITY",
    "TIDEGATE_REGISTER_LISTEN",
    "TIDEGATE_GATEWAY_LISTEN",
    "TIDEGATE_GATEWAY_ADVERTISE",
    "TIDEGATE_GATEWAY_HANDSHAKE_MS",
    "TIDEGATE_GATEWAY_DECISION_MS",
    "TIDEGATE_GATEWAY_SLOT_WAIT_MS",
    "TIDEGATE_GATEWAY_LINGER_MS",
    "TIDEGATE_GATEWAY_UNROUTED_MAX",
    "TIDEGATE_GATEWAY_IO_URING",
    "TIDEGATE_GATEWAY_CLIENT_IDS",
    "TIDEGATE_WORKER_LABELS",
    "TIDEGATE_WORKER_INSTANCES",
    "TIDEGATE_WORKER_MEMORY_MIB",
    "TIDEGATE_WORKER_CREDIT_EVENTS",
    "TIDEGATE_WORKER_CREDIT_BYTES",
    "TIDEGATE_WORKER_COMMAND_QUEUE_BYTES_MAX",
    "TIDEGATE_WORKER_QUERY_WAIT_MS",
    "TIDEGATE_WORKER_STOP_WAIT_MS",
    "TIDEGATE_WORKER_SLEEP_STATE_MIB",
    "TIDEGATE_METRICS_LISTEN",
    "TIDEGATE_METRICS_APPS_MAX",
    "TIDEGATE_METRICS_HISTOGRAMS_MAX",
    "TIDEGATE_ADMIN_LISTEN",
    "TIDEGATE_ADMIN_HOSTS",
    "TIDEGATE_ADMIN_CERT",
    "TIDEGATE_ADMIN_KEY",
    "TIDEGATE_ADMIN_BODY_BYTES_MAX",
    "TIDEGATE_ADMIN_BATCH_MAX",
    "TIDEGATE_ADMIN_CONNECTIONS_MAX",
    "TIDEGATE_ADMIN_REQUESTS_MAX",
    "TIDEGATE_ADMIN_READ_WAIT_MS",
    "TIDEGATE_ADMIN_IDLE_WAIT_MS",
    "TIDEGATE_ADMIN_PUSH_WAIT_MS",
    "TIDEGATE_ADMIN_TOKEN_REQUESTS_PER_S",
    "TIDEGATE_ADMIN_FAILURES_PER_S",
    "TIDEGATE_ADMIN_KEY_KEEP_MS",
    "TIDEGATE_ADMIN_KEYS_MAX",
];

/// Overlays the file with these variables; those that are none of ours are passed over.
pub(super) fn overlay(
    file: &mut File,
    variables: impl IntoIterator<Item = (OsString, OsString)>,
) -> Result<(), ConfigError> {
    for (name, value) in variables {
        let Some(name) = name.to_str().filter(|name| is_ours(name)) else { continue };
        let wrong = |reason: String| ConfigError::Variable { name: name.to_owned(), reason };
        let text = value.to_str().ok_or_else(|| wrong("it is not UTF-8".into()))?;
        set(file, name, text).map_err(wrong)?;
    }
    Ok(())
}

fn is_ours(name: &str) -> bool {
    let of = |section: &str| {
        name.strip_prefix("TIDEGATE_")
            .and_then(|rest| rest.strip_prefix(section)?.strip_prefix('_'))
            .is_some()
    };
    ["NODE", "CLUSTER", "REGISTER", "GATEWAY", "WORKER", "METRICS", "ADMIN"].into_iter().any(of)
}

fn set(file: &mut File, name: &str, text: &str) -> Result<(), String> {
    let File {
        node,
        cluster,
        register,
        gateway,
        worker,
        metrics,
        admin,
        bridge: _,
        tenant: _,
        listener: _,
        app: _,
    } = file;
    match name {
        "TIDEGATE_NODE_NAME" => put(&mut node.name, text),
        "TIDEGATE_NODE_DATA_DIR" => path(&mut node.data_dir, text),
        "TIDEGATE_NODE_ROLES" => list(&mut node.roles, text),
        "TIDEGATE_NODE_SHARDS" => put(&mut node.shards, text),
        "TIDEGATE_NODE_LOG" => put(&mut node.log, text),
        "TIDEGATE_NODE_STOP_WAIT_MS" => put(&mut node.stop_wait_ms, text),
        "TIDEGATE_CLUSTER_NAME" => put(&mut cluster.name, text),
        "TIDEGATE_CLUSTER_REGISTERS" => list(&mut cluster.registers, text),
        "TIDEGATE_CLUSTER_IDENTITY" => path(&mut cluster.identity, text),
        "TIDEGATE_REGISTER_LISTEN" => put(&mut register.listen, text),
        "TIDEGATE_GATEWAY_LISTEN" => put(&mut gateway.listen, text),
        "TIDEGATE_GATEWAY_ADVERTISE" => put(&mut gateway.advertise, text),
        "TIDEGATE_GATEWAY_HANDSHAKE_MS" => put(&mut gateway.handshake_ms, text),
        "TIDEGATE_GATEWAY_DECISION_MS" => put(&mut gateway.decision_ms, text),
        "TIDEGATE_GATEWAY_SLOT_WAIT_MS" => put(&mut gateway.slot_wait_ms, text),
        "TIDEGATE_GATEWAY_LINGER_MS" => put(&mut gateway.linger_ms, text),
        "TIDEGATE_GATEWAY_UNROUTED_MAX" => put(&mut gateway.unrouted_max, text),
        "TIDEGATE_GATEWAY_IO_URING" => truth(&mut gateway.io_uring, text),
        "TIDEGATE_GATEWAY_CLIENT_IDS" => put(&mut gateway.client_ids, text),
        "TIDEGATE_WORKER_LABELS" => list(&mut worker.labels, text),
        "TIDEGATE_WORKER_INSTANCES" => put(&mut worker.instances, text),
        "TIDEGATE_WORKER_MEMORY_MIB" => put(&mut worker.memory_mib, text),
        "TIDEGATE_WORKER_CREDIT_EVENTS" => put(&mut worker.credit_events, text),
        "TIDEGATE_WORKER_CREDIT_BYTES" => put(&mut worker.credit_bytes, text),
        "TIDEGATE_WORKER_COMMAND_QUEUE_BYTES_MAX" => put(&mut worker.command_queue_bytes_max, text),
        "TIDEGATE_WORKER_QUERY_WAIT_MS" => put(&mut worker.query_wait_ms, text),
        "TIDEGATE_WORKER_STOP_WAIT_MS" => put(&mut worker.stop_wait_ms, text),
        "TIDEGATE_WORKER_SLEEP_STATE_MIB" => put(&mut worker.sleep_state_mib, text),
        "TIDEGATE_METRICS_LISTEN" => put(&mut metrics.listen, text),
        "TIDEGATE_METRICS_APPS_MAX" => put(&mut metrics.apps_max, text),
        "TIDEGATE_METRICS_HISTOGRAMS_MAX" => put(&mut metrics.histograms_max, text),
        _ => set_admin(admin, name, text),
    }
}

fn set_admin(admin: &mut Admin, name: &str, text: &str) -> Result<(), String> {
    match name {
        "TIDEGATE_ADMIN_LISTEN" => put(&mut admin.listen, text),
        "TIDEGATE_ADMIN_HOSTS" => list(&mut admin.hosts, text),
        "TIDEGATE_ADMIN_CERT" => path(&mut admin.cert, text),
        "TIDEGATE_ADMIN_KEY" => path(&mut admin.key, text),
        "TIDEGATE_ADMIN_BODY_BYTES_MAX" => put(&mut admin.body_bytes_max, text),
        "TIDEGATE_ADMIN_BATCH_MAX" => put(&mut admin.batch_max, text),
        "TIDEGATE_ADMIN_CONNECTIONS_MAX" => put(&mut admin.connections_max, text),
        "TIDEGATE_ADMIN_REQUESTS_MAX" => put(&mut admin.requests_max, text),
        "TIDEGATE_ADMIN_READ_WAIT_MS" => put(&mut admin.read_wait_ms, text),
        "TIDEGATE_ADMIN_IDLE_WAIT_MS" => put(&mut admin.idle_wait_ms, text),
        "TIDEGATE_ADMIN_PUSH_WAIT_MS" => put(&mut admin.push_wait_ms, text),
        "TIDEGATE_ADMIN_TOKEN_REQUESTS_PER_S" => put(&mut admin.token_requests_per_s, text),
        "TIDEGATE_ADMIN_FAILURES_PER_S" => put(&mut admin.failures_per_s, text),
        "TIDEGATE_ADMIN_KEY_KEEP_MS" => put(&mut admin.key_keep_ms, text),
        "TIDEGATE_ADMIN_KEYS_MAX" => put(&mut admin.keys_max, text),
        unknown => Err(match closest(unknown, &VARIABLES) {
            Some(close) => format!("there is no such setting; did you mean {close}?"),
            None => "there is no such setting; unset it, or write it into the settings file".into(),
        }),
    }
}

fn put<T: FromStr<Err = String>>(into: &mut Option<T>, text: &str) -> Result<(), String> {
    *into = Some(text.parse()?);
    Ok(())
}

fn truth(into: &mut Option<bool>, text: &str) -> Result<(), String> {
    *into = Some(text.parse().map_err(|_| format!("expected true or false, found {text:?}"))?);
    Ok(())
}

fn list<T: FromStr<Err: ToString>>(into: &mut Option<Vec<T>>, text: &str) -> Result<(), String> {
    let items = text.split(',').map(str::trim).filter(|item| !item.is_empty());
    *into = Some(items.map(str::parse).collect::<Result<_, T::Err>>().map_err(|error| error.to_string())?);
    Ok(())
}

/// Relative to the current folder.
fn path(into: &mut Option<PathBuf>, text: &str) -> Result<(), String> {
    *into = Some(std::path::absolute(text).map_err(|error| error.to_string())?);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A value of each variable, as text and in TOML, and another one in TOML.
    const SAMPLES: [(&str, &str, &str, &str); VARIABLES.len()] = [
        ("TIDEGATE_NODE_NAME", "n-2", "\"n-2\"", "\"n-1\""),
        ("TIDEGATE_NODE_DATA_DIR", "/d/2", "\"/d/2\"", "\"/d/1\""),
        ("TIDEGATE_NODE_ROLES", "gateway, worker", "[\"gateway\", \"worker\"]", "[\"register\"]"),
        ("TIDEGATE_NODE_SHARDS", "2", "2", "1"),
        ("TIDEGATE_NODE_LOG", "debug", "\"debug\"", "\"info\""),
        ("TIDEGATE_NODE_STOP_WAIT_MS", "2", "2", "1"),
        ("TIDEGATE_CLUSTER_NAME", "c-2", "\"c-2\"", "\"c-1\""),
        ("TIDEGATE_CLUSTER_REGISTERS", "10.0.0.1:1,10.0.0.2:2", "[\"10.0.0.1:1\", \"10.0.0.2:2\"]", "[]"),
        ("TIDEGATE_CLUSTER_IDENTITY", "/i/2", "\"/i/2\"", "\"/i/1\""),
        ("TIDEGATE_REGISTER_LISTEN", "10.0.0.1:2", "\"10.0.0.1:2\"", "\"10.0.0.1:1\""),
        ("TIDEGATE_GATEWAY_LISTEN", "10.0.0.1:2", "\"10.0.0.1:2\"", "\"10.0.0.1:1\""),
        ("TIDEGATE_GATEWAY_ADVERTISE", "10.0.0.1:2", "\"10.0.0.1:2\"", "\"10.0.0.1:1\""),
        ("TIDEGATE_GATEWAY_HANDSHAKE_MS", "2", "2", "1"),
        ("TIDEGATE_GATEWAY_DECISION_MS", "2", "2", "1"),
        ("TIDEGATE_GATEWAY_SLOT_WAIT_MS", "2", "2", "1"),
        ("TIDEGATE_GATEWAY_LINGER_MS", "2", "2", "1"),
        ("TIDEGATE_GATEWAY_UNROUTED_MAX", "2", "2", "1"),
        ("TIDEGATE_GATEWAY_IO_URING", "false", "false", "true"),
        ("TIDEGATE_GATEWAY_CLIENT_IDS", "127.0.0.0/8:2900", "\"127.0.0.0/8:2900\"", "\"10.77.0.0/16:1\""),
        ("TIDEGATE_WORKER_LABELS", "a, b", "[\"a\", \"b\"]", "[\"c\"]"),
        ("TIDEGATE_WORKER_INSTANCES", "2", "2", "1"),
        ("TIDEGATE_WORKER_MEMORY_MIB", "2", "2", "1"),
        ("TIDEGATE_WORKER_CREDIT_EVENTS", "2", "2", "1"),
        ("TIDEGATE_WORKER_CREDIT_BYTES", "2048", "2048", "1024"),
        ("TIDEGATE_WORKER_COMMAND_QUEUE_BYTES_MAX", "2", "2", "1"),
        ("TIDEGATE_WORKER_QUERY_WAIT_MS", "2", "2", "1"),
        ("TIDEGATE_WORKER_STOP_WAIT_MS", "2", "2", "1"),
        ("TIDEGATE_WORKER_SLEEP_STATE_MIB", "2", "2", "1"),
        ("TIDEGATE_METRICS_LISTEN", "127.0.0.1:2", "\"127.0.0.1:2\"", "\"127.0.0.1:1\""),
        ("TIDEGATE_METRICS_APPS_MAX", "2", "2", "1"),
        ("TIDEGATE_METRICS_HISTOGRAMS_MAX", "2", "2", "1"),
        ("TIDEGATE_ADMIN_LISTEN", "10.0.0.1:2", "\"10.0.0.1:2\"", "\"10.0.0.1:1\""),
        ("TIDEGATE_ADMIN_HOSTS", "a.example, b.example", "[\"a.example\", \"b.example\"]", "[]"),
        ("TIDEGATE_ADMIN_CERT", "/c/2", "\"/c/2\"", "\"/c/1\""),
        ("TIDEGATE_ADMIN_KEY", "/k/2", "\"/k/2\"", "\"/k/1\""),
        ("TIDEGATE_ADMIN_BODY_BYTES_MAX", "512", "512", "256"),
        ("TIDEGATE_ADMIN_BATCH_MAX", "2", "2", "1"),
        ("TIDEGATE_ADMIN_CONNECTIONS_MAX", "2", "2", "1"),
        ("TIDEGATE_ADMIN_REQUESTS_MAX", "2", "2", "1"),
        ("TIDEGATE_ADMIN_READ_WAIT_MS", "2", "2", "1"),
        ("TIDEGATE_ADMIN_IDLE_WAIT_MS", "2", "2", "1"),
        ("TIDEGATE_ADMIN_PUSH_WAIT_MS", "2", "2", "1"),
        ("TIDEGATE_ADMIN_TOKEN_REQUESTS_PER_S", "2", "2", "1"),
        ("TIDEGATE_ADMIN_FAILURES_PER_S", "2", "2", "1"),
        ("TIDEGATE_ADMIN_KEY_KEEP_MS", "2", "2", "1"),
        ("TIDEGATE_ADMIN_KEYS_MAX", "2", "2", "1"),
    ];

    fn toml(variable: &str, value: &str) -> File {
        let name = variable.strip_prefix("TIDEGATE_").unwrap().to_lowercase();
        let (section, key) = name.split_once('_').unwrap();
        toml::from_str(&format!("[{section}]\n{key} = {value}\n")).unwrap()
    }

    fn with(mut file: File, name: &str, value: &str) -> Result<File, ConfigError> {
        overlay(&mut file, [(name.into(), value.into())]).map(|()| file)
    }

    #[test]
    fn each_variable_sets_its_field_over_that_of_the_file_and_no_other() {
        for (index, (name, text, same, other)) in SAMPLES.into_iter().enumerate() {
            assert_eq!(VARIABLES[index], name);
            let expected = format!("{:?}", toml(name, same));
            assert_eq!(format!("{:?}", with(File::default(), name, text).unwrap()), expected, "{name}");
            assert_eq!(format!("{:?}", with(toml(name, other), name, text).unwrap()), expected, "{name}");
        }
    }

    #[test]
    fn a_wrong_value_and_an_unknown_name_are_refused_with_the_variable() {
        let error = with(File::default(), "TIDEGATE_NODE_SHARDS", "many").unwrap_err().to_string();
        assert!(error.contains("TIDEGATE_NODE_SHARDS") && error.contains("1 to 1024"), "{error}");
        let error = with(File::default(), "TIDEGATE_NODE_SHARD", "1").unwrap_err().to_string();
        assert!(error.contains("did you mean TIDEGATE_NODE_SHARDS?"), "{error}");
    }

    #[test]
    fn variables_of_others_are_passed_over() {
        for name in ["PATH", "TIDEGATE_GUEST_TOOLCHAIN", "TIDEGATE_NODES", "NODE_NAME"] {
            let file = with(File::default(), name, "x").unwrap();
            assert_eq!(format!("{file:?}"), format!("{:?}", File::default()));
        }
    }
}
