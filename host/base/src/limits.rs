//! Limits that both ends of a link rely on, and the defaults of those that settings can change.

/// Longest uid, group or timer key, in bytes. The shortest has one.
pub const NAME_BYTES_MAX: usize = 255;
/// Most entries in one audience or exclusion list.
pub const AUDIENCE_ENTRIES_MAX: usize = 65_536;
/// Longest WebSocket close reason, in bytes (RFC 6455: a control frame has at most 125, two are the code).
pub const CLOSE_REASON_BYTES_MAX: usize = 123;
/// Longest log line, in bytes; the rest is cut.
pub const LOG_LINE_BYTES_MAX: usize = 16 * 1024;
/// Longest reason of a failed turn, in bytes; the rest is cut.
pub const FAIL_REASON_BYTES_MAX: usize = 4 * 1024;
/// Deepest session object, in levels: merging is recursive.
pub const SESSION_DEPTH_MAX: usize = 32;

/// Most entries of an app's settings.
pub const SETTINGS_MAX: usize = 256;
/// Bytes of all keys and values of an app's settings together; one secret that is read from a file has at most so many.
pub const SETTINGS_BYTES_MAX: usize = 16 * 1024;
/// Most routes of an app.
pub const ROUTES_MAX: usize = 64;
/// Longest route, in bytes.
pub const ROUTE_BYTES_MAX: usize = 512;
/// Most origins that an app may name.
pub const ORIGINS_MAX: usize = 64;
/// Longest origin, in bytes.
pub const ORIGIN_BYTES_MAX: usize = 300;
/// What silent clients are asked with, in bytes at most.
pub const HEARTBEAT_BYTES_MAX: usize = 1024;
/// Most labels that an app may require of a worker, and that a worker may have.
pub const LABELS_MAX: usize = 32;

/// Longest key of a bucket, in bytes. The shortest has one.
pub const KEY_BYTES_MAX: usize = 512;
/// Largest value of a key, in bytes.
pub const KEY_VALUE_BYTES_MAX: usize = 1024 * 1024;
/// Most keys that one call may name.
pub const KEY_BATCH_MAX: usize = 1000;
/// Most bytes of keys and values that one call may set.
pub const KEY_BATCH_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Most bytes of values that one call answers.
pub const KEY_ANSWER_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Most buckets of an app.
pub const BUCKETS_MAX: usize = 64;
/// Longest name of a bucket, in bytes.
pub const BUCKET_BYTES_MAX: usize = 63;
/// Default of the bytes that an app's keys and values may have together.
pub const KEYS_BYTES_MAX: u64 = 256 * 1024 * 1024;

/// Default of an app's slots on each worker.
pub const SLOTS: u32 = 1;
/// Default of how long a slot that may sleep serves nobody before it does, in milliseconds.
pub const SLOT_IDLE_MS: u64 = 60_000;
/// Default of the bytes that the states of a worker's sleeping slots may take together.
pub const SLEEP_STATE_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Default of an instance's memory, in MiB.
pub const MEMORY_MIB: u32 = 64;
/// Default of the most client connections of an app on one gateway.
pub const CONNECTIONS_MAX: usize = 1_000_000;
/// Default of the largest payload of one message, in bytes, in both directions.
pub const PAYLOAD_BYTES_MAX: usize = 1024 * 1024;
/// Default of the most bytes of commands that one turn may ask for.
pub const TURN_OUTPUT_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Default of the most commands and timers that one turn may ask for.
pub const COMMANDS_PER_TURN_MAX: usize = 10_000;
/// Default of the largest session, in bytes of JSON.
pub const SESSION_BYTES_MAX: usize = 64 * 1024;
/// Default of the most groups that one client may be in.
pub const GROUPS_PER_CLIENT_MAX: usize = 1024;
/// Default of the most timers of one slot.
pub const TIMERS_MAX: usize = 1024;
/// Default of the most bytes of state that an instance hands over in a swap.
pub const STATE_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Default of the most bytes of an app's component, and the most that anybody may set.
pub const MODULE_BYTES_MAX: u64 = 32 * 1024 * 1024;
/// Default of the log lines that an app may write a second on one worker; twice as many at once.
pub const LOG_LINES_PER_S: u32 = 100;
/// Shortest period of a repeating timer, in milliseconds.
pub const TIMER_PERIOD_MS_MIN: u64 = 10;
/// Largest frame on a lane, head excluded: the largest payload that settings may allow, and room for an audience.
pub const FRAME_BYTES_MAX: usize = 64 * 1024 * 1024;
