//! Frames as typed values: encode then decode is the identity.

use std::borrow::Cow;

use serde::de::DeserializeOwned;
use tidegate_base::{
    Addresses, Answer, Audience, ClientId, Command, Event, Exports, GatewayId, Message, MessageKind, Query,
    UpgradeDecision,
};

use crate::control::LaneHello;
use crate::frame::{EventNo, FrameError, HEAD_BYTES, Kind, PartFlags, PartHead, RawFrame};

/// What a worker reads from a lane.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ToWorker<'a> {
    /// An event of a client.
    Event {
        /// The client's connection number.
        client: u32,
        /// The event's number on this lane.
        number: EventNo,
        /// 1 for the first delivery.
        attempt: u8,
        /// What happened.
        event: Event<'a>,
    },
    /// The client is bound to this slot now.
    Attach(u32, Addresses),
    /// The client is not bound to this slot any more.
    Detach(u32),
    /// The client's session: the count of parts of this lane up to the last one that writes a session and was applied
    /// when it was taken, and JSON.
    Session(u32, u32, Option<&'a str>),
    /// A gateway's answer to a query.
    Answer(u32, Answer),
    /// The gateway applied so many parts of this lane.
    Ack(u32),
}

/// What a gateway reads from a lane.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ToGateway<'a> {
    /// First of all: whose lane this is.
    Hello(LaneHello),
    /// A part with the frames of its commands, each a `Command` or a `Decision`.
    Part(PartHead, &'a [u8]),
    /// Events and bytes that may be sent on this lane, counted from its start; wraps.
    Credit(u32, u32),
    /// This event and those before it need not be kept.
    Release(EventNo),
    /// The slot leaves; events from this one on were not read.
    Drain(EventNo),
    /// Another version runs in the slot: its number, and the callbacks that it exports.
    Exports(u32, Exports),
    /// A command; only inside a part.
    Command(Command<'a>),
    /// Answer to a client's upgrade request; only inside a part.
    Decision(u32, UpgradeDecision),
    /// A question; its number.
    Query(u32, Query),
}

impl<'a> ToWorker<'a> {
    /// Looks into a frame.
    ///
    /// # Errors
    /// It goes the other way, or its payload is broken.
    #[inline]
    pub fn decode(frame: &RawFrame<'a>) -> Result<Self, FrameError> {
        let broken = || FrameError::Payload(frame.kind);
        let event = match frame.kind {
            Kind::Message => {
                let kind = MessageKind::from_u8(frame.flags)
                    .filter(|k| *k != MessageKind::Raw)
                    .ok_or_else(broken)?;
                Event::Message(kind, frame.payload)
            }
            Kind::Connect => Event::Connect,
            Kind::WebsocketConnect => Event::WebsocketConnect(postcard(frame)?),
            Kind::Close => Event::Close(postcard(frame)?),
            Kind::Attach => return Ok(Self::Attach(frame.client, postcard(frame)?)),
            Kind::Detach => return Ok(Self::Detach(frame.client)),
            Kind::Session => {
                let json = (frame.flags & 1 == 1).then(|| text(frame)).transpose()?;
                return Ok(Self::Session(frame.client, frame.number, json));
            }
            Kind::Answer => return Ok(Self::Answer(frame.number, postcard(frame)?)),
            Kind::Ack => return Ok(Self::Ack(frame.number)),
            kind => return Err(FrameError::Unexpected(kind)),
        };
        let attempt = u8::try_from(frame.aux).map_err(|_| broken())?;
        Ok(Self::Event { client: frame.client, number: EventNo(frame.number), attempt, event })
    }
}

impl<'a> ToGateway<'a> {
    /// Looks into a frame that came to `gateway`.
    ///
    /// # Errors
    /// It goes the other way, or its payload is broken.
    #[inline]
    pub fn decode(frame: &RawFrame<'a>, gateway: GatewayId) -> Result<Self, FrameError> {
        let client = ClientId { gateway, connection: frame.client };
        let name = || text(frame).map(Cow::Borrowed);
        Ok(Self::Command(match frame.kind {
            Kind::SendTo => Command::SendTo(client, message(frame, frame.flags, frame.payload)?),
            Kind::Send => {
                let (to, except, payload) = audience(frame, gateway)?;
                Command::Send { to, except, message: message(frame, frame.flags, payload)? }
            }
            Kind::CloseClients => close(frame, gateway)?,
            Kind::Destroy => {
                let (to, except, _) = audience(frame, gateway)?;
                Command::Destroy { to, except }
            }
            Kind::Bind => Command::Bind(client, name()?),
            Kind::Unbind => Command::Unbind(client),
            Kind::Join => Command::Join(client, name()?),
            Kind::Leave => Command::Leave(client, name()?),
            Kind::Disband => Command::Disband(name()?),
            Kind::SetSession => Command::SetSession(client, (frame.flags & 1 == 1).then(name).transpose()?),
            Kind::UpdateSession => Command::UpdateSession(client, name()?),
            Kind::Hello => return Ok(Self::Hello(postcard(frame)?)),
            Kind::Part => {
                let (flags, event) = (PartFlags(frame.flags), EventNo(frame.number));
                return Ok(Self::Part(PartHead { flags, index: frame.aux, event }, frame.payload));
            }
            Kind::Credit => return Ok(Self::Credit(frame.client, frame.number)),
            Kind::Release => return Ok(Self::Release(EventNo(frame.number))),
            Kind::Drain => return Ok(Self::Drain(EventNo(frame.number))),
            Kind::Exports => {
                let bits = u16::try_from(frame.number).map_err(|_| FrameError::Payload(frame.kind))?;
                return Ok(Self::Exports(frame.client, Exports::from_bits(bits)));
            }
            Kind::Query => return Ok(Self::Query(frame.number, postcard(frame)?)),
            Kind::Decision => return Ok(Self::Decision(frame.client, postcard(frame)?)),
            kind => return Err(FrameError::Unexpected(kind)),
        }))
    }
}

/// Appending frames. Nothing here allocates beyond growing `out`.
pub mod encode {
    use serde::Serialize;

    use super::*;

    /// An event of a client.
    pub fn event(client: u32, number: EventNo, attempt: u8, event: &Event<'_>, out: &mut Vec<u8>) {
        let kind = match event {
            Event::Connect => Kind::Connect,
            Event::WebsocketConnect(_) => Kind::WebsocketConnect,
            Event::Message(..) => Kind::Message,
            Event::Close(_) => Kind::Close,
        };
        let mut frame = RawFrame { client, number: number.0, aux: attempt.into(), ..RawFrame::bare(kind) };
        match event {
            Event::Connect => frame.put(out),
            Event::Message(kind, payload) => {
                frame.flags = *kind as u8;
                RawFrame { payload, ..frame }.put(out);
            }
            Event::WebsocketConnect(request) => with_postcard(&frame, request, out),
            Event::Close(info) => with_postcard(&frame, info, out),
        }
    }

    /// A client is bound to the slot.
    pub fn attach(client: u32, addresses: &Addresses, out: &mut Vec<u8>) {
        with_postcard(&RawFrame { client, ..RawFrame::bare(Kind::Attach) }, addresses, out);
    }

    /// A client is not bound to the slot any more.
    pub fn detach(client: u32, out: &mut Vec<u8>) {
        RawFrame { client, ..RawFrame::bare(Kind::Detach) }.put(out);
    }

    /// A client's session, taken when so many parts were applied; see [`ToWorker::Session`].
    pub fn session(client: u32, applied: u32, json: Option<&str>, out: &mut Vec<u8>) {
        let (flags, payload) = (json.is_some().into(), json.unwrap_or_default().as_bytes());
        RawFrame { client, flags, number: applied, payload, ..RawFrame::bare(Kind::Session) }.put(out);
    }

    /// An answer to query `number`.
    pub fn answer(number: u32, answer: &Answer, out: &mut Vec<u8>) {
        with_postcard(&RawFrame { number, ..RawFrame::bare(Kind::Answer) }, answer, out);
    }

    /// So many parts are applied.
    pub fn ack(parts: u32, out: &mut Vec<u8>) {
        RawFrame { number: parts, ..RawFrame::bare(Kind::Ack) }.put(out);
    }

    /// The first frame of a lane.
    pub fn hello(hello: &LaneHello, out: &mut Vec<u8>) {
        with_postcard(&RawFrame::bare(Kind::Hello), hello, out);
    }

    /// Begins a part: the caller appends the frames of its commands and then calls [`end_part`] with what this
    /// returns.
    pub fn begin_part(out: &mut Vec<u8>) -> usize {
        let start = out.len();
        RawFrame::bare(Kind::Part).put_head(0, out);
        start
    }

    /// Ends the part that began at `start`.
    pub fn end_part(start: usize, head: PartHead, out: &mut [u8]) {
        let PartHead { flags, index, event } = head;
        let frame = RawFrame { flags: flags.0, aux: index, number: event.0, ..RawFrame::bare(Kind::Part) };
        let len = out.len().saturating_sub(start + HEAD_BYTES);
        if let Some(place) = out.get_mut(start..).and_then(<[u8]>::first_chunk_mut) {
            *place = frame.head(len);
        }
    }

    /// Events and bytes that may be sent, counted from the lane's start.
    pub fn credit(events: u32, bytes: u32, out: &mut Vec<u8>) {
        RawFrame { client: events, number: bytes, ..RawFrame::bare(Kind::Credit) }.put(out);
    }

    /// Events up to this one need not be kept.
    pub fn release(event: EventNo, out: &mut Vec<u8>) {
        RawFrame { number: event.0, ..RawFrame::bare(Kind::Release) }.put(out);
    }

    /// The slot leaves.
    pub fn drain(first_unread: EventNo, out: &mut Vec<u8>) {
        RawFrame { number: first_unread.0, ..RawFrame::bare(Kind::Drain) }.put(out);
    }

    /// Another version runs in the slot.
    pub fn exports(version: u32, exports: Exports, out: &mut Vec<u8>) {
        let number = u32::from(exports.bits());
        RawFrame { client: version, number, ..RawFrame::bare(Kind::Exports) }.put(out);
    }

    /// A question to the gateway.
    pub fn query(number: u32, query: &Query, out: &mut Vec<u8>) {
        with_postcard(&RawFrame { number, ..RawFrame::bare(Kind::Query) }, query, out);
    }

    /// The answer to an upgrade request.
    pub fn decision(client: u32, decision: &UpgradeDecision, out: &mut Vec<u8>) {
        with_postcard(&RawFrame { client, ..RawFrame::bare(Kind::Decision) }, decision, out);
    }

    /// A command for `gateway`. Of clients, only those of that gateway are put on the wire.
    pub fn command(command: &Command<'_>, gateway: GatewayId, out: &mut Vec<u8>) {
        let one = |kind, client: &ClientId, name: &str, out: &mut Vec<u8>| {
            let (client, payload) = (client.connection, name.as_bytes());
            RawFrame { client, payload, ..RawFrame::bare(kind) }.put(out);
        };
        match command {
            Command::SendTo(client, message) => {
                let (client, flags) = (client.connection, message.kind as u8);
                RawFrame { client, flags, payload: message.payload, ..RawFrame::bare(Kind::SendTo) }.put(out);
            }
            Command::Send { to, except, message } => {
                let frame = RawFrame { flags: message.kind as u8, ..RawFrame::bare(Kind::Send) };
                with_audience(&frame, to, except, gateway, out, |out| out.extend_from_slice(message.payload));
            }
            Command::Close { to, except, code, reason, farewell } => {
                let flags = farewell.map_or(0, |m| 1 | (m.kind as u8) << 1);
                let frame = RawFrame { flags, aux: *code, ..RawFrame::bare(Kind::CloseClients) };
                with_audience(&frame, to, except, gateway, out, |out| {
                    out.push(reason.len() as u8);
                    out.extend_from_slice(reason.as_bytes());
                    out.extend_from_slice(farewell.map_or(&[], |m| m.payload));
                });
            }
            Command::Destroy { to, except } => {
                with_audience(&RawFrame::bare(Kind::Destroy), to, except, gateway, out, |_| {});
            }
            Command::Bind(client, uid) => one(Kind::Bind, client, uid, out),
            Command::Unbind(client) => one(Kind::Unbind, client, "", out),
            Command::Join(client, group) => one(Kind::Join, client, group, out),
            Command::Leave(client, group) => one(Kind::Leave, client, group, out),
            Command::Disband(group) => {
                RawFrame { payload: group.as_bytes(), ..RawFrame::bare(Kind::Disband) }.put(out);
            }
            Command::SetSession(client, session) => {
                let (client, flags) = (client.connection, session.is_some().into());
                let payload = session.as_deref().unwrap_or_default().as_bytes();
                RawFrame { client, flags, payload, ..RawFrame::bare(Kind::SetSession) }.put(out);
            }
            Command::UpdateSession(client, patch) => one(Kind::UpdateSession, client, patch, out),
        }
    }

    pub(crate) fn with_postcard(frame: &RawFrame<'_>, value: &impl Serialize, out: &mut Vec<u8>) {
        framed(frame, out, |out| {
            let taken = std::mem::take(out);
            // Writing plain data into a growing vector cannot fail: no fallible sink, no unsized sequences.
            *out = postcard::to_extend(value, taken).unwrap_or_default();
        });
    }

    fn with_audience(
        frame: &RawFrame<'_>,
        to: &Audience<'_>,
        except: &[ClientId],
        gateway: GatewayId,
        out: &mut Vec<u8>,
        rest: impl FnOnce(&mut Vec<u8>),
    ) {
        let start = out.len();
        framed(frame, out, |out| {
            let before = out.len();
            put_audience(to, except, gateway, out);
            let number = (out.len() - before) as u32;
            if let Some(field) = out.get_mut(start + 12..start + 16) {
                field.copy_from_slice(&number.to_le_bytes());
            }
            rest(out);
        });
    }

    fn framed(frame: &RawFrame<'_>, out: &mut Vec<u8>, payload: impl FnOnce(&mut Vec<u8>)) {
        let start = out.len();
        frame.put_head(0, out);
        let before = out.len();
        payload(out);
        let len = (out.len() - before) as u32;
        if let Some(field) = out.get_mut(start..start + 4) {
            field.copy_from_slice(&len.to_le_bytes());
        }
    }

    // tag u8, count u32, entries (clients: u32; names: u8 length, bytes); then the excepted: count u32, u32 each.
    fn put_audience(to: &Audience<'_>, except: &[ClientId], gateway: GatewayId, out: &mut Vec<u8>) {
        let names = |tag: u8, names: &[Cow<'_, str>], out: &mut Vec<u8>| {
            out.push(tag);
            out.extend_from_slice(&(names.len() as u32).to_le_bytes());
            for name in names {
                out.push(name.len() as u8);
                out.extend_from_slice(name.as_bytes());
            }
        };
        match to {
            Audience::All => out.push(0),
            Audience::Clients(clients) => {
                out.push(1);
                put_clients(clients, gateway, out);
            }
            Audience::Uids(uids) => names(2, uids, out),
            Audience::Groups(groups) => names(3, groups, out),
        }
        put_clients(except, gateway, out);
    }

    fn put_clients(clients: &[ClientId], gateway: GatewayId, out: &mut Vec<u8>) {
        let mine = || clients.iter().filter(|c| c.gateway == gateway);
        out.extend_from_slice(&(mine().count() as u32).to_le_bytes());
        mine().for_each(|client| out.extend_from_slice(&client.connection.to_le_bytes()));
    }
}

/// Joins the chunks of a stream to whole frames. Chunks that hold whole frames are read in place; only a frame that
/// straddles two chunks is copied.
#[derive(Debug, Default)]
pub struct Carry {
    partial: Vec<u8>,
}

impl Carry {
    /// Calls `each` with every whole frame of what came so far.
    ///
    /// # Errors
    /// The first broken frame, or what `each` returns.
    pub fn feed<E: From<FrameError>>(
        &mut self,
        mut chunk: &[u8],
        mut each: impl FnMut(&RawFrame<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        while !self.partial.is_empty() && !chunk.is_empty() {
            let more = self.missing().min(chunk.len());
            let (now, later) = chunk.split_at(more);
            self.partial.extend_from_slice(now);
            chunk = later;
            if let Some((frame, used)) = RawFrame::split(&self.partial)? {
                each(&frame)?;
                self.partial.drain(..used);
            }
        }
        while let Some((frame, used)) = RawFrame::split(chunk)? {
            each(&frame)?;
            chunk = chunk.get(used..).unwrap_or_default();
        }
        self.partial.extend_from_slice(chunk);
        if self.partial.is_empty() && self.partial.capacity() > 0 {
            self.partial = Vec::new();
        }
        Ok(())
    }

    // How many bytes the partial frame lacks: of its head first, then of its payload.
    fn missing(&self) -> usize {
        match self.partial.first_chunk::<4>() {
            Some(len) if self.partial.len() >= HEAD_BYTES => {
                (HEAD_BYTES + u32::from_le_bytes(*len) as usize).saturating_sub(self.partial.len())
            }
            _ => HEAD_BYTES - self.partial.len(),
        }
    }
}

pub(crate) fn postcard<T: DeserializeOwned>(frame: &RawFrame<'_>) -> Result<T, FrameError> {
    postcard::from_bytes(frame.payload).map_err(|_| FrameError::Payload(frame.kind))
}

pub(crate) fn text<'a>(frame: &RawFrame<'a>) -> Result<&'a str, FrameError> {
    std::str::from_utf8(frame.payload).map_err(|_| FrameError::Payload(frame.kind))
}

