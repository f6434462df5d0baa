//! Where anonymous sign-ups are counted when the state directory cannot be written: a directory of this
//! user's own that lasts until the next boot, or nearly so. Holds times, no token.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::process::geteuid;

use super::store::{LockError, Locked, Saved, Store};

const NAME: &str = "langfast2api";

/// The places for the count, the best first.
pub struct Spare {
    places: Vec<PathBuf>,
    /// The server whose sign-ups are counted, as `host:port`.
    server: String,
}

/// A count that this process alone can change until this is dropped.
pub struct Count {
    store: Store,
    lock: Locked,
    saved: Saved,
}

impl Spare {
    /// The places that the system has for such things.
    pub fn new(server: String) -> Spare {
        Spare { places: places(|name| std::env::var_os(name)), server }
    }

    /// Opens the count in the first place that can be written; makes it if there is none.
    ///
    /// # Errors
    /// [`LockError::Unwritable`] if there is no such place; [`LockError::Held`] if another process has
    /// it for longer than `patience`.
    pub fn open(&self, patience: Duration) -> Result<Count, LockError> {
        let nowhere = io::Error::other("no directory is left");
        let mut last = LockError::Unwritable(PathBuf::new(), nowhere);
        for place in &self.places {
            match self.open_at(place, patience) {
                Err(error @ LockError::Held { .. }) => return Err(error),
                Err(error) => last = error,
                Ok(count) => return Ok(count),
            }
        }
        Err(last)
    }

    fn open_at(&self, place: &Path, patience: Duration) -> Result<Count, LockError> {
        let unwritable = |error| LockError::Unwritable(place.to_owned(), error);
        make_own(place).map_err(unwritable)?;
        let store = Store::new(place.to_owned(), &self.server);
        let lock = store.lock(patience)?;
        let saved = store.load().map_err(unwritable)?;
        // Proves that it can be written.
        store.save(&saved, &lock).map_err(unwritable)?;
        Ok(Count { store, lock, saved })
    }

    /// The places, for people to read.
    pub fn names(&self) -> String {
        let names = self.places.iter().map(|place| place.display().to_string());
        names.collect::<Vec<_>>().join(", ")
    }
}

impl Count {
    /// The Unix times of the latest sign-ups.
    pub fn sign_ups(&self) -> &[u64] {
        &self.saved.sign_ups
    }

    /// Replaces them.
    ///
    /// # Errors
    /// They cannot be written.
    pub fn set(&mut self, sign_ups: Vec<u64>) -> io::Result<()> {
        self.saved.sign_ups = sign_ups;
        self.store.save(&self.saved, &self.lock)
    }

    /// The file that holds them.
    pub fn path(&self) -> PathBuf {
        self.store.path()
    }
}

/// The directories for the count, in the order of preference: those that belong to the service or the
/// user, then those that everybody may write to, the ones in memory first.
fn places(variable: impl Fn(&str) -> Option<OsString>) -> Vec<PathBuf> {
    let own = |name: &str| {
        // systemd lists several runtime directories with colons.
        let value = variable(name)?.into_string().ok()?;
        let first = value.split(':').next()?.to_owned();
        Path::new(&first).is_absolute().then(|| Path::new(&first).join(NAME))
    };
    let temporary = variable("TMPDIR").map(PathBuf::from).filter(|path| path.is_absolute());
    let temporary = temporary.unwrap_or_else(|| PathBuf::from("/tmp"));
    let shared = ["/run".into(), "/dev/shm".into(), temporary, "/var/tmp".into()];
    let of_user = format!("{NAME}-{}", geteuid().as_raw());
    let shared = shared.into_iter().map(|path| path.join(&of_user));
    ["RUNTIME_DIRECTORY", "XDG_RUNTIME_DIR"].into_iter().filter_map(own).chain(shared).collect()
}

