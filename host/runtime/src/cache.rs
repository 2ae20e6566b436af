//! Compiled modules on disk.
//!
//! Whoever can write to the cache can run code in this process, so it is a private directory. A file:
//!
//! ```text
//!  0        16                48                     48 + n
//!  +--------+-----------------+-----------------------+
//!  | magic  | SHA-256 of the  | compiled code         |
//!  |        | compiled code   |                       |
//!  +--------+-----------------+-----------------------+
//! ```

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use parking_lot::Mutex;
use sha2::{Digest as _, Sha256};
use tidegate_base::Digest;

const MAGIC: &[u8; 16] = b"tidegate-code-1\n";
const HEAD_BYTES: usize = 16 + 32;
const SUFFIX: &str = ".code";
const TEMPORARY: &str = ".tmp-";

/// Where a [`ModuleCache`] is and how large it may grow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CacheSettings {
    /// The directory. Made if it is not there.
    pub directory: PathBuf,
    /// Most bytes of all files together; those used longest ago go first. 2 GiB by default.
    pub bytes_max: u64,
}

impl CacheSettings {
    /// The default size in this directory.
    pub fn new(directory: impl Into<PathBuf>) -> Self {
        Self { directory: directory.into(), bytes_max: 2 << 30 }
    }
}

/// Why a cache cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CacheError {
    /// Others may write to it.
    #[error(
        "the module cache {path} is not private: {reason}; run `chmod 700` on it, or name another directory"
    )]
    NotPrivate {
        /// The directory.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The file system refuses.
    #[error("the module cache {path} cannot be used: {error}")]
    Io {
        /// The directory or file.
        path: PathBuf,
        /// Why.
        #[source]
        error: io::Error,
    },
}

/// A private directory of compiled modules, bounded in bytes. A file appears under its name only when it is whole.
pub struct ModuleCache {
    settings: CacheSettings,
    /// Held while files are removed to make room.
    evicting: Mutex<()>,
}

impl ModuleCache {
    /// Opens or makes it, and removes what a killed process has left unfinished.
    ///
    /// # Errors
    /// The directory cannot be made, is not a directory, belongs to somebody else, or others may use it.
    pub fn open(settings: CacheSettings) -> Result<Self, CacheError> {
        let path = &settings.directory;
        let io_error = |error| CacheError::Io { path: path.clone(), error };
        DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(io_error)?;
        // Not `metadata`: a link could be turned elsewhere by whoever owns it.
        let metadata = fs::symlink_metadata(path).map_err(io_error)?;
        let owner = rustix::process::geteuid().as_raw();
        let reason = if !metadata.is_dir() {
            Some("it is not a directory".to_owned())
        } else if metadata.uid() != owner {
            Some(format!("it belongs to user {}, this process runs as user {owner}", metadata.uid()))
        } else if metadata.mode() & 0o077 != 0 {
            Some(format!("its mode is {:o}", metadata.mode() & 0o777))
        } else {
            None
        };
        if let Some(reason) = reason {
            return Err(CacheError::NotPrivate { path: path.clone(), reason });
        }
        let this = Self { settings, evicting: Mutex::default() };
        this.remove_unfinished();
        Ok(this)
    }

    /// The compiled code, if it is there and unaltered. A file that is not is removed.
    pub(crate) fn get(&self, key: &Key) -> Option<Artifact> {
        let path = self.path(key);
        let mut file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "a cached module cannot be opened");
                return None;
            }
        };
        let artifact = read(&mut file, self.settings.bytes_max);
        match artifact {
            Ok(artifact) => {
                // For the eviction order only.
                if let Err(error) = file.set_modified(SystemTime::now()) {
                    tracing::debug!(path = %path.display(), %error, "the use of a cached module is not noted");
                }
                Some(artifact)
            }
            Err(reason) => {
                tracing::warn!(path = %path.display(), reason, "a cached module is damaged and compiled anew");
                let _ = fs::remove_file(&path);
                None
            }
        }
    }

    /// Stores compiled code, and removes what was used longest ago if there is too much. Code that is larger than the
    /// whole cache is not stored.
    pub(crate) fn put(&self, key: &Key, code: &[u8]) -> Result<(), CacheError> {
        let size = (HEAD_BYTES + code.len()) as u64;
        if size > self.settings.bytes_max {
            return Ok(());
        }
        self.make_room(size);
        // Unique among the processes and threads that share the directory.
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let temporary = self.settings.directory.join(format!("{TEMPORARY}{}-{number}", std::process::id()));
        let path = self.path(key);
        write(&temporary, code).and_then(|()| fs::rename(&temporary, &path)).map_err(|error| {
            let _ = fs::remove_file(&temporary);
            CacheError::Io { path, error }
        })
    }

    fn path(&self, key: &Key) -> PathBuf {
        self.settings.directory.join(format!("{}-{:016x}{SUFFIX}", key.digest, key.compatibility))
    }

    fn make_room(&self, size: u64) {
        let _one_at_a_time = self.evicting.lock();
        let mut files = self.files();
        let mut total: u64 = files.iter().map(|file| file.size).sum();
        files.sort_by_key(|file| file.used);
        for file in files {
            if total + size <= self.settings.bytes_max {
                return;
            }
            // It may be gone already, if another process makes room too.
            let _ = fs::remove_file(&file.path);
            total -= file.size;
        }
    }

    fn files(&self) -> Vec<CacheFile> {
        let Ok(entries) = fs::read_dir(&self.settings.directory) else { return Vec::new() };
        let code = |path: &Path| path.to_str().is_some_and(|path| path.ends_with(SUFFIX));
        entries
            .filter_map(|entry| {
                let entry = entry.ok()?;
                let (path, metadata) = (entry.path(), entry.metadata().ok()?);
                let used = metadata.modified().ok()?;
                code(&path).then_some(CacheFile { path, size: metadata.len(), used })
            })
            .collect()
    }

    fn remove_unfinished(&self) {
        let Ok(entries) = fs::read_dir(&self.settings.directory) else { return };
        for entry in entries.flatten() {
            if entry.file_name().to_str().is_some_and(|name| name.starts_with(TEMPORARY)) {
                let _ = fs::remove_file(entry.path());
            }
        }
    }
}

