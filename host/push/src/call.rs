//! One call: what was asked of which gateways, and what they have said so far. Pure.

use tidegate_base::{Answer, GatewayId, NodeName, Query};
use tidegate_wire::command_lane::Said;
use tidegate_wire::fanout::Fanout;

use crate::hearing::Moment;

/// What became of one command on all gateways together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It is applied, and about so many clients.
    Reached(u64),
    /// A gateway refused it, and why; others may have applied it.
    Refused(String),
}

/// Why a gateway's part of an answer is missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Why {
    /// It is in the cluster's list, but not linked now: nothing was sent to it.
    NotLinked,
    /// So much waits for its answer already that nothing more was sent to it.
    Busy,
    /// Its link or lane was lost before it had answered: what was sent may or may not be applied.
    Lost,
    /// It refused to answer a query; nothing is applied.
    Refused,
    /// It did not answer in time: what was sent may or may not be applied.
    Late,
}

/// A gateway that has not answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Missing {
    /// Which: the first 12 digits of its clients' ids.
    pub gateway: GatewayId,
    /// The node's name.
    pub name: NodeName,
    /// Why.
    pub why: Why,
}

/// What commands came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pushed {
    /// For each command, in order.
    pub outcomes: Vec<Outcome>,
    /// The gateways that have not said that they have all of theirs.
    pub missing: Vec<Missing>,
}

/// What a query came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answered {
    /// What those gateways answered that did; none: each of them refused.
    pub answer: Answer,
    /// Why a gateway refused to answer, if one did. It counts as missing too.
    pub refused: Option<String>,
    /// The gateways whose part is missing.
    pub missing: Vec<Missing>,
}

/// What every gateway that was asked has said: no such app.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct NoSuchApp;

/// A call under way.
///
/// Calling contract: [`begin_part`](Self::begin_part) for each gateway that is concerned; then `on_*` by the part's number
/// until [`is_done`](Self::is_done); `finish_*` at any time takes what has not come as late.
#[derive(Debug)]
pub(crate) struct Call {
    asked: What,
    parts: Vec<Part>,
    waiting: usize,
    /// Those of them that are worth the whole wait.
    patient: usize,
}

#[derive(Debug)]
enum What {
    Commands(Vec<Outcome>),
    Query(Box<Fanout>, Option<String>),
}

#[derive(Debug)]
struct Part {
    gateway: GatewayId,
    name: NodeName,
    state: State,
    worth: Worth,
}

/// How long a gateway is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Worth {
    /// As long as a call waits, from this moment of its life on.
    Whole(Moment),
    /// A little: it has let a whole wait pass, and has said nothing since.
    Little,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// So many answers are to come.
    Waiting(usize),
    Done,
    Missing(Why),
    NoApp,
}

impl Call {
    /// So many commands, none of which has reached anybody yet.
    pub fn of_commands(count: usize) -> Self {
        Self::of(What::Commands(vec![Outcome::Reached(0); count]))
    }

    /// A query to those of these gateways that it concerns.
    pub fn of_query(query: &Query, gateways: impl IntoIterator<Item = GatewayId>) -> Self {
        Self::of(What::Query(Box::new(Fanout::new(query, gateways)), None))
    }

    fn of(asked: What) -> Self {
        Self { asked, parts: Vec::new(), waiting: 0, patient: 0 }
    }

    /// The gateways that a query concerns.
    pub fn concerns(&self, gateway: GatewayId) -> bool {
        match &self.asked {
            What::Commands(_) => true,
            What::Query(fanout, _) => fanout.waiting().contains(&gateway),
        }
    }

    /// A gateway has so many answers to give. Returns the number of its part.
    pub fn begin_part(&mut self, gateway: GatewayId, name: NodeName, answers: usize, worth: Worth) -> u32 {
        let state = if answers == 0 { State::Done } else { State::Waiting(answers) };
        if answers > 0 {
            self.waiting += 1;
            self.patient += usize::from(worth != Worth::Little);
        }
        self.parts.push(Part { gateway, name, state, worth });
        // One for each gateway.
        (self.parts.len() - 1) as u32
    }

