//! `connections`: the clients of all gateways, one a line.

use serde_json::json;
use tidegate_node::inquiry::Inquiry;
use tidegate_wire::question::{Connection, ConnectionFilter, Connections, Missing};

use crate::args::ConnectionsArgs;
use crate::failure::Outcome;
use crate::output::{columns, note, plain, print, print_json};
use crate::steer::cluster;

pub(crate) fn connections(args: &ConnectionsArgs) -> Outcome {
    let ConnectionsArgs { app, client, uid, limit, whom } = args;
    let of = ConnectionFilter { app: app.clone(), client: *client, uid: uid.clone(), limit: *limit };
    let mut inquiry = Inquiry::new(cluster(whom)?);
    let found = inquiry.connections(of)?;
    inquiry.close();
    if whom.local.json {
        print_json(&json!(found));
        return Ok(());
    }
    let Connections { total, connections, missing } = found;
    let mut rows = Vec::new();
    if !connections.is_empty() {
        rows.push(HEAD.map(str::to_owned).to_vec());
    }
    rows.extend(connections.iter().map(row));
    print(&columns(&rows));
    if total == 0 && missing.is_empty() {
        note("nobody is connected, or nobody whom the flags mean");
    }
    if total > connections.len() as u64 {
        note(format_args!(
            "{} of {total} connections: --limit shows more, the other flags look for some",
            connections.len()
        ));
    }
    say_missing(&missing);
    Ok(())
}

/// Names those who said nothing.
pub(crate) fn say_missing(missing: &[Missing]) {
    for Missing { role, node, reason } in missing {
        note(format_args!("{node} ({role}) is missing: {}", plain(reason)));
    }
}

const HEAD: [&str; 12] = [
    "CLIENT",
    "APP",
    "PROTOCOL",
    "REMOTE",
    "SINCE",
    "STATE",
    "UID",
    "GROUPS",
    "SLOT",
    "IN FLIGHT",
    "QUEUED",
    "PAUSED",
];

fn row(connection: &Connection) -> Vec<String> {
    let slot = match (&connection.worker, connection.slot) {
        (Some(worker), Some(slot)) => format!("{worker}/{slot}"),
        (None, Some(slot)) => slot.to_string(),
        (_, None) => "-".to_owned(),
    };
    let or_none = |text: &Option<String>| text.as_deref().map_or_else(|| "-".to_owned(), plain);
    vec![
        connection.client.to_string(),
        connection.app.to_string(),
        connection.protocol.clone(),
        connection.remote.to_string(),
        age(connection.age_s),
        connection.state.clone(),
        or_none(&connection.uid),
        connection.groups.to_string(),
        slot,
        connection.in_flight.to_string(),
        connection.queued_bytes.to_string(),
        or_none(&connection.paused),
    ]
}

/// Two units at most.
fn age(seconds: u64) -> String {
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds}s"),
        (0, 0, _) => format!("{minutes}m{}s", seconds % 60),
        (0, _, _) => format!("{hours}h{}m", minutes % 60),
        _ => format!("{days}d{}h", hours % 24),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_have_two_units_at_most() {
        let ages = [0, 59, 60, 3599, 3600, 86_399, 86_400, 900_000].map(age);
        assert_eq!(ages, ["0s", "59s", "1m0s", "59m59s", "1h0m", "23h59m", "1d0h", "10d10h"]);
    }
}
