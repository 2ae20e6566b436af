//! What is logged, and where to.

use std::fmt;
use std::str::FromStr;

use tracing_subscriber::Layer;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

/// Which log lines are written: a level, and other levels for parts of the program, as in `RUST_LOG`
/// (`info,tidegate_gateway=debug`). Without a level of its own a part that is not named says nothing.
#[derive(Debug, Clone, PartialEq)]
pub struct LogFilter {
    text: String,
    targets: Targets,
}

/// A [`LogFilter`] that is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{shown}` does not say what to log: write error, warn, info, debug, trace or off, and behind that other levels for parts \
     of the program: info,tidegate_gateway=debug"
)]
pub struct InvalidFilter {
    shown: String,
}

impl FromStr for LogFilter {
    type Err = InvalidFilter;

    fn from_str(text: &str) -> Result<Self, InvalidFilter> {
        let invalid = || InvalidFilter { shown: text.chars().take(80).collect() };
        // A word that is no level would be taken for a part of the program of which everything is wanted, and no word at all for
        // errors.
        let is_known = |part: &str| match part.split_once('=') {
            Some((target, _)) => !target.is_empty(),
            None => !part.is_empty() && part.parse::<tracing::level_filters::LevelFilter>().is_ok(),
        };
        if !text.split(',').all(|part| is_known(part.trim())) {
            return Err(invalid());
        }
        let targets = text.split(',').map(str::trim).collect::<Vec<_>>().join(",").parse();
        Ok(Self { text: text.to_owned(), targets: targets.map_err(|_| invalid())? })
    }
}

impl Default for LogFilter {
    fn default() -> Self {
        let targets = Targets::new().with_default(tracing::Level::INFO);
        Self { text: "info".to_owned(), targets }
    }
}

impl fmt::Display for LogFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// Writes log lines to standard error. A second call, as in tests, changes nothing.
pub fn init_logging(filter: &LogFilter) {
    let ansi = std::io::IsTerminal::is_terminal(&std::io::stderr());
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(std::io::stderr)
        .with_ansi(ansi)
        .with_target(false)
        // It would complain to standard error too, with a macro that panics: whoever logs would end because the log's
        // disk is full.
        .log_internal_errors(false);
    // An error means that somebody has set up logging before: theirs stays.
    let _ = tracing_subscriber::registry().with(lines.with_filter(filter.targets.clone())).try_init();
}

#[cfg(test)]
mod tests {
    use tracing::Level;

    use super::*;

    #[test]
    fn a_filter_is_a_level_and_levels_of_parts() {
        let filter: LogFilter = "info, tidegate_gateway=debug,quinn=off".parse().unwrap();
        assert!(filter.targets.would_enable("tidegate_worker::slot", &Level::INFO));
        assert!(!filter.targets.would_enable("tidegate_worker", &Level::DEBUG));
        assert!(filter.targets.would_enable("tidegate_gateway::hub", &Level::DEBUG));
        assert!(!filter.targets.would_enable("quinn", &Level::ERROR));
        assert_eq!(filter.to_string(), "info, tidegate_gateway=debug,quinn=off");
        let info: LogFilter = "info".parse().unwrap();
        assert_eq!(info, LogFilter::default());
    }

    #[test]
    fn what_is_none_is_told_with_what_to_write() {
        for text in ["", "loud", "info,", "info,tidegate_gateway", "tidegate_gateway=loud", "=info", "a=b=c"]
        {
            let error = text.parse::<LogFilter>().unwrap_err().to_string();
            assert!(
                error.contains(&format!("`{text}`")) && error.contains("info,tidegate_gateway=debug"),
                "{error}"
            );
        }
    }
}
