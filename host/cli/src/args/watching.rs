//! What can be said when one looks at what goes on.

use clap::Args;
use tidegate_base::{AppName, ClientId};

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
