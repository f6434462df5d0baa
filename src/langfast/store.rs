//! The session file: what has to outlive the process, in the state directory.
//!
//! Written whole to a file beside it and renamed over it, so that a crash at any point leaves the old
//! or the new content; mode 0600 in a directory of mode 0700. A lock file keeps two processes from
//! using the same refresh token, which would end the session.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};

/// What is kept.
#[derive(Clone, Default, Deserialize, Serialize)]
#[serde(default)]
pub struct Saved {
    /// The session, if somebody is signed in.
    pub session: Option<SavedSession>,
    /// Unix times of the latest anonymous sign-ups, for their limit.
    pub sign_ups: Vec<u64>,
}

/// A signed-in user's session.
#[derive(Clone, Deserialize, Serialize)]
pub struct SavedSession {
    /// Works once.
    pub refresh_token: String,
    /// The bearer token that came with it.
    pub access_token: String,
    /// Unix time at which the access token ends.
    pub expires_at: u64,
    /// The user's id.
    pub user_id: String,
    /// The account's address; absent for an anonymous user.
    #[serde(default)]
    pub email: Option<String>,
    /// The prompt that runs of this user are started under.
    #[serde(default)]
    pub prompt_id: Option<String>,
}

/// The session file's directory.
#[derive(Debug)]
pub struct Store {
    directory: PathBuf,
    /// The file's name without its ending.
    name: String,
}

/// Holds the lock until it is dropped.
pub struct Locked(#[allow(dead_code, reason = "closing the file gives the lock up")] File);

impl Store {
    /// The store in `directory`, which is made when it is first needed. Each server that is signed in
    /// to, named by its `host:port`, has a file of its own: no other is to see its tokens.
    pub fn new(directory: PathBuf, server: &str) -> Store {
        let fit = |c: char| if c.is_ascii_alphanumeric() || c == '.' { c } else { '-' };
        let name = format!("session-{}", server.chars().map(fit).collect::<String>());
        Store { directory, name }
    }

    /// The session file's path.
    pub fn path(&self) -> PathBuf {
        self.file("json")
    }

    fn file(&self, ending: &str) -> PathBuf {
        self.directory.join(format!("{}.{ending}", self.name))
    }

    /// Takes the lock, waiting until `deadline` for another process to give it up.
    ///
    /// # Errors
    /// When the directory cannot be made or written, or the lock is not free in time.
    pub fn lock(&self, deadline: Instant) -> io::Result<Locked> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.directory)?;
        let file = open_private(&self.file("lock"), false)?;
        loop {
            match flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => return Ok(Locked(file)),
                Err(rustix::io::Errno::WOULDBLOCK) if Instant::now() < deadline => {
                    // flock has no deadline of its own.
                    std::thread::sleep(Duration::from_millis(20));
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Reads the file. One that is missing or holds no session of ours counts as empty: signing in
    /// again repairs it.
    ///
    /// # Errors
    /// When it is there and cannot be read.
    pub fn load(&self) -> io::Result<Saved> {
        match fs::read(self.path()) {
            Ok(bytes) => Ok(serde_json::from_slice(&bytes).unwrap_or_else(|_| {
                log::warn!("{} is damaged and will be written anew", self.path().display());
                Saved::default()
            })),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Saved::default()),
            Err(error) => Err(error),
        }
    }

    /// Replaces the file's content; when this returns it is on disk. Call it under the lock.
    ///
    /// # Errors
    /// When the directory cannot be written.
    pub fn save(&self, saved: &Saved) -> io::Result<()> {
        let fresh = self.file("json.new");
        let mut file = open_private(&fresh, true)?;
        file.write_all(&serde_json::to_vec_pretty(saved)?)?;
        file.sync_all()?;
        fs::rename(&fresh, self.path())?;
        File::open(&self.directory)?.sync_all()
    }
}

fn open_private(path: &Path, truncate: bool) -> io::Result<File> {
    OpenOptions::new().create(true).write(true).truncate(truncate).mode(0o600).open(path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn what_was_saved_is_loaded_and_readable_by_its_owner_alone() {
        let directory = std::env::temp_dir().join(format!("store-{}", uuid::Uuid::new_v4()));
        let store = Store::new(directory.join("made/when/needed"), "host:1");
        assert!(store.load().unwrap().session.is_none());
        let _lock = store.lock(Instant::now()).unwrap();
        store.save(&Saved { session: None, sign_ups: vec![1, 2] }).unwrap();
        assert_eq!(store.load().unwrap().sign_ups, [1, 2]);
        assert_eq!(fs::metadata(store.path()).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(store.lock(Instant::now()).is_err(), "the lock is held");
        fs::remove_dir_all(directory).unwrap();
    }

    #[test]
    fn a_damaged_file_counts_as_empty() {
        let directory = std::env::temp_dir().join(format!("store-{}", uuid::Uuid::new_v4()));
        let store = Store::new(directory.clone(), "host:1");
        drop(store.lock(Instant::now()).unwrap());
        fs::write(store.path(), "{\"session\":").unwrap();
        assert!(store.load().unwrap().session.is_none());
        fs::remove_dir_all(directory).unwrap();
    }
}
