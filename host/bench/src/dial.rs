//! Opening one WebSocket without blocking.

use std::io::{self, Read, Write};
use std::net::SocketAddr;

use mio::net::TcpStream;

use crate::handshake::{HEAD_BYTES_MAX, Keys, check_response, head_end, request};
use crate::url::Url;
use crate::{Error, Result};

/// A connection on its way to being a WebSocket.
///
/// Register [`Dialing::stream`] for reading and writing, then call [`Dialing::advance`] on each event until it
/// says `true`; then take it apart with [`Dialing::finish`].
#[derive(Debug)]
pub(crate) struct Dialing {
    pub(crate) stream: TcpStream,
    /// When it began, on the caller's clock.
    pub(crate) started: u64,
    addr: SocketAddr,
    key: String,
    request: Vec<u8>,
    sent: usize,
    head: Vec<u8>,
    connected: bool,
}

impl Dialing {
    pub(crate) fn start(url: &Url, keys: &mut Keys, started: u64) -> Result<Dialing> {
        let addr = url.addr;
        let refused = |source| Error::Connect { addr, source };
        let stream = TcpStream::connect(addr).map_err(refused)?;
        stream.set_nodelay(true).map_err(refused)?;
        let key = keys.next();
        let request = request(url, &key);
        Ok(Dialing { stream, started, addr, key, request, sent: 0, head: Vec::new(), connected: false })
    }

    /// Goes as far as it can; `true` once the server has agreed.
    pub(crate) fn advance(&mut self) -> Result<bool> {
        if !self.is_connected()? || !self.write_request()? {
            return Ok(false);
        }
        self.read_head()
    }

    /// The stream, and what the server sent right behind its answer.
    pub(crate) fn finish(self) -> (TcpStream, Vec<u8>) {
        (self.stream, self.head)
    }

    fn is_connected(&mut self) -> Result<bool> {
        if self.connected {
            return Ok(true);
        }
        let failed = |source| Error::Connect { addr: self.addr, source };
        if let Some(source) = self.stream.take_error().map_err(failed)? {
            return Err(failed(source));
        }
        match self.stream.peer_addr() {
            Ok(_) => self.connected = true,
            Err(error) if error.kind() == io::ErrorKind::NotConnected => {}
            Err(source) => return Err(failed(source)),
        }
        Ok(self.connected)
    }

    fn write_request(&mut self) -> Result<bool> {
        while self.sent < self.request.len() {
            match self.stream.write(&self.request[self.sent..]) {
                Ok(written) => self.sent += written,
                Err(error) if is_transient(&error) => return Ok(false),
                Err(error) => return Err(self.refused(&error.to_string())),
            }
        }
        Ok(true)
    }

    fn read_head(&mut self) -> Result<bool> {
        let mut chunk = [0; 2048];
        loop {
            match self.stream.read(&mut chunk) {
                Ok(0) => return Err(self.refused("it closed the connection instead of answering")),
                Ok(read) => self.head.extend_from_slice(&chunk[..read]),
                Err(error) if is_transient(&error) => return Ok(false),
                Err(error) => return Err(self.refused(&error.to_string())),
            }
            if let Some(end) = head_end(&self.head) {
                check_response(&self.head[..end], &self.key).map_err(|why| self.refused(&why))?;
                self.head.drain(..end);
                return Ok(true);
            }
            if self.head.len() > HEAD_BYTES_MAX {
                return Err(self.refused("its answer is longer than 16 KiB"));
            }
        }
    }

    fn refused(&self, why: &str) -> Error {
        Error::Handshake { addr: self.addr, why: why.to_owned() }
    }
}

/// Whether to wait for the next event and try again.
pub(crate) fn is_transient(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
}
