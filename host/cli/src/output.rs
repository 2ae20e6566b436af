//! What a running node prints to standard output: lines for people, or one JSON object a line for programs.

use std::fmt::Display;
use std::io::{self, Write};

use serde_json::{Value, json};
use tidegate_node::status::{Addresses, Listener};
use tidegate_wire::report::SwapReport;

/// Prints events.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Output {
    pub json: bool,
}

impl Output {
    /// One line for each place where something listens.
    pub fn listening(self, addresses: &Addresses) {
        if self.json {
            // They are all in the event `ready`.
            return;
        }
        print(&lines(addresses));
    }

    /// Everything is up.
    pub fn ready(self, addresses: &Addresses, complete: bool) {
        if self.json {
            return print(&[ready_event(addresses, complete).to_string()]);
        }
        print(&["ready".to_owned()]);
    }

    /// A version was deployed.
    pub fn deployed(self, report: &SwapReport) {
        print(&[json!({ "event": "deployed", "report": report }).to_string()]);
    }

    /// The end.
    pub fn stopped(self) {
        if self.json {
            print(&[json!({ "event": "stopped" }).to_string()]);
        }
    }
}

/// Prints a value as JSON for people and programs alike.
pub(crate) fn print_json(value: &Value) {
    print(&[format!("{value:#}")]);
}

/// Prints lines. Who closed our standard output does not want them.
pub(crate) fn print(lines: &[String]) {
    is_printed(lines);
}

/// Prints lines. False: nobody wants them any more.
pub(crate) fn is_printed(lines: &[String]) -> bool {
    let mut out = io::stdout().lock();
    lines.iter().all(|line| writeln!(out, "{line}").is_ok()) && out.flush().is_ok()
}

/// Prints to standard error, for people. Never fails: a log on a full disk, or a terminal that is closed, must not end a node.
pub(crate) fn note(text: impl Display) {
    let mut out = io::stderr().lock();
    let _ = writeln!(out, "{text}");
    let _ = out.flush();
}

/// A text that came from clients or plugins, for a terminal: what would steer it is written out.
pub(crate) fn plain(text: &str) -> String {
    let steers = |c: char| {
        c.is_control()
            || matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    text.chars().fold(String::with_capacity(text.len()), |mut out, c| {
        match steers(c) {
            true => out.extend(c.escape_default()),
            false => out.push(c),
        }
        out
    })
}

/// Rows as columns, two spaces apart.
pub(crate) fn columns(rows: &[Vec<String>]) -> Vec<String> {
    let count = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<_> = (0..count).map(width).collect();
    let line = |row: &Vec<String>| {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}"));
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    rows.iter().map(line).collect()
}

/// Whose clients connect there.
pub fn app_of(listener: &Listener) -> String {
    listener.app.clone().unwrap_or_else(|| "by route".to_owned())
}

fn lines(addresses: &Addresses) -> Vec<String> {
    let row = |listener: &Listener| {
        vec![app_of(listener), listener.url.clone(), listener.web.clone().unwrap_or_default()]
    };
    let mut rows: Vec<_> = addresses.listeners.iter().map(row).collect();
    if let Some(address) = addresses.gateway {
        rows.push(vec!["gateway".to_owned(), format!("quic://{address}"), "for workers".to_owned()]);
    }
    if let Some(address) = addresses.register {
        rows.push(vec![
            "register".to_owned(),
            format!("quic://{address}"),
            "for nodes and operators".to_owned(),
        ]);
    }
    if let Some(address) = addresses.metrics {
        let paths = "/metrics, /health/ready";
        rows.push(vec!["metrics".to_owned(), format!("http://{address}"), paths.to_owned()]);
    }
    if let Some(address) = addresses.admin {
        rows.push(vec![
            "admin".to_owned(),
            format!("{}://{address}", if addresses.admin_tls { "https" } else { "http" }),
            "for pushes, with a token".to_owned(),
        ]);
    }
    for bridge in &addresses.bridges {
        let who = format!("for GatewayClient, app {}", bridge.app);
        rows.push(vec!["bridge".to_owned(), format!("text://{}", bridge.register), who]);
    }
    columns(&rows)
}

fn ready_event(addresses: &Addresses, complete: bool) -> Value {
    json!({
        "event": "ready",
        "pid": std::process::id(),
        "complete": complete,
        "listeners": addresses.listeners,
        "gateway": addresses.gateway,
        "register": addresses.register,
        "metrics": addresses.metrics,
        "admin": addresses.admin,
        "admin_tls": addresses.admin_tls,
        "bridges": addresses.bridges,
    })
}

#[cfg(test)]
mod tests {
    use tidegate_node::status::Bridge;

    use super::*;

    fn addresses() -> Addresses {
        let listener = |app: &str, web: Option<&str>| Listener {
            app: Some(app.to_owned()),
            protocol: "ws".to_owned(),
            address: "127.0.0.1:7272".parse().unwrap(),
            url: "ws://127.0.0.1:7272".to_owned(),
            web: web.map(str::to_owned),
        };
        Addresses {
            listeners: vec![listener("default/chat", Some("http://127.0.0.1:7272/")), listener("a/b", None)],
            gateway: Some("127.0.0.1:7011".parse().unwrap()),
            register: None,
            metrics: Some("127.0.0.1:9464".parse().unwrap()),
            admin: Some("127.0.0.1:7480".parse().unwrap()),
            admin_tls: true,
            bridges: vec![Bridge {
                app: "default/chat".to_owned(),
                register: "127.0.0.1:1238".parse().unwrap(),
                ports: vec![2900],
            }],
        }
    }

    #[test]
    fn people_see_one_line_for_each_place() {
        assert_eq!(
            lines(&addresses()),
            [
                "default/chat  ws://127.0.0.1:7272     http://127.0.0.1:7272/",
                "a/b           ws://127.0.0.1:7272",
                "gateway       quic://127.0.0.1:7011   for workers",
                "metrics       http://127.0.0.1:9464   /metrics, /health/ready",
                "admin         https://127.0.0.1:7480  for pushes, with a token",
                "bridge        text://127.0.0.1:1238   for GatewayClient, app default/chat",
            ]
        );
    }

    #[test]
    fn programs_get_every_address_in_the_event_ready() {
        let event = ready_event(&addresses(), true);
        assert_eq!(event["event"], "ready");
        assert_eq!(event["listeners"][0]["url"], "ws://127.0.0.1:7272");
        assert_eq!(event["listeners"][0]["web"], "http://127.0.0.1:7272/");
        assert_eq!(event["gateway"], "127.0.0.1:7011");
        assert_eq!(event["pid"], std::process::id());
    }
}
