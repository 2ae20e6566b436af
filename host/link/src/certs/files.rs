//! Reading and writing the PEM files: private ones are 0600, nothing is ever overwritten.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;

use super::IdentityError;

/// A file of a folder: name, text, and whether only its owner may read it.
pub(super) struct PemFile<'a> {
    pub name: &'static str,
    pub text: &'a str,
    pub private: bool,
}

/// Writes all files into `folder`, which is made if need be (0700), or none if one of them is there.
pub(super) fn write_new(folder: &Path, files: &[PemFile<'_>]) -> Result<(), IdentityError> {
    for file in files {
        let path = folder.join(file.name);
        if path.symlink_metadata().is_ok() {
            return Err(IdentityError::Exists { path });
        }
    }
    let failed = |path: &Path, error: &std::io::Error| IdentityError::Write {
        path: path.to_path_buf(),
        reason: error.to_string(),
    };
    DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(|error| failed(folder, &error))?;
    for file in files {
        let path = folder.join(file.name);
        let mode = if file.private { 0o600 } else { 0o644 };
        OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(mode)
            .open(&path)
            .and_then(|mut open| {
                open.write_all(file.text.as_bytes())?;
                open.sync_all()
            })
            .map_err(|error| failed(&path, &error))?;
    }
    Ok(())
}

/// Reads a file; says so in the log when others can read a private one.
pub(super) fn read(folder: &Path, name: &str, private: bool) -> Result<String, IdentityError> {
    let path = folder.join(name);
    let mut text = String::new();
    let mode = File::open(&path)
        .and_then(|file| {
            let mode = file.metadata()?.permissions().mode();
            file.take(FILE_BYTES_MAX).read_to_string(&mut text)?;
            Ok(mode)
        })
        .map_err(|error| IdentityError::Read { path: path.clone(), reason: error.to_string() })?;
    if private && mode & 0o077 != 0 {
        tracing::warn!("{} can be read by others than its owner; run `chmod 600` on it", path.display());
    }
    Ok(text)
}

/// More than any chain of certificates needs.
const FILE_BYTES_MAX: u64 = 1024 * 1024;