    /// A gateway has answered one thing.
    pub fn on_said(&mut self, part: u32, command: u32, said: Said) {
        let Some(Part { gateway, state: State::Waiting(left), .. }) = self.parts.get_mut(part as usize)
        else {
            return;
        };
        *left -= 1;
        let (gateway, is_over) = (*gateway, *left == 0);
        let mut end = State::Done;
        match (&mut self.asked, said) {
            (What::Commands(outcomes), Said::Reached(more)) => {
                if let Some(Outcome::Reached(clients)) = outcomes.get_mut(command as usize) {
                    *clients = clients.saturating_add(more.into());
                }
            }
            (What::Commands(outcomes), Said::Refused(why)) => {
                if let Some(outcome) = outcomes.get_mut(command as usize) {
                    *outcome = Outcome::Refused(why);
                }
            }
            (What::Query(fanout, _), Said::Answer(answer)) => fanout.on_answer(gateway, answer),
            (What::Query(fanout, refused), Said::Refused(why)) => {
                fanout.on_lost(gateway);
                *refused = Some(why);
                end = State::Missing(Why::Refused);
            }
            // The lane sees to it that an answer fits what was asked.
            (What::Commands(_), Said::Answer(_)) | (What::Query(..), Said::Reached(_)) => {}
        }
        if is_over {
            self.end(part, end);
        }
    }

    /// A gateway will not answer any more.
    pub fn on_missing(&mut self, part: u32, why: Why) {
        self.end(part, State::Missing(why));
    }

    /// A gateway says that it has no such app.
    pub fn on_no_app(&mut self, part: u32) {
        self.end(part, State::NoApp);
    }

    /// Whether nothing is waited for any more.
    pub fn is_done(&self) -> bool {
        self.waiting == 0
    }

    /// Whether nobody is waited for any more who is worth the whole wait.
    pub fn needs_no_patience(&self) -> bool {
        self.patient == 0
    }

    /// The whole wait is over: the gateways that have let it pass, and since when they were asked.
    pub fn waited_out(&self) -> impl Iterator<Item = (GatewayId, Moment)> {
        let waiting = self.parts.iter().filter(|part| matches!(part.state, State::Waiting(_)));
        waiting.filter_map(|part| match part.worth {
            Worth::Whole(asked) => Some((part.gateway, asked)),
            Worth::Little => None,
        })
    }

    /// What became of commands.
    pub fn finish_commands(&mut self) -> Result<Pushed, NoSuchApp> {
        let missing = self.missing()?;
        let outcomes = match &mut self.asked {
            What::Commands(outcomes) => std::mem::take(outcomes),
            What::Query(..) => Vec::new(),
        };
        Ok(Pushed { outcomes, missing })
    }

    /// What became of a query.
    pub fn finish_query(&mut self) -> Result<Option<Answered>, NoSuchApp> {
        let missing = self.missing()?;
        let nothing = What::Commands(Vec::new());
        match std::mem::replace(&mut self.asked, nothing) {
            What::Query(fanout, refused) => {
                // The gateways that have no such app have no clients of it, and so no part in the answer.
                Ok(Some(Answered { answer: fanout.finish().answer, refused, missing }))
            }
            What::Commands(_) => Ok(None),
        }
    }

    fn missing(&self) -> Result<Vec<Missing>, NoSuchApp> {
        if !self.parts.is_empty() && self.parts.iter().all(|part| part.state == State::NoApp) {
            return Err(NoSuchApp);
        }
        let missing = self.parts.iter().filter_map(|Part { gateway, name, state, .. }| {
            let why = match state {
                State::Waiting(_) => Why::Late,
                State::Missing(why) => *why,
                State::Done | State::NoApp => return None,
            };
            Some(Missing { gateway: *gateway, name: name.clone(), why })
        });
        Ok(missing.collect())
    }

