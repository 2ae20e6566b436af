//! What every Tidegate crate agrees on: ids, limits, close codes, and the events and commands that gateways and
//! plugins exchange. No I/O, no clocks, no async.

mod close;
mod command;
mod digest;
mod event;
mod grants;
mod id;
mod keys;
pub mod limits;
mod query;
mod quota;
mod rate;
mod secret;
pub mod session;
mod share;
mod spec;
mod token;

pub use close::{CloseCode, CloseReason};
pub use command::{Audience, Command, InvalidCommand, Message, MessageKind, check_name};
pub use digest::{Digest, InvalidDigest};
pub use event::{Addresses, CloseInfo, Event, Exports, Protocol, UpgradeDecision, UpgradeRequest};
pub use grants::{Capability, Grants, InvalidGrants};
pub use id::{AppName, ClientId, GatewayId, InvalidId, InvalidName, InvalidRole, Label, NodeName, Role};
pub use keys::{
    InvalidKeyOp, KeyAnswer, KeyError, KeyOp, KeyUsage, KeyValue, KeyVersion, check_key, check_key_count,
    check_key_value,
};
pub use query::{Answer, Answered, ClientFields, ClientInfo, Query};
pub use quota::{OverQuota, Quota, Quotas, Usage};
pub use rate::{Rate, RateMeter};
pub use secret::{Secret, Setting};
pub use share::{CpuShare, InvalidShare};
pub use spec::{AppSpec, HeartbeatSpec, InvalidSpec, OnFailure, OriginsSpec, SlowPolicy};
pub use token::{
    InvalidTokenRole, NewToken, NotAllowed, TOKEN_APPS_MAX, TOKEN_BYTES_MAX, TOKEN_NOTE_BYTES_MAX, Token,
    TokenRole, TokenTenant, TokenWish, token_id, token_secret,
};
