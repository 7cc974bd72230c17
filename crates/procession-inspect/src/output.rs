//! Files that a command writes.

use crate::error::{Error, Result};
use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// Refuses a file that exists, before the look that would be in vain. `what`: the command.
///
/// # Errors
/// The file exists.
pub(crate) fn must_be_new(path: &Path, what: &'static str) -> Result<()> {
    if path.as_os_str() != "-" && path.symlink_metadata().is_ok() {
        return Err(Error::Exists {
            path: path.display().to_string(),
            what,
        });
    }
    Ok(())
}

/// Makes a file that only this user may read, has `write` write it, and returns what that returns. A file that exists
/// stays as it is; a file that cannot be written completely is removed. `what`: the command.
///
/// # Errors
/// The file exists, or cannot be made or written.
pub(crate) fn create<T>(
    path: &Path,
    what: &'static str,
    write: impl FnOnce(&File) -> io::Result<T>,
) -> Result<T> {
    let file = File::options()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path);
    let file = file.map_err(|e| match e.kind() {
        io::ErrorKind::AlreadyExists => Error::Exists {
            path: path.display().to_string(),
            what,
        },
        _ => Error::file(path, e),
    })?;
    let written = write(&file).and_then(|done| {
        file.sync_all()?;
        Ok(done)
    });
    written.map_err(|error| {
        let _ = std::fs::remove_file(path);
        Error::file(path, error)
    })
}

/// Makes a file with this text: see [`create`].
///
/// # Errors
/// As [`create`].
pub(crate) fn create_text(path: &Path, text: &str, what: &'static str) -> Result<()> {
    create(path, what, |mut file| file.write_all(text.as_bytes()))
}