    fn end(&mut self, part: u32, state: State) {
        if let Some(part) = self.parts.get_mut(part as usize) {
            let was_waiting = !matches!(part.state, State::Done | State::Missing(_) | State::NoApp);
            if was_waiting {
                part.state = state;
                self.waiting -= 1;
                self.patient -= usize::from(part.worth != Worth::Little);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tidegate_base::Audience;

    use super::*;

    fn id(n: usize) -> GatewayId {
        GatewayId::new(n as u64 + 1)
    }

    fn name() -> NodeName {
        NodeName::new("g").unwrap()
    }

    /// A gateway of which nothing is known.
    const WHOLE: Worth = Worth::Whole(Moment::FIRST);

    #[test]
    fn who_is_worth_little_is_waited_for_and_named_but_needs_no_patience() {
        let mut call = Call::of_commands(1);
        let (a, b) =
            (call.begin_part(id(0), name(), 1, WHOLE), call.begin_part(id(1), name(), 1, Worth::Little));
        assert!(!call.needs_no_patience());
        assert_eq!(call.waited_out().collect::<Vec<_>>(), [(id(0), Moment::FIRST)]);
        call.on_said(a, 0, Said::Reached(1));
        assert!(call.needs_no_patience() && !call.is_done());
        assert_eq!(call.waited_out().count(), 0);
        let mut late = Call::of_commands(1);
        late.begin_part(id(1), name(), 1, Worth::Little);
        assert_eq!(late.finish_commands().unwrap().missing[0].why, Why::Late);
        call.on_said(b, 0, Said::Reached(2));
        assert!(call.is_done());
        assert_eq!(call.finish_commands().unwrap().outcomes, [Outcome::Reached(3)]);
    }

    #[test]
    fn who_has_no_such_app_is_not_missing_unless_all_have_none() {
        let mut call = Call::of_commands(1);
        let (a, b) = (call.begin_part(id(0), name(), 1, WHOLE), call.begin_part(id(1), name(), 1, WHOLE));
        call.on_no_app(a);
        call.on_said(b, 0, Said::Reached(4));
        assert!(call.is_done());
        assert_eq!(
            call.finish_commands(),
            Ok(Pushed { outcomes: vec![Outcome::Reached(4)], missing: vec![] })
        );
        let mut call = Call::of_commands(1);
        let part = call.begin_part(id(0), name(), 1, WHOLE);
        call.on_no_app(part);
        assert_eq!(call.finish_commands(), Err(NoSuchApp));
    }

    #[test]
    fn a_query_is_merged_and_who_refuses_or_is_late_is_named() {
        let query = Query::CountClients(Audience::All);
        let mut call = Call::of_query(&query, (0..3).map(id));
        let parts: Vec<u32> = (0..3).map(|n| call.begin_part(id(n), name(), 1, WHOLE)).collect();
        call.on_said(parts[0], 0, Said::Answer(Answer::Count(2)));
        call.on_said(parts[1], 0, Said::Refused("too much".into()));
        assert!(!call.is_done());
        let answered = call.finish_query().unwrap().unwrap();
        assert_eq!(answered.answer, Answer::Count(2));
        assert_eq!(answered.refused.as_deref(), Some("too much"));
        let whys: Vec<_> = answered.missing.iter().map(|missing| (missing.gateway, missing.why)).collect();
        assert_eq!(whys, [(id(1), Why::Refused), (id(2), Why::Late)]);
    }

    #[derive(Debug, Clone, Copy)]
    enum End {
        Answers,
        Loses(Why),
        Stays,
    }

    proptest! {
        #[test]
        fn each_gateway_that_answered_is_counted_once_and_each_other_one_is_named(
            commands in 1..5_usize,
            ends in prop::collection::vec(
                (prop_oneof![Just(End::Answers), Just(End::Loses(Why::Lost)), Just(End::Loses(Why::NotLinked)), Just(End::Stays)], 0..5_usize),
                0..6,
            ),
        ) {
            let mut call = Call::of_commands(commands);
            let mut expected = vec![0_u64; commands];
            for (n, (end, heard)) in ends.iter().enumerate() {
                let part = call.begin_part(id(n), name(), commands, WHOLE);
                let heard = if matches!(end, End::Answers) { commands } else { (*heard).min(commands - 1) };
                for (command, clients) in (0..).zip(expected.iter_mut().take(heard)) {
                    call.on_said(part, command, Said::Reached(3));
                    *clients += 3;
                }
                match end {
                    // Once more than it may.
                    End::Answers => call.on_said(part, 0, Said::Reached(100)),
                    End::Loses(why) => {
                        call.on_missing(part, *why);
                        call.on_missing(part, Why::Busy);
                        call.on_said(part, 0, Said::Reached(100));
                    }
                    End::Stays => {}
                }
            }
            let stays = ends.iter().any(|(end, _)| matches!(end, End::Stays));
            prop_assert_eq!(call.is_done(), !stays);
            let pushed = call.finish_commands().unwrap();
            let outcomes: Vec<_> = expected.into_iter().map(Outcome::Reached).collect();
            prop_assert_eq!(pushed.outcomes, outcomes);
            let whys: Vec<_> = pushed.missing.iter().map(|m| (m.gateway, m.why)).collect();
            let named = ends.iter().enumerate().filter_map(|(n, (end, _))| match end {
                End::Answers => None,
                End::Loses(why) => Some((id(n), *why)),
                End::Stays => Some((id(n), Why::Late)),
            });
            prop_assert_eq!(whys, named.collect::<Vec<_>>());
        }
    }
}
