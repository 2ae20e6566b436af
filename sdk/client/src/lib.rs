//! Pushes to the clients of Tidegate's apps, questions about them, deployments and administration, from any program: the HTTP
//! API, typed and asynchronous.
//!
//! ```no_run
//! # async fn run() -> Result<(), tidegate_client::Error> {
//! use tidegate_client::{Audience, Command, Tidegate};
//!
//! let tidegate = Tidegate::new("http://127.0.0.1:7480", "tg_...")?;
//! let chat = tidegate.app("default", "chat");
//!
//! let done = chat.send(Audience::group("room-1"), "hello").await?;
//! println!("{} clients; {} gateways did not say that they have it", done.reached, done.missing.len());
//! println!("{} are there", chat.count(Audience::All).await?.value);
//!
//! chat.batch([
//!     Command::send(Audience::group("room-1"), "first"),
//!     Command::send(Audience::All, "second").except(["a1b2c3d4e5f600000001"]),
//! ])
//! .await?;
//! chat.once("order-66").send(Audience::uid("ann"), "paid").await?; // once, whoever repeats it with this key
//! # Ok(()) }
//! ```
//!
//! # What is tried again
//! A request that was not carried out, because no connection could be made or the server said `busy`, `too-fast`, `key-in-use` or
//! `no-gateway`; and one whose answer was lost, if that does no harm: questions, and commands, each of which has an
//! `Idempotency-Key` of its own for that. Deployments and orders whose answer was lost are not. At most [`Builder::retries`] times, within [`Builder::timeout`].
//!
//! # Where it runs
//! In a tokio runtime with I/O and time. Futures may be dropped at any time; a command may have been carried out then.

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

mod app;
mod audience;
mod command;
mod error;
mod http;
mod lines;
mod operator;
mod retry;
mod steering;
mod told;

pub use app::{Answer, App, ClientInfo, Effect, Effects, Field, Missing, Reached, Why};
pub use audience::{Audience, Message, Name};
pub use command::Command;
pub use error::{Error, Problem};
pub use http::{Builder, Tidegate};
pub use operator::Tenant;
pub use steering::{Deploy, Deployment, RollBack};
pub use told::{
    AppInfo, AppOnNode, Audit, Canary, ClientCounts, Connection, Connections, Created, Deploying, Failure,
    LogLine, Logs, MissingNode, News, NodeInfo, Order, Outcome, Pauses, Report, State, Status, Tally,
    TenantInfo, Trouble, Underway, Usage, Version, VersionRef, Worker,
};
