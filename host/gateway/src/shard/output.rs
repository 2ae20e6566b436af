//! Writing to clients: one system call per client and batch.
//!
//! The commands of a batch are encoded once into an arena. Each client that is meant notes which stretches of it are
//! its own; stretches that touch become one. At the end of the batch every noted client is written once. What the
//! socket does not take waits in the client's queue, as references to shared bytes where a broadcast put them.

use std::collections::VecDeque;
use std::io::{self, IoSlice, Write};
use std::ops::Range;

use bytes::Bytes;
use tidegate_base::{MessageKind, Protocol};

use crate::limits::Portion;
use crate::protocol;
use crate::settings::SlowPolicy;

const NONE: u32 = u32::MAX;
/// Messages that one system call writes.
const SLICES_MAX: usize = 64;

/// The output of the batch that is being applied.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    arena: Vec<u8>,
    stretches: Vec<Stretch>,
    touched: Vec<usize>,
}

#[derive(Debug)]
struct Stretch {
    before: u32,
    range: Range<usize>,
    /// Bytes of it and of those before it.
    total: usize,
}

/// A client whose one stretch is to be written together with those of others.
#[derive(Debug)]
pub(crate) struct Posted {
    pub key: usize,
    pub range: Range<usize>,
}

/// A client's part in the batch: its last stretch.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Mark(u32);

impl Default for Mark {
    fn default() -> Self {
        Self(NONE)
    }
}

impl Batch {
    /// Appends to the arena and returns where.
    pub fn encode(&mut self, write: impl FnOnce(&mut Vec<u8>)) -> Range<usize> {
        let start = self.arena.len();
        write(&mut self.arena);
        start..self.arena.len()
    }

    /// The bytes of a stretch.
    pub fn bytes(&self, range: &Range<usize>) -> &[u8] {
        self.arena.get(range.clone()).unwrap_or_default()
    }

    /// Notes a stretch for a client. Returns how many bytes are noted for it.
    pub fn note(&mut self, key: usize, mark: &mut Mark, range: &Range<usize>) -> usize {
        let before = match self.stretches.get_mut(mark.0 as usize) {
            Some(last) if last.range.end == range.start => {
                last.range.end = range.end;
                last.total += range.len();
                return last.total;
            }
            Some(last) => last.total,
            None => {
                self.touched.push(key);
                0
            }
        };
        let total = before + range.len();
        self.stretches.push(Stretch { before: mark.0, range: range.clone(), total });
        mark.0 = (self.stretches.len() - 1) as u32;
        total
    }

    /// Has a client looked at when the batch is written, even if nothing is noted for it.
    pub fn touch(&mut self, key: usize) {
        self.touched.push(key);
    }

    /// A client that has something noted and is not written yet.
    pub fn pop_touched(&mut self) -> Option<usize> {
        self.touched.pop()
    }

    /// Takes what is noted for a client, if that is one stretch.
    pub fn take_single(&self, mark: &mut Mark) -> Option<Range<usize>> {
        let last = self.stretches.get(mark.0 as usize).filter(|last| last.before == NONE)?;
        *mark = Mark::default();
        Some(last.range.clone())
    }

    /// Clients that are to be written.
    pub fn touched(&self) -> usize {
        self.touched.len()
    }

    /// Writes what is noted for a client; the rest goes to its queue.
    ///
    /// # Errors
    /// The socket is broken.
    pub fn write(&self, mark: &mut Mark, stream: &mut impl Write, queue: &mut OutQueue) -> io::Result<()> {
        let Some(last) = self.stretches.get(std::mem::take(mark).0 as usize) else { return Ok(()) };
        if last.before == NONE {
            return queue.write_now(stream, self.bytes(&last.range));
        }
        let mut parts = Vec::new();
        let mut at = Some(last);
        while let Some(stretch) = at {
            parts.push(self.bytes(&stretch.range));
            at = self.stretches.get(stretch.before as usize);
        }
        parts.reverse();
        queue.write_parts(stream, &parts)
    }

