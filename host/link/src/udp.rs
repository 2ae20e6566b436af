//! A UDP socket that wakes its runtime only for what matters.
//!
//! The socket that quinn brings for tokio is watched for reading and writing at once. Over loopback and fast networks
//! every packet that is sent then wakes the sender once more, when the system has let go of its buffer; and every
//! wake-up ends with a receive call that finds nothing. Links that carry a message at a time pay both on each hop.

use std::fmt;
use std::future::Future;
use std::io::{self, IoSliceMut};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};

use quinn::udp::{RecvMeta, Transmit, UdpSocketState};
use quinn::{AsyncUdpSocket, UdpPoller};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// A bound socket, watched for reading on the runtime on which it was made.
#[derive(Debug)]
pub(crate) struct UdpSocket {
    io: AsyncFd<std::net::UdpSocket>,
    state: UdpSocketState,
    /// The send buffer was full, and nobody has seen room in it since.
    full: AtomicBool,
}

impl UdpSocket {
    /// Takes a non-blocking socket. Within a tokio runtime.
    ///
    /// # Errors
    /// The system refuses an option of the socket, or to watch it.
    pub(crate) fn new(socket: std::net::UdpSocket) -> io::Result<Self> {
        let state = UdpSocketState::new((&socket).into())?;
        Ok(Self { io: readable(socket)?, state, full: AtomicBool::new(false) })
    }

    /// Watches a copy of the descriptor for writing, until it is writable. Made anew for each wait, so that nothing is
    /// watched for longer; a new watch tells the present state first, so nothing is missed either.
    async fn writable(self: Arc<Self>) -> io::Result<()> {
        tokio::net::UdpSocket::from_std(self.io.get_ref().try_clone()?)?.writable().await?;
        self.full.store(false, Ordering::Release);
        Ok(())
    }
}

impl AsyncUdpSocket for UdpSocket {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        Box::pin(Poller { socket: self, waiting: None })
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        let sent = self.state.send(self.io.get_ref().into(), transmit);
        if matches!(&sent, Err(error) if error.kind() == io::ErrorKind::WouldBlock) {
            self.full.store(true, Ordering::Release);
        }
        sent
    }

    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        bufs: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        loop {
            let mut readiness = ready!(self.io.poll_read_ready(cx))?;
            match self.state.recv(self.io.get_ref().into(), bufs, meta) {
                Ok(received) => {
                    // Fewer than there was room for: the socket is empty, and the system tells when it is not.
                    if received < bufs.len().min(meta.len()) {
                        readiness.clear_ready();
                    }
                    return Poll::Ready(Ok(received));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => readiness.clear_ready(),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.io.get_ref().local_addr()
    }

    fn max_transmit_segments(&self) -> usize {
        self.state.max_gso_segments()
    }

    fn max_receive_segments(&self) -> usize {
        self.state.gro_segments()
    }

    fn may_fragment(&self) -> bool {
        self.state.may_fragment()
    }
}

/// Waits for room in the socket's send buffer, for one task.
struct Poller {
    socket: Arc<UdpSocket>,
    waiting: Option<Pin<Box<dyn Future<Output = io::Result<()>> + Send + Sync>>>,
}

impl UdpPoller for Poller {
    fn poll_writable(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        // quinn asks before every send: mostly there is room.
        if this.waiting.is_none() && !this.socket.full.load(Ordering::Acquire) {
            return Poll::Ready(Ok(()));
        }
        let waiting = this.waiting.get_or_insert_with(|| Box::pin(Arc::clone(&this.socket).writable()));
        let ready = ready!(waiting.as_mut().poll(cx));
        this.waiting = None;
        Poll::Ready(ready)
    }
}

impl fmt::Debug for Poller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Poller").field("is_waiting", &self.waiting.is_some()).finish_non_exhaustive()
    }
}

#[expect(unsafe_code, reason = "AsyncFd asks its caller to vouch for the descriptor")]
fn readable(socket: std::net::UdpSocket) -> io::Result<AsyncFd<std::net::UdpSocket>> {
    // SAFETY: the socket owns its descriptor: it stays open and the same for as long as the AsyncFd owns the socket,
    // and nothing takes the socket out of it.
    unsafe { AsyncFd::register_with_interest(socket, Interest::READABLE) }.map_err(Into::into)
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::*;

    fn socket() -> Arc<UdpSocket> {
        let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.set_nonblocking(true).unwrap();
        Arc::new(UdpSocket::new(socket).unwrap())
    }

    async fn receive(socket: &UdpSocket) -> Vec<Vec<u8>> {
        let mut buffers = vec![vec![0; 2048]; 4];
        let mut bufs: Vec<_> = buffers.iter_mut().map(|b| IoSliceMut::new(b)).collect();
        let mut meta = vec![RecvMeta::default(); 4];
        let count = poll_fn(|cx| socket.poll_recv(cx, &mut bufs, &mut meta)).await.unwrap();
        let one = |(buffer, meta): (&Vec<u8>, &RecvMeta)| buffer[..meta.len].to_vec();
        buffers.iter().zip(&meta).take(count).map(one).collect()
    }

    fn send(from: &UdpSocket, to: &UdpSocket, contents: &[u8]) {
        let destination = to.local_addr().unwrap();
        let transmit = Transmit { destination, ecn: None, contents, segment_size: None, src_ip: None };
        from.try_send(&transmit).unwrap();
    }

    #[tokio::test]
    async fn every_datagram_arrives_however_many_come_between_two_looks() {
        let (from, to) = (socket(), socket());
        for round in 0..50u8 {
            let count = round % 11;
            (0..count).for_each(|n| send(&from, &to, &[round, n]));
            let mut got = Vec::new();
            while got.len() < usize::from(count) {
                got.extend(receive(&to).await);
            }
            assert_eq!(got, (0..count).map(|n| vec![round, n]).collect::<Vec<_>>());
        }
    }

    #[tokio::test]
    async fn a_socket_with_room_is_writable_again_and_again() {
        let socket = socket();
        let mut poller = Arc::clone(&socket).create_io_poller();
        for was_full in [false, true, true, false] {
            socket.full.store(was_full, Ordering::Release);
            poll_fn(|cx| poller.as_mut().poll_writable(cx)).await.unwrap();
            assert!(!socket.full.load(Ordering::Acquire));
        }
    }
}
