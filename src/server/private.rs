//! The socket that tiny_http listens on.

use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

/// The private socket, in a directory that only this user can enter; both go with it.
pub struct PrivateSocket {
    directory: PathBuf,
}

impl PrivateSocket {
    /// Makes it, in the best place that there is, and removes what killed processes have left there.
    ///
    /// # Errors
    /// No place for it.
    pub fn bind() -> io::Result<(PrivateSocket, UnixListener)> {
        let mut failure = None;
        for base in private_places() {
            remove_stale(&base);
            let directory = base.join(format!("{PRIVATE}{:016x}", fastrand::u64(..)));
            let made = std::fs::DirBuilder::new().mode(0o700).create(&directory);
            let socket = PrivateSocket { directory };
            match made.and_then(|()| UnixListener::bind(socket.path())) {
                Ok(listener) => return Ok((socket, listener)),
                Err(error) => failure = Some((base, error)),
            }
        }
        Err(match failure {
            Some((base, error)) => {
                io::Error::other(format!("no private socket in {}: {error}", base.display()))
            }
            None => io::Error::other("no place for a private socket"),
        })
    }

    /// Where it is.
    pub fn path(&self) -> PathBuf {
        self.directory.join("http")
    }
}

impl Drop for PrivateSocket {
    fn drop(&mut self) {
        // What is not there need not be removed.
        let _ = std::fs::remove_file(self.path());
        let _ = std::fs::remove_dir(&self.directory);
    }
}

/// Where a socket may be put for as long as the process runs, the best place first.
fn private_places() -> Vec<PathBuf> {
    let from_env = |name: &str| std::env::var_os(name).map(PathBuf::from);
    let places = [from_env("RUNTIME_DIRECTORY"), from_env("XDG_RUNTIME_DIR")];
    let fallback = [std::env::temp_dir(), PathBuf::from("/run"), PathBuf::from("/dev/shm")];
    let fit = |place: &PathBuf| place.is_absolute() && fits_a_socket(place);
    places.into_iter().flatten().chain(fallback).filter(fit).collect()
}

/// What the names of the private directories begin with.
const PRIVATE: &str = "langfast2api-";

/// Removes what killed processes have left behind: directories of ours whose socket nobody answers.
fn remove_stale(base: &Path) {
    let entries = std::fs::read_dir(base).into_iter().flatten().flatten();
    for entry in entries.filter(|entry| entry.file_name().to_string_lossy().starts_with(PRIVATE)) {
        let socket = PrivateSocket { directory: entry.path() };
        let answer = UnixStream::connect(socket.path());
        // Dropping it removes it. Other users' cannot even be looked into.
        match answer.map_err(|error| error.kind()) {
            Err(io::ErrorKind::ConnectionRefused) => drop(socket),
            _ => std::mem::forget(socket),
        }
    }
}

/// A socket's path may have 107 bytes.
fn fits_a_socket(place: &Path) -> bool {
    place.as_os_str().len() + "/".len() + PRIVATE.len() + 16 + "/http".len() <= 107
}
