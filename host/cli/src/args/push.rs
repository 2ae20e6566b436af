//! `bench push`.

use std::path::PathBuf;

use clap::Args;
use tidegate_base::AppName;

#[derive(Debug, Args)]
pub(crate) struct BenchPushArgs {
    /// The node with the HTTP API
    #[arg(default_value = "http://127.0.0.1:7480")]
    pub url: String,
    /// The app: TENANT/NAME, or NAME
    #[arg(long, value_parser = AppName::new)]
    pub app: AppName,
    /// A file with a token (default: what TIDEGATE_TOKEN says)
    #[arg(long, value_name = "FILE")]
    pub token_file: Option<PathBuf>,
    /// What is asked for: send, count, online, ...
    #[arg(long, default_value = "send")]
    pub verb: String,
    /// The JSON of each request
    #[arg(
        long,
        value_name = "JSON",
        default_value = r#"{"to": "all", "text": "0123456789abcdef0123456789abcdef"}"#
    )]
    pub body: String,
    /// A process of the servers, whose CPU is told; may be repeated
    #[arg(long = "pid", value_name = "PID")]
    pub pids: Vec<u32>,
    /// Connections with one request under way on each; may be repeated
    #[arg(long, default_values_t = [1, 64])]
    pub connections: Vec<u32>,
    /// How often each is measured
    #[arg(long, default_value_t = 5)]
    pub rounds: u32,
    /// Load before each measurement, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 1.0)]
    pub warm_up: f64,
    /// How long each measurement takes
    #[arg(long, default_value_t = 5.0)]
    pub seconds: f64,
    /// Print the report as JSON
    #[arg(long)]
    pub json: bool,
}
