//! What whoever looks at an app is answered.

use super::{Named, boolean, list, number, object, reference, text, words};

pub(super) fn all() -> Vec<Named> {
    let connection = object(
        &[
            ("client", reference("ClientId")),
            ("app", text()),
            ("protocol", words(&["ws", "text", "frame", "tcp"])),
            ("remote", text()),
            ("age_s", number()),
            ("state", words(&["upgrading", "open", "closing"])),
            ("groups", number()),
            ("in_flight", number()),
            ("queued_bytes", number()),
        ],
        &[
            ("uid", text()),
            ("worker", text()),
            ("slot", number()),
            ("paused", words(&["no-slot", "no-credit", "in-flight", "rate"])),
        ],
    );
    let missing = object(&[("role", text()), ("node", text()), ("reason", text())], &[]);
    let connections = object(
        &[
            ("total", number()),
            ("connections", list(reference("Connection"))),
            ("missing", list(reference("MissingNode"))),
        ],
        &[],
    );
    let line = object(
        &[
            ("worker", text()),
            ("number", number()),
            ("at_ms", number()),
            ("level", words(&["error", "warn", "info", "debug", "trace"])),
            ("by_plugin", boolean()),
            ("version", number()),
            ("slot", number()),
            ("text", text()),
        ],
        &[],
    );
    let logs = object(
        &[
            ("lines", list(reference("LogLine"))),
            ("missed", number()),
            ("next", text()),
            ("missing", list(reference("MissingNode"))),
        ],
        &[],
    );
    vec![
        ("LogLine", line),
        ("Logs", logs),
        ("Connection", connection),
        ("MissingNode", missing),
        ("Connections", connections),
    ]
}
