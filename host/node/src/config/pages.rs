//! The pages that tell the limits of an app and their defaults say what the code does.

use std::collections::BTreeMap;

use tidegate_base::{AppName, Rate};
use tidegate_bridge::BridgeSettings;
use tidegate_gateway::settings::SlowPolicy;
use tidegate_worker::OnFailure;

use super::AppConfig;

const PAGES: [&str; 2] = ["limits.md", "sandbox.md"];

/// Every limit of an app, as the pages write its default.
fn defaults() -> BTreeMap<&'static str, String> {
    let app = AppConfig::new(AppName::new("chat").unwrap());
    // Whoever adds a limit is told here that the pages want it.
    let AppConfig { slots, min_slots, limits, instance, cpu_share, log_lines_per_s, on_failure, .. } = &app;
    let per_s = |rate: Option<Rate>| rate.map(Rate::units);
    let count = |count: u64| count_of(count);
    let bytes = |bytes: usize| bytes_of(bytes as u64);
    BTreeMap::from([
        ("slots", count(u64::from(*slots))),
        ("min_slots", min_slots.map_or("all of them".into(), |min| count(min.into()))),
        ("slot_idle_ms", count(app.slot_idle.as_millis() as u64)),
        ("memory_mib", count(u64::from(instance.memory_mib))),
        ("turn_cpu_ms", count(instance.turn_cpu_ms)),
        ("turn_wall_ms", count(instance.turn_wall_ms)),
        ("cpu_share", (f64::from(cpu_share.millis()) / 1000.0).to_string()),
        ("turn_output_bytes_max", bytes(app.turn_output_bytes_max)),
        ("commands_per_turn_max", count(app.commands_per_turn_max as u64)),
        ("payload_bytes_max", bytes(limits.payload_bytes_max)),
        ("timers_max", count(app.timers_max as u64)),
        ("state_bytes_max", bytes(app.state_bytes_max)),
        ("module_bytes_max", bytes_of(app.module_bytes_max)),
        ("keys_bytes_max", bytes_of(app.keys_bytes_max)),
        ("log_lines_per_s", count(u64::from(*log_lines_per_s))),
        ("on_failure", failing(*on_failure).to_owned()),
        ("connections_max", count(limits.connections_max as u64)),
        ("connects_per_s", per_s(limits.rates.connects).map_or("none".into(), count)),
        ("client_messages_per_s", per_s(limits.rates.client_messages).map_or("none".into(), count)),
        ("client_bytes_per_s", per_s(limits.rates.client_bytes).map_or("none".into(), bytes_of)),
        ("messages_per_s", per_s(limits.rates.messages).map_or("none".into(), count)),
        ("bytes_per_s", per_s(limits.rates.bytes).map_or("none".into(), bytes_of)),
        ("client_out_messages_per_s", per_s(limits.rates.client_out_messages).map_or("none".into(), count)),
        ("client_out_bytes_per_s", per_s(limits.rates.client_out_bytes).map_or("none".into(), bytes_of)),
        ("out_messages_per_s", per_s(limits.rates.out_messages).map_or("none".into(), count)),
        ("out_bytes_per_s", per_s(limits.rates.out_bytes).map_or("none".into(), bytes_of)),
        ("client_events_max", count(u64::from(limits.client_events_max))),
        ("out_bytes_max", bytes(limits.out_bytes_max)),
        ("slow_policy", slow(limits.slow_policy).to_owned()),
        ("session_bytes_max", bytes(limits.session_bytes_max)),
        ("groups_per_client_max", count(limits.groups_per_client_max as u64)),
    ])
}

fn failing(on_failure: OnFailure) -> &'static str {
    match on_failure {
        OnFailure::Restart => "`restart`",
        OnFailure::Suspend => "`suspend`",
    }
}

fn slow(policy: SlowPolicy) -> &'static str {
    match policy {
        SlowPolicy::Disconnect => "`disconnect`",
        SlowPolicy::DropNewest => "`drop-newest`",
        SlowPolicy::DropOldest => "`drop-oldest`",
    }
}

fn bytes_of(bytes: u64) -> String {
    match bytes {
        n if n >= 1 << 20 && n.is_multiple_of(1 << 20) => format!("{} MiB", count_of(n >> 20)),
        n if n >= 1 << 10 && n.is_multiple_of(1 << 10) => format!("{} KiB", count_of(n >> 10)),
        n => count_of(n),
    }
}

/// With a comma between thousands.
fn count_of(count: u64) -> String {
    let digits = count.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// The keys of a page's tables with what stands beside them.
fn told(page: &str) -> BTreeMap<String, String> {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/guide").join(page);
    let text = std::fs::read_to_string(path).unwrap();
    let mut told = BTreeMap::new();
    for row in text.lines().filter(|line| line.starts_with("| `")) {
        let mut cells = row.split('|').skip(1).map(str::trim);
        let (Some(keys), Some(default)) = (cells.next(), cells.next()) else { continue };
        for key in keys.split(',').map(|key| key.trim().trim_matches('`')) {
            told.insert(key.to_owned(), default.to_owned());
        }
    }
    told
}

#[test]
fn both_pages_tell_every_limit_of_an_app_with_its_default() {
    for page in PAGES {
        let told = told(page);
        for (key, default) in defaults() {
            assert_eq!(told.get(key), Some(&default), "{page}: {key}");
        }
    }
}

#[test]
fn the_limits_of_a_bridge_are_told_with_their_defaults() {
    let app = AppName::new("chat").unwrap();
    let at = "127.0.0.1:1238".parse().unwrap();
    let gateway = "127.0.0.0/8:2900".parse().unwrap();
    let BridgeSettings {
        app: _,
        register: _,
        gateway: _,
        secret: _,
        connections_max,
        frame_bytes_max,
        requests_max,
        idle_wait,
    } = BridgeSettings::new(app, at, gateway, tidegate_base::Secret::new("key"));
    let told = told("limits.md");
    for (key, default) in [
        ("bridge.connections_max", count_of(connections_max as u64)),
        ("bridge.frame_bytes_max", bytes_of(frame_bytes_max as u64)),
        ("bridge.requests_max", count_of(requests_max as u64)),
        ("bridge.idle_wait_ms", count_of(idle_wait.as_millis() as u64)),
    ] {
        assert_eq!(told.get(key), Some(&default), "limits.md: {key}");
    }
}

#[test]
fn the_short_page_tells_no_limit_that_there_is_not() {
    let known = defaults();
    for key in told("sandbox.md").keys() {
        assert!(known.contains_key(key.as_str()), "sandbox.md tells of {key}");
    }
}

#[test]
fn numbers_are_written_for_people() {
    assert_eq!(
        (count_of(0), count_of(999), count_of(1_000_000)),
        ("0".into(), "999".into(), "1,000,000".into())
    );
    assert_eq!(
        (bytes_of(1 << 20), bytes_of(65_536), bytes_of(1000)),
        ("1 MiB".into(), "64 KiB".into(), "1,000".into())
    );
}
