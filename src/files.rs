//! Files that are replaced in one step: a crash at any point leaves the old or the new content. The only
//! user of tempfile.
//!
//! A new file is written beside the old one, brought to disk, and renamed over it.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};

use rustix::fs::{Access, FlockOperation, OFlags, access, flock};
use rustix::io::Errno;
use rustix::process::geteuid;

/// File name ending of a file that is being written.
const FRESH: &str = ".new";
/// Number of random letters and digits in the name of such a file.
const RANDOM: usize = 8;
/// Stands in place of the random part in the name of a trial's file.
const TRIAL: &str = "trial000";

/// What to do where something in the state directory cannot be written, in a sentence without its full stop.
pub fn advice(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => {
            "Make room there"
        }
        io::ErrorKind::NotADirectory => "Name a directory (LANGFAST2API_STATE_DIR)",
        _ => "Make it writable, or name another directory (LANGFAST2API_STATE_DIR)",
    }
}

/// Whether files can be made in `directory`, which need not be there yet, as far as that can be told without
/// making one.
///
/// # Errors
/// They cannot, or the directory cannot be created.
pub fn check_writable(directory: &Path) -> io::Result<()> {
    for place in directory.ancestors() {
        let place = if place.as_os_str().is_empty() { Path::new(".") } else { place };
        match fs::metadata(place) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
            Ok(found) if !found.is_dir() => return Err(Errno::NOTDIR.into()),
            Ok(_) => return Ok(access(place, Access::WRITE_OK | Access::EXEC_OK)?),
        }
    }
    Ok(())
}

/// Replaces the content of `path`, whose directory exists; when this returns it is on disk. Whatever
/// stood at `path`, a link too, is replaced by a file of this mode.
///
/// # Errors
/// The directory cannot be written, or the disk is full; the old content stays.
pub fn replace(path: &Path, content: &[u8], mode: u32) -> io::Result<()> {
    let (directory, prefix) = place(path);
    write(path, &directory, &prefix, content, mode)
}

/// Makes sure that [`replace`] will work for `length` bytes, by all that it does, on a file beside `path`.
/// The caller sees to it that nobody else does the same now.
///
/// # Errors
/// The directory cannot be written, or has no room.
pub fn prove(path: &Path, length: usize) -> io::Result<()> {
    let (directory, prefix) = place(path);
    let mut content = vec![0; length];
    // What no file system makes shorter.
    fastrand::fill(&mut content);
    let trial = directory.join(format!("{prefix}{TRIAL}{FRESH}"));
    write(&trial, &directory, &prefix, &content, 0o600)?;
    fs::remove_file(trial)
}

/// Writes a file of mode 0600 unless there is one already, whose content stays; when this returns, what is
/// there is whole. The directory is created, of mode 0700, if it does not exist.
///
/// # Errors
/// The directory cannot be written.
pub fn write_once(path: &Path, content: &[u8]) -> io::Result<()> {
    let (directory, prefix) = place(path);
    make_private(&directory)?;
    let mut file = tempfile::Builder::new()
        .prefix(&prefix)
        .suffix(FRESH)
        .rand_bytes(RANDOM)
        .tempfile_in(&directory)?;
    file.write_all(content)?;
    file.as_file().sync_all()?;
    match file.persist_noclobber(path) {
        Err(fault) if fault.error.kind() != io::ErrorKind::AlreadyExists => Err(fault.error),
        _ => Ok(()),
    }
}

fn write(path: &Path, directory: &Path, prefix: &str, content: &[u8], mode: u32) -> io::Result<()> {
    // A new file with a name of its own, of mode 0600.
    let mut file = tempfile::Builder::new()
        .prefix(prefix)
        .suffix(FRESH)
        .rand_bytes(RANDOM)
        .tempfile_in(directory)?;
    file.write_all(content)?;
    // Whatever the umask.
    file.as_file().set_permissions(Permissions::from_mode(mode))?;
    if geteuid().is_root() {
        keep_owner(path, directory, file.as_file())?;
    }
    file.as_file().sync_all()?;
    file.persist(path)?;
    sync(directory)
}

