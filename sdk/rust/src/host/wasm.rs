use crate::bindings::imports::tidegate::plugin as host;
use crate::bindings::imports::tidegate::plugin::types as wit;
use crate::close::Close;
use crate::log::Level;
use crate::{Addresses, Audience, ClientId, ClientInfo, Fields, MessageKind, Outgoing, Session};

type Answered<T> = (T, Vec<u64>);

pub(crate) fn fail(reason: &str) {
    host::turn::fail(reason);
}

pub(crate) fn addresses() -> Option<Addresses> {
    host::turn::addresses().map(|wit::Addresses { remote, local, protocol }| Addresses {
        remote,
        local,
        protocol,
    })
}

pub(crate) fn session() -> Option<String> {
    host::turn::session()
}

pub(crate) fn send_to_client(client: ClientId, message: Outgoing<'_>) {
    host::gateway::send_to_client(
        client.gateway(),
        client.connection(),
        kind(message.kind),
        &message.payload,
    );
}

pub(crate) fn send(to: Audience, except: Vec<ClientId>, message: Outgoing<'_>) {
    host::gateway::send(&audience(to), &ids(except), kind(message.kind), &message.payload);
}

pub(crate) fn close(to: Audience, except: Vec<ClientId>, how: Close<'_>) {
    let farewell = how
        .farewell
        .map(|message| wit::Message { kind: kind(message.kind), payload: message.payload.into_owned() });
    host::gateway::close(&audience(to), &ids(except), how.code, &how.reason, farewell.as_ref());
}

pub(crate) fn destroy(to: Audience, except: Vec<ClientId>) {
    host::gateway::destroy(&audience(to), &ids(except));
}

pub(crate) fn bind(client: ClientId, uid: &str) {
    host::gateway::bind(id(client), uid);
}

pub(crate) fn unbind(client: ClientId) {
    host::gateway::unbind(id(client));
}

pub(crate) fn join(client: ClientId, group: &str) {
    host::gateway::join(id(client), group);
}

pub(crate) fn leave(client: ClientId, group: &str) {
    host::gateway::leave(id(client), group);
}

pub(crate) fn disband(group: &str) {
    host::gateway::disband(group);
}

pub(crate) fn set_session(client: ClientId, session: Option<&str>) {
    host::gateway::set_session(id(client), session);
}

pub(crate) fn update_session(client: ClientId, patch: &str) {
    host::gateway::update_session(id(client), patch);
}

pub(crate) fn count_clients(of: Audience) -> Answered<u64> {
    let answer = host::query::count_clients(&audience(of));
    (answer.value, answer.missing)
}

pub(crate) fn count_uids(of: Audience) -> Answered<u64> {
    let answer = host::query::count_uids(&audience(of));
    (answer.value, answer.missing)
}

pub(crate) fn list_clients(of: Audience) -> Answered<Vec<ClientId>> {
    let answer = host::query::list_clients(&audience(of));
    (answer.value.into_iter().map(from_id).collect(), answer.missing)
}

pub(crate) fn list_uids(of: Audience) -> Answered<Vec<String>> {
    let answer = host::query::list_uids(&audience(of));
    (answer.value, answer.missing)
}

pub(crate) fn list_groups(of: Audience) -> Answered<Vec<String>> {
    let answer = host::query::list_groups(&audience(of));
    (answer.value, answer.missing)
}

pub(crate) fn select(of: Audience, fields: Fields) -> Answered<Vec<ClientInfo>> {
    let mut wanted = wit::ClientFields::empty();
    wanted.set(wit::ClientFields::UID, fields.uid);
    wanted.set(wit::ClientFields::GROUPS, fields.groups);
    wanted.set(wit::ClientFields::SESSION, fields.session);
    let answer = host::query::select(&audience(of), wanted);
    let from_info = |info: wit::ClientInfo| ClientInfo {
        client: from_id(info.client),
        uid: info.uid,
        groups: info.groups,
        session: Session::of_host(info.session),
    };
    (answer.value.into_iter().map(from_info).collect(), answer.missing)
}

pub(crate) fn count_by_group(groups: &[String]) -> Answered<Vec<u64>> {
    let answer = host::query::count_by_group(groups);
    (answer.value, answer.missing)
}

pub(crate) fn set_timer(key: &str, after: u64, every: u64) {
    host::timers::set(key, after, every);
}

pub(crate) fn cancel_timer(key: &str) {
    host::timers::cancel(key);
}

pub(crate) fn log(level: Level, line: &str) {
    let level = match level {
        Level::Error => wit::LogLevel::Error,
        Level::Warn => wit::LogLevel::Warn,
        Level::Info => wit::LogLevel::Info,
        Level::Debug => wit::LogLevel::Debug,
        Level::Trace => wit::LogLevel::Trace,
    };
    host::log::write(level, line);
}

pub(crate) fn setting(key: &str) -> Option<String> {
    host::settings::get(key)
}

pub(crate) fn settings() -> Vec<(String, String)> {
    host::settings::all()
}

fn id(client: ClientId) -> wit::ClientId {
    wit::ClientId { gateway: client.gateway(), connection: client.connection() }
}

fn from_id(id: wit::ClientId) -> ClientId {
    ClientId::trusted(id.gateway, id.connection)
}

fn ids(clients: Vec<ClientId>) -> Vec<wit::ClientId> {
    clients.into_iter().map(id).collect()
}

fn audience(audience: Audience) -> wit::Audience {
    match audience {
        Audience::All => wit::Audience::All,
        Audience::Clients(clients) => wit::Audience::Clients(ids(clients)),
        Audience::Uids(uids) => wit::Audience::Uids(uids),
        Audience::Groups(groups) => wit::Audience::Groups(groups),
    }
}

fn kind(kind: MessageKind) -> wit::MessageKind {
    match kind {
        MessageKind::Text => wit::MessageKind::Text,
        MessageKind::Binary => wit::MessageKind::Binary,
        MessageKind::Raw => wit::MessageKind::Raw,
    }
}
