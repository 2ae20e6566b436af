use std::borrow::Cow;

use tidegate_base::{ClientId, Command, GatewayId, InvalidCommand, Message};
use wasmtime::component::{LinkerInstance, WasmList, WasmStr};
use wasmtime::{Result, StoreContextMut};

use super::state::State;
use super::types::{ReadAudience, WitAudience, WitClientId, WitKind, WitMessage, read_clients};
use crate::PluginHost;

type Store<'a, H> = StoreContextMut<'a, State<H>>;

#[expect(
    clippy::redundant_closure,
    reason = "a variant is a function of one lifetime, the closures are of any"
)]
pub(super) fn link<H: PluginHost>(gateway: &mut LinkerInstance<'_, State<H>>) -> Result<()> {
    gateway.func_wrap("send-to-client", send_to_client)?;
    gateway.func_wrap("send", send)?;
    gateway.func_wrap("close", close)?;
    gateway.func_wrap("destroy", destroy)?;
    gateway.func_wrap("bind", |store, args| {
        client_and_name(store, args, |client, name| Command::Bind(client, name))
    })?;
    gateway.func_wrap("unbind", |store: Store<'_, H>, (client,): (WitClientId,)| {
        store.data().command(Command::Unbind(client.into()));
        Ok(())
    })?;
    gateway.func_wrap("join", |store, args| {
        client_and_name(store, args, |client, name| Command::Join(client, name))
    })?;
    gateway.func_wrap("leave", |store, args| {
        client_and_name(store, args, |client, name| Command::Leave(client, name))
    })?;
    gateway.func_wrap("disband", |store: Store<'_, H>, (group,): (WasmStr,)| {
        let group = group.to_str(&store)?;
        store.data().command(Command::Disband(group));
        Ok(())
    })?;
    gateway.func_wrap("set-session", set_session)?;
    gateway.func_wrap("update-session", |store, args| {
        client_and_name(store, args, |client, name| Command::UpdateSession(client, name))
    })
}

/// The hot one: nothing is allocated here, and the payload is read where it lies.
fn send_to_client<H: PluginHost>(
    store: Store<'_, H>,
    (gateway, connection, kind, payload): (u64, u32, WitKind, WasmList<u8>),
) -> Result<()> {
    let client = ClientId { gateway: GatewayId::new(gateway), connection };
    let message = Message { kind: kind.into(), payload: payload.as_le_slice(&store) };
    store.data().command(Command::SendTo(client, message));
    Ok(())
}

fn send<H: PluginHost>(
    mut store: Store<'_, H>,
    (to, except, kind, payload): (WitAudience, WasmList<WitClientId>, WitKind, WasmList<u8>),
) -> Result<()> {
    let Some((to, except)) = read_audience(&mut store, &to, &except)? else { return Ok(()) };
    let message = Message { kind: kind.into(), payload: payload.as_le_slice(&store) };
    let to = to.borrow(&store)?;
    store.data().command(Command::Send { to, except, message });
    Ok(())
}

type CloseArgs = (WitAudience, WasmList<WitClientId>, u16, WasmStr, Option<WitMessage>);

fn close<H: PluginHost>(
    mut store: Store<'_, H>,
    (to, except, code, reason, farewell): CloseArgs,
) -> Result<()> {
    let Some((to, except)) = read_audience(&mut store, &to, &except)? else { return Ok(()) };
    let to = to.borrow(&store)?;
    let reason = reason.to_str(&store)?;
    let farewell = farewell
        .as_ref()
        .map(|message| Message { kind: message.kind.into(), payload: message.payload.as_le_slice(&store) });
    store.data().command(Command::Close { to, except, code, reason, farewell });
    Ok(())
}

fn destroy<H: PluginHost>(
    mut store: Store<'_, H>,
    (to, except): (WitAudience, WasmList<WitClientId>),
) -> Result<()> {
    let Some((to, except)) = read_audience(&mut store, &to, &except)? else { return Ok(()) };
    let to = to.borrow(&store)?;
    store.data().command(Command::Destroy { to, except });
    Ok(())
}

fn set_session<H: PluginHost>(
    store: Store<'_, H>,
    (client, session): (WitClientId, Option<WasmStr>),
) -> Result<()> {
    let session = session.map(|session| session.to_str(&store)).transpose()?;
    store.data().command(Command::SetSession(client.into(), session));
    Ok(())
}

fn client_and_name<H: PluginHost>(
    store: Store<'_, H>,
    (client, name): (WitClientId, WasmStr),
    command: for<'a> fn(ClientId, Cow<'a, str>) -> Command<'a>,
) -> Result<()> {
    let name = name.to_str(&store)?;
    store.data().command(command(client.into(), name));
    Ok(())
}

/// Reads an audience and its exceptions. None: the turn has failed.
fn read_audience<H: PluginHost>(
    store: &mut Store<'_, H>,
    to: &WitAudience,
    except: &WasmList<WitClientId>,
) -> Result<Option<(ReadAudience, Vec<ClientId>)>> {
    let read: Result<_, InvalidCommand> = match to.read(store)? {
        Ok(to) => read_clients(except, store)?.map(|except| (to, except)),
        Err(invalid) => Err(invalid),
    };
    match read {
        Ok(read) => Ok(Some(read)),
        Err(invalid) => {
            store.data().host.borrow_mut().break_rule(&invalid.to_string());
            Ok(None)
        }
    }
}
