//! What can be said on the command line.

mod density;
mod fairness;
mod manage;
mod outside;
mod push;
mod steer;
mod top;
mod watching;

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use tidegate_base::{NodeName, Role};
use tidegate_node::Overrides;

pub(crate) use self::density::DensityArgs;
pub(crate) use self::fairness::{FairnessArgs, GreedArg};
pub(crate) use self::manage::{AppsArgs, AppsCommand, TenantsArgs, TenantsCommand};
pub(crate) use self::outside::{PushArgs, TokensArgs, TokensCommand};
pub(crate) use self::push::BenchPushArgs;
pub(crate) use self::steer::{DeployArgs, HistoryArgs, RollbackArgs, SwapArgs, Whom};
pub(crate) use self::top::TopArgs;
pub(crate) use self::watching::{ConnectionsArgs, LogsArgs};

#[derive(Debug, Parser)]
#[command(
    name = "tidegate",
    version,
    about = "Gateways hold your clients' connections, workers run your plugins.",
    after_help = "Exit codes: 0 done, 64 wrong arguments, 65 a plugin that does not build or fit, 69 a port, node or \
                  register that is not there, 70 failed at run time or \
                  rolled back, 73 would overwrite a file, or is there already, 77 a quota forbids it, 78 wrong settings, or \
                  it stands in a settings file."
)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Build a plugin and run it with everything in one process, serving its web page
    Dev(DevArgs),
    /// Run what the settings file says: everything in one process, or the role of its certificate
    Up(UpArgs),
    /// Run a register of a cluster
    Register(UpArgs),
    /// Run a gateway of a cluster
    Gateway(UpArgs),
    /// Run a worker of a cluster
    Worker(UpArgs),
    /// Make a plugin project
    New(NewArgs),
    /// Compile a plugin to a checked WebAssembly component
    Build(BuildArgs),
    /// Deploy a plugin to a running app: its connections and its state stay
    #[command(
        after_help = "It goes on if this command ends. Exit codes: 0 every slot runs it, 70 it was rolled back."
    )]
    Deploy(DeployArgs),
    /// Deploy an earlier version of an app again
    Rollback(RollbackArgs),
    /// List what was deployed to an app
    History(HistoryArgs),
    /// List the apps, and which versions run where; make, change, suspend and remove them
    #[command(args_conflicts_with_subcommands = true)]
    Apps(AppsArgs),
    /// List the tenants; make, change, suspend and remove them
    #[command(args_conflicts_with_subcommands = true)]
    Tenants(TenantsArgs),
    /// List, make and revoke the tokens of the HTTP API
    #[command(args_conflicts_with_subcommands = true)]
    Tokens(TokensArgs),
    /// Send to the clients of an app from outside of its plugin, by the HTTP API
    Push(PushArgs),
    /// Make and show the certificates of a cluster
    Cert(CertArgs),
    /// List the nodes of a cluster
    Nodes(NodesArgs),
    /// Show how the node on this machine does, or every node of a cluster
    Status(StatusArgs),
    /// List the clients of all gateways
    Connections(ConnectionsArgs),
    /// Show the last lines of an app's log on all workers, and what comes
    Logs(LogsArgs),
    /// Watch nodes, tenants and apps: rates, latencies, CPU, memory, failures
    Top(TopArgs),
    /// Measure a WebSocket server
    Bench(BenchArgs),
    #[command(hide = true)]
    CompileChild(CompileChildArgs),
}

#[derive(Debug, Args)]
pub(crate) struct DevArgs {
    /// The app's folder: with a tidegate.toml, or just a plugin
    #[arg(default_value = ".")]
    pub path: PathBuf,
    #[command(flatten)]
    pub node: NodeFlags,
}

