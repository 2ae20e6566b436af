//! What nodes of this process complain about, for tests that look whether a fault is told.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Mutex;

use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::{Context, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;

/// Most complaints that are kept; the oldest go.
const COMPLAINTS_MAX: usize = 10_000;

static COMPLAINTS: Mutex<VecDeque<Complaint>> = Mutex::new(VecDeque::new());

/// A warning or an error that names an app.
#[derive(Default)]
struct Complaint {
    app: String,
    text: String,
}

/// Sets logging up, once per process: complaints are kept, and everything that `RUST_LOG` names goes to standard error.
pub(crate) fn init() {
    let shown: Targets =
        std::env::var("RUST_LOG").ok().and_then(|shown| shown.parse().ok()).unwrap_or_default();
    let to_people = tracing_subscriber::fmt::layer().with_writer(std::io::stderr).with_filter(shown);
    let kept = Keep.with_filter(tracing_subscriber::filter::LevelFilter::WARN);
    // An error means that it is set up already.
    let _ = tracing_subscriber::registry().with(to_people).with(kept).try_init();
}

/// The warnings and errors about an app (`tenant/app`) so far, the oldest first.
pub fn complaints(app: &str) -> Vec<String> {
    let complaints = COMPLAINTS.lock().unwrap();
    complaints
        .iter()
        .filter(|complaint| complaint.app == app)
        .map(|complaint| complaint.text.clone())
        .collect()
}

struct Keep;

impl<S: Subscriber> Layer<S> for Keep {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        if *event.metadata().level() > Level::WARN {
            return;
        }
        let mut complaint = Complaint::default();
        event.record(&mut complaint);
        if !complaint.app.is_empty() {
            let mut complaints = COMPLAINTS.lock().unwrap();
            complaints.push_back(complaint);
            if complaints.len() > COMPLAINTS_MAX {
                complaints.pop_front();
            }
        }
    }
}

impl Visit for Complaint {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        match field.name() {
            "app" => self.app = format!("{value:?}"),
            "message" => self.text.insert_str(0, &format!("{value:?}")),
            other => self.text.push_str(&format!("; {other}: {value:?}")),
        }
    }
}
