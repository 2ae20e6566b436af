//! One connection of a GatewayClient: bytes in, what they ask for out. Pure.

use tidegate_base::{Command, Digest};

use crate::doors::Place;
use crate::packet::{BadPacket, Packet};
use crate::question::Question;
use crate::requests::{Refusal, Request, read};

/// Who has not said the secret yet may send no more than that.
const STRANGER_BYTES_MAX: usize = 4096;
/// Commands that are given together.
const COMMANDS_MAX: usize = 256;

/// What is known of whoever speaks.
///
/// Calling contract: [`take`](Self::take) with what was read and not taken yet, until it takes nothing; what it returns is
/// done in order, and before the next call: first the commands, then the question.
#[derive(Debug, Clone)]
pub(crate) struct Conversation {
    secret: Digest,
    is_known: bool,
    frame_bytes_max: usize,
}

/// What some bytes ask for.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Taken<'a> {
    /// So many bytes are done with.
    pub bytes: usize,
    pub commands: Vec<Command<'a>>,
    pub question: Option<Question>,
    /// What was not understood of it.
    pub refused: Vec<Refusal>,
}

/// What a packet comes to, or why to nothing.
type Understood<'a> = Result<Request<'a>, Refusal>;

/// Why a connection ends.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Ending {
    #[error("{0}")]
    Packet(#[from] BadPacket),
    #[error(
        "the secret is another one, or none: `secret` in [[bridge]] and Gateway::$secretKey must be the same"
    )]
    Secret,
    #[error("{0}")]
    Refused(#[from] Refusal),
}

impl Conversation {
    /// With somebody who has said nothing yet.
    pub fn new(secret: Digest, frame_bytes_max: usize) -> Self {
        Self { secret, is_known: false, frame_bytes_max }
    }

    /// Whether the secret was said.
    pub fn is_known(&self) -> bool {
        self.is_known
    }

    /// Takes packets from the beginning of these bytes, up to a question.
    ///
    /// # Errors
    /// The first packet is a reason to end the connection. A later one is told by the next call.
    pub fn take<'a>(&mut self, bytes: &'a [u8], place: Option<Place>) -> Result<Taken<'a>, Ending> {
        let mut taken = Taken::default();
        while taken.question.is_none() && taken.commands.len() + taken.refused.len() < COMMANDS_MAX {
            let rest = bytes.get(taken.bytes..).unwrap_or_default();
            match self.one(rest, place) {
                Ok(None) => break,
                Ok(Some((request, used))) => {
                    taken.bytes += used;
                    taken.add(request);
                }
                Err(ending) if taken.bytes == 0 => return Err(ending),
                Err(_) => break,
            }
        }
        Ok(taken)
    }

    fn one<'a>(
        &mut self,
        bytes: &'a [u8],
        place: Option<Place>,
    ) -> Result<Option<(Understood<'a>, usize)>, Ending> {
        let max = if self.is_known { self.frame_bytes_max } else { STRANGER_BYTES_MAX };
        let Some((packet, used)) = Packet::split(bytes, max)? else { return Ok(None) };
        let request = read(&packet, place);
        if let Ok(Request::Secret(secret)) = &request {
            // Digests are compared: how long it takes says nothing of the secret.
            self.is_known = Digest::of(secret.as_bytes()) == self.secret;
        }
        match request {
            // What a BusinessWorker says first has the secret in it too; but it is told what is wrong.
            Err(refusal) if refusal.ends() => Err(refusal.into()),
            _ if !self.is_known => Err(Ending::Secret),
            // Who waits for an answer would wait in vain.
            Err(refusal) if is_question(packet.command) => Err(refusal.into()),
            request => Ok(Some((request, used))),
        }
    }
}

impl<'a> Taken<'a> {
    fn add(&mut self, request: Understood<'a>) {
        match request {
            Ok(Request::Commands(commands)) => self.commands.extend(commands),
            Ok(Request::Ask(question)) => self.question = Some(question),
            Ok(Request::Secret(_) | Request::Ping) => {}
            Err(refusal) => self.refused.push(refusal),
        }
    }
}

