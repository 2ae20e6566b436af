//! What can be said of deployments.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use tidegate_base::AppName;

use super::LocalNode;

#[derive(Debug, Args)]
pub(crate) struct DeployArgs {
    /// The app: chat, or TENANT/chat
    #[arg(value_parser = AppName::new)]
    pub app: AppName,
    /// A plugin's folder, which is built first, a .wasm file, or sha256:DIGEST of a module that was deployed before
    /// (default: the app's plugin in the settings file; without one the current folder)
    pub module: Option<PathBuf>,
    /// Judge it on this share of the slots first: 25%
    #[arg(long, value_name = "SHARE", value_parser = share)]
    pub canary: Option<u8>,
    /// How long the canary is compared with the others: 30s, 5m, 2h
    #[arg(long = "for", value_name = "TIME", value_parser = time, requires = "canary", default_value = "30s")]
    pub window: Duration,
    /// Callbacks that each version must have run to be judged (default: 100)
    #[arg(long, value_name = "N", requires = "canary")]
    pub events_min: Option<u64>,
    /// What to write beside it in the history
    #[arg(long, value_name = "TEXT", default_value = "")]
    pub note: String,
    /// End the deployment that goes on, and go back
    #[arg(long, conflicts_with_all = ["module", "canary", "note"])]
    pub cancel: bool,
    #[command(flatten)]
    pub whom: Whom,
}

#[derive(Debug, Args)]
pub(crate) struct RollbackArgs {
    /// The app
    #[arg(value_parser = AppName::new)]
    pub app: AppName,
    /// The version (default: the one that ran before)
    #[arg(long, value_name = "VERSION")]
    pub to: Option<u32>,
    /// What to write beside it in the history
    #[arg(long, value_name = "TEXT", default_value = "")]
    pub note: String,
    #[command(flatten)]
    pub whom: Whom,
}

#[derive(Debug, Args)]
pub(crate) struct HistoryArgs {
    /// The app
    #[arg(value_parser = AppName::new)]
    pub app: AppName,
    /// So many lines, the newest first
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub limit: u32,
    /// Print the report of this version
    #[arg(long, value_name = "VERSION", conflicts_with = "limit")]
    pub show: Option<u32>,
    #[command(flatten)]
    pub whom: Whom,
}

/// Who is asked: a node on this machine, or a register.
#[derive(Debug, Args)]
pub(crate) struct Whom {
    /// Ask this register, with an operator's certificate
    #[arg(long, value_name = "IP:PORT", requires = "identity")]
    pub register: Option<SocketAddr>,
    /// The folder of the operator's certificate
    #[arg(long, value_name = "FOLDER", requires = "register")]
    pub identity: Option<PathBuf>,
    #[command(flatten)]
    pub local: LocalNode,
}

#[derive(Debug, Args)]
pub(crate) struct SwapArgs {
    /// The app's server: ws://IP:PORT/
    #[arg(default_value = "ws://127.0.0.1:7272/")]
    pub url: String,
    /// The app
    #[arg(long, value_parser = AppName::new)]
    pub app: AppName,
    /// A .wasm file and the word that it puts before each message it answers; two or more, deployed in turn. The first is
    /// the one that runs
    #[arg(long = "module", value_name = "WORD=FILE", value_parser = word_and_file, required = true)]
    pub modules: Vec<(String, PathBuf)>,
    /// Swaps
    #[arg(long, default_value_t = 100)]
    pub swaps: u32,
    /// Swaps before those, which are audited but not timed
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub warm_up_swaps: u32,
    /// Connections
    #[arg(long, default_value_t = 100)]
    pub connections: u32,
    /// Messages a second over all of them
    #[arg(long, default_value_t = 2000, conflicts_with = "in_flight")]
    pub rate: u32,
    /// Full load instead: each connection keeps so many messages under way
    #[arg(long, value_name = "N")]
    pub in_flight: Option<u32>,
    /// Bytes of a message
    #[arg(long, default_value_t = 64)]
    pub payload: u32,
    /// A text that each connection sends first, to bring the app into the state that is to be swapped
    #[arg(long, value_name = "TEXT")]
    pub first: Option<String>,
    /// A process whose memory counts as the server's; may be repeated
    #[arg(long = "pid", value_name = "PID")]
    pub pids: Vec<u32>,
    /// Load before the first swap
    #[arg(long, value_name = "TIME", value_parser = time, default_value = "1s")]
    pub warm_up: Duration,
    /// Calm between a swap and the next, at least
    #[arg(long, value_name = "TIME", value_parser = time, default_value = "200ms")]
    pub pause: Duration,
    /// A swap that takes longer ends the run
    #[arg(long, value_name = "TIME", value_parser = time, default_value = "60s")]
    pub swap_limit: Duration,
    /// A message without an answer for so long is lost
    #[arg(long, value_name = "TIME", value_parser = time, default_value = "10s")]
    pub give_up: Duration,
    #[command(flatten)]
    pub whom: Whom,
}

fn share(text: &str) -> Result<u8, String> {
    match text.strip_suffix('%').unwrap_or(text).parse() {
        Ok(percent @ 1..=99) => Ok(percent),
        _ => Err("write a share from 1% to 99%".into()),
    }
}

pub(super) fn time(text: &str) -> Result<Duration, String> {
    let wrong = || "write a whole number and a unit: 500ms, 30s, 5m or 2h".to_owned();
    let unit_at = text.find(|c: char| !c.is_ascii_digit()).ok_or_else(wrong)?;
    let (number, unit) = text.split_at(unit_at);
    let number: u64 = number.parse().map_err(|_| wrong())?;
    let unit_ms = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => return Err(wrong()),
    };
    number.checked_mul(unit_ms).map(Duration::from_millis).ok_or_else(wrong)
}

fn word_and_file(text: &str) -> Result<(String, PathBuf), String> {
    match text.split_once('=') {
        Some((word, file)) if !word.is_empty() && !file.is_empty() => Ok((word.to_owned(), file.into())),
        _ => Err("write the word with which it answers, =, and the file: v1=one.wasm".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_and_shares_have_units_and_limits() {
        let ms = |text| time(text).map(|time| time.as_millis());
        assert_eq!(
            [ms("500ms"), ms("30s"), ms("5m"), ms("2h")],
            [Ok(500), Ok(30_000), Ok(300_000), Ok(7_200_000)]
        );
        for bad in ["", "30", "s", "-1s", "1.5s", "3d", "99999999999999999999s", "18446744073709551615h"] {
            assert!(time(bad).is_err(), "{bad}");
        }
        assert_eq!((share("25%"), share("1"), share("99%")), (Ok(25), Ok(1), Ok(99)));
        for bad in ["", "%", "0%", "100%", "-1", "2.5%", "25 %"] {
            assert!(share(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_module_to_swap_has_a_word_and_a_file() {
        assert_eq!(word_and_file("v1=a=b.wasm"), Ok(("v1".into(), "a=b.wasm".into())));
        for bad in ["v1", "=x", "v1="] {
            assert!(word_and_file(bad).is_err(), "{bad}");
        }
    }
}
