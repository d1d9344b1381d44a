//! Opening a store's file: the lock, what is wrong with it, and its settings.

use std::{
    fs::{File, OpenOptions, TryLockError},
    io::{Read, Seek, Write},
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

use rusqlite::{Connection, OpenFlags};

use super::{
    error::Fault,
    schema::{self, APPLICATION_ID, VERSION},
};
use crate::results::StoreError;

/// How large a page of a new file is, in bytes. Most runs of quick tasks fit into a few.
const PAGE_BYTES: u32 = 8192;

/// How large the log may grow before its pages are moved to the file, in pages: 32 MiB. More costs time at a start after a
/// crash, less costs writing pages more often than need be.
const LOG_PAGES: u32 = 4096;

/// How much the writer and the reader cache, in KiB. The system caches the file as well.
const WRITER_CACHE_KIB: i64 = 16 << 10;
const READER_CACHE_KIB: i64 = 8 << 10;

/// How many statements a connection keeps prepared: more than there are.
const STATEMENTS_MAX: usize = 96;

/// Files up to this size are checked whole when they are opened, which takes a tenth of a second; of larger ones only what is
/// read is.
const CHECKED_BYTES_MAX: u64 = 16 << 20;

/// What is written into the lock file once there is a store.
const MARK: &[u8] = b"This file is locked by the controller that has the result store beside it, and says that there is one.\n";

/// The lock of a store: held as long as the file is open.
#[derive(Debug)]
pub(super) struct Lock {
    file: File,
}

/// Opens a store for writing, or makes one. What it has not ended is for [`super::restore`].
pub(super) fn open(file: &Path) -> Result<(Lock, Connection), StoreError> {
    let (mut lock, had_store) = lock(file)?;
    let bytes = check_present(file, had_store)?;
    if bytes > 0 {
        check_header(file)?;
    }
    let damaged = |fault: Fault| StoreError::of_fault(file, fault);
    let mut connection = connect(file).map_err(damaged)?;
    let is_new = bytes == 0 || (!had_store && is_blank(&connection).map_err(damaged)?);
    if !is_new {
        check_version(file, &mut connection)?;
    }
    configure(&mut connection, is_new).map_err(damaged)?;
    if bytes <= CHECKED_BYTES_MAX {
        check_whole(&connection).map_err(damaged)?;
    }
    if !had_store {
        lock.mark().map_err(|error| StoreError::of_io(file, &error))?;
    }
    Ok((lock, connection))
}

/// Opens a store for reading, beside the connection that writes.
pub(super) fn open_reader(file: &Path) -> Result<Connection, StoreError> {
    let open = || -> Result<Connection, Fault> {
        let connection = connect(file)?;
        connection.pragma_update(None, "cache_size", -READER_CACHE_KIB)?;
        connection.pragma_update(None, "query_only", true)?;
        Ok(connection)
    };
    open().map_err(|fault| StoreError::of_fault(file, fault))
}

fn connect(file: &Path) -> Result<Connection, Fault> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(file, flags)?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS_MAX);
    connection.pragma_update(None, "cell_size_check", true)?;
    connection.pragma_update(None, "temp_store", "MEMORY")?;
    Ok(connection)
}

/// Whether it is what a controller leaves that ended while it made a store.
fn is_blank(connection: &Connection) -> Result<bool, Fault> {
    Ok(connection.query_row("SELECT count(*) = 0 FROM sqlite_schema", [], |row| row.get(0))?)
}

fn configure(connection: &mut Connection, is_new: bool) -> Result<(), Fault> {
    connection.pragma_update(None, "cache_size", -WRITER_CACHE_KIB)?;
    connection.pragma_update(None, "wal_autocheckpoint", LOG_PAGES)?;
    if is_new {
        connection.pragma_update(None, "page_size", PAGE_BYTES)?;
    }
    connection.query_row("PRAGMA journal_mode = WAL", [], |_| Ok(()))?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    if is_new {
        schema::migrate(connection, 0)?;
    }
    Ok(())
}

