//! The first word to each of many apps, one after the other.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use super::plan::{app_name, host_of};
use crate::codec::{Inbound, Incoming, Opcode};
use crate::fleet::{Clock, seed};
use crate::handshake::{HEAD_BYTES_MAX, Keys, check_response, head_end, request};
use crate::payload::put_masked;
use crate::stats::Nanos;
use crate::url::Url;
use crate::{Error, Result};

/// How long it took.
#[derive(Debug)]
pub(super) struct Firsts {
    /// TCP and handshake.
    pub(super) connect: Nanos,
    /// The first message on the connection, to its answer.
    pub(super) message: Nanos,
    /// Both of them.
    pub(super) both: Nanos,
    /// The second message.
    pub(super) again: Nanos,
}

/// Says something to each app twice.
///
/// # Errors
/// [`Error::Unanswered`] for the first app that does not answer as it should.
pub(super) fn first_messages(url: &Url, apps: u32, patience: Duration, clock: Clock) -> Result<Firsts> {
    let [connect, message, both, again] = std::array::from_fn(|_| Nanos::new());
    let mut firsts = Firsts { connect, message, both, again };
    let mut keys = Keys::new(seed());
    for app in 0..apps {
        let of_app = Url { host: host_of(app), ..url.clone() };
        let told = |why: String| Error::Unanswered { app: app_name(app), answered: app, apps, why };
        let began = clock.now();
        let mut client = Client::connect(&of_app, &mut keys, patience).map_err(told)?;
        let connected = clock.now();
        client.exchange(&format!("tidegate-bench: are you there, {}?", app_name(app))).map_err(told)?;
        let answered = clock.now();
        client.exchange("tidegate-bench: still there?").map_err(told)?;
        firsts.again.record(clock.now().saturating_sub(answered));
        firsts.connect.record(connected.saturating_sub(began));
        firsts.message.record(answered.saturating_sub(connected));
        firsts.both.record(answered.saturating_sub(began));
    }
    Ok(firsts)
}

/// One client that waits for each answer.
struct Client {
    stream: TcpStream,
    inbound: Inbound,
    read: Vec<u8>,
}

impl Client {
    fn connect(url: &Url, keys: &mut Keys, patience: Duration) -> std::result::Result<Client, String> {
        let told = |error: io::Error| format!("connecting to {}: {error}", url.addr);
        let stream = TcpStream::connect_timeout(&url.addr, patience).map_err(told)?;
        stream.set_nodelay(true).map_err(told)?;
        stream.set_read_timeout(Some(patience)).map_err(told)?;
        stream.set_write_timeout(Some(patience)).map_err(told)?;
        let mut client = Client { stream, inbound: Inbound::default(), read: vec![0; HEAD_BYTES_MAX] };
        let key = keys.next();
        client.stream.write_all(&request(url, &key)).map_err(told)?;
        let mut head = Vec::new();
        let end = loop {
            if let Some(end) = head_end(&head) {
                break end;
            }
            if head.len() > HEAD_BYTES_MAX {
                return Err("its answer to the upgrade is longer than 16 KiB".to_owned());
            }
            let read = client.receive()?;
            head.extend_from_slice(client.read.get(..read).unwrap_or_default());
        };
        let (head, rest) = head.split_at(end);
        check_response(head, &key)?;
        client.take(rest, "").map(|_| client)
    }

    /// Sends a text and waits until it comes back, alone or among other words.
    fn exchange(&mut self, text: &str) -> std::result::Result<(), String> {
        let mut frame = Vec::new();
        put_masked(&mut frame, Opcode::Text, text.as_bytes());
        self.stream.write_all(&frame).map_err(|error| format!("sending to it: {error}"))?;
        loop {
            let read = self.receive()?;
            let bytes = self.read.get(..read).unwrap_or_default().to_vec();
            if self.take(&bytes, text)? {
                return Ok(());
            }
        }
    }

    fn receive(&mut self) -> std::result::Result<usize, String> {
        loop {
            match self.stream.read(&mut self.read) {
                Ok(0) => return Err("it closed the connection".to_owned()),
                Ok(read) => return Ok(read),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {
                    return Err("no answer came in time".to_owned());
                }
                Err(error) => return Err(format!("hearing from it: {error}")),
            }
        }
    }