    /// Forgets the batch; every touched client has been written.
    pub fn clear(&mut self) {
        const KEPT_BYTES: usize = 256 * 1024;
        self.arena.clear();
        self.arena.shrink_to(KEPT_BYTES);
        self.stretches.clear();
        self.touched.clear();
    }
}

/// What a client's socket did not take yet.
#[derive(Debug, Default)]
pub(crate) struct OutQueue {
    entries: Option<Box<Entries>>,
}

#[derive(Debug, Default)]
struct Entries {
    queue: VecDeque<Bytes>,
    bytes: usize,
    /// The first entry is partly written, or holds the ends of several messages: it must not be dropped.
    first_is_fixed: bool,
}

/// What went out of a queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Flushed {
    pub bytes: usize,
    pub messages: usize,
    /// The socket is full.
    pub is_blocked: bool,
}

/// What became of a message for a client whose socket is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Queued {
    Yes,
    /// So many messages were dropped for it, or it was.
    Dropped(u64),
    /// The client is to be cut.
    Overflow,
}

impl OutQueue {
    /// Bytes that wait.
    pub fn bytes(&self) -> usize {
        self.entries.as_ref().map_or(0, |entries| entries.bytes)
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.entries.is_none()
    }

    /// Queues a message behind the others.
    pub fn push(&mut self, message: Bytes, bytes_max: usize, policy: SlowPolicy) -> Queued {
        let entries = self.entries.get_or_insert_default();
        let mut dropped = 0;
        if entries.bytes + message.len() > bytes_max && !entries.queue.is_empty() {
            match policy {
                SlowPolicy::Disconnect => return Queued::Overflow,
                SlowPolicy::DropNewest => return Queued::Dropped(1),
                SlowPolicy::DropOldest => dropped = entries.make_room(message.len(), bytes_max),
            }
        }
        entries.bytes += message.len();
        entries.queue.push_back(message);
        if dropped == 0 { Queued::Yes } else { Queued::Dropped(dropped) }
    }

