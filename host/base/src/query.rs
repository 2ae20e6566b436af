use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use crate::command::{check_entries, check_name};
use crate::{Audience, ClientId, GatewayId, InvalidCommand};

/// A question to every gateway that may know a part of the answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Query {
    /// How many clients an audience has.
    CountClients(Audience<'static>),
    /// How many different uids the clients of an audience have.
    CountUids(Audience<'static>),
    /// The clients of an audience.
    ListClients(Audience<'static>),
    /// The different uids of the clients of an audience.
    ListUids(Audience<'static>),
    /// The different groups of the clients of an audience.
    ListGroups(Audience<'static>),
    /// Fields of each client of an audience.
    Select(Audience<'static>, ClientFields),
    /// How many clients each group has.
    CountByGroup(Vec<Cow<'static, str>>),
}

impl Query {
    /// Whose clients the query is about; none: every gateway is asked.
    pub fn audience(&self) -> Option<&Audience<'static>> {
        match self {
            Self::CountClients(of)
            | Self::CountUids(of)
            | Self::ListClients(of)
            | Self::ListUids(of)
            | Self::ListGroups(of)
            | Self::Select(of, _) => Some(of),
            Self::CountByGroup(_) => None,
        }
    }

    /// Checks names and list lengths.
    ///
    /// # Errors
    /// The first rule that the query breaks.
    pub fn check(&self) -> Result<(), InvalidCommand> {
        match self {
            Self::CountByGroup(groups) => {
                groups.iter().try_for_each(|group| check_name(group))?;
                check_entries(groups.len())
            }
            _ => self.audience().map_or(Ok(()), Audience::check),
        }
    }
}

/// Which fields [`Query::Select`] reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClientFields {
    /// The uid.
    pub uid: bool,
    /// The groups.
    pub groups: bool,
    /// The session.
    pub session: bool,
}

/// A client as [`Query::Select`] reports it. A field that was not asked for is empty.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClientInfo {
    /// Who.
    pub client: ClientId,
    /// Its uid.
    pub uid: Option<String>,
    /// Its groups.
    pub groups: Vec<String>,
    /// Its session, a JSON object.
    pub session: Option<String>,
}

/// One gateway's answer, or that of all of them together. Its variant follows from the query.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Answer {
    /// To `CountClients`, and to `CountUids` once merged.
    Count(u64),
    /// To `ListClients`.
    Clients(Vec<ClientId>),
    /// To `ListUids` and `ListGroups`; one gateway's part of `CountUids`.
    Names(Vec<String>),
    /// To `Select`.
    Infos(Vec<ClientInfo>),
    /// To `CountByGroup`.
    Counts(Vec<u64>),
}

/// A merged answer and the gateways that are missing in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answered {
    /// What the other gateways answered.
    pub answer: Answer,
    /// The gateways that did not answer in time.
    pub missing: Vec<GatewayId>,
}
