//! The session file in the state directory: the state that outlives the process.
//!
//! It is replaced in one step ([`files`]); its mode is 0600, in a directory of mode 0700. A lock file keeps
//! two processes from using the same refresh token, which would end the session.

use std::fs::{self, File};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use std::{fmt, process, thread};

use rustix::fs::{Access, access};
use serde::{Deserialize, Serialize};

use super::fingerprint::Fingerprint;
use super::lenient;
use crate::files;

/// Number of used refresh tokens of the settings that are remembered.
const REMEMBERED: usize = 16;
/// Time between two attempts to take the lock: flock has no deadline of its own.
const LOOK: Duration = Duration::from_millis(20);
/// File name endings of the session file and of the lock file.
const SESSION: &str = "json";
const LOCK: &str = "lock";
/// Most bytes by which a sign-in makes the file longer: an access token is 1 to 3 KB, and grows with what
/// LangFast keeps of a user.
const GROWTH: usize = 16 * 1024;

/// The content of the session file.
#[derive(Clone, Default, Deserialize, Serialize)]
#[serde(default)]
pub struct Saved {
    /// The session, if somebody is signed in.
    pub session: Option<SavedSession>,
    /// Unix times of the latest anonymous sign-ups, for their limit.
    pub sign_ups: Vec<u64>,
    /// Refresh tokens of the settings that have been used and must not be sent again, the latest last;
    /// `None` if they are not known.
    pub used_tokens: Option<Vec<UsedToken>>,
}

/// A refresh token of the settings that has been used.
#[derive(Clone, Deserialize, Serialize)]
pub struct UsedToken {
    /// The token's fingerprint.
    pub fingerprint: Fingerprint,
    /// Whether LangFast has refused it, and nobody has logged in since.
    #[serde(default)]
    pub refused: bool,
}

/// A signed-in user's session.
#[derive(Clone, Deserialize, Serialize)]
pub struct SavedSession {
    /// The token for the next sign-in; it works once.
    pub refresh_token: String,
    /// The bearer token that came with it.
    pub access_token: String,
    /// Unix time at which the access token ends.
    #[serde(deserialize_with = "lenient::unix_time")]
    pub expires_at: u64,
    /// The user's id.
    pub user_id: String,
    /// The account's address; absent for an anonymous user.
    #[serde(default)]
    pub email: Option<String>,
    /// The prompt that runs of this user are started under.
    #[serde(default)]
    pub prompt_id: Option<String>,
    /// The refresh token of the settings that the session began with, if it did.
    #[serde(default)]
    pub began_with: Option<Fingerprint>,
}

impl Saved {
    /// The record of a refresh token's use; `None` if it has not been used as far as is known.
    pub fn use_of(&self, token: &str) -> Option<&UsedToken> {
        self.used_tokens.iter().flatten().find(|used| used.fingerprint.is_of(token))
    }

    /// Notes that a refresh token has been used, and whether it was refused. Returns its fingerprint.
    pub fn note_use(&mut self, token: &str, refused: bool) -> Fingerprint {
        let known = self.use_of(token).map(|used| used.fingerprint.clone());
        let fingerprint = known.unwrap_or_else(|| Fingerprint::of(token));
        let tokens = self.used_tokens.get_or_insert_default();
        tokens.retain(|used| used.fingerprint != fingerprint);
        tokens.push(UsedToken { fingerprint: fingerprint.clone(), refused });
        tokens.drain(..tokens.len().saturating_sub(REMEMBERED));
        fingerprint
    }
}

/// Reads, writes and locks the session file of one LangFast server.
#[derive(Debug)]
pub struct Store {
    directory: PathBuf,
    /// The file's name without its ending.
    name: String,
}

