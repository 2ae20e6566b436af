//! What can be said of the HTTP API: its tokens, and pushes.

use std::path::PathBuf;

use clap::{ArgGroup, Args, Subcommand};
use tidegate_base::{AppName, ClientId, Label, TokenRole, TokenTenant};

use super::{LocalNode, Whom};

#[derive(Debug, Args)]
pub(crate) struct TokensArgs {
    #[command(subcommand)]
    pub command: Option<TokensCommand>,
    #[command(flatten)]
    pub whom: Whom,
}

#[derive(Debug, Subcommand)]
pub(crate) enum TokensCommand {
    /// List the tokens, without their secrets (default)
    List {
        /// Of this tenant alone
        #[arg(value_parser = Label::new)]
        tenant: Option<Label>,
        #[command(flatten)]
        whom: Whom,
    },
    /// Make a token, and print it: nobody can show it again
    Create {
        /// The tenant whose apps it is for; '*', for operators: every tenant
        tenant: TokenTenant,
        /// push, deploy or admin
        #[arg(long, default_value = "push")]
        role: TokenRole,
        /// Only for this app; may be repeated (default: every app of the tenant)
        #[arg(long = "app", value_name = "APP", value_parser = Label::new)]
        apps: Vec<Label>,
        /// What to write beside it
        #[arg(long, default_value = "")]
        note: String,
        #[command(flatten)]
        whom: Whom,
    },
    /// Revoke a token: nobody gets in with it from now on
    Revoke {
        /// Its name, as `list` shows it
        id: String,
        #[command(flatten)]
        whom: Whom,
    },
}

#[derive(Debug, Args)]
#[command(group = ArgGroup::new("audience").required(true).args(["all", "client", "uid", "group"]))]
pub(crate) struct PushArgs {
    /// The app
    #[arg(value_parser = AppName::new)]
    pub app: AppName,
    /// The message, a text; - reads it from standard input
    pub message: String,
    /// To every client
    #[arg(long)]
    pub all: bool,
    /// To this client; may be repeated
    #[arg(long, value_name = "ID")]
    pub client: Vec<ClientId>,
    /// To the clients of this uid; may be repeated
    #[arg(long, value_name = "UID")]
    pub uid: Vec<String>,
    /// To the clients in this group; may be repeated
    #[arg(long, value_name = "GROUP")]
    pub group: Vec<String>,
    /// But not to this client; may be repeated
    #[arg(long, value_name = "ID")]
    pub except: Vec<ClientId>,
    /// Send it as binary
    #[arg(long)]
    pub binary: bool,
    /// Where the HTTP API is (default: that of the node on this machine)
    #[arg(long, value_name = "http[s]://HOST:PORT", env = "TIDEGATE_API")]
    pub api: Option<String>,
    /// A PEM file with the authority of the API's certificate (default: those that this machine trusts)
    #[arg(long, value_name = "FILE", env = "TIDEGATE_CA")]
    pub ca: Option<PathBuf>,
    /// A file with the token (default: TIDEGATE_TOKEN, or what `dev` wrote into the data folder)
    #[arg(long, value_name = "FILE")]
    pub token_file: Option<PathBuf>,
    #[command(flatten)]
    pub local: LocalNode,
}