    /// The socket takes more. Writes until the socket is full, nothing waits, or so much has gone.
    ///
    /// # Errors
    /// The socket is broken.
    pub fn flush(&mut self, stream: &mut impl Write, portion: Portion) -> io::Result<Flushed> {
        let mut flushed = Flushed::default();
        while let Some(entries) = &mut self.entries {
            let mut room = portion.bytes.saturating_sub(flushed.bytes);
            let count = portion.messages.saturating_sub(flushed.messages).min(SLICES_MAX);
            if room == 0 || count == 0 {
                break;
            }
            let more = |message: &&Bytes| {
                let has_room = room > 0;
                room = room.saturating_sub(message.len());
                has_room
            };
            let messages = entries.queue.iter().take(count).take_while(more);
            let slices: Vec<_> = messages.map(|message| IoSlice::new(message)).collect();
            match stream.write_vectored(&slices) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => {
                    flushed.bytes += written;
                    flushed.messages += entries.advance(written);
                    if entries.queue.is_empty() {
                        self.entries = None;
                    }
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                    flushed.is_blocked = true;
                    break;
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        Ok(flushed)
    }

    /// Writes as much as the socket takes, if nothing waits already; the rest waits.
    ///
    /// # Errors
    /// The socket is broken.
    pub fn write_now(&mut self, stream: &mut impl Write, bytes: &[u8]) -> io::Result<()> {
        let mut rest = bytes;
        while !rest.is_empty() {
            match stream.write(rest) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => rest = rest.get(written..).unwrap_or_default(),
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => break,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        if !rest.is_empty() {
            self.push_fixed(Bytes::copy_from_slice(rest));
        }
        Ok(())
    }

    fn write_parts(&mut self, stream: &mut impl Write, parts: &[&[u8]]) -> io::Result<()> {
        let slices: Vec<IoSlice<'_>> = parts.iter().take(1024).map(|p| IoSlice::new(p)).collect();
        let mut written = match stream.write_vectored(&slices) {
            Ok(written) => written,
            Err(e) if matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => 0,
            Err(e) => return Err(e),
        };
        let mut rest = Vec::new();
        for part in parts {
            let skip = written.min(part.len());
            written -= skip;
            rest.extend_from_slice(part.get(skip..).unwrap_or_default());
        }
        if rest.is_empty() { Ok(()) } else { self.write_now(stream, &rest) }
    }

    fn push_fixed(&mut self, rest: Bytes) {
        let entries = self.entries.get_or_insert_default();
        entries.bytes += rest.len();
        entries.first_is_fixed = true;
        entries.queue.push_back(rest);
    }
}

impl Entries {
    fn make_room(&mut self, needed: usize, bytes_max: usize) -> u64 {
        let mut dropped = 0;
        let keep = usize::from(self.first_is_fixed);
        while self.bytes + needed > bytes_max {
            let Some(old) = self.queue.remove(keep) else { break };
            self.bytes -= old.len();
            dropped += 1;
        }
        dropped
    }

    /// Returns how many entries are done.
    fn advance(&mut self, mut written: usize) -> usize {
        self.bytes -= written;
        let mut done = 0;
        while let Some(first) = self.queue.front_mut() {
            if written < first.len() {
                if written > 0 {
                    bytes::Buf::advance(first, written);
                    self.first_is_fixed = true;
                }
                return done;
            }
            written -= first.len();
            self.queue.pop_front();
            self.first_is_fixed = false;
            done += 1;
        }
        done
    }
}

/// One message, encoded at most once for each protocol that its receivers speak.
#[derive(Debug)]
pub(crate) struct Encoded<'a> {
    kind: MessageKind,
    payload: &'a [u8],
    ranges: [Option<Range<usize>>; 4],
    /// The same bytes to be shared by the queues of clients whose sockets are full.
    shared: [Option<Bytes>; 4],
}

impl<'a> Encoded<'a> {
    pub fn new(kind: MessageKind, payload: &'a [u8]) -> Self {
        Self { kind, payload, ranges: Default::default(), shared: Default::default() }
    }

    /// Where it lies in the batch's arena.
    pub fn range(&mut self, protocol: Protocol, batch: &mut Batch) -> Range<usize> {
        let Some(place) = self.ranges.get_mut(protocol as usize) else { return 0..0 };
        let encode =
            |batch: &mut Batch| batch.encode(|out| protocol::encode(protocol, self.kind, self.payload, out));
        place.get_or_insert_with(|| encode(batch)).clone()
    }

    /// The same as shared bytes.
    pub fn shared(&mut self, protocol: Protocol, batch: &mut Batch) -> Bytes {
        let range = self.range(protocol, batch);
        let Some(place) = self.shared.get_mut(protocol as usize) else { return Bytes::new() };
        place.get_or_insert_with(|| Bytes::copy_from_slice(batch.bytes(&range))).clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A socket that takes a few bytes and then blocks.
    struct Pipe {
        room: usize,
        taken: Vec<u8>,
        calls: usize,
    }

    impl Write for Pipe {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.calls += 1;
            if self.room == 0 {
                return Err(io::ErrorKind::WouldBlock.into());
            }
            let n = bytes.len().min(self.room);
            self.taken.extend_from_slice(&bytes[..n]);
            self.room -= n;
            Ok(n)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn pipe(room: usize) -> Pipe {
        Pipe { room, taken: Vec::new(), calls: 0 }
    }

    #[test]
    fn adjacent_stretches_leave_in_one_write() {
        let (mut batch, mut mark, mut other) = (Batch::default(), Mark::default(), Mark::default());
        for text in ["ab", "cd"] {
            let range = batch.encode(|out| out.extend_from_slice(text.as_bytes()));
            batch.note(7, &mut mark, &range);
            batch.note(8, &mut other, &range);
        }
        let (mut stream, mut queue) = (pipe(99), OutQueue::default());
        batch.write(&mut mark, &mut stream, &mut queue).unwrap();
        assert_eq!((&stream.taken[..], stream.calls), (&b"abcd"[..], 1));
        assert_eq!([batch.pop_touched(), batch.pop_touched(), batch.pop_touched()], [Some(8), Some(7), None]);
    }

    #[test]
    fn what_the_socket_does_not_take_waits_in_order() {
        let (mut batch, mut mark) = (Batch::default(), Mark::default());
        let first = batch.encode(|out| out.extend_from_slice(b"abc"));
        batch.encode(|out| out.extend_from_slice(b"not ours"));
        let second = batch.encode(|out| out.extend_from_slice(b"def"));
        batch.note(1, &mut mark, &first);
        batch.note(1, &mut mark, &second);
        let (mut stream, mut queue) = (pipe(2), OutQueue::default());
        batch.write(&mut mark, &mut stream, &mut queue).unwrap();
        assert_eq!(queue.push(Bytes::from_static(b"ghi"), 100, SlowPolicy::Disconnect), Queued::Yes);
        stream.room = 3;
        let blocked = Flushed { bytes: 3, messages: 0, is_blocked: true };
        assert_eq!(queue.flush(&mut stream, Portion::ALL).unwrap(), blocked);
        stream.room = 100;
        let rest = Flushed { bytes: 4, messages: 2, is_blocked: false };
        assert_eq!(queue.flush(&mut stream, Portion::ALL).unwrap(), rest);
        assert!(queue.is_empty());
        assert_eq!(stream.taken, b"abcdefghi");
    }

    #[test]
    fn a_full_queue_follows_its_policy() {
        let message = |n: u8| Bytes::from(vec![n; 4]);
        let mut queue = OutQueue::default();
        for n in 0..2 {
            assert_eq!(queue.push(message(n), 8, SlowPolicy::Disconnect), Queued::Yes);
        }
        assert_eq!(queue.push(message(2), 8, SlowPolicy::Disconnect), Queued::Overflow);
        assert_eq!(queue.push(message(2), 8, SlowPolicy::DropNewest), Queued::Dropped(1));
        assert_eq!(queue.push(message(2), 8, SlowPolicy::DropOldest), Queued::Dropped(1));
        let mut stream = pipe(100);
        queue.flush(&mut stream, Portion::ALL).unwrap();
        assert_eq!(stream.taken, [1, 1, 1, 1, 2, 2, 2, 2]);
    }

    #[test]
    fn a_queue_that_is_paced_goes_out_in_whole_messages_a_few_at_a_time() {
        let mut queue = OutQueue::default();
        for n in 0..5 {
            queue.push(Bytes::from(vec![n; 4]), 100, SlowPolicy::Disconnect);
        }
        let mut stream = pipe(100);
        let two = Flushed { bytes: 8, messages: 2, is_blocked: false };
        let bytes = |bytes| Portion { bytes, ..Portion::ALL };
        assert_eq!(queue.flush(&mut stream, bytes(5)).unwrap(), two);
        assert_eq!(queue.flush(&mut stream, Portion { messages: 2, ..Portion::ALL }).unwrap(), two);
        let last = Flushed { bytes: 4, messages: 1, is_blocked: false };
        assert_eq!(queue.flush(&mut stream, bytes(8)).unwrap(), last);
        assert!(queue.is_empty() && stream.taken.len() == 20);
    }

    #[test]
    fn a_message_that_is_partly_written_is_never_dropped() {
        let mut queue = OutQueue::default();
        queue.push(Bytes::from_static(b"abcd"), 8, SlowPolicy::DropOldest);
        queue.push(Bytes::from_static(b"efgh"), 8, SlowPolicy::DropOldest);
        let mut stream = pipe(1);
        queue.flush(&mut stream, Portion::ALL).unwrap();
        queue.push(Bytes::from_static(b"ijkl"), 8, SlowPolicy::DropOldest);
        stream.room = 100;
        queue.flush(&mut stream, Portion::ALL).unwrap();
        assert_eq!(stream.taken, b"abcdijkl");
    }

    #[test]
    fn a_broadcast_is_encoded_once_per_protocol() {
        let mut batch = Batch::default();
        let mut message = Encoded::new(MessageKind::Text, b"hi");
        let first = message.range(Protocol::Text, &mut batch);
        assert_eq!(message.range(Protocol::Text, &mut batch), first);
        assert_eq!(batch.bytes(&first), b"hi\n");
        assert_eq!(
            message.shared(Protocol::Text, &mut batch).as_ptr(),
            message.shared(Protocol::Text, &mut batch).as_ptr()
        );
    }
}