    /// Whether the answer to `text` is among it.
    fn take(&mut self, bytes: &[u8], text: &str) -> std::result::Result<bool, String> {
        let (mut found, mut closed, mut pongs) = (false, None, Vec::new());
        let fed = self.inbound.feed(bytes, |incoming| match incoming {
            Incoming::Message(payload) => found |= contains(payload, text.as_bytes()),
            Incoming::Ping(payload) => put_masked(&mut pongs, Opcode::Pong, payload),
            Incoming::Close(code) => closed = Some(code),
        });
        fed.map_err(|error| format!("it sent {error}"))?;
        match closed {
            Some(Some(code)) => return Err(format!("it closed the connection with code {code}")),
            Some(None) => return Err("it closed the connection without a code".to_owned()),
            None => {}
        }
        self.stream.write_all(&pongs).map_err(|error| format!("answering its ping: {error}"))?;
        Ok(found)
    }
}

fn contains(payload: &[u8], text: &[u8]) -> bool {
    text.is_empty() || payload.windows(text.len()).any(|part| part == text)
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::thread::{self, JoinHandle};

    use super::*;
    use crate::codec::{Header, apply_mask};
    use crate::handshake::response;

    /// A server of one client after the other. Each is answered with what `answer` makes of its frames; ends with the hosts
    /// that they asked for.
    fn server(clients: usize, answer: fn(&str) -> Vec<u8>) -> (Url, JoinHandle<Vec<String>>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        let serve = move || (0..clients).map(|_| serve(&mut listener.accept().unwrap().0, answer)).collect();
        (Url { addr, host: addr.to_string(), path: "/".to_owned() }, thread::spawn(serve))
    }

    fn serve(stream: &mut TcpStream, answer: fn(&str) -> Vec<u8>) -> String {
        let (mut bytes, mut read) = (Vec::new(), [0; 1024]);
        while head_end(&bytes).is_none() {
            let count = stream.read(&mut read).unwrap();
            bytes.extend_from_slice(&read[..count]);
        }
        stream.write_all(&response(&bytes).unwrap()).unwrap();
        let head = String::from_utf8(std::mem::take(&mut bytes)).unwrap();
        while let Ok(count @ 1..) = stream.read(&mut read) {
            bytes.extend_from_slice(&read[..count]);
            while let Some(header) = Header::parse(&bytes).unwrap() {
                let mut frame: Vec<u8> = bytes.drain(..header.header_len + header.payload_len).collect();
                let payload = &mut frame[header.header_len..];
                apply_mask(payload, header.mask.unwrap());
                stream.write_all(&answer(std::str::from_utf8(payload).unwrap())).unwrap();
            }
        }
        head.lines().find_map(|line| line.strip_prefix("Host: ")).unwrap().to_owned()
    }

    fn text(payload: &str) -> Vec<u8> {
        [&[0x81, payload.len() as u8], payload.as_bytes()].concat()
    }

    #[test]
    fn each_app_is_asked_under_its_own_name_and_may_answer_among_other_words() {
        let answer = |heard: &str| [text("hello"), text(&format!("you say: {heard}"))].concat();
        let (url, served) = server(3, answer);
        let firsts = first_messages(&url, 3, Duration::from_secs(30), Clock::start()).unwrap();
        assert!(firsts.both.summary().is_some() && firsts.again.summary().is_some());
        assert_eq!(served.join().unwrap(), ["app-0.test", "app-1.test", "app-2.test"]);
    }

    fn refused(answer: fn(&str) -> Vec<u8>, patience: Duration) -> String {
        let (url, _served) = server(1, answer);
        first_messages(&url, 1, patience, Clock::start()).unwrap_err().to_string()
    }

    #[test]
    fn an_app_that_answers_something_else_or_closes_is_named() {
        let error = refused(|_| text("no"), Duration::from_millis(50));
        assert!(error.contains("app-0") && error.contains("0 of 1"), "{error}");
        assert!(error.contains("no answer came in time"), "{error}");
        let error = refused(|_| vec![0x88, 2, 3, 245], Duration::from_secs(30));
        assert!(error.contains("code 1013"), "{error}");
    }
}
