//! What can be said of `top`.

use std::time::Duration;

use clap::{Args, ValueEnum};

use super::Whom;
use super::steer::time;
use crate::top::View;

#[derive(Debug, Args)]
pub(crate) struct TopArgs {
    /// Print one table, and end
    #[arg(long)]
    pub once: bool,
    /// How long each look at it takes: rates are of this while
    #[arg(long, value_name = "TIME", value_parser = interval, default_value = "1s")]
    pub interval: Duration,
    /// What to begin with
    #[arg(long, value_enum, default_value_t = View::Apps)]
    pub view: View,
    /// Only those whose names have this in them
    #[arg(long, value_name = "TEXT", default_value = "")]
    pub filter: String,
    #[command(flatten)]
    pub whom: Whom,
}

fn interval(text: &str) -> Result<Duration, String> {
    let wrong = || "write a time from 100ms to 1m".to_owned();
    time(text).ok().filter(|time| (100..=60_000).contains(&time.as_millis())).ok_or_else(wrong)
}

impl ValueEnum for View {
    fn value_variants<'a>() -> &'a [Self] {
        &Self::ALL
    }

    fn to_possible_value(&self) -> Option<clap::builder::PossibleValue> {
        Some(clap::builder::PossibleValue::new(self.name()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interval_is_neither_a_moment_nor_an_hour() {
        assert_eq!(interval("250ms"), Ok(Duration::from_millis(250)));
        for bad in ["99ms", "61s", "2m", "0s", "x"] {
            assert!(interval(bad).is_err(), "{bad}");
        }
    }
}
