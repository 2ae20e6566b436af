//! `bench density`.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Args;

#[derive(Debug, Args)]
pub(crate) struct DensityArgs {
    /// The port that all apps share: ws://IP:PORT/
    #[arg(default_value = "ws://127.0.0.1:7272/")]
    pub url: String,
    /// How many apps
    #[arg(long, default_value_t = 1_000)]
    pub apps: u32,
    /// Measure nothing: write a folder with settings and modules for a server with so many apps
    #[arg(long, value_name = "FOLDER", requires = "module")]
    pub write: Option<PathBuf>,
    /// With --write: a component that sends each text back
    #[arg(long, value_name = "FILE", requires = "write")]
    pub module: Option<PathBuf>,
    /// With --write: a module of its own for each app, that differs by a custom section
    #[arg(long, requires = "write")]
    pub distinct: bool,
    /// With --write: slots of each app that always have an instance (default: all)
    #[arg(long, value_name = "COUNT", requires = "write")]
    pub min_slots: Option<u32>,
    /// With --write: the port that all apps share
    #[arg(long, value_name = "IP:PORT", requires = "write", default_value = "127.0.0.1:7272")]
    pub listen: SocketAddr,
    /// A process of the server; may be repeated
    #[arg(long = "pid", value_name = "PID")]
    pub pids: Vec<u32>,
    /// A process of a server without apps, whose memory is taken off; may be repeated
    #[arg(long = "baseline-pid", value_name = "PID")]
    pub baseline_pids: Vec<u32>,
    /// The same as a number: bytes of private memory
    #[arg(long, value_name = "BYTES", conflicts_with = "baseline_pids")]
    pub baseline: Option<u64>,
    /// How long the apps are left alone while the CPU is measured
    #[arg(long, default_value_t = 5.0)]
    pub seconds: f64,
    /// How long one answer may take
    #[arg(long, value_name = "SECONDS", default_value_t = 30.0)]
    pub patience: f64,
    /// Print the report as JSON
    #[arg(long)]
    pub json: bool,
}
