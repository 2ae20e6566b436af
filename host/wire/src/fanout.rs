//! Splitting commands and queries over gateways, and merging their answers.

use std::collections::BTreeSet;

use tidegate_base::{Answer, Answered, Audience, ClientId, Command, GatewayId, Query};

/// Whether a gateway has to do with an audience.
pub fn concerns(audience: &Audience<'_>, gateway: GatewayId) -> bool {
    match audience {
        Audience::All => true,
        Audience::Clients(clients) => clients.iter().any(|c| c.gateway == gateway),
        Audience::Uids(names) | Audience::Groups(names) => !names.is_empty(),
    }
}

/// Whom a command is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target<'a> {
    /// The gateway of this client.
    Client(ClientId),
    /// The gateways that this audience concerns.
    Audience(&'a Audience<'a>),
    /// Every gateway.
    All,
}

/// Whom a command is for.
pub fn target<'a>(command: &'a Command<'a>) -> Target<'a> {
    match command {
        Command::SendTo(client, _)
        | Command::Bind(client, _)
        | Command::Unbind(client)
        | Command::Join(client, _)
        | Command::Leave(client, _)
        | Command::SetSession(client, _)
        | Command::UpdateSession(client, _) => Target::Client(*client),
        Command::Send { to, .. } | Command::Close { to, .. } | Command::Destroy { to, .. } => {
            Target::Audience(to)
        }
        Command::Disband(_) => Target::All,
    }
}

/// A query under way: which gateways are still to answer, and what the others said.
///
/// Calling contract: ask the gateways of `waiting()`, then `on_answer` or `on_lost` for each until `is_done`; `finish`
/// at any time takes the rest as missing.
#[derive(Debug)]
pub struct Fanout {
    waiting: Vec<GatewayId>,
    missing: Vec<GatewayId>,
    merged: Merged,
}

#[derive(Debug)]
enum Merged {
    Sum(u64),
    Counts(Vec<u64>),
    Names { names: BTreeSet<String>, only_count: bool },
    Clients(Vec<ClientId>),
    Infos(Vec<tidegate_base::ClientInfo>),
}

impl Fanout {
    /// A query to those of `gateways` that it concerns.
    pub fn new(query: &Query, gateways: impl IntoIterator<Item = GatewayId>) -> Self {
        let concerned = |g: &GatewayId| query.audience().is_none_or(|of| concerns(of, *g));
        let names = |only_count| Merged::Names { names: BTreeSet::new(), only_count };
        Self {
            waiting: gateways.into_iter().filter(concerned).collect(),
            missing: Vec::new(),
            merged: match query {
                Query::CountClients(_) => Merged::Sum(0),
                Query::CountUids(_) => names(true),
                Query::ListUids(_) | Query::ListGroups(_) => names(false),
                Query::ListClients(_) => Merged::Clients(Vec::new()),
                Query::Select(..) => Merged::Infos(Vec::new()),
                Query::CountByGroup(groups) => Merged::Counts(vec![0; groups.len()]),
            },
        }
    }

    /// The gateways that have not answered.
    pub fn waiting(&self) -> &[GatewayId] {
        &self.waiting
    }

    /// Whether nothing is waited for any more.
    pub fn is_done(&self) -> bool {
        self.waiting.is_empty()
    }

    /// A gateway answered. An answer that does not fit the query counts as none.
    pub fn on_answer(&mut self, gateway: GatewayId, answer: Answer) {
        let Some(at) = self.waiting.iter().position(|g| *g == gateway) else { return };
        self.waiting.swap_remove(at);
        match (&mut self.merged, answer) {
            (Merged::Sum(sum), Answer::Count(count)) => *sum = sum.saturating_add(count),
            (Merged::Counts(sums), Answer::Counts(counts)) if sums.len() == counts.len() => {
                sums.iter_mut().zip(counts).for_each(|(sum, count)| *sum = sum.saturating_add(count));
            }
            (Merged::Names { names, .. }, Answer::Names(more)) => names.extend(more),
            (Merged::Clients(clients), Answer::Clients(more)) => clients.extend(more),
            (Merged::Infos(infos), Answer::Infos(more)) => infos.extend(more),
            _ => self.missing.push(gateway),
        }
    }

    /// A gateway will not answer.
    pub fn on_lost(&mut self, gateway: GatewayId) {
        if let Some(at) = self.waiting.iter().position(|g| *g == gateway) {
            self.missing.push(self.waiting.swap_remove(at));
        }
    }

    /// What came together.
    pub fn finish(mut self) -> Answered {
        self.missing.append(&mut self.waiting);
        self.missing.sort_unstable();
        let answer = match self.merged {
            Merged::Sum(sum) => Answer::Count(sum),
            Merged::Counts(counts) => Answer::Counts(counts),
            Merged::Names { names, only_count: true } => Answer::Count(names.len() as u64),
            Merged::Names { names, only_count: false } => Answer::Names(names.into_iter().collect()),
            Merged::Clients(clients) => Answer::Clients(clients),
            Merged::Infos(infos) => Answer::Infos(infos),
        };
        Answered { answer, missing: self.missing }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: GatewayId = GatewayId::new(1);
    const B: GatewayId = GatewayId::new(2);

    #[test]
    fn uids_of_two_gateways_are_counted_once() {
        let mut fanout = Fanout::new(&Query::CountUids(Audience::All), [A, B]);
        fanout.on_answer(A, Answer::Names(vec!["x".into(), "y".into()]));
        assert!(!fanout.is_done());
        fanout.on_answer(B, Answer::Names(vec!["y".into(), "z".into()]));
        assert!(fanout.is_done());
        assert_eq!(fanout.finish(), Answered { answer: Answer::Count(3), missing: vec![] });
    }

    #[test]
    fn who_does_not_answer_is_named() {
        let mut fanout = Fanout::new(&Query::CountClients(Audience::All), [B, A]);
        fanout.on_answer(A, Answer::Count(2));
        fanout.on_answer(A, Answer::Count(2));
        assert_eq!(fanout.finish(), Answered { answer: Answer::Count(2), missing: vec![B] });
    }

    #[test]
    fn an_answer_of_another_kind_counts_as_none() {
        let mut fanout = Fanout::new(&Query::CountByGroup(vec!["a".into()]), [A, B]);
        fanout.on_answer(A, Answer::Counts(vec![1, 2]));
        fanout.on_answer(B, Answer::Counts(vec![5]));
        assert_eq!(fanout.finish(), Answered { answer: Answer::Counts(vec![5]), missing: vec![A] });
    }

    #[test]
    fn only_the_gateways_of_the_clients_are_asked() {
        let client = ClientId { gateway: B, connection: 1 };
        let fanout = Fanout::new(&Query::ListClients(Audience::Clients(vec![client])), [A, B]);
        assert_eq!(fanout.waiting(), [B]);
    }
}