/// Makes a directory of mode 0700, or makes sure that one that is there is such a directory, and this
/// user's: where everybody may write, anybody could have put a link or a directory there.
fn make_own(path: &Path) -> io::Result<()> {
    match fs::DirBuilder::new().mode(0o700).create(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    let metadata = fs::symlink_metadata(path)?;
    let is_own = metadata.uid() == geteuid().as_raw() && metadata.mode() & 0o077 == 0;
    match metadata.is_dir() && is_own {
        true => Ok(()),
        false => Err(io::Error::other("it is not a directory of this user's own, of mode 0700")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::Permissions;
    use std::os::unix::fs::{PermissionsExt, symlink};

    fn spare(places: &[&Path]) -> Spare {
        let places = places.iter().map(|place| place.to_path_buf()).collect();
        Spare { places, server: "host:1".to_owned() }
    }

    #[test]
    fn what_is_counted_is_found_again_and_by_nobody_else() {
        let scratch = tempfile::tempdir().unwrap();
        let place = scratch.path().join("own");
        let spare = spare(&[Path::new("/proc/no/such"), &place]);
        spare.open(Duration::ZERO).ok().unwrap().set(vec![1, 2]).unwrap();
        assert_eq!(spare.open(Duration::ZERO).ok().unwrap().sign_ups(), [1, 2]);
        assert_eq!(fs::metadata(&place).unwrap().mode() & 0o777, 0o700);
    }

    #[test]
    fn while_it_is_open_it_is_held() {
        let scratch = tempfile::tempdir().unwrap();
        let spare = spare(&[&scratch.path().join("own")]);
        let _open = spare.open(Duration::ZERO).ok().unwrap();
        assert!(matches!(spare.open(Duration::ZERO), Err(LockError::Held { .. })));
    }

    #[test]
    fn a_link_a_file_and_a_directory_that_others_may_enter_are_passed_over() {
        let scratch = tempfile::tempdir().unwrap();
        let [target, link, open, file, own] =
            ["target", "link", "open", "file", "own"].map(|name| scratch.path().join(name));
        fs::DirBuilder::new().mode(0o700).create(&target).unwrap();
        symlink(&target, &link).unwrap();
        fs::create_dir(&open).unwrap();
        fs::set_permissions(&open, Permissions::from_mode(0o777)).unwrap();
        fs::write(&file, "").unwrap();
        let count = spare(&[&link, &open, &file, &own]).open(Duration::ZERO).ok().unwrap();
        assert!(count.path().starts_with(&own), "{}", count.path().display());
        assert_eq!(fs::read_dir(target).unwrap().count() + fs::read_dir(open).unwrap().count(), 0);
    }

    #[test]
    fn a_directory_of_another_user_is_passed_over() {
        if !geteuid().is_root() {
            return;
        }
        let scratch = tempfile::tempdir().unwrap();
        let place = scratch.path().join("theirs");
        fs::DirBuilder::new().mode(0o700).create(&place).unwrap();
        std::os::unix::fs::chown(&place, Some(65_534), Some(65_534)).unwrap();
        let nowhere = spare(&[&place]).open(Duration::ZERO);
        assert!(matches!(nowhere, Err(LockError::Unwritable(..))));
    }

    #[test]
    fn what_belongs_to_the_service_or_the_user_comes_first_and_relative_paths_do_not_count() {
        let with = |name: &'static str, value: &'static str| {
            places(move |asked| (asked == name).then(|| value.into()))[0].clone()
        };
        assert_eq!(with("XDG_RUNTIME_DIR", "/run/user/1"), Path::new("/run/user/1/langfast2api"));
        assert_eq!(with("RUNTIME_DIRECTORY", "/run/a:/run/b"), Path::new("/run/a/langfast2api"));
        let without = places(|_| None);
        assert_eq!(with("XDG_RUNTIME_DIR", "run"), without[0]);
        assert!(without.iter().all(|place| place.is_absolute()), "{without:?}");
    }
}
