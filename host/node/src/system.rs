//! What a node asks of the operating system.

use std::net::{SocketAddr, TcpListener};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tidegate_base::GatewayId;
use tidegate_bridge::Network;

/// Raises the soft limit on open files to the hard one: every client is a file.
pub(crate) fn raise_open_files() {
    let now = getrlimit(Resource::Nofile);
    let wanted = Rlimit { current: now.maximum, maximum: now.maximum };
    if let Err(error) = setrlimit(Resource::Nofile, wanted) {
        tracing::warn!(limit = ?now.current, %error, "the limit on open files stays; `ulimit -n` raises it");
    }
}

/// Blocks of this many bytes and more are mapped on their own, and unmapped when they are freed. Less than a module as
/// it was compiled; more than the state that most slots hand over, since first touching a page costs over a microsecond.
const MAPPED_BYTES: i32 = 2 << 20;
/// So many free bytes at the end of a thread's heap are kept for the next one who needs them.
const KEPT_BYTES: i32 = 2 * MAPPED_BYTES;

/// Has large blocks go back to the system when they are freed. glibc maps them on their own at first, but each one that is
/// freed raises the size from which it does; then a module's bytes, read and compiled by threads that come and go, stay
/// in the heap of each of these threads. With this a server that swaps modules needs half the memory, and no more as
/// time passes. Has no effect with another C library.
#[cfg_attr(
    all(target_os = "linux", target_env = "gnu"),
    expect(unsafe_code, reason = "the C library's settings have no other door")
)]
pub(crate) fn return_large_blocks() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    for (setting, value) in [(libc::M_MMAP_THRESHOLD, MAPPED_BYTES), (libc::M_TRIM_THRESHOLD, KEPT_BYTES)] {
        // SAFETY: mallopt takes two integers and guards its state with the allocator's own lock; any threshold is sound.
        if unsafe { libc::mallopt(setting, value) } == 0 {
            tracing::debug!(setting, "the C library keeps its own rule for large blocks");
        }
    }
}

/// Gives the system back what is free in the heap, wherever it lies in there: what it took to start is mostly not needed to
/// run. Has no effect with another C library.
#[cfg_attr(
    all(target_os = "linux", target_env = "gnu"),
    expect(unsafe_code, reason = "the C library's allocator has no other door")
)]
pub(crate) fn return_free_memory() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: malloc_trim takes the allocator's own locks, and touches free memory only.
    let _ = unsafe { libc::malloc_trim(0) };
}

/// A gateway's id for this life: 48 bits of the system's randomness, or as many as this network leaves.
///
/// # Errors
/// The system has none.
pub(crate) fn gateway_id(within: Option<Network>) -> std::io::Result<GatewayId> {
    let mut bytes = [0; 8];
    getrandom::getrandom(&mut bytes).map_err(|error| std::io::Error::other(error.to_string()))?;
    let random = u64::from_le_bytes(bytes);
    Ok(within.map_or(GatewayId::new(random), |network| network.draw(random)))
}

/// Whether nobody listens there. The gateway's own sockets share their ports among its shards, so the system would let
/// two processes of one user share one too, and give each half of the clients.
///
/// # Errors
/// Somebody does, or the address is none of this machine.
pub(crate) fn check_free(address: SocketAddr) -> std::io::Result<()> {
    if address.port() == 0 { Ok(()) } else { TcpListener::bind(address).map(drop) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_that_somebody_listens_on_is_not_free() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = taken.local_addr().unwrap();
        assert!(check_free(address).is_err());
        drop(taken);
        check_free(address).unwrap();
        check_free(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
    }

    #[test]
    fn gateway_ids_differ() {
        assert_ne!(gateway_id(None).unwrap(), gateway_id(None).unwrap());
    }

    #[test]
    fn open_files_are_raised_to_the_hard_limit() {
        raise_open_files();
        let now = getrlimit(Resource::Nofile);
        assert_eq!(now.current, now.maximum);
    }
}
