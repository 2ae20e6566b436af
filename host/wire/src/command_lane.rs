//! The two ends of a command lane: commands and queries of one app that come from outside of its plugins.
//!
//! ```text
//!  PushLane (pusher)                                                CommandLane (gateway)
//!      CommandHello; then commands and queries, bare, in order ------->
//!      <----- Applied or Answer for each, in the same order; or NoApp, once, for all
//! ```
//!
//! There are no events, no slots and no credit here. What bounds a lane is the number of things asked that have no answer
//! yet, and whoever asks waits for each. Commands and queries share one numbering, counted from 0, which wraps.

use std::collections::VecDeque;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tidegate_base::limits::FRAME_BYTES_MAX;
use tidegate_base::{Answer, AppName, Command, GatewayId, Query};

use crate::codec::{ToGateway, encode, postcard, text};
use crate::frame::{FrameError, Kind, RawFrame};

/// First frame of a command lane.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommandHello {
    /// Whose clients the commands are for.
    pub app: AppName,
}

impl CommandHello {
    /// Reads it.
    ///
    /// # Errors
    /// The frame is another one, or broken.
    pub fn decode(frame: &RawFrame<'_>) -> Result<Self, FrameError> {
        if frame.kind != Kind::CommandHello {
            return Err(FrameError::Unexpected(frame.kind));
        }
        postcard(frame)
    }
}

/// What became of one thing that was asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Said {
    /// The command is applied; so many clients of this gateway it is about.
    Reached(u32),
    /// The command is refused, and why.
    Refused(String),
    /// The answer to the query.
    Answer(Answer),
}

/// What a pusher hears.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Heard<T> {
    /// What became of the oldest thing without an answer, by its ticket.
    Said(T, Said),
    /// The gateway has no such app: what has no answer yet gets none, and the lane ends.
    NoApp,
}

/// The pusher's end: what is asked, with a ticket for each until it is answered.
///
/// Calling contract: [`command`](Self::command) and [`query`](Self::query) while [`in_flight`](Self::in_flight) is below
/// what the caller allows; [`take_batch`](Self::take_batch) once per wake-up and hand what it returns to the link;
/// [`on_frame`](Self::on_frame) for every frame that comes back; [`on_lost`](Self::on_lost) at the end. No call blocks.
#[derive(Debug)]
pub struct PushLane<T> {
    arena: Vec<u8>,
    /// The oldest first, with whether it is a query.
    pending: VecDeque<(T, bool)>,
    /// The number of the oldest.
    first: u32,
}

impl<T> PushLane<T> {
    /// A lane for this app's clients. Its hello is in the first batch.
    pub fn new(app: &AppName) -> Self {
        let mut arena = Vec::new();
        let hello = CommandHello { app: app.clone() };
        encode::with_postcard(&RawFrame::bare(Kind::CommandHello), &hello, &mut arena);
        Self { arena, pending: VecDeque::new(), first: 0 }
    }

    /// What was asked and has no answer.
    pub fn in_flight(&self) -> usize {
        self.pending.len()
    }

    /// Bytes that wait for [`take_batch`](Self::take_batch).
    pub fn unsent(&self) -> usize {
        self.arena.len()
    }

    /// A command for this gateway. Of clients, only those of the gateway are put on the wire.
    pub fn command(&mut self, command: &Command<'_>, gateway: GatewayId, ticket: T) {
        encode::command(command, gateway, &mut self.arena);
        self.pending.push_back((ticket, false));
    }

    /// A query.
    pub fn query(&mut self, query: &Query, ticket: T) {
        let number = self.first.wrapping_add(self.pending.len() as u32);
        encode::query(number, query, &mut self.arena);
        self.pending.push_back((ticket, true));
    }

    /// What is to be sent now.
    pub fn take_batch(&mut self) -> Option<Bytes> {
        (!self.arena.is_empty()).then(|| std::mem::take(&mut self.arena).into())
    }

