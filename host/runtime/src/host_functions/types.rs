//! The types of `tidegate:plugin/types` as they cross the border: lifted out of wasm memory without copying what can
//! be borrowed, lowered into it from what the host holds.

use std::borrow::Cow;

use tidegate_base::limits::AUDIENCE_ENTRIES_MAX;
use tidegate_base::{
    Audience, ClientId, CloseInfo, CloseReason, GatewayId, InvalidCommand, MessageKind, UpgradeDecision,
    UpgradeRequest,
};
use wasmtime::component::{ComponentType, Lift, Lower, WasmList, WasmStr};
use wasmtime::{AsContextMut, Result, StoreContextMut};

use crate::{LogLevel, StartInfo, StartReason, StopReason};

#[derive(Clone, Copy, ComponentType, Lift, Lower)]
#[component(record)]
pub(crate) struct WitClientId {
    gateway: u64,
    connection: u32,
}

impl From<WitClientId> for ClientId {
    fn from(id: WitClientId) -> Self {
        Self { gateway: GatewayId::new(id.gateway), connection: id.connection }
    }
}

impl From<ClientId> for WitClientId {
    fn from(id: ClientId) -> Self {
        Self { gateway: id.gateway.get(), connection: id.connection }
    }
}

#[derive(Clone, Copy, ComponentType, Lift, Lower)]
#[component(enum)]
#[repr(u8)]
pub(crate) enum WitKind {
    #[component(name = "text")]
    Text,
    #[component(name = "binary")]
    Binary,
    #[component(name = "raw")]
    Raw,
}

impl From<WitKind> for MessageKind {
    fn from(kind: WitKind) -> Self {
        match kind {
            WitKind::Text => Self::Text,
            WitKind::Binary => Self::Binary,
            WitKind::Raw => Self::Raw,
        }
    }
}

impl From<MessageKind> for WitKind {
    fn from(kind: MessageKind) -> Self {
        match kind {
            MessageKind::Text => Self::Text,
            MessageKind::Binary => Self::Binary,
            MessageKind::Raw => Self::Raw,
        }
    }
}

#[derive(ComponentType, Lift)]
#[component(record)]
pub(crate) struct WitMessage {
    pub(crate) kind: WitKind,
    pub(crate) payload: WasmList<u8>,
}

#[derive(ComponentType, Lift)]
#[component(variant)]
pub(crate) enum WitAudience {
    #[component(name = "all")]
    All,
    #[component(name = "clients")]
    Clients(WasmList<WitClientId>),
    #[component(name = "uids")]
    Uids(WasmList<WasmStr>),
    #[component(name = "groups")]
    Groups(WasmList<WasmStr>),
}

/// An audience whose list has been read; the names are still in wasm memory.
pub(crate) enum ReadAudience {
    All,
    Clients(Vec<ClientId>),
    Uids(Vec<WasmStr>),
    Groups(Vec<WasmStr>),
}

impl WitAudience {
    /// Reads the list, unless it is longer than any may be. The outer error is a trap, the inner one a failed turn.
    pub(crate) fn read<T: 'static>(
        &self,
        store: &mut StoreContextMut<'_, T>,
    ) -> Result<Result<ReadAudience, InvalidCommand>> {
        Ok(match self {
            Self::All => Ok(ReadAudience::All),
            Self::Clients(list) => read_clients(list, store)?.map(ReadAudience::Clients),
            Self::Uids(list) => read_list(list, store)?.map(ReadAudience::Uids),
            Self::Groups(list) => read_list(list, store)?.map(ReadAudience::Groups),
        })
    }
}

impl ReadAudience {
    /// The audience with its names borrowed from wasm memory.
    pub(crate) fn borrow<'a, T: 'static>(self, store: &'a StoreContextMut<'_, T>) -> Result<Audience<'a>> {
        Ok(match self {
            Self::All => Audience::All,
            Self::Clients(clients) => Audience::Clients(clients),
            Self::Uids(names) => Audience::Uids(borrow_names(&names, store)?),
            Self::Groups(names) => Audience::Groups(borrow_names(&names, store)?),
        })
    }
}

/// Reads a list of clients; errors as [`WitAudience::read`].
pub(crate) fn read_clients<T: 'static>(
    list: &WasmList<WitClientId>,
    store: &mut StoreContextMut<'_, T>,
) -> Result<Result<Vec<ClientId>, InvalidCommand>> {
    Ok(read_list(list, store)?.map(|clients| clients.into_iter().map(ClientId::from).collect()))
}

/// Reads the elements of a list; errors as [`WitAudience::read`].
pub(crate) fn read_list<E: Lift, T: 'static>(
    list: &WasmList<E>,
    store: &mut StoreContextMut<'_, T>,
) -> Result<Result<Vec<E>, InvalidCommand>> {
    // Before anything is allocated for it.
    if list.len() > AUDIENCE_ENTRIES_MAX {
        return Ok(Err(InvalidCommand::Entries(list.len())));
    }
    list.iter(store.as_context_mut())?.collect::<Result<Vec<_>>>().map(Ok)
}

/// Borrows strings from wasm memory. A string that is not UTF-8 traps.
pub(crate) fn borrow_names<'a, T: 'static>(
    names: &[WasmStr],
    store: &'a StoreContextMut<'_, T>,
) -> Result<Vec<Cow<'a, str>>> {
    names.iter().map(|name| name.to_str(store)).collect()
}

