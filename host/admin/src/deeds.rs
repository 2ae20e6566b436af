//! From what a body asks for to commands, and from what became of them to one result for each.

use std::borrow::Cow;

use serde::Serialize;
use tidegate_base::{Command, Message};
use tidegate_push::Outcome;

use crate::body::{self, Deed, Id, Many};
use crate::problem::{Kind, Problem};

/// What a body asks for, with all that its commands borrow.
#[derive(Debug)]
pub(crate) struct Deeds<'a>(Vec<Deed<'a>>);

/// The commands of one deed: several if it names several clients or groups. They are in runs of this length, each run for
/// the same clients, so that a client of two groups is counted once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Run {
    commands: usize,
    length: usize,
}

/// What became of one deed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Effect {
    Reached(u64),
    Refused(String),
}

impl<'a> Deeds<'a> {
    pub fn new(deeds: Vec<Deed<'a>>) -> Self {
        Self(deeds)
    }

    /// The commands of all of them in order, and the runs of each.
    pub fn commands(&self) -> Result<(Vec<Command<'_>>, Vec<Run>), Problem> {
        let mut commands = Vec::with_capacity(self.0.len());
        let mut runs = Vec::with_capacity(self.0.len());
        for (index, deed) in self.0.iter().enumerate() {
            let before = commands.len();
            let length = put(deed, &mut commands)
                .map_err(|what| Problem::new(Kind::Invalid, format!("command {index}: {what}")))?;
            if commands.len() > COMMANDS_MAX {
                let detail = format!(
                    "command {index}: with it there are more than {COMMANDS_MAX} pairs of clients and groups or uids: send \
                     several requests"
                );
                return Err(Problem::new(Kind::TooLarge, detail));
            }
            runs.push(Run { commands: commands.len() - before, length });
        }
        Ok((commands, runs))
    }
}

/// What became of each deed, from what became of its commands.
pub(crate) fn effects(runs: &[Run], outcomes: Vec<Outcome>) -> Vec<Effect> {
    let mut outcomes = outcomes.into_iter();
    let mut effect = |run: &Run| {
        let (mut reached, mut refused) = (0, None);
        let mut of_run = 0;
        for (at, outcome) in outcomes.by_ref().take(run.commands).enumerate() {
            if at % run.length.max(1) == 0 {
                of_run = 0;
            }
            match outcome {
                Outcome::Reached(clients) => of_run += clients,
                Outcome::Refused(why) => refused = refused.or(Some(why)),
            }
            reached = reached.max(of_run);
        }
        refused.map_or(Effect::Reached(reached), Effect::Refused)
    };
    runs.iter().map(&mut effect).collect()
}

/// Appends the commands of a deed. Returns the length of its runs, or what is wrong with it.
fn put<'c>(deed: &'c Deed<'_>, out: &mut Vec<Command<'c>>) -> Result<usize, &'static str> {
    match deed {
        Deed::Send(send) => {
            let message = body::message(send.text.as_ref(), send.base64.as_ref(), send.raw.as_ref());
            let message = message.ok_or(NO_MESSAGE)?;
            out.push(send_command(send, message));
            Ok(1)
        }
        Deed::Close(close) => {
            let farewell = match &close.farewell {
                None => None,
                Some(it) => {
                    let message = body::message(it.text.as_ref(), it.base64.as_ref(), it.raw.as_ref());
                    Some(message.ok_or(NO_MESSAGE)?)
                }
            };
            let reason = close.reason.as_ref().map_or("", |reason| &reason.0);
            out.push(Command::Close {
                to: close.to.audience(),
                except: close.except.iter().collect(),
                code: close.code.unwrap_or(NORMAL),
                reason: Cow::Borrowed(reason),
                farewell,
            });
            Ok(1)
        }
        Deed::Destroy(destroy) => {
            let except = destroy.except.iter().collect();
            out.push(Command::Destroy { to: destroy.to.audience(), except });
            Ok(1)
        }
        Deed::Bind(bind) => each(&bind.client, out, |id| Command::Bind(id.0, Cow::Borrowed(&bind.uid.0))),
        Deed::Unbind(unbind) => each(&unbind.client, out, |id| Command::Unbind(id.0)),
        Deed::Join(member) => of_groups(member, out, |id, group| Command::Join(id.0, group)),
        Deed::Leave(member) => of_groups(member, out, |id, group| Command::Leave(id.0, group)),
        Deed::Disband(of) => {
            out.extend(of.group.0.iter().map(|group| Command::Disband(Cow::Borrowed(&*group.0))));
            // Their members are not compared: the sum may count a client twice.
            Ok(of.group.0.len())
        }
        Deed::SetSession(write) => {
            each(&write.client, out, |id| Command::SetSession(id.0, Some(Cow::Borrowed(write.session.get()))))
        }
        Deed::UpdateSession(write) => {
            each(&write.client, out, |id| Command::UpdateSession(id.0, Cow::Borrowed(write.session.get())))
        }
        Deed::ClearSession(of) => each(&of.client, out, |id| Command::SetSession(id.0, None)),
    }
}

/// A message to a single client has a command of its own, which costs least.
fn send_command<'c>(send: &'c body::Send<'_>, message: Message<'c>) -> Command<'c> {
    match &send.to {
        body::To::Clients(Many(clients)) if clients.len() == 1 && send.except.0.is_empty() => {
            match clients.first() {
                Some(Id(client)) => Command::SendTo(*client, message),
                None => Command::Send { to: send.to.audience(), except: Vec::new(), message },
            }
        }
        to => Command::Send { to: to.audience(), except: send.except.iter().collect(), message },
    }
}