    /// The gateway answers.
    ///
    /// # Errors
    /// It answers something else than what is next, or the frame is broken: the lane is of no use any more.
    pub fn on_frame(&mut self, frame: &RawFrame<'_>) -> Result<Heard<T>, FrameError> {
        let is_answer = match frame.kind {
            Kind::Answer => true,
            Kind::Applied => false,
            Kind::NoApp => return Ok(Heard::NoApp),
            kind => return Err(FrameError::Unexpected(kind)),
        };
        if frame.number != self.first {
            return Err(FrameError::Number { got: frame.number, expected: self.first });
        }
        let refused = !is_answer && frame.flags & 1 == 1;
        let said = match (is_answer, refused) {
            (true, _) => Said::Answer(postcard(frame)?),
            (false, true) => Said::Refused(text(frame)?.to_owned()),
            (false, false) => Said::Reached(frame.client),
        };
        // A query may be refused, as one whose answer fits no frame, but never applied.
        match self.pending.pop_front() {
            Some((ticket, is_query)) if refused || is_query == is_answer => {
                self.first = self.first.wrapping_add(1);
                Ok(Heard::Said(ticket, said))
            }
            _ => Err(FrameError::Unexpected(frame.kind)),
        }
    }

    /// The lane is lost, or given up. Returns what has no answer: it may or may not be applied.
    pub fn on_lost(&mut self) -> impl Iterator<Item = T> + '_ {
        self.arena = Vec::new();
        self.first = self.first.wrapping_add(self.pending.len() as u32);
        self.pending.drain(..).map(|(ticket, _)| ticket)
    }
}

/// What a gateway reads from a command lane.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Asked<'a> {
    /// Please do.
    Command(Command<'a>),
    /// Please say.
    Query(Query),
}

/// The gateway's end: numbers, and the answers that wait to be sent.
///
/// Calling contract: for every frame [`read`](Self::read), and then exactly one of [`reached`](Self::reached),
/// [`refused`](Self::refused) and [`answer`](Self::answer); [`take_batch`](Self::take_batch) when what came together is
/// done. No call blocks.
#[derive(Debug, Default)]
pub struct CommandLane {
    arena: Vec<u8>,
    /// Of the next thing asked.
    next: u32,
}