fn is_question(command: u8) -> bool {
    matches!(command, 10 | 11 | 15 | 16 | 23..=26 | 28 | 203)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tidegate_base::{Audience, ClientId, GatewayId, Message, MessageKind};

    use super::*;
    use crate::doors::Places;
    use crate::packet::tests::packed;
    use crate::question::Form;

    const GATEWAY: GatewayId = GatewayId::new(0x7f00_0001_0b54);

    fn place() -> Option<Place> {
        let mut places = Places::new("127.0.0.0/8:2900".parse().unwrap(), &[2900]);
        places.list(&[GATEWAY]);
        places.at("127.0.0.1:2900".parse().unwrap())
    }

    fn conversation() -> Conversation {
        Conversation::new(Digest::of(b"key"), 10_000)
    }

    fn secret(key: &str) -> Vec<u8> {
        packed(202, 0, 1, b"", format!("{{\"secret_key\":\"{key}\"}}").as_bytes())
    }

    #[test]
    fn commands_are_taken_together_up_to_a_question() {
        let bytes = [
            secret("key"),
            packed(20, 7, 0, b"room", b""),
            packed(201, 0, 0, b"", b""),
            packed(5, 7, 1, b"", b"hi"),
            packed(11, 7, 0, b"", b""),
            packed(27, 0, 0, b"room", b""),
        ];
        let bytes = bytes.concat();
        let (mut conversation, client) = (conversation(), ClientId { gateway: GATEWAY, connection: 7 });
        let taken = conversation.take(&bytes, place()).unwrap();
        let hi = Message { kind: MessageKind::Text, payload: b"hi" };
        assert_eq!(taken.commands, [Command::Join(client, "room".into()), Command::SendTo(client, hi)]);
        assert_eq!(taken.question.map(|question| question.form), Some(Form::Online));
        let rest = &bytes[taken.bytes..];
        let taken = conversation.take(rest, place()).unwrap();
        assert_eq!((taken.commands, taken.bytes), (vec![Command::Disband("room".into())], rest.len()));
        assert_eq!(conversation.take(b"", place()), Ok(Taken::default()));
    }

    #[test]
    fn who_does_not_say_the_secret_first_is_shown_out() {
        for bytes in [packed(6, 0, 1, b"", b"spam"), secret("kez"), packed(201, 0, 0, b"", b"")] {
            assert_eq!(conversation().take(&bytes, place()), Err(Ending::Secret));
        }
        let large = packed(6, 0, 1, b"", &[b'x'; 5000]);
        assert!(matches!(conversation().take(&large[..4], place()), Err(Ending::Packet(_))));
        let mut known = conversation();
        known.take(&secret("key"), place()).unwrap();
        assert!(known.is_known() && known.take(&large, place()).is_ok());
    }

    #[test]
    fn what_comes_before_a_broken_packet_is_done_and_the_rest_is_not() {
        let broken = packed(99, 0, 0, b"", b"");
        let bytes = [secret("key"), packed(27, 0, 0, b"g", b""), broken.clone()].concat();
        let mut conversation = conversation();
        let taken = conversation.take(&bytes, place()).unwrap();
        assert_eq!((taken.commands.len(), bytes.len() - taken.bytes), (1, broken.len()));
        let ending = conversation.take(&broken, place());
        assert_eq!(ending, Err(Ending::Refused(Refusal::Unknown(99))));
    }

    #[test]
    fn a_command_that_makes_no_sense_is_left_out_and_a_question_ends_it() {
        let mut conversation = conversation();
        let bytes = [
            secret("key"),
            packed(12, 1, 0, b"", b""),
            packed(204, 1, 0, b"O:1:\"A\":0:{}", b""),
            packed(6, 0, 0, b"", b"a:0:{}"),
            packed(27, 0, 0, b"g", b""),
        ];
        let bytes = bytes.concat();
        let taken = conversation.take(&bytes, place()).unwrap();
        assert_eq!((taken.refused.len(), taken.commands.len(), taken.bytes), (3, 1, bytes.len()));
        let question = packed(15, 0, 0, b"\xff", b"");
        assert_eq!(conversation.take(&question, place()), Err(Ending::Refused(Refusal::Utf8)));
    }

    #[test]
    fn without_a_gateway_commands_are_for_nobody() {
        let mut conversation = conversation();
        let bytes = [secret("key"), packed(8, 1, 0, b"", b""), packed(203, 1, 0, b"", b"")].concat();
        let taken = conversation.take(&bytes, None).unwrap();
        let nobody = ClientId { gateway: GatewayId::new(0), connection: 1 };
        assert_eq!(
            taken.commands,
            [Command::Destroy { to: Audience::Clients(vec![nobody]), except: vec![] }]
        );
        assert_eq!(taken.question.map(|question| question.form), Some(Form::Session));
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic_or_take_more_than_there_are(
            packets in prop::collection::vec((any::<u8>(), any::<u8>(), any::<Vec<u8>>(), any::<Vec<u8>>()), 0..6),
            rest: Vec<u8>,
        ) {
            let mut bytes = secret("key");
            for (command, flag, ext, body) in packets {
                bytes.extend(packed(command, 1, flag, &ext, &body));
            }
            bytes.extend(rest);
            let (mut conversation, mut at) = (conversation(), 0);
            while let Ok(taken) = conversation.take(&bytes[at..], place()) {
                at += taken.bytes;
                prop_assert!(at <= bytes.len());
                if taken.bytes == 0 {
                    break;
                }
            }
        }

        #[test]
        fn it_does_not_matter_how_bytes_are_cut(cuts in prop::collection::vec(1..20_usize, 0..20)) {
            let bytes = [
                secret("key"),
                packed(20, 7, 0, b"room", b""),
                packed(6, 0, 1, br#"{"exclude":{"7":7}}"#, b"hello"),
                packed(21, 7, 0, b"room", b""),
            ];
            let bytes = bytes.concat();
            let whole = conversation().take(&bytes, place()).unwrap().commands;
            let (mut conversation, mut commands, mut at, mut end) = (conversation(), Vec::new(), 0, 0);
            for cut in cuts.into_iter().chain([bytes.len()]) {
                end = (end + cut).min(bytes.len());
                let taken = conversation.take(&bytes[at..end], place()).unwrap();
                at += taken.bytes;
                commands.extend(taken.commands);
            }
            prop_assert_eq!(commands, whole);
        }
    }
}