fn lock(store: &Path) -> Result<(Lock, bool), StoreError> {
    let path = beside(store, "lock");
    let open = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(&path);
    let mut file = open.map_err(|error| StoreError::of_io(&path, &error))?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Err(StoreError::InUse { file: store.to_owned() }),
        Err(TryLockError::Error(error)) => return Err(StoreError::of_io(&path, &error)),
    }
    let mut mark = Vec::new();
    file.read_to_end(&mut mark).map_err(|error| StoreError::of_io(&path, &error))?;
    Ok((Lock { file }, !mark.is_empty()))
}

impl Lock {
    /// Notes that there is a store from now on.
    fn mark(&mut self) -> std::io::Result<()> {
        self.file.rewind()?;
        self.file.write_all(MARK)?;
        self.file.sync_all()
    }
}

/// The size of the file; 0 if it is to be made. Refuses one that was there and has gone.
fn check_present(file: &Path, had_store: bool) -> Result<u64, StoreError> {
    let (bytes, what) = match std::fs::metadata(file) {
        Ok(metadata) => (metadata.len(), "empty"),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => (0, "missing"),
        Err(error) => return Err(StoreError::of_io(file, &error)),
    };
    if bytes > 0 {
        return Ok(bytes);
    }
    let lost = |trace: PathBuf| Err(StoreError::Lost { file: file.to_owned(), what, trace });
    let log = beside(file, "sqlite-wal");
    if std::fs::metadata(&log).is_ok_and(|metadata| metadata.len() > 0) {
        return lost(log);
    }
    if had_store {
        return lost(beside(file, "lock"));
    }
    make_private(file)?;
    Ok(0)
}

/// Makes the file, readable by its owner only: results and arguments are nobody else's business.
fn make_private(file: &Path) -> Result<(), StoreError> {
    let made = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(file);
    let made = made.and_then(|made| made.set_permissions(std::fs::Permissions::from_mode(0o600)));
    made.map_err(|error| StoreError::of_io(file, &error))
}

/// Refuses what is no database, before sqlite touches it.
fn check_header(file: &Path) -> Result<(), StoreError> {
    // For writing too, so that what may not be written is refused here, with a clear reason.
    let read = OpenOptions::new().read(true).write(true).open(file).and_then(|open| {
        let mut header = Vec::new();
        open.take(16).read_to_end(&mut header).map(|_| header)
    });
    let header = read.map_err(|error| StoreError::of_io(file, &error))?;
    if header == b"SQLite format 3\0" { Ok(()) } else { Err(StoreError::NotAStore { file: file.to_owned() }) }
}

fn check_version(file: &Path, connection: &mut Connection) -> Result<(), StoreError> {
    let pragma = |name: &str| connection.pragma_query_value(None, name, |row| row.get::<_, i64>(0));
    let found = pragma("application_id").and_then(|id| Ok((id, pragma("user_version")?)));
    let (id, found) = found.map_err(|error| StoreError::of_fault(file, error.into()))?;
    match found {
        _ if id != APPLICATION_ID => Err(StoreError::NotAStore { file: file.to_owned() }),
        VERSION => Ok(()),
        older if (1..VERSION).contains(&older) => {
            schema::migrate(connection, older).map_err(|error| StoreError::of_fault(file, error.into()))
        }
        found => Err(StoreError::Newer { file: file.to_owned(), found, known: VERSION }),
    }
}

/// Looks for damage in all of a small file.
fn check_whole(connection: &Connection) -> Result<(), Fault> {
    let verdict: String = connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0))?;
    if verdict == "ok" { Ok(()) } else { Err(Fault::Damaged(verdict.replace('\n', " "))) }
}

/// `store.sqlite` → `store.<extension>`.
fn beside(file: &Path, extension: &str) -> PathBuf {
    file.with_extension(extension)
}

/// Counts a new life of the controller.
pub(super) fn begin_life(connection: &Connection) -> Result<u64, Fault> {
    let next = "UPDATE meta SET value = value + 1 WHERE name = 'life' RETURNING value";
    let life: i64 = connection.query_row(next, [], |row| row.get(0))?;
    Ok(life.max(0) as u64)
}
