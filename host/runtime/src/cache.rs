//! Compiled modules on disk.
//!
//! Whoever can write to the cache can run code in this process, so it is a private directory. A file:
//!
//! ```text
//!  0                       n                 n + 8             n + 40   n + 56
//!  +-----------------------+-----------------+-----------------+--------+
//!  | compiled code         | bytes of the    | SHA-256 of what | magic  |
//!  |                       | component (LE)  | is before it    |        |
//!  +-----------------------+-----------------+-----------------+--------+
//! ```
//!
//! The code comes first, so that the file can be mapped as it is: then its pages are those of the system's file cache, and
//! what nobody runs takes no memory. A file is never written to under its name, only replaced or removed, so what is mapped
//! stays what was checked.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use parking_lot::Mutex;
use sha2::{Digest as _, Sha256};
use tidegate_base::Digest;

const MAGIC: &[u8; 16] = b"tidegate-code-3\n";
const CHECKSUM_BYTES: usize = 32;
const SIZE_BYTES: usize = size_of::<u64>();
const TAIL_BYTES: usize = SIZE_BYTES + CHECKSUM_BYTES + MAGIC.len();
/// So much of a file is read at a time to check it.
const PIECE_BYTES: usize = 64 << 10;
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
        match check(&mut file) {
            Ok(source_bytes) => {
                // For the eviction order only.
                if let Err(error) = file.set_modified(SystemTime::now()) {
                    tracing::debug!(path = %path.display(), %error, "the use of a cached module is not noted");
                }
                Some(Artifact { file, source_bytes })
            }
            Err(reason) => {
                tracing::warn!(path = %path.display(), reason, "a cached module is damaged and compiled anew");
                let _ = fs::remove_file(&path);
                None
            }
        }
    }

    /// Stores the code compiled from a component of so many bytes, and removes what was used longest ago if there is too
    /// much. Code that is larger than the whole cache is not stored.
    pub(crate) fn put(&self, key: &Key, source_bytes: u64, code: &[u8]) -> Result<(), CacheError> {
        let size = (code.len() + TAIL_BYTES) as u64;
        if size > self.settings.bytes_max {
            return Ok(());
        }
        self.make_room(size);
        // Unique among the processes and threads that share the directory.
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let temporary = self.settings.directory.join(format!("{TEMPORARY}{}-{number}", std::process::id()));
        let path = self.path(key);
        write(&temporary, source_bytes, code).and_then(|()| fs::rename(&temporary, &path)).map_err(|error| {
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

/// Compiled code whose checksum holds: an open file, whatever becomes of its name.
pub(crate) struct Artifact {
    file: File,
    source_bytes: u64,
}

impl Artifact {
    /// A path that opens this very file, as long as this lives.
    pub(crate) fn path(&self) -> PathBuf {
        PathBuf::from(format!("/proc/self/fd/{}", self.file.as_raw_fd()))
    }

    /// How large the component was.
    pub(crate) fn source_bytes(&self) -> u64 {
        self.source_bytes
    }
}

struct CacheFile {
    path: PathBuf,
    size: u64,
    used: SystemTime,
}

/// The size of the component, if the file is what was written.
fn check(file: &mut File) -> Result<u64, String> {
    let told = |error: io::Error| error.to_string();
    let size = file.metadata().map_err(told)?.len();
    let code = size.checked_sub(TAIL_BYTES as u64).ok_or("it is too short")?;
    let computed = checksum(file, code + SIZE_BYTES as u64).map_err(told)?;
    let (mut source_bytes, mut noted, mut magic) = ([0; SIZE_BYTES], [0; CHECKSUM_BYTES], [0; MAGIC.len()]);
    file.seek(SeekFrom::Start(code)).map_err(told)?;
    file.read_exact(&mut source_bytes).map_err(told)?;
    file.read_exact(&mut noted).map_err(told)?;
    file.read_exact(&mut magic).map_err(told)?;
    if magic != *MAGIC {
        return Err("it is not a compiled module".to_owned());
    }
    if computed != noted {
        return Err("its checksum does not hold".to_owned());
    }
    Ok(u64::from_le_bytes(source_bytes))
}

/// Of the first bytes of a file.
fn checksum(file: &mut File, bytes: u64) -> io::Result<[u8; CHECKSUM_BYTES]> {
    let (mut hash, mut piece, mut rest) = (Sha256::new(), vec![0; PIECE_BYTES], file.take(bytes));
    loop {
        match rest.read(&mut piece) {
            Ok(0) => return Ok(hash.finalize().into()),
            Ok(read) => hash.update(piece.get(..read).unwrap_or_default()),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

fn write(path: &Path, source_bytes: u64, code: &[u8]) -> io::Result<()> {
    let source_bytes = source_bytes.to_le_bytes();
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(code)?;
    file.write_all(&source_bytes)?;
    file.write_all(&Sha256::new().chain_update(code).chain_update(source_bytes).finalize())?;
    file.write_all(MAGIC)?;
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

    fn code_of(artifact: &Artifact) -> Vec<u8> {
        let mut file = fs::read(artifact.path()).unwrap();
        file.truncate(file.len() - TAIL_BYTES);
        file
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
        for position in [0, 999, 1000, 1007, 1008, 1039, 1040, 1055] {
            cache.put(&a, 77, &code).unwrap();
            let artifact = cache.get(&a).unwrap();
            assert_eq!((code_of(&artifact), artifact.source_bytes()), (code.clone(), 77));
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
    fn what_was_checked_stays_as_it_is_when_its_file_is_replaced_or_removed() {
        let directory = Temporary::new("replaced");
        let (cache, a) = (directory.open(1 << 20), key("a"));
        cache.put(&a, 9, &[1; 100]).unwrap();
        let first = cache.get(&a).unwrap();
        cache.put(&a, 9, &[2; 200]).unwrap();
        let second = cache.get(&a).unwrap();
        fs::remove_file(cache.path(&a)).unwrap();
        assert_eq!((code_of(&first), code_of(&second)), (vec![1; 100], vec![2; 200]));
    }

    #[test]
    fn another_engine_has_another_file() {
        let directory = Temporary::new("engine");
        let cache = directory.open(1 << 20);
        cache.put(&key("a"), 9, b"code").unwrap();
        assert!(cache.get(&Key { compatibility: 8, ..key("a") }).is_none());
    }

    #[test]
    fn the_least_recently_used_go_first() {
        let directory = Temporary::new("lru");
        let cache = directory.open(4000);
        for (n, name) in ["a", "b", "c"].into_iter().enumerate() {
            cache.put(&key(name), 9, &[0; 1000]).unwrap();
            let used = SystemTime::UNIX_EPOCH + Duration::from_secs(n as u64);
            File::open(cache.path(&key(name))).unwrap().set_modified(used).unwrap();
        }
        assert!(cache.get(&key("a")).is_some());
        cache.put(&key("d"), 9, &[0; 1000]).unwrap();
        assert!(cache.get(&key("b")).is_none());
        assert!(["a", "c", "d"].iter().all(|name| cache.get(&key(name)).is_some()));
        cache.put(&key("e"), 9, &[0; 5000]).unwrap();
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