#[derive(Debug, Args)]
pub(crate) struct UpArgs {
    /// The settings file
    #[arg(short, long, value_name = "FILE", default_value = "tidegate.toml")]
    pub config: PathBuf,
    #[command(flatten)]
    pub node: NodeFlags,
    /// Run these roles (default: all of them in one process, or that of the certificate)
    #[arg(long, value_name = "ROLE", value_delimiter = ',', value_parser = node_role)]
    pub roles: Option<Vec<Role>>,
    /// The node's name
    #[arg(long)]
    pub name: Option<String>,
    /// Announce the node at these registers
    #[arg(long, value_name = "IP:PORT", value_delimiter = ',')]
    pub registers: Option<Vec<SocketAddr>>,
    /// The folder of the node's certificate
    #[arg(long, value_name = "FOLDER")]
    pub identity: Option<PathBuf>,
}

/// Flags of every command that runs a node. They are stronger than the environment (TIDEGATE_NODE_SHARDS, …), which is
/// stronger than the file.
#[derive(Debug, Args)]
pub(crate) struct NodeFlags {
    /// Where the node keeps its files
    #[arg(long, value_name = "FOLDER")]
    pub data_dir: Option<PathBuf>,
    /// Threads that serve clients and run plugins (default: one per core)
    #[arg(long)]
    pub shards: Option<u64>,
    /// What is logged, as in RUST_LOG: info, debug, info,tidegate_gateway=debug
    #[arg(long, value_name = "FILTER")]
    pub log: Option<String>,
    /// Print events as lines of JSON
    #[arg(long)]
    pub json: bool,
}

impl NodeFlags {
    pub fn overrides(&self) -> Overrides {
        Overrides {
            data_dir: self.data_dir.clone(),
            shards: self.shards,
            log: self.log.clone(),
            ..Overrides::default()
        }
    }
}

#[derive(Debug, Args)]
pub(crate) struct NewArgs {
    /// The project's name and new folder: a-z, 0-9 and -
    pub name: String,
}

