//! What each view shows of the figures: columns with a width, a text and something to sort by. Pure.

use std::cmp::Ordering;
use std::time::Duration;

use tidegate_telemetry::Histogram;

use super::figures::{AppFigures, Figures, Load, NodeFigures, TenantFigures};

/// What is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum View {
    Nodes,
    Tenants,
    Apps,
}

impl View {
    pub const ALL: [Self; 3] = [Self::Nodes, Self::Tenants, Self::Apps];

    pub const fn name(self) -> &'static str {
        match self {
            Self::Nodes => "nodes",
            Self::Tenants => "tenants",
            Self::Apps => "apps",
        }
    }

    pub const fn columns(self) -> &'static [Column] {
        match self {
            Self::Nodes => NODES,
            Self::Tenants => TENANTS,
            Self::Apps => APPS,
        }
    }

    /// A line for each of them.
    pub fn lines(self, figures: &Figures) -> Vec<Line> {
        match self {
            Self::Nodes => figures.nodes.iter().map(Line::of_node).collect(),
            Self::Tenants => figures.tenants.iter().map(Line::of_tenant).collect(),
            Self::Apps => figures.apps.iter().map(Line::of_app).collect(),
        }
    }
}

/// A column. The first of a view is what a line is about: it takes the room that is left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Column {
    pub what: What,
    pub title: &'static str,
    pub width: u16,
    /// It is shown where the terminal is wider than 80 columns.
    pub spare: bool,
}

const fn column(what: What, title: &'static str, width: u16) -> Column {
    Column { what, title, width, spare: false }
}