/// The lock on the session file; dropping it releases the lock.
pub struct Locked(#[allow(dead_code, reason = "closing the file gives the lock up")] File);

/// Why the lock could not be taken.
#[derive(Debug)]
pub enum LockError {
    /// Nothing can be written in the directory: no permission, a read-only file system, or it does not
    /// exist and cannot be created. So no process like this one keeps anything there.
    Unwritable(PathBuf, io::Error),
    /// Another process holds it.
    Held {
        /// The lock file.
        path: PathBuf,
        /// The id of that process, if it is known.
        holder: Option<u32>,
        /// How long the lock was waited for.
        patience: Duration,
    },
    /// The lock file cannot be used.
    Unusable(PathBuf, io::Error),
}

impl fmt::Display for LockError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LockError::Unwritable(directory, error) => {
                write!(f, "{} cannot be written: {error}", directory.display())
            }
            LockError::Held { path, holder, patience } => {
                let path = path.display();
                write!(f, "the session is in use by another process")?;
                if let Some(holder) = holder {
                    write!(f, " ({holder})")?;
                }
                write!(
                    f,
                    ", which has held {path} for more than {} s. End it if it hangs, or give this one a \
                     directory of its own (LANGFAST2API_STATE_DIR)",
                    patience.as_secs_f64()
                )
            }
            LockError::Unusable(path, error) => write!(
                f,
                "{} cannot be locked: {error}. Give it to the user that the server runs as, or remove it \
                 while no server runs; LANGFAST2API_STATE_DIR has to be on a file system with locks",
                path.display()
            ),
        }
    }
}

impl std::error::Error for LockError {}

impl Store {
    /// The store in `directory`, which is created when it is first needed. Each LangFast server, named
    /// by its `host:port`, has a file of its own, so that no other server gets its tokens.
    pub fn new(directory: PathBuf, server: &str) -> Store {
        let fit = |c: char| if c.is_ascii_alphanumeric() || c == '.' { c } else { '-' };
        let name = format!("session-{}", server.chars().map(fit).collect::<String>());
        Store { directory, name }
    }

    /// The session file's path.
    pub fn path(&self) -> PathBuf {
        self.file(SESSION)
    }

    fn file(&self, ending: &str) -> PathBuf {
        self.directory.join(format!("{}.{ending}", self.name))
    }

    /// Takes the lock, waiting at most `patience` for another process to release it.
    ///
    /// # Errors
    /// After [`LockError::Unwritable`] the caller may go on without the lock, after any other error it
    /// may not.
    pub fn lock(&self, patience: Duration) -> Result<Locked, LockError> {
        let deadline = Instant::now() + patience;
        let path = self.file(LOCK);
        files::make_private(&self.directory)
            .map_err(|error| LockError::Unwritable(self.directory.clone(), error))?;
        loop {
            let mut file = files::open_lock(&path).map_err(|error| self.cannot_open(error))?;
            match wait_for(&file, deadline) {
                Ok(true) if is_still(&file, &path) => {
                    name_holder(&mut file);
                    return Ok(Locked(file));
                }
                // Somebody has removed the file while we waited; other processes now lock another one.
                Ok(true) => {}
                Ok(false) => {
                    let holder = holder(&mut file);
                    return Err(LockError::Held { path, holder, patience });
                }
                Err(error) => return Err(LockError::Unusable(path, error)),
            }
        }
    }

    fn cannot_open(&self, error: io::Error) -> LockError {
        let is_writable = access(&self.directory, Access::WRITE_OK | Access::EXEC_OK).is_ok();
        match is_writable {
            true => LockError::Unusable(self.file(LOCK), error),
            false => LockError::Unwritable(self.directory.clone(), error),
        }
    }

    /// Whether anything can be kept, as far as that can be told without writing.
    ///
    /// # Errors
    /// [`LockError::Unwritable`].
    pub fn check_writable(&self) -> Result<(), LockError> {
        files::check_writable(&self.directory)
            .map_err(|error| LockError::Unwritable(self.directory.clone(), error))
    }

    /// Reads the session file. A missing or damaged one counts as empty: signing in again repairs it.
    ///
    /// # Errors
    /// The file exists and cannot be read.
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

    /// Replaces the file's content; when this returns it is on disk.
    ///
    /// # Errors
    /// The directory cannot be written.
    pub fn save(&self, saved: &Saved, _lock: &Locked) -> io::Result<()> {
        // Tokens are in them. Under the lock nobody else is saving.
        files::remove_leftovers(&self.path());
        files::replace(&self.path(), &serde_json::to_vec_pretty(saved)?, 0o600)
    }

    /// Makes sure that [`Store::save`] will work after a sign-in: a token that works once is sent only then.
    ///
    /// # Errors
    /// The directory cannot be written, or has no room.
    pub fn prove(&self, saved: &Saved, _lock: &Locked) -> io::Result<()> {
        files::remove_leftovers(&self.path());
        files::prove(&self.path(), serde_json::to_vec_pretty(saved)?.len() + GROWTH)
    }
}

/// Locks the file; false if another process has not released it by the deadline.
fn wait_for(file: &File, deadline: Instant) -> io::Result<bool> {
    loop {
        match files::try_lock(file)? {
            false if Instant::now() < deadline => thread::sleep(LOOK),
            is_locked => return Ok(is_locked),
        }
    }
}

