//! A node's folder: private to its user, and to one node at a time.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};

/// Why a data folder cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DataDirError {
    /// The file system refuses.
    #[error("the data folder {} cannot be used: {error}; name another one as `data_dir` in [node]", path.display())]
    Io {
        /// The folder or a file in it.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// Others may use it.
    #[error(
        "the data folder {} is not private: {reason}; run `chmod 700` on it, or name another one as `data_dir` in [node]",
        path.display()
    )]
    NotPrivate {
        /// The folder.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// Another node runs in it.
    #[error(
        "another node runs with the data folder {}: stop it first, or name another folder as `data_dir` in [node]",
        path.display()
    )]
    Taken {
        /// The folder.
        path: PathBuf,
    },
}

/// A folder that is held by this node until this is dropped.
#[derive(Debug)]
pub(crate) struct DataDir {
    path: PathBuf,
    _lock: File,
}

impl DataDir {
    /// Makes it if need be, checks that it is private, and takes it.
    pub fn open(path: &Path) -> Result<Self, DataDirError> {
        let failed = |at: &Path| {
            let path = at.to_owned();
            move |error: io::Error| DataDirError::Io { path, error }
        };
        let is_new = !path.exists();
        DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(failed(path))?;
        check_private(path)?;
        if is_new {
            // Nothing in it belongs into version control. Not being able to say so is no reason to stop.
            let _ = std::fs::write(path.join(".gitignore"), "*\n");
        }
        let lock_path = path.join("lock");
        let mut options = OpenOptions::new();
        let lock = options
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&lock_path)
            .map_err(failed(&lock_path))?;
        match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Self { path: path.to_owned(), _lock: lock }),
            Err(rustix::io::Errno::WOULDBLOCK) => Err(DataDirError::Taken { path: path.to_owned() }),
            Err(error) => Err(failed(&lock_path)(error.into())),
        }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }
}

fn check_private(path: &Path) -> Result<(), DataDirError> {
    let metadata =
        std::fs::metadata(path).map_err(|error| DataDirError::Io { path: path.to_owned(), error })?;
    let user = rustix::process::geteuid().as_raw();
    let reason = if !metadata.is_dir() {
        "it is not a folder".to_owned()
    } else if metadata.uid() != user {
        format!("it belongs to user {}, this process runs as user {user}", metadata.uid())
    } else if metadata.mode() & 0o077 != 0 {
        format!("its mode is {:o}", metadata.mode() & 0o777)
    } else {
        return Ok(());
    };
    Err(DataDirError::NotPrivate { path: path.to_owned(), reason })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::testing::Folder;

    #[test]
    fn a_folder_is_made_private_and_serves_one_node_at_a_time() {
        let folder = Folder::new();
        let path = folder.path().join("a/b");
        let held = DataDir::open(&path).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o777, 0o700);
        let error = DataDir::open(&path).unwrap_err().to_string();
        assert!(error.contains("another node runs"), "{error}");
        drop(held);
        DataDir::open(&path).unwrap();
    }

    #[test]
    fn a_folder_that_others_can_use_is_refused() {
        let folder = Folder::new();
        std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
        let error = DataDir::open(folder.path()).unwrap_err().to_string();
        assert!(error.contains("chmod 700") && error.contains("755"), "{error}");
    }

    #[test]
    fn a_file_in_the_way_is_named() {
        let folder = Folder::new();
        let path = folder.path().join("file");
        std::fs::write(&path, "").unwrap();
        let error = DataDir::open(&path).unwrap_err().to_string();
        assert!(error.contains("file"), "{error}");
    }
}
