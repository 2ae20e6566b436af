use crate::close::Close;
use crate::log::Level;
use crate::testing::turn::{Command, Turn, in_turn};
use crate::{Addresses, Audience, ClientId, ClientInfo, Fields, Outgoing};

type Answered<T> = (T, Vec<u64>);

pub(crate) fn fail(reason: &str) {
    in_turn(|turn| turn.fail(reason));
}

pub(crate) fn addresses() -> Option<Addresses> {
    in_turn(Turn::addresses)
}

pub(crate) fn session() -> Option<String> {
    in_turn(Turn::session)
}

pub(crate) fn send_to_client(client: ClientId, message: Outgoing<'_>) {
    send(client.into(), Vec::new(), message);
}

pub(crate) fn send(to: Audience, except: Vec<ClientId>, message: Outgoing<'_>) {
    let (kind, payload) = (message.kind, message.payload.into_owned());
    in_turn(|turn| turn.command(Command::Send { to, except, kind, payload }));
}

pub(crate) fn close(to: Audience, except: Vec<ClientId>, how: Close<'_>) {
    let Close { code, reason, farewell } = how;
    let farewell = farewell.map(|message| (message.kind, message.payload.into_owned()));
    in_turn(|turn| turn.command(Command::Close { to, except, code, reason, farewell }));
}

pub(crate) fn destroy(to: Audience, except: Vec<ClientId>) {
    in_turn(|turn| turn.command(Command::Destroy { to, except }));
}

pub(crate) fn bind(client: ClientId, uid: &str) {
    in_turn(|turn| turn.command(Command::Bind(client, uid.into())));
}

pub(crate) fn unbind(client: ClientId) {
    in_turn(|turn| turn.command(Command::Unbind(client)));
}

pub(crate) fn join(client: ClientId, group: &str) {
    in_turn(|turn| turn.command(Command::Join(client, group.into())));
}

pub(crate) fn leave(client: ClientId, group: &str) {
    in_turn(|turn| turn.command(Command::Leave(client, group.into())));
}

pub(crate) fn disband(group: &str) {
    in_turn(|turn| turn.command(Command::Disband(group.into())));
}

pub(crate) fn set_session(client: ClientId, session: Option<&str>) {
    in_turn(|turn| turn.set_session(client, session));
}

pub(crate) fn update_session(client: ClientId, patch: &str) {
    in_turn(|turn| turn.update_session(client, patch));
}

pub(crate) fn count_clients(of: Audience) -> Answered<u64> {
    in_turn(|turn| turn.query(&of, |found| found.len() as u64))
}

pub(crate) fn count_uids(of: Audience) -> Answered<u64> {
    let (uids, missing) = list_uids(of);
    (uids.len() as u64, missing)
}

pub(crate) fn list_clients(of: Audience) -> Answered<Vec<ClientId>> {
    in_turn(|turn| turn.query(&of, |found| found.iter().map(|client| client.client).collect()))
}

pub(crate) fn list_uids(of: Audience) -> Answered<Vec<String>> {
    in_turn(|turn| turn.query(&of, |found| sorted(found.iter().flat_map(|client| client.uid.clone()))))
}

pub(crate) fn list_groups(of: Audience) -> Answered<Vec<String>> {
    in_turn(|turn| turn.query(&of, |found| sorted(found.iter().flat_map(|client| client.groups.clone()))))
}

pub(crate) fn select(of: Audience, fields: Fields) -> Answered<Vec<ClientInfo>> {
    in_turn(|turn| turn.query(&of, |found| found.iter().map(|client| only(client, fields)).collect()))
}

pub(crate) fn count_by_group(groups: &[String]) -> Answered<Vec<u64>> {
    in_turn(|turn| {
        turn.query(&Audience::Groups(groups.to_vec()), |found| {
            let size = |group| found.iter().filter(|client| client.groups.contains(group)).count() as u64;
            groups.iter().map(size).collect()
        })
    })
}

pub(crate) fn set_timer(key: &str, after: u64, every: u64) {
    in_turn(|turn| turn.set_timer(key, after, every));
}

pub(crate) fn cancel_timer(key: &str) {
    in_turn(|turn| turn.cancel_timer(key));
}

pub(crate) fn log(level: Level, line: &str) {
    in_turn(|turn| turn.log(level, line));
}

pub(crate) fn setting(key: &str) -> Option<String> {
    in_turn(|turn| turn.setting(key))
}

pub(crate) fn settings() -> Vec<(String, String)> {
    in_turn(|turn| turn.settings())
}

fn sorted(names: impl Iterator<Item = String>) -> Vec<String> {
    names.collect::<std::collections::BTreeSet<_>>().into_iter().collect()
}

fn only(client: &ClientInfo, fields: Fields) -> ClientInfo {
    ClientInfo {
        client: client.client,
        uid: client.uid.clone().filter(|_| fields.uid),
        groups: if fields.groups { client.groups.clone() } else { Vec::new() },
        session: if fields.session { client.session.clone() } else { crate::Session::default() },
    }
}