fn each<'c>(
    clients: &Many<Id>,
    out: &mut Vec<Command<'c>>,
    command: impl FnMut(&Id) -> Command<'c>,
) -> Result<usize, &'static str> {
    out.extend(clients.0.iter().map(command));
    Ok(clients.0.len())
}

fn of_groups<'c>(
    member: &'c body::Member<'_>,
    out: &mut Vec<Command<'c>>,
    command: impl Fn(&Id, Cow<'c, str>) -> Command<'c>,
) -> Result<usize, &'static str> {
    if member.client.0.len().saturating_mul(member.group.0.len()) > COMMANDS_MAX {
        return Err("it names too many clients and groups at once: send several requests");
    }
    for group in &member.group.0 {
        out.extend(member.client.0.iter().map(|id| command(id, Cow::Borrowed(&*group.0))));
    }
    Ok(member.client.0.len())
}

/// Most commands that one request may come to. A gateway takes several such requests at a time.
pub(crate) const COMMANDS_MAX: usize = 10_000;
const NORMAL: u16 = 1000;
const NO_MESSAGE: &str = "a message is one of \"text\", \"base64\" and \"raw\"";

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: &str = "00000000000a00000001";
    const TWO: &str = "00000000000a00000002";

    fn deeds(json: &str) -> Deeds<'_> {
        Deeds::new(serde_json::from_str(json).unwrap())
    }

    #[test]
    fn clients_of_several_groups_are_counted_once() {
        let json = format!(
            r#"[{{"join":{{"clients":["{ONE}","{TWO}"],"groups":["a","b"]}}}},{{"unbind":{{"client":"{ONE}"}}}}]"#
        );
        let deeds = deeds(&json);
        let (commands, runs) = deeds.commands().unwrap();
        assert_eq!((commands.len(), runs.len()), (5, 2));
        let reached = |clients: [u64; 5]| effects(&runs, clients.map(Outcome::Reached).to_vec());
        assert_eq!(reached([1, 0, 1, 0, 1]), [Effect::Reached(1), Effect::Reached(1)]);
        assert_eq!(reached([1, 1, 1, 1, 0]), [Effect::Reached(2), Effect::Reached(0)]);
        let mut outcomes = [1; 5].map(Outcome::Reached).to_vec();
        outcomes[2] = Outcome::Refused("full".into());
        assert_eq!(effects(&runs, outcomes), [Effect::Refused("full".into()), Effect::Reached(1)]);
    }

    #[test]
    fn a_message_is_one_of_three_things() {
        for json in [
            r#"[{"send":{"to":"all"}}]"#,
            r#"[{"send":{"to":"all","text":"x","base64":""}}]"#,
            r#"[{"close":{"to":"all","farewell":{}}}]"#,
        ] {
            let problem = deeds(json).commands().unwrap_err();
            assert_eq!(problem.kind, Kind::Invalid);
            assert!(problem.detail.contains("command 0") && problem.detail.contains("base64"), "{problem}");
        }
    }

    #[test]
    fn what_multiplies_to_too_much_is_refused() {
        let clients = vec![format!("\"{ONE}\""); 200].join(",");
        let groups = (0..51).map(|n| n.to_string()).collect::<Vec<_>>().join(",");
        let json = format!(r#"[{{"join":{{"clients":[{clients}],"groups":[{groups}]}}}}]"#);
        assert!(deeds(&json).commands().is_err());
    }

    #[test]
    fn every_deed_becomes_the_command_of_its_name() {
        let json = format!(
            r#"[{{"send":{{"to":{{"client":"{ONE}"}},"text":"x"}}}},
               {{"send":{{"to":"all","except":"{ONE}","base64":"AAE="}}}},
               {{"close":{{"to":{{"uid":"u"}},"code":4001,"reason":"r","farewell":{{"text":"bye"}}}}}},
               {{"destroy":{{"to":{{"group":"g"}}}}}},
               {{"bind":{{"client":"{ONE}","uid":7}}}},
               {{"leave":{{"client":"{ONE}","group":"g"}}}},
               {{"disband":{{"groups":["g","h"]}}}},
               {{"set-session":{{"client":"{ONE}","session":{{"a":1}}}}}},
               {{"update-session":{{"client":"{ONE}","session":{{"b":2}}}}}},
               {{"clear-session":{{"client":"{ONE}"}}}}]"#
        );
        let deeds = deeds(&json);
        let (commands, runs) = deeds.commands().unwrap();
        let client = ONE.parse().unwrap();
        let text = |payload| Message { kind: tidegate_base::MessageKind::Text, payload };
        let binary = Message { kind: tidegate_base::MessageKind::Binary, payload: &[0, 1] };
        assert_eq!(
            commands,
            [
                Command::SendTo(client, text(b"x")),
                Command::Send { to: tidegate_base::Audience::All, except: vec![client], message: binary },
                Command::Close {
                    to: tidegate_base::Audience::Uids(vec!["u".into()]),
                    except: vec![],
                    code: 4001,
                    reason: "r".into(),
                    farewell: Some(text(b"bye")),
                },
                Command::Destroy { to: tidegate_base::Audience::Groups(vec!["g".into()]), except: vec![] },
                Command::Bind(client, "7".into()),
                Command::Leave(client, "g".into()),
                Command::Disband("g".into()),
                Command::Disband("h".into()),
                Command::SetSession(client, Some(r#"{"a":1}"#.into())),
                Command::UpdateSession(client, r#"{"b":2}"#.into()),
                Command::SetSession(client, None),
            ]
        );
        assert_eq!(runs.len(), 10);
    }
}
