//! Log set-up and counters.
//!
//! A counter is declared where it is counted, with [`counters!`]; its name follows
//! `tidegate_<role>_<noun>_<unit>_total` and is an API: dashboards depend on it.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

/// A number that only grows.
#[derive(Debug)]
pub struct Counter {
    name: &'static str,
    value: AtomicU64,
}

impl Counter {
    /// A counter at 0. Use [`counters!`], which also lists it.
    pub const fn new(name: &'static str) -> Self {
        Self { name, value: AtomicU64::new(0) }
    }

    /// Counts one.
    pub fn inc(&self) {
        self.add(1);
    }

    /// Counts several.
    pub fn add(&self, n: u64) {
        self.value.fetch_add(n, Ordering::Relaxed);
    }

    /// The count since the process started.
    pub fn get(&self) -> u64 {
        self.value.load(Ordering::Relaxed)
    }

    /// Its name.
    pub fn name(&self) -> &'static str {
        self.name
    }
}

static LISTED: Mutex<Vec<&'static [&'static Counter]>> = Mutex::new(Vec::new());

/// Lists a group of counters for [`snapshot`]; once per group.
pub fn list(group: &'static [&'static Counter]) {
    let mut listed = LISTED.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    if !listed.iter().any(|known| std::ptr::eq(known.as_ptr(), group.as_ptr())) {
        listed.push(group);
    }
}

/// Every listed counter with its value, in order of name.
pub fn snapshot() -> Vec<(&'static str, u64)> {
    let listed = LISTED.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let mut all: Vec<_> = listed.iter().flat_map(|g| g.iter()).map(|c| (c.name(), c.get())).collect();
    all.sort_unstable();
    all
}

/// Declares counters: `counters! { /// doc \n EVENTS = "tidegate_gateway_events_total"; … }` makes statics and
/// `ALL_COUNTERS`, which the role lists when it starts.
#[macro_export]
macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident = $text:literal;)*) => {
        $($(#[$doc])* pub static $name: $crate::Counter = $crate::Counter::new($text);)*
        /// All counters of this module, for `tidegate_telemetry::list`.
        pub static ALL_COUNTERS: &[&$crate::Counter] = &[$(&$name),*];
    };
}

/// Writes log lines to standard error: `filter` as in `RUST_LOG` (`info,tidegate_gateway=debug`). A second call, as
/// in tests, changes nothing.
pub fn init_logging(filter: &str) {
    use tracing_subscriber::EnvFilter;
    let filter = EnvFilter::try_new(filter).unwrap_or_else(|_| EnvFilter::new("info"));
    let ansi = std::io::IsTerminal::is_terminal(&std::io::stderr());
    // An error means that somebody has set up logging before: theirs stays.
    let _ = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(ansi)
        .with_target(false)
        // It would complain to standard error too, with a macro that panics: whoever logs would end because the log's
        // disk is full.
        .log_internal_errors(false)
        .try_init();
}

#[cfg(test)]
mod tests {
    mod counted {
        crate::counters! {
            /// Apples.
            APPLES = "tidegate_test_apples_total";
        }
    }

    #[test]
    fn listed_counters_appear_once_with_their_value() {
        super::list(counted::ALL_COUNTERS);
        super::list(counted::ALL_COUNTERS);
        counted::APPLES.add(2);
        counted::APPLES.inc();
        assert_eq!(super::snapshot(), [("tidegate_test_apples_total", 3)]);
    }
}
