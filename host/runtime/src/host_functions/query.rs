use std::borrow::Cow;
use std::future::Future;

use tidegate_base::{Answer, Answered, Audience, ClientFields, ClientInfo, InvalidCommand, Query};
use wasmtime::component::{ComponentType, LinkerInstance, Lower, WasmList, WasmStr};
use wasmtime::{Result, StoreContextMut};

use super::state::State;
use super::types::{WitAudience, WitClientId, borrow_names, read_list};
use crate::PluginHost;
use crate::fault::HostFailure;
use crate::place;

type Store<'a, H> = StoreContextMut<'a, State<H>>;
type Missing = Vec<u64>;

pub(super) fn link<H: PluginHost>(query: &mut LinkerInstance<'_, State<H>>) -> Result<()> {
    query.func_wrap_async("count-clients", |store, (of,): (WitAudience,)| {
        about(store, &of, Query::CountClients, count)
    })?;
    query.func_wrap_async("count-uids", |store, (of,): (WitAudience,)| {
        about(store, &of, Query::CountUids, count)
    })?;
    query.func_wrap_async("list-clients", |store, (of,): (WitAudience,)| {
        about(store, &of, Query::ListClients, clients)
    })?;
    query.func_wrap_async("list-uids", |store, (of,): (WitAudience,)| {
        about(store, &of, Query::ListUids, names)
    })?;
    query.func_wrap_async("list-groups", |store, (of,): (WitAudience,)| {
        about(store, &of, Query::ListGroups, names)
    })?;
    query.func_wrap_async("select", |store, (of, fields): (WitAudience, Fields)| {
        about(store, &of, move |of| Query::Select(of, fields.into()), infos)
    })?;
    query.func_wrap_async("count-by-group", |mut store, (groups,): (WasmList<WasmStr>,)| {
        let query = read_groups(&mut store, &groups);
        ask(store, query, counts)
    })
}

wasmtime::component::flags! {
    Fields {
        #[component(name = "uid")]
        const UID;
        #[component(name = "groups")]
        const GROUPS;
        #[component(name = "session")]
        const SESSION;
    }
}

impl From<Fields> for ClientFields {
    fn from(fields: Fields) -> Self {
        let has = |flag| fields & flag == flag;
        Self { uid: has(Fields::UID), groups: has(Fields::GROUPS), session: has(Fields::SESSION) }
    }
}

#[derive(ComponentType, Lower)]
#[component(record)]
struct Counted {
    value: u64,
    missing: Missing,
}

#[derive(ComponentType, Lower)]
#[component(record)]
struct ClientList {
    value: Vec<WitClientId>,
    missing: Missing,
}

#[derive(ComponentType, Lower)]
#[component(record)]
struct NameList {
    value: Vec<String>,
    missing: Missing,
}

#[derive(ComponentType, Lower)]
#[component(record)]
struct InfoList {
    value: Vec<Info>,
    missing: Missing,
}

#[derive(ComponentType, Lower)]
#[component(record)]
struct CountList {
    value: Vec<u64>,
    missing: Missing,
}

#[derive(ComponentType, Lower)]
#[component(record)]
struct Info {
    client: WitClientId,
    uid: Option<String>,
    groups: Vec<String>,
    session: Option<String>,
}

impl From<ClientInfo> for Info {
    fn from(info: ClientInfo) -> Self {
        Self { client: info.client.into(), uid: info.uid, groups: info.groups, session: info.session }
    }
}

/// How an answer goes back to the plugin. None: it is not of the variant that the query asks for.
type Convert<R> = fn(Answer, Missing) -> Option<R>;

/// A host function's future, as wasmtime wants it.
type Asking<'a, R> = Box<dyn Future<Output = Result<(R,)>> + Send + 'a>;

fn count(answer: Answer, missing: Missing) -> Option<Counted> {
    let Answer::Count(value) = answer else { return None };
    Some(Counted { value, missing })
}

