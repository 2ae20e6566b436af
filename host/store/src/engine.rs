//! The database behind the store: opening, transactions, and what becomes of it when one fails.

use std::any::Any;
use std::fmt;
use std::io::ErrorKind;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use parking_lot::{MappedRwLockReadGuard, RwLock, RwLockReadGuard, RwLockWriteGuard};
use redb::backends::FileBackend;
use redb::{Database, ReadTransaction, ReadableDatabase, WriteTransaction};

use crate::error::StoreError;
use crate::file;
use crate::tables::{FORMAT_KEY, META};

/// What a file is.
pub(crate) struct Layout {
    /// The format of its tables. A file with a higher one is refused.
    pub format: u32,
    /// The memory that pages are kept in.
    pub cache_bytes: usize,
    /// Makes the tables, so that no reader ever misses one. The engine notes the format.
    pub create: fn(&WriteTransaction) -> Result<(), Failure>,
}

/// Why a transaction did not happen.
pub(crate) enum Failure {
    /// It was refused; the file is fine.
    Refused(StoreError),
    /// What is in the tables cannot be: the words say what.
    Damaged(String),
    /// The database failed.
    Engine(redb::Error),
}

/// The database. A read holds the lock shared and so does a write, which waits for other writes inside of the database;
/// exclusive is for whoever replaces or compacts it.
pub(crate) struct Engine {
    path: PathBuf,
    layout: &'static Layout,
    state: RwLock<State>,
}

enum State {
    Open(Database),
    /// To be opened by whoever needs it next, since the database refuses everything after an error of the disk.
    Closed {
        /// Look through the whole file first: something was wrong with what was read.
        check: bool,
    },
    /// Looking through the whole file has found damage. It is not looked through again with every call.
    Damaged(String),
}

impl Engine {
    /// Opens or makes the file.
    pub(crate) fn open(path: PathBuf, layout: &'static Layout) -> Result<Self, StoreError> {
        let this = Self { path, layout, state: RwLock::new(State::Closed { check: false }) };
        drop(this.opened()?);
        Ok(this)
    }

    /// The file.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Runs `look` on one moment of the tables.
    pub(crate) fn read<T>(
        &self,
        look: impl FnOnce(&ReadTransaction) -> Result<T, Failure>,
    ) -> Result<T, StoreError> {
        let database = self.opened()?;
        let result = guarded(|| look(&database.begin_read()?));
        drop(database);
        self.settle(result)
    }

    /// Runs `change` and commits; the change is durable when this returns. On an error of `change` nothing is changed.
    pub(crate) fn write<T>(
        &self,
        change: impl FnOnce(&WriteTransaction) -> Result<T, Failure>,
    ) -> Result<T, StoreError> {
        let database = self.opened()?;
        let result = guarded(|| write(&database, change));
        drop(database);
        self.settle(result)
    }

    /// Gives the room of what was removed back to the disk. Everything else waits meanwhile.
    pub(crate) fn compact(&self) -> Result<(), StoreError> {
        drop(self.opened()?);
        let mut state = self.state.write();
        let State::Open(database) = &mut *state else {
            // Another thread's call has failed in between: it tells its caller why.
            return Ok(());
        };
        let result = guarded(|| database.compact().map(drop).map_err(|error| Failure::Engine(error.into())));
        drop(state);
        self.settle(result)
    }

    /// The database, opened again if an error has closed it.
    fn opened(&self) -> Result<MappedRwLockReadGuard<'_, Database>, StoreError> {
        let database = |state| {
            RwLockReadGuard::try_map(state, |state| match state {
                State::Open(database) => Some(database),
                State::Closed { .. } | State::Damaged(_) => None,
            })
        };
        if let Ok(database) = database(self.state.read()) {
            return Ok(database);
        }
        let mut state = self.state.write();
        match &*state {
            State::Open(_) => {}
            State::Damaged(what) => return Err(self.damaged(what.clone())),
            State::Closed { check } => match (open_database(&self.path, self.layout, *check), check) {
                (Ok(database), _) => *state = State::Open(database),
                (Err(StoreError::Damaged { path, what }), true) => {
                    *state = State::Damaged(what.clone());
                    return Err(StoreError::Damaged { path, what });
                }
                (Err(error), _) => return Err(error),
            },
        }
        database(RwLockWriteGuard::downgrade(state)).map_err(|_| self.damaged("it is closed".to_owned()))
    }

    /// What the caller is told, and whether the database can stay as it is.
    fn settle<T>(&self, result: Result<T, Failure>) -> Result<T, StoreError> {
        let failure = match result {
            Ok(value) => return Ok(value),
            Err(Failure::Refused(error)) => return Err(error),
            Err(Failure::Damaged(what)) => return Err(self.damaged(what)),
            Err(Failure::Engine(error)) => explain(&self.path, error),
        };
        self.close(matches!(failure, StoreError::Damaged { .. }));
        Err(failure)
    }

    fn close(&self, check: bool) {
        let mut state = self.state.write();
        if let State::Open(_) = &*state {
            let closed = std::mem::replace(&mut *state, State::Closed { check });
            // It is broken: it may fail to close, and it may panic. Opening it again tells what is left.
            drop(catch_unwind(AssertUnwindSafe(|| drop(closed))));
        }
    }

    fn damaged(&self, what: String) -> StoreError {
        StoreError::Damaged { path: self.path.clone(), what }
    }
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Engine").field("path", &self.path).finish_non_exhaustive()
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        Self::Refused(error)
    }
}