const fn spare(what: What, title: &'static str, width: u16) -> Column {
    Column { spare: true, ..column(what, title, width) }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum What {
    Name,
    Role,
    State,
    Up,
    Version,
    Apps,
    Clients,
    Slots,
    Events,
    Turns,
    TurnHalf,
    TurnMost,
    QueueHalf,
    QueueMost,
    Cpu,
    Memory,
    Failed,
}

const NODES: &[Column] = &[
    column(What::Name, "NODE", 12),
    column(What::Role, "ROLE", 8),
    column(What::State, "STATE", 9),
    column(What::Up, "UP", 5),
    column(What::Clients, "CLIENTS", 7),
    column(What::Events, "EV/S", 6),
    column(What::Turns, "TURN/S", 6),
    column(What::Cpu, "CPU%", 5),
    column(What::Memory, "MEM", 5),
    column(What::Failed, "FAILED", 6),
    spare(What::Version, "VERSION", 8),
    spare(What::TurnMost, "T99", 5),
];

const TENANTS: &[Column] = &[
    column(What::Name, "TENANT", 16),
    column(What::Apps, "APPS", 5),
    column(What::Clients, "CLIENTS", 7),
    column(What::Events, "EV/S", 6),
    column(What::Turns, "TURN/S", 6),
    column(What::TurnHalf, "T50", 5),
    column(What::TurnMost, "T99", 5),
    column(What::Cpu, "CPU%", 5),
    column(What::Memory, "MEM", 5),
    column(What::Failed, "FAILED", 6),
    spare(What::Slots, "SLOTS", 5),
];

const APPS: &[Column] = &[
    column(What::Name, "APP", 16),
    column(What::Version, "VER", 4),
    column(What::Clients, "CLIENTS", 7),
    column(What::Events, "EV/S", 6),
    column(What::Turns, "TURN/S", 6),
    column(What::TurnHalf, "T50", 5),
    column(What::TurnMost, "T99", 5),
    column(What::QueueMost, "Q99", 5),
    column(What::Cpu, "CPU%", 5),
    column(What::Memory, "MEM", 5),
    column(What::Failed, "FAILED", 6),
    spare(What::QueueHalf, "Q50", 5),
    spare(What::Slots, "SLOTS", 5),
];

/// A line of a view: all that its columns can show.
#[derive(Debug, Clone)]
pub(crate) struct Line {
    pub name: String,
    role: String,
    state: String,
    version: String,
    uptime_s: u64,
    apps: usize,
    load: Load,
    /// It is not as it should be.
    pub alarming: bool,
}

impl Line {
    fn of(name: &str, load: &Load) -> Self {
        Self {
            name: name.to_owned(),
            role: String::new(),
            state: String::new(),
            version: String::new(),
            uptime_s: 0,
            apps: 0,
            load: *load,
            alarming: load.failing > 0 || load.failures_per_s > 0.0,
        }
    }

    fn of_node(node: &NodeFigures) -> Self {
        let state = match (&node.silent, node.ready) {
            (Some(_), _) => "silent",
            (None, true) => "ready",
            (None, false) => "not ready",
        };
        let alarming = node.silent.is_some() || !node.ready;
        let line = Self::of(&node.name, &node.load);
        Self {
            role: node.role.clone(),
            state: state.to_owned(),
            version: node.version.clone(),
            uptime_s: node.uptime_s,
            alarming: alarming || line.alarming,
            ..line
        }
    }

    fn of_tenant(tenant: &TenantFigures) -> Self {
        Self { apps: tenant.apps, ..Self::of(&tenant.name, &tenant.load) }
    }

    fn of_app(app: &AppFigures) -> Self {
        let versions: Vec<_> = app.versions.iter().map(ToString::to_string).collect();
        Self { version: versions.join(","), ..Self::of(&app.name, &app.load) }
    }

    /// What stands in a column.
    pub fn cell(&self, what: What) -> String {
        let Load { clients, slots, events_per_s, turns_per_s, cpu, memory_bytes, failed, .. } = self.load;
        match what {
            What::Name => self.name.clone(),
            What::Role => self.role.clone(),
            What::State => self.state.clone(),
            What::Up => uptime(self.uptime_s),
            What::Version => self.version.clone(),
            What::Apps => self.apps.to_string(),
            What::Clients => count(clients as f64),
            What::Slots => count(slots as f64),
            What::Events => count(events_per_s),
            What::Turns => count(turns_per_s),
            What::Cpu => format!("{:.1}", cpu * 100.0),
            What::Memory => bytes(memory_bytes),
            What::Failed => count(failed as f64),
            _ => self.time(what).map_or_else(|| "-".to_owned(), time),
        }
    }

    /// Names by the alphabet, numbers by their size.
    pub fn compare(&self, other: &Self, what: What) -> Ordering {
        match what {
            What::Name | What::Role | What::State | What::Version => self.text(what).cmp(other.text(what)),
            _ => self.number(what).total_cmp(&other.number(what)),
        }
    }

    fn text(&self, what: What) -> &str {
        match what {
            What::Role => &self.role,
            What::State => &self.state,
            What::Version => &self.version,
            _ => &self.name,
        }
    }

    fn number(&self, what: What) -> f64 {
        match what {
            What::Up => self.uptime_s as f64,
            What::Apps => self.apps as f64,
            What::Clients => self.load.clients as f64,
            What::Slots => self.load.slots as f64,
            What::Events => self.load.events_per_s,
            What::Turns => self.load.turns_per_s,
            What::Cpu => self.load.cpu,
            What::Memory => self.load.memory_bytes as f64,
            What::Failed => self.load.failed as f64,
            _ => self.time(what).map_or(-1.0, |time| time.as_secs_f64()),
        }
    }

    fn time(&self, what: What) -> Option<Duration> {
        let of = |times: &Histogram, share| times.quantile(share);
        match what {
            What::TurnHalf => of(&self.load.turn, 0.5),
            What::TurnMost => of(&self.load.turn, 0.99),
            What::QueueHalf => of(&self.load.queue, 0.5),
            What::QueueMost => of(&self.load.queue, 0.99),
            _ => None,
        }
    }
}

/// In at most six characters.
fn count(number: f64) -> String {
    match number {
        n if n <= 0.0 => "0".to_owned(),
        n if n < 10.0 && n.fract() > 0.0 => format!("{n:.1}"),
        n if n < 100_000.0 => format!("{n:.0}"),
        n if n < 10_000_000.0 => format!("{:.0}k", n / 1e3),
        n => format!("{:.0}M", n / 1e6),
    }
}

/// In at most five.
fn bytes(bytes: u64) -> String {
    match bytes {
        0..1024 => bytes.to_string(),
        1024..0x10_0000 => format!("{}K", bytes >> 10),
        0x10_0000..0x2_8000_0000 => format!("{}M", bytes >> 20),
        _ => format!("{}G", bytes >> 30),
    }
}

/// The bound of a bucket, which are round.
fn time(time: Duration) -> String {
    match time.as_micros() {
        us @ 0..1_000 => format!("{us}us"),
        us @ 1_000..1_000_000 => format!("{}ms", us / 1_000),
        us => format!("{}s", us / 1_000_000),
    }
}

fn uptime(seconds: u64) -> String {
    match seconds {
        0..100 => format!("{seconds}s"),
        100..6_000 => format!("{}m", seconds / 60),
        6_000..360_000 => format!("{}h", seconds / 3_600),
        _ => format!("{}d", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_view_fits_into_eighty_columns() {
        for view in View::ALL {
            let shown = view.columns().iter().filter(|column| !column.spare);
            let width: u16 = shown.map(|column| column.width + 1).sum();
            assert!(width - 1 <= 80, "{view:?} needs {width}");
            let fits = |column: &Column| column.title.len() <= usize::from(column.width);
            assert!(view.columns().iter().all(fits), "{view:?}");
        }
    }

    #[test]
    fn numbers_fit_into_their_columns() {
        let counts = [0.0, 0.25, 9.94, 12.0, 99_999.0, 100_000.0, 9_999_999.0, 12_345_678.0];
        assert_eq!(counts.map(count), ["0", "0.2", "9.9", "12", "99999", "100k", "10000k", "12M"]);
        assert_eq!([0, 2048, 5 << 20, 9 << 30, 12 << 30].map(bytes), ["0", "2K", "5M", "9216M", "12G"]);
        let us = [10, 300, 3_000, 1_000_000].map(Duration::from_micros);
        assert_eq!(us.map(time), ["10us", "300us", "3ms", "1s"]);
        assert_eq!([5, 99, 600, 7_200, 864_000].map(uptime), ["5s", "99s", "10m", "2h", "10d"]);
    }
}