fn clients(answer: Answer, missing: Missing) -> Option<ClientList> {
    let Answer::Clients(clients) = answer else { return None };
    Some(ClientList { value: clients.into_iter().map(WitClientId::from).collect(), missing })
}

fn names(answer: Answer, missing: Missing) -> Option<NameList> {
    let Answer::Names(value) = answer else { return None };
    Some(NameList { value, missing })
}

fn infos(answer: Answer, missing: Missing) -> Option<InfoList> {
    let Answer::Infos(infos) = answer else { return None };
    Some(InfoList { value: infos.into_iter().map(Info::from).collect(), missing })
}

fn counts(answer: Answer, missing: Missing) -> Option<CountList> {
    let Answer::Counts(value) = answer else { return None };
    Some(CountList { value, missing })
}

/// Asks about an audience.
fn about<'a, H: PluginHost, R: Send + 'a>(
    mut store: Store<'a, H>,
    of: &WitAudience,
    query: impl FnOnce(Audience<'static>) -> Query,
    convert: Convert<R>,
) -> Asking<'a, R> {
    let query = read_audience(&mut store, of).map(|of| of.map(query));
    ask(store, query, convert)
}

fn ask<'a, H: PluginHost, R: Send + 'a>(
    store: Store<'a, H>,
    query: Result<Result<Query, InvalidCommand>>,
    convert: Convert<R>,
) -> Asking<'a, R> {
    Box::new(async move {
        let query = query?.and_then(|query| query.check().map(|()| query));
        let refused = store.data().call.refuses_queries().map_or(Ok(()), |why| Err(why.to_owned()));
        let query = refused.and_then(|()| query.map_err(|invalid| invalid.to_string()));
        let answered = match query {
            Ok(query) => {
                // The answer comes by the shard's lanes, so ask from there: the commands so far leave first.
                place::go_home().await;
                store.data().drain_stdio();
                let answer = store.data().host.borrow_mut().query(query.clone());
                let answered = answer.await;
                return reply(answered, convert, &query);
            }
            Err(reason) => {
                store.data().host.borrow_mut().break_rule(&reason);
                empty(convert)
            }
        };
        answered.ok_or_else(|| HostFailure("a failed query has no empty answer".to_owned()).into())
    })
}

fn reply<R>(answered: Answered, convert: Convert<R>, query: &Query) -> Result<(R,)> {
    let missing = answered.missing.iter().map(|gateway| gateway.get()).collect();
    let reply = convert(answered.answer, missing).map(|reply| (reply,));
    reply.ok_or_else(|| HostFailure(format!("the answer to {query:?} is of another kind")).into())
}

/// What a query returns that has failed its turn.
fn empty<R>(convert: Convert<R>) -> Option<(R,)> {
    let answers = [
        Answer::Count(0),
        Answer::Clients(Vec::new()),
        Answer::Names(Vec::new()),
        Answer::Infos(Vec::new()),
        Answer::Counts(Vec::new()),
    ];
    answers.into_iter().find_map(|answer| convert(answer, Missing::new())).map(|reply| (reply,))
}

// The names are owned: the query outlives this moment of the guest's memory.
fn read_audience<H: PluginHost>(
    store: &mut Store<'_, H>,
    of: &WitAudience,
) -> Result<Result<Audience<'static>, InvalidCommand>> {
    match of.read(store)? {
        Ok(of) => Ok(Ok(of.borrow(store)?.into_owned())),
        Err(invalid) => Ok(Err(invalid)),
    }
}

fn read_groups<H: PluginHost>(
    store: &mut Store<'_, H>,
    groups: &WasmList<WasmStr>,
) -> Result<Result<Query, InvalidCommand>> {
    match read_list(groups, store)? {
        Ok(names) => {
            let names = borrow_names(&names, store)?;
            let owned = names.into_iter().map(|name| Cow::Owned(name.into_owned())).collect();
            Ok(Ok(Query::CountByGroup(owned)))
        }
        Err(invalid) => Ok(Err(invalid)),
    }
}
