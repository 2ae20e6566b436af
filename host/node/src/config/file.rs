//! The shape of the settings file. Everything is optional: what is missing comes from the next weaker source, and in
//! the end from the defaults.

use std::path::PathBuf;

use serde::Deserialize;
use tidegate_base::limits;
use toml::Spanned;

use super::values::{
    Address, AllowedOrigins, AppRoute, BridgeDoors, Bytes, Failing, Label, Listen, Log, Millis, NodeRole,
    Plugin, SettingValue, Settings, Share, Slow, Within,
};

/// The whole file.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct File {
    pub node: Node,
    pub cluster: Cluster,
    pub register: Register,
    pub gateway: Gateway,
    pub worker: Worker,
    pub metrics: Metrics,
    pub admin: Admin,
    pub bridge: Vec<Spanned<Bridge>>,
    pub tenant: Vec<Spanned<Tenant>>,
    pub listener: Vec<Spanned<Listener>>,
    pub app: Vec<Spanned<App>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Tenant {
    pub name: Option<Label>,
    pub apps_max: Option<QuotaMax>,
    pub slots_max: Option<QuotaMax>,
    pub memory_mib_max: Option<QuotaMax>,
    pub connections_max: Option<QuotaMax>,
    pub cpu_share: Option<Share>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Node {
    pub name: Option<Label>,
    pub data_dir: Option<PathBuf>,
    pub roles: Option<Vec<NodeRole>>,
    pub shards: Option<Shards>,
    pub log: Option<Log>,
    pub stop_wait_ms: Option<Millis>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Cluster {
    pub name: Option<Label>,
    pub registers: Option<Vec<Address>>,
    pub identity: Option<PathBuf>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Register {
    pub listen: Option<Address>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Gateway {
    pub listen: Option<Address>,
    pub advertise: Option<Address>,
    pub handshake_ms: Option<Millis>,
    pub decision_ms: Option<Millis>,
    pub slot_wait_ms: Option<Millis>,
    pub linger_ms: Option<Millis>,
    pub unrouted_max: Option<Within<1, 1_000_000>>,
    pub io_uring: Option<bool>,
    pub client_ids: Option<BridgeDoors>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Metrics {
    pub listen: Option<Address>,
    pub apps_max: Option<Within<0, 100_000>>,
    pub histograms_max: Option<Within<0, 100_000>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Admin {
    pub listen: Option<Address>,
    pub hosts: Option<Vec<String>>,
    pub cert: Option<PathBuf>,
    pub key: Option<PathBuf>,
    pub body_bytes_max: Option<Within<256, { 64 * 1024 * 1024 }>>,
    pub batch_max: Option<Within<1, 10_000>>,
    pub connections_max: Option<Within<1, 100_000>>,
    pub requests_max: Option<Within<1, 100_000>>,
    pub read_wait_ms: Option<Millis>,
    pub idle_wait_ms: Option<Millis>,
    pub push_wait_ms: Option<Millis>,
    pub token_requests_per_s: Option<PerSecond>,
    pub failures_per_s: Option<PerSecond>,
    pub key_keep_ms: Option<Millis>,
    pub keys_max: Option<Within<0, 1_000_000>>,
}

impl Admin {
    /// Nothing is set.
    pub fn is_empty(&self) -> bool {
        let Self {
            listen,
            hosts,
            cert,
            key,
            body_bytes_max,
            batch_max,
            connections_max,
            requests_max,
            read_wait_ms,
            idle_wait_ms,
            push_wait_ms,
            token_requests_per_s,
            failures_per_s,
            key_keep_ms,
            keys_max,
        } = self;
        listen.is_none()
            && hosts.is_none()
            && cert.is_none()
            && key.is_none()
            && body_bytes_max.is_none()
            && batch_max.is_none()
            && connections_max.is_none()
            && requests_max.is_none()
            && read_wait_ms.is_none()
            && idle_wait_ms.is_none()
            && push_wait_ms.is_none()
            && token_requests_per_s.is_none()
            && failures_per_s.is_none()
            && key_keep_ms.is_none()
            && keys_max.is_none()
    }
}

/// What PHP's GatewayClient speaks to.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Bridge {
    pub app: Option<String>,
    pub register: Option<Address>,
    pub gateway: Option<BridgeDoors>,
    pub secret: Option<SettingValue>,
    pub connections_max: Option<Within<1, 100_000>>,
    pub frame_bytes_max: Option<Within<4096, { 32 * 1024 * 1024 }>>,
    pub requests_max: Option<Within<1, 100_000>>,
    pub idle_wait_ms: Option<Millis>,
}

/// A port that apps share by their routes.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Listener {
    pub address: Option<Listen>,
    pub origins: Option<AllowedOrigins>,
    pub heartbeat: Option<Heartbeat>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Worker {
    pub labels: Option<Vec<Label>>,
    pub instances: Option<Instances>,
    pub memory_mib: Option<MemoryMib>,
    pub credit_events: Option<CreditEvents>,
    pub credit_bytes: Option<CreditBytes>,
    pub command_queue_bytes_max: Option<Bytes>,
    pub query_wait_ms: Option<Millis>,
    pub stop_wait_ms: Option<Millis>,
    pub sleep_state_mib: Option<SleepStateMib>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct App {
    pub name: Option<Label>,
    pub tenant: Option<Label>,
    pub plugin: Option<Plugin>,
    pub slots: Option<Instances>,
    pub min_slots: Option<Spanned<Within<0, 100_000>>>,
    pub slot_idle_ms: Option<Within<100, 86_400_000>>,
    pub require: Option<Vec<Label>>,
    pub listen: Option<Vec<Listen>>,
    pub routes: Option<Vec<AppRoute>>,
    pub web: Option<PathBuf>,
    pub origins: Option<AllowedOrigins>,
    pub heartbeat: Option<Heartbeat>,
    pub slow_policy: Option<Slow>,
    pub connections_max: Option<Within<1, 100_000_000>>,
    pub client_events_max: Option<Within<1, 1_000_000>>,
    pub client_messages_per_s: Option<PerSecond>,
    pub client_bytes_per_s: Option<PerSecond>,
    pub messages_per_s: Option<PerSecond>,
    pub bytes_per_s: Option<PerSecond>,
    pub connects_per_s: Option<PerSecond>,
    pub client_out_messages_per_s: Option<PerSecond>,
    pub client_out_bytes_per_s: Option<PerSecond>,
    pub out_messages_per_s: Option<PerSecond>,
    pub out_bytes_per_s: Option<PerSecond>,
    pub payload_bytes_max: Option<PayloadBytes>,
    pub out_bytes_max: Option<Bytes>,
    pub session_bytes_max: Option<Within<2, { 16 * 1024 * 1024 }>>,
    pub groups_per_client_max: Option<Within<0, 1_000_000>>,
    pub memory_mib: Option<MemoryMib>,
    pub turn_cpu_ms: Option<Millis>,
    pub turn_wall_ms: Option<Millis>,
    pub cpu_share: Option<Share>,
    pub turn_output_bytes_max: Option<Bytes>,
    pub commands_per_turn_max: Option<Within<1, 10_000_000>>,
    pub timers_max: Option<Within<0, 1_000_000>>,
    pub state_bytes_max: Option<Within<0, { 1024 * 1024 * 1024 }>>,
    pub module_bytes_max: Option<Within<1, { limits::MODULE_BYTES_MAX }>>,
    pub keys_bytes_max: Option<Within<1, { 1 << 40 }>>,
    pub log_lines_per_s: Option<Within<1, 1_000_000>>,
    pub on_failure: Option<Failing>,
    pub settings: Settings,
    pub grants: tidegate_base::Grants,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Heartbeat {
    pub interval_ms: Within<0, 86_400_000>,
    #[serde(default)]
    pub misses_max: Option<Within<0, 255>>,
    #[serde(default)]
    pub payload: Option<String>,
}

pub(super) type QuotaMax = Within<0, 1_000_000_000_000>;
/// 0: no limit.
pub(super) type PerSecond = Within<0, 1_000_000_000_000>;
pub(super) type Shards = Within<1, 1024>;
pub(super) type Instances = Within<1, 100_000>;
pub(super) type MemoryMib = Within<1, 4096>;
pub(super) type SleepStateMib = Within<0, 65_536>;
pub(super) type CreditEvents = Within<1, 1_000_000>;
pub(super) type CreditBytes = Within<1024, 0x4000_0000>;
/// A frame on a lane must take it, with room for an audience.
pub(super) type PayloadBytes = Within<1, { 32 * 1024 * 1024 }>;
