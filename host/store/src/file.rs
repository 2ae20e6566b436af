//! The file itself: private to its user, and there for good once it is made.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use rustix::fs::OFlags;
use rustix::io::Errno;

use crate::error::StoreError;

/// Opens the file or makes an empty one with mode 0600.
pub(crate) fn open(path: &Path) -> Result<File, StoreError> {
    let failed = |error| StoreError::Io { path: path.to_owned(), error };
    match options().create_new(true).open(path) {
        Ok(file) => {
            // Else a loss of power may take the file's name away, and all that is in it.
            let folder = path.parent().unwrap_or(Path::new("."));
            File::open(folder).and_then(|folder| folder.sync_all()).map_err(failed)?;
            Ok(file)
        }
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            // A link could be turned elsewhere by whoever owns it, and a pipe would make us wait.
            let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits().cast_signed();
            let file = options().custom_flags(flags).open(path).map_err(|error| refused(path, error))?;
            check_private(path, &file)?;
            Ok(file)
        }
        Err(error) => Err(failed(error)),
    }
}

/// The disk keeps this much for the small records of deployments, and for others: a module that would leave less is
/// refused before anything is written. The pieces of one that does not fit would take the last of the room.
const RESERVE_BYTES: u64 = 16 << 20;

/// Whether the disk has room for so many bytes more.
pub(crate) fn check_disk(path: &Path, bytes: u64) -> Result<(), StoreError> {
    let disk = rustix::fs::statvfs(path)
        .map_err(|error| StoreError::Io { path: path.to_owned(), error: error.into() })?;
    let left = disk.f_bavail.saturating_mul(disk.f_frsize);
    has_room(left, bytes).map_err(|error| StoreError::Full { path: path.to_owned(), error })
}

fn has_room(left: u64, bytes: u64) -> Result<(), io::Error> {
    if left >= bytes.saturating_add(RESERVE_BYTES) {
        return Ok(());
    }
    let text = format!(
        "the disk has {left} bytes left, the module takes {bytes}, and {RESERVE_BYTES} are kept for what must not fail"
    );
    Err(io::Error::new(io::ErrorKind::StorageFull, text))
}

fn options() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.read(true).write(true).mode(0o600);
    options
}

fn refused(path: &Path, error: io::Error) -> StoreError {
    let path = path.to_owned();
    if error.raw_os_error() == Some(Errno::LOOP.raw_os_error()) {
        StoreError::NotPrivate { path, reason: "it is a link, not a file".to_owned() }
    } else {
        StoreError::Io { path, error }
    }
}

fn check_private(path: &Path, file: &File) -> Result<(), StoreError> {
    let metadata = file.metadata().map_err(|error| StoreError::Io { path: path.to_owned(), error })?;
    let user = rustix::process::geteuid().as_raw();
    let reason = if !metadata.is_file() {
        "it is not a file".to_owned()
    } else if metadata.uid() != user {
        format!("it belongs to user {}, this process runs as user {user}", metadata.uid())
    } else if metadata.mode() & 0o077 != 0 {
        format!("its mode is {:o}", metadata.mode() & 0o777)
    } else {
        return Ok(());
    };
    Err(StoreError::NotPrivate { path: path.to_owned(), reason })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_module_that_would_take_the_last_room_is_refused() {
        assert!(has_room(RESERVE_BYTES + 5, 5).is_ok());
        let error = has_room(RESERVE_BYTES + 4, 5).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::StorageFull);
        assert!(error.to_string().contains("the module takes 5"), "{error}");
        assert!(has_room(u64::MAX, u64::MAX).is_ok() && has_room(0, 0).is_err());
    }

    #[test]
    fn a_disk_that_cannot_be_asked_is_told() {
        let error = check_disk(Path::new("/nowhere/store.redb"), 0).unwrap_err().to_string();
        assert!(error.contains("/nowhere/store.redb"), "{error}");
    }
}
