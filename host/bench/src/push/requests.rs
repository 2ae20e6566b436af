//! Connections with one request under way on each.

use std::io::{self, Read, Write};
use std::time::Duration;

use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};

use super::PushOptions;
use crate::fleet::{Clock, wait};
use crate::loads::Tally;
use crate::url::Url;
use crate::{Error, Result};

const STALL_MAX: Duration = Duration::from_secs(10);
const TICK: Duration = Duration::from_millis(100);
const ANSWER_BYTES_MAX: usize = 1 << 20;
const HEADERS_MAX: usize = 64;

/// The bytes of every request.
pub(super) struct Request(Vec<u8>);

impl Request {
    pub fn new(url: &Url, options: &PushOptions) -> Request {
        let PushOptions { path, token, body, .. } = options;
        let text = format!(
            "POST /v1/apps/{path} HTTP/1.1\r\nhost: {}\r\nauthorization: Bearer {token}\r\n\
             content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            url.host,
            body.len()
        );
        Request(text.into_bytes())
    }
}

pub(super) struct Requests<'a> {
    request: &'a Request,
    poll: Poll,
    events: Events,
    ready: Vec<usize>,
    connections: Vec<Connection>,
    clock: Clock,
    tally: Tally,
    moved_at: u64,
}

struct Connection {
    stream: TcpStream,
    /// Bytes of the request that are sent.
    sent: usize,
    sent_at: u64,
    answer: Vec<u8>,
}

impl<'a> Requests<'a> {
    /// Connects, and begins with a request on each.
    ///
    /// # Errors
    /// A connection is refused.
    pub fn open(url: &Url, request: &'a Request, count: u32, clock: Clock) -> Result<Requests<'a>> {
        let poll = Poll::new().map_err(Error::io("creating an epoll instance"))?;
        let mut connections = Vec::with_capacity(count as usize);
        for place in 0..count as usize {
            let failed = |source| Error::Connect { addr: url.addr, source };
            let stream = std::net::TcpStream::connect_timeout(&url.addr, STALL_MAX).map_err(failed)?;
            stream.set_nodelay(true).and_then(|()| stream.set_nonblocking(true)).map_err(failed)?;
            let mut stream = TcpStream::from_std(stream);
            let interest = Interest::READABLE | Interest::WRITABLE;
            poll.registry()
                .register(&mut stream, Token(place), interest)
                .map_err(Error::io("watching a connection"))?;
            connections.push(Connection { stream, sent: 0, sent_at: clock.now(), answer: Vec::new() });
        }
        let (events, ready, tally) = (Events::with_capacity(1024), Vec::new(), Tally::new());
        Ok(Requests { request, poll, events, ready, connections, clock, tally, moved_at: clock.now() })
    }

    /// Goes on for so long.
    ///
    /// # Errors
    /// A connection ends, an answer is not 200, or none comes for 10 s.
    pub fn run(&mut self, span: Duration) -> Result<()> {
        let until = self.clock.now() + span.as_nanos() as u64;
        while self.clock.now() < until {
            wait(&mut self.poll, &mut self.events, TICK)?;
            self.ready.clear();
            self.ready.extend(self.events.iter().map(|event| event.token().0));
            for place in 0..self.ready.len() {
                if let Some(connection) = self.connections.get_mut(self.ready[place]) {
                    self.moved_at = self.clock.now();
                    connection.advance(self.request, self.clock, &mut self.tally)?;
                }
            }
            if self.clock.now() - self.moved_at > STALL_MAX.as_nanos() as u64 {
                return Err(Error::Stalled { what: "pushes", after: STALL_MAX });
            }
        }
        Ok(())
    }

    /// The warm-up is over.
    pub fn open_window(&mut self) {
        self.tally.open_window();
    }

    /// What was counted.
    pub fn end(self) -> Tally {
        self.tally
    }
}

impl Connection {
    fn advance(&mut self, request: &Request, clock: Clock, tally: &mut Tally) -> Result<()> {
        let gone = |reason: String| Error::Closed { closed: 1, reason };
        let mut buffer = [0; 4096];
        loop {
            while let Some(rest) = request.0.get(self.sent..).filter(|rest| !rest.is_empty()) {
                match self.stream.write(rest) {
                    Ok(written) => self.sent += written,
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                    Err(error) => return Err(gone(error.to_string())),
                }
            }
            match self.stream.read(&mut buffer) {
                Ok(0) => return Err(gone("it hung up".to_owned())),
                Ok(read) => self.answer.extend_from_slice(buffer.get(..read).unwrap_or_default()),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(gone(error.to_string())),
            }
            if is_whole(&self.answer)? {
                let now = clock.now();
                tally.count(now - self.sent_at);
                self.answer.clear();
                (self.sent, self.sent_at) = (0, now);
            }
        }
    }
}

/// Whether the answer has come, and is 200.
fn is_whole(answer: &[u8]) -> Result<bool> {
    let broken = |why: String| Error::Refused { status: 0, why };
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut head = httparse::Response::new(&mut headers);
    let at = match head.parse(answer).map_err(|error| broken(format!("it is no HTTP ({error})")))? {
        httparse::Status::Complete(at) => at,
        httparse::Status::Partial if answer.len() > ANSWER_BYTES_MAX => {
            return Err(broken("its head has no end".to_owned()));
        }
        httparse::Status::Partial => return Ok(false),
    };
    let length = head.headers.iter().find(|header| header.name.eq_ignore_ascii_case("content-length"));
    let length = length.and_then(|header| std::str::from_utf8(header.value).ok()?.parse::<usize>().ok());
    let length = length.ok_or_else(|| broken("it has no content-length".to_owned()))?;
    let body = answer.get(at..).unwrap_or_default();
    if body.len() < length {
        return Ok(false);
    }
    match head.code.unwrap_or(0) {
        200 => Ok(true),
        status => Err(Error::Refused { status, why: String::from_utf8_lossy(body).into_owned() }),
    }
}