/// What compiled code is stored under: the module, and the engine that it was compiled for.
pub(crate) struct Key {
    pub(crate) digest: Digest,
    pub(crate) compatibility: u64,
}

/// Compiled code whose checksum holds.
pub(crate) struct Artifact {
    file: Vec<u8>,
}

impl Artifact {
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.file[HEAD_BYTES..]
    }
}

struct CacheFile {
    path: PathBuf,
    size: u64,
    used: SystemTime,
}

fn read(file: &mut File, bytes_max: u64) -> Result<Artifact, String> {
    let mut bytes = Vec::new();
    file.take(bytes_max).read_to_end(&mut bytes).map_err(|error| error.to_string())?;
    let (magic, rest) = bytes.split_first_chunk::<16>().ok_or("it is too short")?;
    let (checksum, code) = rest.split_first_chunk::<32>().ok_or("it is too short")?;
    if magic != MAGIC {
        return Err("it is not a compiled module".to_owned());
    }
    if Sha256::digest(code).as_slice() != checksum {
        return Err("its checksum does not hold".to_owned());
    }
    Ok(Artifact { file: bytes })
}

fn write(path: &Path, code: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(MAGIC)?;
    file.write_all(&Sha256::digest(code))?;
    file.write_all(code)?;
    // After a crash the rename may be on disk and the data not; the checksum finds that.
    file.flush()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;
    use std::time::Duration;

    use super::*;

    /// A directory that is removed with the test.
    struct Temporary(PathBuf);

    impl Temporary {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("tidegate-cache-{name}-{}", std::process::id()));
            let _ = fs::remove_dir_all(&path);
            Self(path)
        }

        fn open(&self, bytes_max: u64) -> ModuleCache {
            ModuleCache::open(CacheSettings { directory: self.0.clone(), bytes_max }).unwrap()
        }
    }

    impl Drop for Temporary {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn key(name: &str) -> Key {
        Key { digest: Digest::of(name.as_bytes()), compatibility: 7 }
    }

    #[test]
    fn what_was_put_is_got_until_a_byte_changes() {
        let directory = Temporary::new("altered");
        let cache = directory.open(1 << 20);
        let (a, code) = (key("a"), vec![42; 1000]);
        assert!(cache.get(&a).is_none());
        for position in [0, 20, 48, 1047] {
            cache.put(&a, &code).unwrap();
            assert_eq!(cache.get(&a).unwrap().bytes(), code);
            let mut bytes = fs::read(cache.path(&a)).unwrap();
            bytes[position] ^= 1;
            fs::write(cache.path(&a), bytes).unwrap();
            assert!(cache.get(&a).is_none(), "byte {position}");
            assert!(!cache.path(&a).exists());
        }
        fs::write(cache.path(&a), "short").unwrap();
        assert!(cache.get(&a).is_none());
    }

    #[test]
    fn another_engine_has_another_file() {
        let directory = Temporary::new("engine");
        let cache = directory.open(1 << 20);
        cache.put(&key("a"), b"code").unwrap();
        assert!(cache.get(&Key { compatibility: 8, ..key("a") }).is_none());
    }

    #[test]
    fn the_least_recently_used_go_first() {
        let directory = Temporary::new("lru");
        let cache = directory.open(4000);
        for (n, name) in ["a", "b", "c"].into_iter().enumerate() {
            cache.put(&key(name), &[0; 1000]).unwrap();
            let used = SystemTime::UNIX_EPOCH + Duration::from_secs(n as u64);
            File::open(cache.path(&key(name))).unwrap().set_modified(used).unwrap();
        }
        assert!(cache.get(&key("a")).is_some());
        cache.put(&key("d"), &[0; 1000]).unwrap();
        assert!(cache.get(&key("b")).is_none());
        assert!(["a", "c", "d"].iter().all(|name| cache.get(&key(name)).is_some()));
        cache.put(&key("e"), &[0; 5000]).unwrap();
        assert!(cache.get(&key("e")).is_none());
    }

    #[test]
    fn a_directory_that_others_can_use_is_refused() {
        let directory = Temporary::new("open");
        directory.open(1000);
        assert_eq!(fs::metadata(&directory.0).unwrap().mode() & 0o777, 0o700);
        fs::set_permissions(&directory.0, fs::Permissions::from_mode(0o750)).unwrap();
        let error = ModuleCache::open(CacheSettings::new(&directory.0)).err().unwrap().to_string();
        assert!(error.contains("chmod 700") && error.contains("750"), "{error}");
        let link = Temporary::new("link");
        std::os::unix::fs::symlink(&directory.0, &link.0).unwrap();
        assert!(matches!(
            ModuleCache::open(CacheSettings::new(&link.0)),
            Err(CacheError::NotPrivate { .. } | CacheError::Io { .. })
        ));
        fs::remove_file(&link.0).unwrap();
    }

    #[test]
    fn unfinished_files_are_removed() {
        let directory = Temporary::new("unfinished");
        directory.open(1000);
        let left = directory.0.join(format!("{TEMPORARY}1-1"));
        fs::write(&left, "x").unwrap();
        directory.open(1000);
        assert!(!left.exists());
    }
}