impl From<redb::StorageError> for Failure {
    fn from(error: redb::StorageError) -> Self {
        Self::Engine(error.into())
    }
}

impl From<redb::TableError> for Failure {
    fn from(error: redb::TableError) -> Self {
        Self::Engine(error.into())
    }
}

impl From<redb::TransactionError> for Failure {
    fn from(error: redb::TransactionError) -> Self {
        Self::Engine(error.into())
    }
}

impl From<redb::CommitError> for Failure {
    fn from(error: redb::CommitError) -> Self {
        Self::Engine(error.into())
    }
}

fn open_database(path: &Path, layout: &Layout, check: bool) -> Result<Database, StoreError> {
    let file = file::open(path)?;
    let result = guarded(|| {
        let mut builder = Database::builder();
        builder.set_cache_size(layout.cache_bytes).set_check_integrity_on_open(check);
        let backend = FileBackend::new(file).map_err(|error| Failure::Engine(error.into()))?;
        let database = builder.create_with_backend(backend).map_err(|error| Failure::Engine(error.into()))?;
        check_format(path, layout, &database)?;
        Ok(database)
    });
    result.map_err(|failure| match failure {
        Failure::Refused(error) => error,
        Failure::Damaged(what) => StoreError::Damaged { path: path.to_owned(), what },
        Failure::Engine(error) => explain(path, error),
    })
}

/// Makes the tables of a new file; checks that those of another are ours.
fn check_format(path: &Path, layout: &Layout, database: &Database) -> Result<(), Failure> {
    let reading = database.begin_read()?;
    if reading.list_tables()?.next().is_none() && reading.list_multimap_tables()?.next().is_none() {
        drop(reading);
        return write(database, |transaction| {
            transaction.open_table(META)?.insert(FORMAT_KEY, layout.format)?;
            (layout.create)(transaction)
        });
    }
    let found = reading.open_table(META)?.get(FORMAT_KEY)?.map(|value| value.value());
    match found {
        Some(found) if found == layout.format => Ok(()),
        Some(found) if found > layout.format => {
            let known = layout.format;
            Err(StoreError::NewerFormat { path: path.to_owned(), found, known }.into())
        }
        _ => Err(Failure::Damaged("it names no format".to_owned())),
    }
}

fn write<T>(
    database: &Database,
    change: impl FnOnce(&WriteTransaction) -> Result<T, Failure>,
) -> Result<T, Failure> {
    let mut transaction = database.begin_write()?;
    // A killed register is to serve again at once, whatever the size of the file; and writes are rare.
    transaction.set_quick_repair(true);
    let value = change(&transaction)?;
    transaction.commit()?;
    Ok(value)
}

/// The database trusts what it reads: on a damaged file it may panic. That is to end one call, not the node.
fn guarded<T>(action: impl FnOnce() -> Result<T, Failure>) -> Result<T, Failure> {
    catch_unwind(AssertUnwindSafe(action))
        .unwrap_or_else(|panic| Err(Failure::Engine(redb::Error::Corrupted(panic_text(panic.as_ref())))))
}

fn panic_text(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("reading it failed").to_owned()
}

fn explain(path: &Path, error: redb::Error) -> StoreError {
    let path = path.to_owned();
    match error {
        redb::Error::DatabaseAlreadyOpen | redb::Error::LockProtocolMismatch => StoreError::Locked { path },
        redb::Error::Io(error) => match error.kind() {
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::FileTooLarge => {
                StoreError::Full { path, error }
            }
            ErrorKind::InvalidData | ErrorKind::UnexpectedEof => {
                StoreError::Damaged { path, what: error.to_string() }
            }
            _ => StoreError::Io { path, error },
        },
        redb::Error::PreviousIo => {
            let error = std::io::Error::other("a write at the same time has failed");
            StoreError::Io { path, error }
        }
        error => StoreError::Damaged { path, what: error.to_string() },
    }
}
