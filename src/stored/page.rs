//! The files in which answers and items are stored: each is removed when nothing needs it any more.

use std::fs::{self, File};
use std::path::PathBuf;
use std::sync::Arc;

use crate::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// Block size of file systems, in bytes: the room that a file takes is a multiple of it.
const BLOCK: usize = 4096;

/// Returns the bytes that a file of this length takes on disk.
pub(super) fn bytes_of(length: usize) -> usize {
    length.next_multiple_of(BLOCK)
}

/// The files of a directory: their bytes, and the lock on it.
pub(super) struct Pages {
    /// The bytes that all files take on disk.
    bytes: AtomicUsize,
    /// True if the files stay when they are dropped.
    are_left: AtomicBool,
    /// The lock that keeps other processes away; closing the file releases it.
    _lock: File,
}

/// A file, which is removed when it is dropped: by the last answer or item that needs it.
pub(super) struct Page {
    pages: Arc<Pages>,
    number: u64,
    path: PathBuf,
    bytes: usize,
}

/// The place of an item on disk; it keeps the file there.
pub(super) struct Place {
    page: Arc<Page>,
    at: usize,
}

/// The number of a file, and of an item in it.
pub(super) type Reference = (u64, usize);

impl Pages {
    /// Creates the files of a directory, which stays locked by `lock` as long as there are any.
    pub fn new(lock: File) -> Arc<Pages> {
        let (bytes, are_left) = (AtomicUsize::default(), AtomicBool::default());
        Arc::new(Pages { bytes, are_left, _lock: lock })
    }

    /// Returns the bytes that all files take on disk.
    pub fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Has the files stay when they are dropped.
    pub fn leave(&self) {
        self.are_left.store(true, Ordering::Relaxed);
    }

    /// Creates a file of this number, path and length, which is on disk already.
    pub fn page(self: &Arc<Pages>, number: u64, path: PathBuf, length: usize) -> Page {
        let bytes = bytes_of(length);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        Page { pages: self.clone(), number, path, bytes }
    }
}

impl Page {
    /// Returns the file's number.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// Leaves the file where it is, for people to look at, and stops counting its bytes.
    pub fn leave(mut self) {
        self.path = PathBuf::new();
    }
}

impl Drop for Page {
    fn drop(&mut self) {
        if !self.pages.are_left.load(Ordering::Relaxed) && !self.path.as_os_str().is_empty() {
            // One that cannot be removed becomes too old one day.
            let _ = fs::remove_file(&self.path);
        }
        self.pages.bytes.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

impl Place {
    /// Creates the place of the item number `at`, from 0, of a file.
    pub fn new(page: &Arc<Page>, at: usize) -> Place {
        Place { page: page.clone(), at }
    }

    /// Returns the numbers by which other files refer to the item.
    pub fn reference(&self) -> Reference {
        (self.page.number, self.at)
    }
}