/// Gives what root writes to whoever owned the old file, or else owns the directory: that user has to read it.
fn keep_owner(path: &Path, directory: &Path, file: &File) -> io::Result<()> {
    let former = fs::symlink_metadata(path).or_else(|_| fs::metadata(directory))?;
    fchown(file, Some(former.uid()), Some(former.gid()))
}

/// Removes a file; when this returns it is gone from the disk, too. False if there was none.
///
/// # Errors
/// The directory cannot be written.
pub fn remove(path: &Path) -> io::Result<bool> {
    match fs::remove_file(path) {
        Ok(()) => sync(&place(path).0).map(|()| true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// Removes the files of processes that were killed while they replaced `path`. The caller sees to it that
/// nobody is replacing it now. A file that cannot be removed does no harm.
pub fn remove_leftovers(path: &Path) {
    let (directory, prefix) = place(path);
    remove_if(&directory, |begin| begin == prefix);
}

/// Removes the files of processes that were killed while they replaced anything in `directory`, like
/// [`remove_leftovers`].
pub fn remove_all_leftovers(directory: &Path) {
    remove_if(directory, |begin| begin.starts_with('.') && begin.ends_with('.'));
}

/// Removes the files that are being written and whose names begin as `is_wanted` says.
fn remove_if(directory: &Path, is_wanted: impl Fn(&str) -> bool) {
    let is_leftover = |name: &str| {
        let name = name.strip_suffix(FRESH).unwrap_or_default();
        let begin = name.len().checked_sub(RANDOM).and_then(|at| name.split_at_checked(at));
        begin.is_some_and(|(begin, random)| {
            is_wanted(begin) && random.bytes().all(|byte| byte.is_ascii_alphanumeric())
        })
    };
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        if entry.file_name().to_str().is_some_and(is_leftover) {
            let _ = fs::remove_file(entry.path());
        }
    }
}

/// Opens a lock file, but no link, pipe or directory in its place. The mode is 0600, since whoever
/// can open the file can hold the lock.
///
/// # Errors
/// It cannot be opened, or is no regular file.
pub fn open_lock(path: &Path) -> io::Result<File> {
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .read(true)
        .write(true)
        .mode(0o600)
        .custom_flags(flags.bits() as i32)
        .open(path)?;
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(io::Error::other("it is no regular file"));
    }
    if metadata.permissions().mode() & 0o077 != 0 {
        file.set_permissions(Permissions::from_mode(0o600))?;
    }
    Ok(file)
}

/// Locks a file until it is closed; false if another process holds the lock.
///
/// # Errors
/// The file system has no locks.
pub fn try_lock(file: &File) -> io::Result<bool> {
    loop {
        match flock(file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(true),
            Err(Errno::WOULDBLOCK) => return Ok(false),
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// Creates a directory of mode 0700, if it does not exist.
///
/// # Errors
/// It cannot be created.
pub fn make_private(directory: &Path) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(directory)
}

/// The directory of a file, and how the names of new files for it begin.
fn place(path: &Path) -> (PathBuf, String) {
    // A name alone is one of the working directory, which an empty path does not open.
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    let directory = parent.unwrap_or(Path::new(".")).to_owned();
    let stem = path.file_stem().unwrap_or_default().to_string_lossy();
    (directory, format!(".{stem}."))
}

/// Brings to disk which files there are in a directory.
///
/// # Errors
/// The disk fails.
pub fn sync(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_alone_is_a_file_of_the_working_directory() {
        let place = place(Path::new("api-keys"));
        assert_eq!(place, (PathBuf::from("."), ".api-keys.".to_owned()));
        assert!(sync(&place.0).is_ok());
    }
}