fn message<'a>(frame: &RawFrame<'_>, kind: u8, payload: &'a [u8]) -> Result<Message<'a>, FrameError> {
    let kind = MessageKind::from_u8(kind).ok_or(FrameError::Payload(frame.kind))?;
    Ok(Message { kind, payload })
}

fn close<'a>(frame: &RawFrame<'a>, gateway: GatewayId) -> Result<Command<'a>, FrameError> {
    let broken = FrameError::Payload(frame.kind);
    let (to, except, rest) = audience(frame, gateway)?;
    let (len, rest) = rest.split_first().ok_or(broken.clone())?;
    let (reason, rest) = rest.split_at_checked(usize::from(*len)).ok_or(broken.clone())?;
    let reason = std::str::from_utf8(reason).map_err(|_| broken)?.into();
    let farewell = (frame.flags & 1 == 1).then(|| message(frame, frame.flags >> 1, rest)).transpose()?;
    Ok(Command::Close { to, except, code: frame.aux, reason, farewell })
}

type AudienceAndRest<'a> = (Audience<'a>, Vec<ClientId>, &'a [u8]);

fn audience<'a>(frame: &RawFrame<'a>, gateway: GatewayId) -> Result<AudienceAndRest<'a>, FrameError> {
    let broken = || FrameError::Payload(frame.kind);
    let (head, rest) = frame.payload.split_at_checked(frame.number as usize).ok_or_else(broken)?;
    let mut reader = Reader(head);
    let to = match reader.u8().ok_or_else(broken)? {
        0 => Audience::All,
        1 => Audience::Clients(reader.clients(gateway).ok_or_else(broken)?),
        2 => Audience::Uids(reader.names().ok_or_else(broken)?),
        3 => Audience::Groups(reader.names().ok_or_else(broken)?),
        _ => return Err(broken()),
    };
    let except = reader.clients(gateway).ok_or_else(broken)?;
    Ok((to, except, rest))
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn u8(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    fn u32(&mut self) -> Option<u32> {
        let (first, rest) = self.0.split_first_chunk::<4>()?;
        self.0 = rest;
        Some(u32::from_le_bytes(*first))
    }

    fn clients(&mut self, gateway: GatewayId) -> Option<Vec<ClientId>> {
        let count = self.u32()? as usize;
        let (entries, rest) = self.0.split_at_checked(count.checked_mul(4)?)?;
        self.0 = rest;
        let (entries, _) = entries.as_chunks::<4>();
        Some(entries.iter().map(|e| ClientId { gateway, connection: u32::from_le_bytes(*e) }).collect())
    }

    fn names(&mut self) -> Option<Vec<Cow<'a, str>>> {
        let count = self.u32()? as usize;
        let mut names = Vec::with_capacity(count.min(self.0.len()));
        for _ in 0..count {
            let len = usize::from(self.u8()?);
            let (name, rest) = self.0.split_at_checked(len)?;
            self.0 = rest;
            names.push(Cow::Borrowed(std::str::from_utf8(name).ok()?));
        }
        Some(names)
    }
}

#[cfg(test)]
mod tests;
