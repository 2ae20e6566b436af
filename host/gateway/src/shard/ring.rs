//! Many sockets written by one call of the kernel (io_uring).
//!
//! To enter the kernel costs as much as a good part of what it does for a small message. What a round has for its
//! clients is handed over as one list. Where the kernel offers no ring (an old one, or a container that forbids it),
//! there is none, and each client is written by a call of its own.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use io_uring::{IoUring, opcode, types};

/// Sends that one call takes.
pub(crate) const SENDS_MAX: usize = 256;

/// A way to write many sockets at once. It belongs to the thread that made it.
pub(crate) struct Ring(IoUring);

impl Ring {
    /// None: this machine has none for us.
    pub fn new() -> Option<Self> {
        let made = IoUring::builder().setup_single_issuer().setup_coop_taskrun().build(SENDS_MAX as u32);
        match made {
            Ok(ring) => Some(Self(ring)),
            Err(error) => {
                tracing::info!(%error, "no io_uring here: clients are written one by one, which costs more");
                None
            }
        }
    }

    /// Sends as much of each as its socket takes now, of at most [`SENDS_MAX`]. `taken` gets, in the same order, how many
    /// bytes that were; none if the socket took nothing: whoever tries it alone hears why.
    ///
    /// # Errors
    /// The kernel refused the list. What it had taken of it is in `taken`; the ring must not be used again, since what it
    /// had not taken is still in there.
    pub fn send<'a>(
        &mut self,
        sends: impl Iterator<Item = (BorrowedFd<'a>, &'a [u8])>,
        taken: &mut Vec<Option<usize>>,
    ) -> io::Result<()> {
        let Self(ring) = self;
        let mut queue = ring.submission();
        taken.clear();
        for (socket, bytes) in sends.take(SENDS_MAX) {
            let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
            let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
            let send = opcode::Send::new(types::Fd(socket.as_raw_fd()), bytes.as_ptr(), length).flags(flags);
            let send = send.build().user_data(taken.len() as u64);
            // SAFETY: sockets and bytes are borrowed for longer than this function runs, and a send that may not wait
            // is over when the call that submits it returns.
            #[expect(unsafe_code, reason = "the kernel reads the bytes by their address")]
            let pushed = unsafe { queue.push(&send) };
            if pushed.is_err() {
                break;
            }
            taken.push(None);
        }
        drop(queue);
        let mut missing = taken.len();
        while missing > 0 {
            let submitted = ring.submit_and_wait(missing);
            for done in ring.completion() {
                missing = missing.saturating_sub(1);
                if let Some(place) = taken.get_mut(done.user_data() as usize) {
                    *place = usize::try_from(done.result()).ok();
                }
            }
            match submitted {
                Err(e) if e.kind() != io::ErrorKind::Interrupted => return Err(e),
                _ => {}
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::os::fd::AsFd;
    use std::os::unix::net::UnixStream;

    use super::*;

    fn pair() -> (UnixStream, UnixStream) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        ours.set_nonblocking(true).unwrap();
        (ours, theirs)
    }

    #[test]
    fn each_socket_takes_what_it_can_and_says_nothing_for_the_others() {
        let Some(mut ring) = Ring::new() else { return eprintln!("skipped: no io_uring here") };
        let (well, mut reader) = pair();
        let (mut full, _nobody_reads) = pair();
        while full.write(&[0; 4096]).is_ok() {}
        let (broken, gone) = pair();
        drop(gone);
        let (last, mut last_reader) = pair();
        let mut taken = Vec::new();
        let sends = [(&well, &b"one"[..]), (&full, b"two"), (&broken, b"three"), (&last, b"four")];
        let sends = sends.into_iter().map(|(socket, bytes)| (socket.as_fd(), bytes));
        ring.send(sends, &mut taken).unwrap();
        assert_eq!(taken, [Some(3), None, None, Some(4)]);
        let mut heard = [0; 7];
        reader.read_exact(&mut heard[..3]).unwrap();
        last_reader.read_exact(&mut heard[3..]).unwrap();
        assert_eq!(&heard, b"onefour");
    }

    #[test]
    fn no_more_than_fit_are_taken_and_the_next_list_starts_anew() {
        let Some(mut ring) = Ring::new() else { return eprintln!("skipped: no io_uring here") };
        let (ours, mut theirs) = pair();
        let mut taken = Vec::new();
        for _ in 0..3 {
            ring.send((0..SENDS_MAX + 5).map(|_| (ours.as_fd(), &b"x"[..])), &mut taken).unwrap();
            assert_eq!(taken, vec![Some(1); SENDS_MAX]);
            theirs.read_exact(&mut vec![0; SENDS_MAX]).unwrap();
        }
        ring.send(std::iter::empty(), &mut taken).unwrap();
        assert!(taken.is_empty());
    }
}
