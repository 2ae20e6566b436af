//! What can be said when one looks at what goes on.

use clap::Args;
use tidegate_base::{AppName, ClientId};
use tidegate_wire::question::Level;

use super::Whom;

#[derive(Debug, Args)]
pub(crate) struct ConnectionsArgs {
    /// Only those of this app: chat, or TENANT/chat
    #[arg(long, value_parser = AppName::new)]
    pub app: Option<AppName>,
    /// Only the client with this id: 20 hex digits
    #[arg(long, value_name = "ID")]
    pub client: Option<ClientId>,
    /// Only those that are bound to this uid
    #[arg(long)]
    pub uid: Option<String>,
    /// So many at most
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub limit: u32,
    #[command(flatten)]
    pub whom: Whom,
}

#[derive(Debug, Args)]
pub(crate) struct LogsArgs {
    /// The app: chat, or TENANT/chat
    #[arg(value_parser = AppName::new)]
    pub app: AppName,
    /// Go on with what comes, until it is ended
    #[arg(short, long)]
    pub follow: bool,
    /// So many of the newest lines first
    #[arg(short = 'n', long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub lines: u32,
    /// Only lines that are as loud as this: error, warn, info, debug or trace
    #[arg(long, value_name = "LEVEL", default_value = "trace")]
    pub level: Level,
    #[command(flatten)]
    pub whom: Whom,
}