impl CommandLane {
    /// Looks into a frame that came to `gateway`.
    ///
    /// # Errors
    /// It is none of a command lane, or broken, or a query has another number than the next one.
    pub fn read<'a>(&self, frame: &RawFrame<'a>, gateway: GatewayId) -> Result<Asked<'a>, FrameError> {
        match ToGateway::decode(frame, gateway)? {
            ToGateway::Command(command) => Ok(Asked::Command(command)),
            ToGateway::Query(number, query) if number == self.next => Ok(Asked::Query(query)),
            ToGateway::Query(got, _) => Err(FrameError::Number { got, expected: self.next }),
            _ => Err(FrameError::Unexpected(frame.kind)),
        }
    }

    /// The command is applied, and is about so many clients here.
    pub fn reached(&mut self, clients: u32) {
        self.put(RawFrame { client: clients, ..RawFrame::bare(Kind::Applied) });
    }

    /// The command, or the query, is refused.
    pub fn refused(&mut self, why: &str) {
        self.put(RawFrame { flags: 1, payload: why.as_bytes(), ..RawFrame::bare(Kind::Applied) });
    }

    /// The answer to a query. One that fits no frame is a refusal.
    pub fn answer(&mut self, answer: &Answer) {
        let start = self.arena.len();
        encode::answer(self.next, answer, &mut self.arena);
        let bytes = self.arena.len() - start;
        if bytes > FRAME_BYTES_MAX {
            self.arena.truncate(start);
            return self.refused(&format!(
                "the answer has {bytes} bytes, more than one gateway may say at once ({FRAME_BYTES_MAX}): ask for less, such \
                 as the clients of one group, or a count"
            ));
        }
        self.next = self.next.wrapping_add(1);
    }

    /// The answers that wait to be sent.
    pub fn take_batch(&mut self) -> Option<Bytes> {
        (!self.arena.is_empty()).then(|| std::mem::take(&mut self.arena).into())
    }

    /// All that is said on a lane of an app that is not there.
    pub fn no_app() -> Bytes {
        let mut out = Vec::new();
        RawFrame::bare(Kind::NoApp).put(&mut out);
        out.into()
    }

    fn put(&mut self, frame: RawFrame<'_>) {
        RawFrame { number: self.next, ..frame }.put(&mut self.arena);
        self.next = self.next.wrapping_add(1);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tidegate_base::{Audience, ClientId, Message, MessageKind};

    use super::*;
    use crate::codec::Carry;

    const GATEWAY: GatewayId = GatewayId::new(0xa1b2_c3d4_e5f6);

    fn lane() -> PushLane<u32> {
        PushLane::new(&AppName::new("chat").unwrap())
    }

    fn hi() -> Command<'static> {
        let message = Message { kind: MessageKind::Text, payload: b"hi" };
        Command::SendTo(ClientId { gateway: GATEWAY, connection: 7 }, message)
    }

    #[test]
    fn the_bytes_of_a_command_lane_are_stable() {
        let mut push = lane();
        push.command(&hi(), GATEWAY, 0);
        push.query(&Query::CountClients(Audience::All), 1);
        let hello = b"\x0d\0\0\0\x46\0\0\0\0\0\0\0\0\0\0\0\x0cdefault/chat";
        let send = b"\x02\0\0\0\x50\0\0\0\x07\0\0\0\0\0\0\0hi";
        let query = b"\x02\0\0\0\x60\0\0\0\0\0\0\0\x01\0\0\0\0\0";
        assert_eq!(push.take_batch().unwrap(), [&hello[..], send, query].concat());
        assert_eq!(push.take_batch(), None);
        let mut gateway = CommandLane::default();
        gateway.reached(258);
        gateway.refused("no");
        gateway.answer(&Answer::Count(3));
        let reached = b"\0\0\0\0\x0a\0\0\0\x02\x01\0\0\0\0\0\0";
        let refused = b"\x02\0\0\0\x0a\x01\0\0\0\0\0\0\x01\0\0\0no";
        let answer = b"\x02\0\0\0\x08\0\0\0\0\0\0\0\x02\0\0\0\0\x03";
        assert_eq!(gateway.take_batch().unwrap(), [&reached[..], refused, answer].concat());
        assert_eq!(CommandLane::no_app(), b"\0\0\0\0\x0b\0\0\0\0\0\0\0\0\0\0\0"[..]);
    }

    #[test]
    fn an_answer_of_another_number_or_kind_ends_the_lane() {
        let said = |answers: &dyn Fn(&mut CommandLane)| {
            let (mut push, mut gateway) = (lane(), CommandLane::default());
            push.command(&hi(), GATEWAY, 0);
            answers(&mut gateway);
            let bytes = gateway.take_batch().unwrap();
            let mut heard = Ok(Heard::NoApp);
            let read = Carry::default().feed(&bytes, |frame| {
                heard = push.on_frame(frame);
                Ok::<_, FrameError>(())
            });
            read.and(heard)
        };
        assert_eq!(said(&|gateway| gateway.reached(1)), Ok(Heard::Said(0, Said::Reached(1))));
        let refused = Said::Refused("no".into());
        assert_eq!(said(&|gateway| gateway.refused("no")), Ok(Heard::Said(0, refused)));
        assert!(said(&|gateway| gateway.answer(&Answer::Count(1))).is_err());
        // Of two answers to one command the second is wrong.
        assert!(said(&|gateway| (gateway.reached(1), gateway.reached(1)).1).is_err());
    }

    #[test]
    fn frames_of_workers_are_refused_on_a_command_lane() {
        for kind in [Kind::Part, Kind::Credit, Kind::Release, Kind::Drain, Kind::Exports, Kind::Decision] {
            assert!(CommandLane::default().read(&RawFrame::bare(kind), GATEWAY).is_err(), "{kind:?}");
        }
        let late = RawFrame { number: 1, payload: &[0, 0], ..RawFrame::bare(Kind::Query) };
        assert!(matches!(CommandLane::default().read(&late, GATEWAY), Err(FrameError::Number { .. })));
        assert!(CommandHello::decode(&RawFrame::bare(Kind::Hello)).is_err());
    }

    #[derive(Debug, Clone, Copy)]
    enum Step {
        Command,
        Query,
        Send,
        Answer(usize),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            Just(Step::Command),
            Just(Step::Query),
            Just(Step::Send),
            (1..40_usize).prop_map(Step::Answer)
        ]
    }

    proptest! {
        /// The gateway reaches as many clients as the ticket says, refuses every fifth command, and the stream is cut
        /// anywhere.
        #[test]
        fn everything_asked_is_answered_once_and_in_order_or_given_back(
            start in prop_oneof![Just(0_u32), Just(u32::MAX - 3)],
            steps in prop::collection::vec(step(), 0..120),
        ) {
            let (mut push, mut gateway) = (lane(), CommandLane::default());
            (push.first, gateway.next) = (start, start);
            push.take_batch();
            let (mut to_gateway, mut to_pusher) = (Vec::new(), Vec::new());
            let (mut carry, mut asked, mut heard) = (Carry::default(), 0, Vec::new());
            for step in steps {
                match step {
                    Step::Command => { push.command(&hi(), GATEWAY, asked); asked += 1; }
                    Step::Query => { push.query(&Query::CountClients(Audience::All), asked); asked += 1; }
                    Step::Send => to_gateway.extend(push.take_batch().unwrap_or_default()),
                    Step::Answer(bytes) => {
                        let mut rest = &to_gateway[..];
                        while let Some((frame, used)) = RawFrame::split(rest).unwrap() {
                            rest = &rest[used..];
                            match (gateway.read(&frame, GATEWAY).unwrap(), gateway.next) {
                                (Asked::Command(_), n) if n % 5 == 0 => gateway.refused("no"),
                                (Asked::Command(_), n) => gateway.reached(n),
                                (Asked::Query(_), n) => gateway.answer(&Answer::Count(n.into())),
                            }
                        }
                        to_gateway = rest.to_vec();
                        to_pusher.extend(gateway.take_batch().unwrap_or_default());
                        let now: Vec<u8> = to_pusher.drain(..bytes.min(to_pusher.len())).collect();
                        carry.feed(&now, |frame| { heard.push(push.on_frame(frame)?); Ok::<_, FrameError>(()) }).unwrap();
                    }
                }
                prop_assert_eq!(push.in_flight() + heard.len(), asked as usize);
            }
            for (ticket, heard) in (0..).zip(&heard) {
                let number = start.wrapping_add(ticket);
                let fits = match heard {
                    Heard::Said(of, Said::Reached(n)) => *of == ticket && *n == number,
                    Heard::Said(of, Said::Refused(_)) => *of == ticket && number % 5 == 0,
                    Heard::Said(of, Said::Answer(answer)) => *of == ticket && *answer == Answer::Count(number.into()),
                    Heard::NoApp => false,
                };
                prop_assert!(fits, "{}: {:?}", ticket, heard);
            }
            prop_assert_eq!(push.on_lost().collect::<Vec<_>>(), (heard.len() as u32..asked).collect::<Vec<_>>());
            prop_assert_eq!((push.in_flight(), push.unsent()), (0, 0));
        }

        #[test]
        fn no_bytes_make_either_end_panic(kind: u8, flags: u8, number in 0..3_u32, payload: Vec<u8>) {
            if let Some(kind) = Kind::from_u8(kind) {
                let frame = RawFrame { kind, flags, aux: 0, client: 1, number, payload: &payload };
                let _ = CommandLane::default().read(&frame, GATEWAY);
                let _ = CommandHello::decode(&frame);
                let mut push = lane();
                push.query(&Query::CountClients(Audience::All), 0);
                let _ = push.on_frame(&frame);
            }
        }
    }
}
