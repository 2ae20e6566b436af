//! The open-files limit, the one resource that a bench of many connections runs out of first.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::{Error, Result};

/// Files open besides the connections: epoll, timer, standard streams, `/proc`, the yardstick's pipes.
pub(crate) const SPARE_FILES: u64 = 64;

/// Raises this process's soft limit on open files to its hard limit, and returns it.
pub(crate) fn raise_open_files() -> u64 {
    let now = getrlimit(Resource::Nofile);
    let wanted = Rlimit { current: now.maximum, maximum: now.maximum };
    let got = if setrlimit(Resource::Nofile, wanted).is_ok() { now.maximum } else { now.current };
    got.unwrap_or(u64::MAX)
}

/// Makes room for `connections`.
///
/// # Errors
/// [`Error::OpenFiles`] if the hard limit is too low.
pub(crate) fn ensure_open_files(connections: u32) -> Result<()> {
    let (needed, limit) = (u64::from(connections) + SPARE_FILES, raise_open_files());
    if needed > limit { Err(Error::OpenFiles { needed, limit }) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_few_connections_always_fit() {
        ensure_open_files(10).unwrap();
        let limit = raise_open_files();
        assert_eq!(getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX), limit);
    }
}
