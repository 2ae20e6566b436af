//! `bench fairness`.

use clap::{Args, ValueEnum};

#[derive(Debug, Args)]
pub(crate) struct FairnessArgs {
    /// The quiet app: ws://IP:PORT/. It must send each message back
    #[arg(default_value = "ws://127.0.0.1:7272/")]
    pub url: String,
    /// A process of the servers, whose CPU is told; may be repeated
    #[arg(long = "pid", value_name = "PID")]
    pub pids: Vec<u32>,
    /// The greedy app on the same servers: it must send back what it does not understand
    #[arg(long, value_name = "URL")]
    pub neighbour: String,
    /// Connections to it: a few times its slots
    #[arg(long, default_value_t = 16)]
    pub neighbour_connections: u32,
    /// How it is greedy
    #[arg(long, value_enum, default_value = "loop")]
    pub greed: GreedArg,
    /// What each of them says to set it to work, again whenever it is done; with `--greed loop`
    #[arg(long, value_name = "TEXT", default_value = "loop")]
    pub say: String,
    /// Bytes of each message, with `--greed flood`
    #[arg(long, value_name = "BYTES", default_value_t = 64)]
    pub flood_payload: u32,
    /// Messages under way on each of its connections, with `--greed flood`
    #[arg(long, default_value_t = 64)]
    pub in_flight: u32,
    /// Connections to the quiet app
    #[arg(long, default_value_t = 100)]
    pub connections: u32,
    /// Messages a second to it
    #[arg(long, default_value_t = 2_000)]
    pub rate: u32,
    /// Bytes of each
    #[arg(long, default_value_t = 64)]
    pub payload: u32,
    /// How often both are measured
    #[arg(long, default_value_t = 5)]
    pub rounds: u32,
    /// Load before each measurement, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 2.0)]
    pub warm_up: f64,
    /// How long each measurement takes
    #[arg(long, default_value_t = 5.0)]
    pub seconds: f64,
    /// How long the neighbour may take to come to rest after a round, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 120.0)]
    pub rest: f64,
    /// Print the report as JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum GreedArg {
    /// Its turns take as long as they may: each connection says `--say`, again whenever it is done
    Loop,
    /// It has many short turns: each connection sends messages as fast as they come back
    Flood,
}