#[derive(Clone, Copy, ComponentType, Lift)]
#[component(enum)]
#[repr(u8)]
#[expect(dead_code, reason = "values are made by `Lift` out of a discriminant")]
pub(crate) enum WitLogLevel {
    #[component(name = "error")]
    Error,
    #[component(name = "warn")]
    Warn,
    #[component(name = "info")]
    Info,
    #[component(name = "debug")]
    Debug,
    #[component(name = "trace")]
    Trace,
}

impl From<WitLogLevel> for LogLevel {
    fn from(level: WitLogLevel) -> Self {
        match level {
            WitLogLevel::Error => Self::Error,
            WitLogLevel::Warn => Self::Warn,
            WitLogLevel::Info => Self::Info,
            WitLogLevel::Debug => Self::Debug,
            WitLogLevel::Trace => Self::Trace,
        }
    }
}

#[derive(Clone, Copy, ComponentType, Lower)]
#[component(enum)]
#[repr(u8)]
pub(crate) enum WitStartReason {
    #[component(name = "new")]
    New,
    #[component(name = "swap")]
    Swap,
    #[component(name = "restart")]
    Restart,
}

#[derive(Clone, Copy, ComponentType, Lower)]
#[component(record)]
pub(crate) struct WitStartInfo<'a> {
    slot: u32,
    slots: u32,
    worker: &'a str,
    version: u32,
    reason: WitStartReason,
}

impl<'a> From<&'a StartInfo> for WitStartInfo<'a> {
    fn from(info: &'a StartInfo) -> Self {
        let reason = match info.reason {
            StartReason::New => WitStartReason::New,
            StartReason::Swap => WitStartReason::Swap,
            StartReason::Restart => WitStartReason::Restart,
        };
        Self { slot: info.slot, slots: info.slots, worker: &info.worker, version: info.version, reason }
    }
}

#[derive(Clone, Copy, ComponentType, Lower)]
#[component(enum)]
#[repr(u8)]
pub(crate) enum WitStopReason {
    #[component(name = "swap")]
    Swap,
    #[component(name = "shutdown")]
    Shutdown,
}

impl From<StopReason> for WitStopReason {
    fn from(reason: StopReason) -> Self {
        match reason {
            StopReason::Swap => Self::Swap,
            StopReason::Shutdown => Self::Shutdown,
        }
    }
}

#[derive(Clone, Copy, ComponentType, Lower)]
#[component(enum)]
#[repr(u8)]
pub(crate) enum WitCloseReason {
    #[component(name = "client")]
    Client,
    #[component(name = "plugin")]
    Plugin,
    #[component(name = "heartbeat")]
    Heartbeat,
    #[component(name = "slow")]
    Slow,
    #[component(name = "protocol")]
    Protocol,
    #[component(name = "network")]
    Network,
    #[component(name = "shutdown")]
    Shutdown,
    #[component(name = "gateway-lost")]
    GatewayLost,
}

impl From<CloseReason> for WitCloseReason {
    fn from(reason: CloseReason) -> Self {
        match reason {
            CloseReason::Client => Self::Client,
            CloseReason::Plugin => Self::Plugin,
            CloseReason::Heartbeat => Self::Heartbeat,
            CloseReason::Slow => Self::Slow,
            CloseReason::Protocol => Self::Protocol,
            CloseReason::Network => Self::Network,
            CloseReason::Shutdown => Self::Shutdown,
            CloseReason::GatewayLost => Self::GatewayLost,
        }
    }
}

#[derive(Clone, Copy, ComponentType, Lower)]
#[component(record)]
pub(crate) struct WitCloseInfo<'a> {
    reason: WitCloseReason,
    uid: Option<&'a str>,
    groups: &'a [String],
    session: Option<&'a str>,
}

impl<'a> From<&'a CloseInfo> for WitCloseInfo<'a> {
    fn from(info: &'a CloseInfo) -> Self {
        Self {
            reason: info.reason.into(),
            uid: info.uid.as_deref(),
            groups: &info.groups,
            session: info.session.as_deref(),
        }
    }
}

#[derive(Clone, Copy, ComponentType, Lower)]
#[component(record)]
pub(crate) struct WitUpgradeRequest<'a> {
    path: &'a str,
    query: &'a [(String, String)],
    headers: &'a [(String, String)],
    cookies: &'a [(String, String)],
    protocols: &'a [String],
}

impl<'a> From<&'a UpgradeRequest> for WitUpgradeRequest<'a> {
    fn from(request: &'a UpgradeRequest) -> Self {
        let UpgradeRequest { path, query, headers, cookies, protocols } = request;
        Self { path, query, headers, cookies, protocols }
    }
}

#[derive(ComponentType, Lift)]
#[component(variant)]
pub(crate) enum WitUpgradeDecision {
    #[component(name = "accept")]
    Accept(Option<String>),
    #[component(name = "refuse")]
    Refuse((u16, String)),
}

impl From<WitUpgradeDecision> for UpgradeDecision {
    fn from(decision: WitUpgradeDecision) -> Self {
        match decision {
            WitUpgradeDecision::Accept(protocol) => Self::Accept(protocol),
            WitUpgradeDecision::Refuse((status, text)) => Self::Refuse(status, text),
        }
    }
}