#[derive(Debug, Args)]
pub(crate) struct BuildArgs {
    /// The plugin's folder, or the app's with the plugin in plugin/
    #[arg(default_value = ".")]
    pub path: PathBuf,
    /// Where to put a copy of the component: a file, or a folder that is there
    #[arg(short, long, value_name = "PATH")]
    pub out: Option<PathBuf>,
    /// Compile quickly, to code that runs slowly
    #[arg(long)]
    pub dev: bool,
    /// Print the result as JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct CertArgs {
    #[command(subcommand)]
    pub command: CertCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum CertCommand {
    /// Make a cluster's certificate authority, in FOLDER/ca. Keep its key off the nodes
    Init {
        /// The cluster's name
        #[arg(long, default_value = "tidegate")]
        cluster: String,
        /// Where certificates are kept
        #[arg(long, value_name = "FOLDER", default_value = "certs")]
        dir: PathBuf,
    },
    /// Make the certificate of a node, in FOLDER/NAME
    Node {
        /// register, gateway or worker
        #[arg(value_parser = node_role)]
        role: Role,
        /// The node's name
        #[arg(value_parser = NodeName::new)]
        name: NodeName,
        #[command(flatten)]
        place: CertPlace,
    },
    /// Make the certificate of a person or program that steers the cluster, in FOLDER/NAME
    Operator {
        /// The operator's name
        #[arg(value_parser = NodeName::new)]
        name: NodeName,
        #[command(flatten)]
        place: CertPlace,
    },
    /// Show whose certificates lie in a folder, and until when they are valid
    Show {
        /// The folder of one certificate, or that of all
        #[arg(default_value = "certs")]
        path: PathBuf,
        /// Print them as JSON
        #[arg(long)]
        json: bool,
    },
}

#[derive(Debug, Args)]
pub(crate) struct CertPlace {
    /// Where certificates are kept; the authority is in FOLDER/ca
    #[arg(long, value_name = "FOLDER", default_value = "certs")]
    pub dir: PathBuf,
    /// How long it is valid
    #[arg(long, default_value_t = 825)]
    pub days: u32,
}

#[derive(Debug, Args)]
pub(crate) struct NodesArgs {
    #[command(flatten)]
    pub whom: Whom,
}

#[derive(Debug, Args)]
pub(crate) struct StatusArgs {
    /// Ask every node of the cluster; with --register that is meant anyhow
    #[arg(long)]
    pub all: bool,
    /// Ask only the node of this name
    #[arg(long, value_name = "NAME", value_parser = NodeName::new)]
    pub node: Option<NodeName>,
    #[command(flatten)]
    pub whom: Whom,
}

/// Which node on this machine is asked.
#[derive(Debug, Args)]
pub(crate) struct LocalNode {
    /// The settings file of the node (default: tidegate.toml, if there is one)
    #[arg(short, long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// The node's data folder, instead of what the settings say
    #[arg(long, value_name = "FOLDER", conflicts_with = "config")]
    pub data_dir: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct BenchArgs {
    #[command(subcommand)]
    pub command: BenchCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum BenchCommand {
    /// Closed loop: each connection keeps so many messages under way. Needs a server that echoes
    Echo {
        #[command(flatten)]
        common: BenchCommon,
        /// Connections
        #[arg(long, default_value_t = 500)]
        connections: u32,
        /// Messages under way on each
        #[arg(long, default_value_t = 1)]
        in_flight: u32,
        /// Bytes of a message
        #[arg(long, default_value_t = 64)]
        payload: u32,
    },
    /// Open loop: messages at a fixed rate, whatever becomes of those before. Needs a server that echoes
    Open {
        #[command(flatten)]
        common: BenchCommon,
        /// Connections
        #[arg(long, default_value_t = 100)]
        connections: u32,
        /// Messages a second over all of them
        #[arg(long, default_value_t = 2000)]
        rate: u32,
        /// Bytes of a message
        #[arg(long, default_value_t = 1024)]
        payload: u32,
        /// Busy-wait between messages: exact times for a core of CPU
        #[arg(long)]
        spin: bool,
    },
    /// One sends, all receive. Needs a server that sends every message to all
    Broadcast {
        #[command(flatten)]
        common: BenchCommon,
        /// Connections
        #[arg(long, default_value_t = 100)]
        connections: u32,
        /// Broadcasts under way at a time
        #[arg(long, default_value_t = 1)]
        outstanding: u32,
        /// Bytes of a message
        #[arg(long, default_value_t = 64)]
        payload: u32,
    },
    /// Connections that are only held: memory of each
    Idle {
        #[command(flatten)]
        common: BenchCommon,
        /// Connections
        #[arg(long, default_value_t = 10_000)]
        connections: u32,
    },
    /// A storm of connections: CPU of each
    Connect {
        #[command(flatten)]
        common: BenchCommon,
        /// Connections under way at a time
        #[arg(long, default_value_t = 64)]
        at_a_time: u32,
    },
    /// Deploy versions in turn under load, and account for every message. Needs plugins that answer with a word of their own
    /// before each message
    Swap(SwapArgs),
    /// A quiet app with and without a greedy neighbour on the same servers, in paired rounds, as Markdown
    Fairness(FairnessArgs),
    /// Many apps that nobody uses: memory of each, CPU of all, and the first message to each, as Markdown
    Density(DensityArgs),
    /// Pushes through the HTTP API on connections that are kept: rate, latency and CPU of each, as Markdown
    Push(BenchPushArgs),
    /// Every load, one after the other, beside the figures to reach, as Markdown
    Table(TableArgs),
    #[command(hide = true)]
    Yardstick {
        #[arg(long)]
        kind: String,
        #[arg(default_value = "127.0.0.1:0")]
        address: SocketAddr,
    },
}

#[derive(Debug, Args)]
pub(crate) struct BenchCommon {
    /// The server: ws://IP:PORT/
    #[arg(default_value = "ws://127.0.0.1:7272/")]
    pub url: String,
    /// A process whose CPU and memory count as the server's; may be repeated
    #[arg(long = "pid", value_name = "PID")]
    pub pids: Vec<u32>,
    /// Run the same against a bare server, in the same minutes, and print the ratios
    #[arg(long)]
    pub yardstick: bool,
    /// How often to measure
    #[arg(long, default_value_t = 5)]
    pub rounds: u32,
    /// Load before each measurement, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 0.5)]
    pub warm_up: f64,
    /// How long each round measures
    #[arg(long, default_value_t = 5.0)]
    pub seconds: f64,
    /// Threads of the load generator
    #[arg(long, default_value_t = 1)]
    pub threads: u32,
    /// Send binary messages instead of text
    #[arg(long)]
    pub binary: bool,
    /// Print the report as JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct TableArgs {
    /// A server that echoes, freshly started
    #[arg(long, value_name = "URL", default_value = "ws://127.0.0.1:7272/")]
    pub echo: String,
    /// A process of it; may be repeated
    #[arg(long, value_name = "PID")]
    pub echo_pid: Vec<u32>,
    /// A server that sends every message to all; without one the broadcast rows are left out
    #[arg(long, value_name = "URL")]
    pub broadcast: Option<String>,
    /// A process of it; may be repeated
    #[arg(long, value_name = "PID", requires = "broadcast")]
    pub broadcast_pid: Vec<u32>,
    /// How the servers are put together
    #[arg(long, value_enum, default_value_t = SetUpArg::OneProcess)]
    pub set_up: SetUpArg,
    /// How often to measure
    #[arg(long, default_value_t = 5)]
    pub rounds: u32,
    /// Load before each measurement, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 0.5)]
    pub warm_up: f64,
    /// How long each round measures
    #[arg(long, default_value_t = 5.0)]
    pub seconds: f64,
    /// Connections of the idle row
    #[arg(long, default_value_t = 10_000)]
    pub idle_connections: u32,
    /// Busy-wait in the open-loop row
    #[arg(long)]
    pub spin: bool,
    /// Print the table as JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum SetUpArg {
    /// All roles in one process
    OneProcess,
    /// Gateway and worker as processes, QUIC between them
    Quic,
}

#[derive(Debug, Args)]
pub(crate) struct CompileChildArgs {
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    pub orders: Vec<OsString>,
}

fn node_role(text: &str) -> Result<Role, String> {
    match text.parse() {
        Ok(Role::Operator) => Err("an operator is not a node: see `tidegate cert operator`".into()),
        Ok(role) => Ok(role),
        Err(_) => Err("use register, gateway or worker".into()),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_arguments_hold_together() {
        Cli::command().debug_assert();
    }

    #[test]
    fn flags_reach_the_settings() {
        let line =
            "tidegate gateway -c g.toml --data-dir d --shards 2 --log debug --json --registers 127.0.0.1:1";
        let Ok(Cli { command: Command::Gateway(args) }) = Cli::try_parse_from(line.split(' ')) else {
            panic!("it is a gateway")
        };
        let overrides = args.node.overrides();
        assert_eq!((overrides.shards, overrides.log.as_deref()), (Some(2), Some("debug")));
        assert_eq!(overrides.data_dir, Some("d".into()));
        assert_eq!(args.registers, Some(vec![SocketAddr::from(([127, 0, 0, 1], 1))]));
        assert!(args.node.json);
    }

    #[test]
    fn the_compile_child_takes_whatever_its_parent_says() {
        let parsed = Cli::try_parse_from(["tidegate", "compile-child", "1", "2", "--x"]).unwrap();
        let Command::CompileChild(args) = parsed.command else { panic!("it is the child") };
        assert_eq!(args.orders, ["1", "2", "--x"]);
    }

    #[test]
    fn an_operator_is_no_node() {
        let error = Cli::try_parse_from(["tidegate", "cert", "node", "operator", "ann"]).unwrap_err();
        assert!(error.to_string().contains("tidegate cert operator"), "{error}");
    }
}