/// Whether the open file is still the one at `path`.
fn is_still(file: &File, path: &Path) -> bool {
    let id = |metadata: fs::Metadata| (metadata.dev(), metadata.ino());
    let open = file.metadata().map(id).ok();
    open.is_some() && open == fs::symlink_metadata(path).map(id).ok()
}

/// Writes this process's id into the lock file: for people, and for [`LockError::Held`]. Nothing
/// depends on it.
fn name_holder(file: &mut File) {
    let _ = file.set_len(0);
    let _ = writeln!(file, "{}", process::id());
}

fn holder(file: &mut File) -> Option<u32> {
    let mut text = String::new();
    file.rewind().ok()?;
    file.take(20).read_to_string(&mut text).ok()?;
    text.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::Permissions;
    use std::os::unix::fs::{PermissionsExt, symlink};

    struct Scratch(PathBuf);

    impl Scratch {
        fn new() -> Scratch {
            let path = std::env::temp_dir().join(format!("store-{}", uuid::Uuid::new_v4()));
            fs::create_dir(&path).unwrap();
            Scratch(path)
        }

        fn store(&self) -> Store {
            Store::new(self.0.clone(), "host:1")
        }

        fn names(&self) -> Vec<String> {
            let entries = fs::read_dir(&self.0).unwrap();
            let mut names: Vec<String> =
                entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
            names.sort();
            names
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn what_was_saved_is_loaded_and_readable_by_its_owner_alone() {
        let scratch = Scratch::new();
        let store = Store::new(scratch.0.join("made/when/needed"), "host:1");
        assert!(store.load().unwrap().session.is_none());
        let lock = store.lock(Duration::ZERO).unwrap();
        store.save(&Saved { sign_ups: vec![1, 2], ..Saved::default() }, &lock).unwrap();
        assert_eq!(store.load().unwrap().sign_ups, [1, 2]);
        assert_eq!(mode(&store.path()), 0o600);
    }

    #[test]
    fn a_proof_leaves_the_file_as_it_was_and_nothing_beside_it() {
        let scratch = Scratch::new();
        let store = scratch.store();
        let lock = store.lock(Duration::ZERO).unwrap();
        store.prove(&Saved::default(), &lock).unwrap();
        assert_eq!(scratch.names(), ["session-host-1.lock"]);
        let saved = Saved { sign_ups: vec![1], ..Saved::default() };
        store.save(&saved, &lock).unwrap();
        store.prove(&Saved::default(), &lock).unwrap();
        assert_eq!(store.load().unwrap().sign_ups, [1]);
        assert_eq!(scratch.names(), ["session-host-1.json", "session-host-1.lock"]);
        fs::remove_dir_all(&scratch.0).unwrap();
        assert!(store.prove(&saved, &lock).is_err());
    }

    #[test]
    fn a_lock_that_is_held_says_by_whom() {
        let scratch = Scratch::new();
        let store = scratch.store();
        let _lock = store.lock(Duration::ZERO).unwrap();
        let error = store.lock(Duration::ZERO).err().unwrap();
        assert!(
            matches!(error, LockError::Held { holder, .. } if holder == Some(process::id())),
            "{error}"
        );
    }

    #[test]
    fn a_damaged_file_counts_as_empty() {
        let scratch = Scratch::new();
        fs::write(scratch.store().path(), "{\"session\":").unwrap();
        assert!(scratch.store().load().unwrap().session.is_none());
    }

    #[test]
    fn a_session_is_never_written_through_a_file_that_was_there_before() {
        let scratch = Scratch::new();
        let store = scratch.store();
        let victim = scratch.0.join("victim");
        fs::write(&victim, "precious").unwrap();
        // Where an attacker, or an earlier version, would have put it.
        let fixed = store.file("json.new");
        symlink(&victim, &fixed).unwrap();
        symlink(&victim, store.path()).unwrap();
        let lock = store.lock(Duration::ZERO).unwrap();
        store.save(&Saved::default(), &lock).unwrap();
        assert_eq!(fs::read_to_string(&victim).unwrap(), "precious");
        assert!(fs::symlink_metadata(store.path()).unwrap().is_file());
        assert_eq!(mode(&store.path()), 0o600);
    }

    #[test]
    fn an_old_mode_is_not_kept() {
        let scratch = Scratch::new();
        let store = scratch.store();
        for ending in ["json", "json.new", "lock"] {
            fs::write(store.file(ending), "{}").unwrap();
            fs::set_permissions(store.file(ending), Permissions::from_mode(0o666)).unwrap();
        }
        let lock = store.lock(Duration::ZERO).unwrap();
        store.save(&Saved::default(), &lock).unwrap();
        assert_eq!((mode(&store.path()), mode(&store.file("lock"))), (0o600, 0o600));
    }

    #[test]
    fn a_lock_file_that_is_a_link_a_pipe_or_a_directory_is_refused() {
        let scratch = Scratch::new();
        let store = scratch.store();
        let path = store.file("lock");
        let refused = || matches!(store.lock(Duration::ZERO), Err(LockError::Unusable(..)));
        symlink(scratch.0.join("elsewhere"), &path).unwrap();
        assert!(refused());
        assert_eq!(scratch.names(), ["session-host-1.lock"], "nothing was made at the link's end");
        fs::remove_file(&path).unwrap();
        let fifo = process::Command::new("mkfifo").arg(&path).status().unwrap();
        assert!(fifo.success() && refused());
        fs::remove_file(&path).unwrap();
        fs::create_dir(&path).unwrap();
        assert!(refused());
    }

    #[test]
    fn a_lock_file_that_was_removed_while_it_was_waited_for_is_no_lock() {
        let scratch = Scratch::new();
        let store = scratch.store();
        let first = store.lock(Duration::ZERO).unwrap();
        thread::scope(|scope| {
            let second = scope.spawn(|| store.lock(Duration::from_secs(20)));
            // The second has it open before it is removed.
            let links = format!("/proc/{}/fd", process::id());
            let path = store.file("lock");
            let opened = || {
                let links = fs::read_dir(&links).unwrap().flatten();
                links.filter(|link| fs::read_link(link.path()).is_ok_and(|to| to == path)).count()
            };
            while opened() < 2 {
                thread::yield_now();
            }
            fs::remove_file(&path).unwrap();
            drop(first);
            let _second = second.join().unwrap().unwrap();
            assert!(store.lock(Duration::ZERO).is_err(), "the file of that name is locked");
        });
    }

    #[test]
    fn what_a_killed_process_left_behind_is_removed_and_nothing_else() {
        let scratch = Scratch::new();
        let store = scratch.store();
        let others = [".session-host-1.x-1.12345678.new", ".session-host-1.short.new", "mine.new"];
        for name in
            others.iter().chain(&[".session-host-1.aB345678.new", ".session-host-1.trial000.new"])
        {
            fs::write(scratch.0.join(name), "token").unwrap();
        }
        let lock = store.lock(Duration::ZERO).unwrap();
        store.save(&Saved::default(), &lock).unwrap();
        let mut expected = [&others[..], &["session-host-1.json", "session-host-1.lock"]].concat();
        expected.sort_unstable();
        assert_eq!(scratch.names(), expected);
    }

    #[test]
    fn a_directory_that_cannot_be_made_is_told_from_a_lock_that_cannot() {
        let scratch = Scratch::new();
        fs::write(scratch.0.join("file"), "").unwrap();
        let store = Store::new(scratch.0.join("file/directory"), "host:1");
        assert!(matches!(store.lock(Duration::ZERO), Err(LockError::Unwritable(..))));
    }

    #[test]
    fn whatever_number_a_kept_session_holds_it_is_read() {
        let scratch = Scratch::new();
        let store = scratch.store();
        for (number, expected) in [
            ("1e999", u64::MAX),
            ("99999999999999999999", u64::MAX),
            ("-5", 0),
            ("1.5e9", 1_500_000_000),
        ] {
            let text = format!(
                r#"{{"session":{{"refresh_token":"r","access_token":"a","expires_at":{number},"user_id":"u"}}}}"#
            );
            fs::write(store.path(), text).unwrap();
            let session = store.load().unwrap().session.unwrap();
            assert_eq!(session.expires_at, expected, "{number}");
        }
    }

    #[test]
    fn only_so_many_used_tokens_are_remembered_each_once() {
        let mut saved = Saved::default();
        for at in 0..REMEMBERED + 1 {
            saved.note_use(&format!("token {at}"), false);
            saved.note_use(&format!("token {at}"), true);
        }
        assert_eq!(saved.used_tokens.as_ref().unwrap().len(), REMEMBERED);
        assert!(saved.use_of("token 0").is_none());
        assert!(saved.use_of(&format!("token {REMEMBERED}")).unwrap().refused);
    }
}
