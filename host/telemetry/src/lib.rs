//! Log set-up, counters and histograms.
//!
//! A counter is declared where it is counted, with [`counters!`]; its name follows
//! `tidegate_<role>_<noun>_<unit>_total` and is an API: dashboards depend on it.

mod histogram;
mod logging;

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

pub use self::histogram::{BOUNDS_US, Histogram, SharedHistogram};
pub use self::logging::{InvalidFilter, LogFilter, init_logging};

/// A number that only grows.
#[derive(Debug)]
pub struct Counter {
    name: &'static str,
    help: &'static str,
    value: AtomicU64,
}

impl Counter {
    /// A counter at 0, and what it counts. Use [`counters!`], which also lists it.
    pub const fn new(name: &'static str, help: &'static str) -> Self {
        Self { name, help, value: AtomicU64::new(0) }
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

    /// What it counts: its documentation.
    pub fn help(&self) -> &'static str {
        self.help.trim_start()
    }
}

static LISTED: Mutex<Vec<&'static [&'static Counter]>> = Mutex::new(Vec::new());

/// Lists a group of counters for [`all`]; once per group.
pub fn list(group: &'static [&'static Counter]) {
    let mut listed = LISTED.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    if !listed.iter().any(|known| std::ptr::eq(known.as_ptr(), group.as_ptr())) {
        listed.push(group);
    }
}

/// Every listed counter, in order of name.
pub fn all() -> Vec<&'static Counter> {
    let listed = LISTED.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let mut all: Vec<_> = listed.iter().flat_map(|group| group.iter().copied()).collect();
    all.sort_unstable_by_key(|counter| counter.name());
    all
}

/// Declares counters: `counters! { /// doc \n EVENTS = "tidegate_gateway_events_total"; … }` makes statics and
/// `ALL_COUNTERS`, which the role lists when it starts.
#[macro_export]
macro_rules! counters {
    ($($(#[doc = $doc:literal])+ $name:ident = $text:literal;)*) => {
        $($(#[doc = $doc])+ pub static $name: $crate::Counter = $crate::Counter::new($text, concat!($($doc),+));)*
        /// All counters of this module, for `tidegate_telemetry::list`.
        pub static ALL_COUNTERS: &[&$crate::Counter] = &[$(&$name),*];
    };
}

#[cfg(test)]
mod tests {
    mod counted {
        crate::counters! {
            /// Apples that were eaten,
            /// and pears.
            APPLES = "tidegate_test_apples_total";
        }
    }

    #[test]
    fn listed_counters_appear_once_with_their_value_and_what_they_count() {
        super::list(counted::ALL_COUNTERS);
        super::list(counted::ALL_COUNTERS);
        counted::APPLES.add(2);
        counted::APPLES.inc();
        let [apples] = super::all()[..] else { panic!("{:?}", super::all()) };
        assert_eq!((apples.name(), apples.get()), ("tidegate_test_apples_total", 3));
        assert_eq!(apples.help(), "Apples that were eaten, and pears.");
    }
}
