//! The files in which answers and items are stored: each is removed when nothing needs it any more.

use std::fs::{self, File};
use std::path::PathBuf;
use std::sync::Arc;

use crate::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// Block size of file systems, in bytes: the room that a file takes is a multiple of it.
const BLOCK: usize = 4096;

/// The bytes that a file of this length takes.
pub(super) fn bytes_of(length: usize) -> usize {
    length.next_multiple_of(BLOCK)
}

/// What the files of a directory have in common.
pub(super) struct Pages {
    /// The bytes that all files take.
    bytes: AtomicUsize,
    /// True if the files stay when they are dropped.
    are_left: AtomicBool,
    /// The lock that keeps other processes away; closing the file releases it.
    _lock: File,
}

/// A file, which is removed when the last answer or item that needs it is dropped.
pub(super) struct Page {
    pages: Arc<Pages>,
    number: u64,
    path: PathBuf,
    bytes: usize,
}

/// The place of an item on disk.
pub(super) struct Place {
    page: Arc<Page>,
    at: usize,
}

/// The number of a file, and of an item in it.
pub(super) type Reference = (u64, usize);

impl Pages {
    /// The files of a directory that is locked by `lock`, as long as there is one of them.
    pub fn new(lock: File) -> Arc<Pages> {
        let (bytes, are_left) = (AtomicUsize::default(), AtomicBool::default());
        Arc::new(Pages { bytes, are_left, _lock: lock })
    }

    /// The bytes that all files take.
    pub fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Leaves the files there when they are dropped.
    pub fn leave(&self) {
        self.are_left.store(true, Ordering::Relaxed);
    }

    /// The file of this number, path and length, which is there.
    pub fn page(self: &Arc<Pages>, number: u64, path: PathBuf, length: usize) -> Page {
        let bytes = bytes_of(length);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        Page { pages: self.clone(), number, path, bytes }
    }
}

impl Page {
    /// The file's number.
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
            // One that cannot be removed is too old one day.
            let _ = fs::remove_file(&self.path);
        }
        self.pages.bytes.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

impl Place {
    /// The item number `at` of a file.
    pub fn new(page: &Arc<Page>, at: usize) -> Place {
        Place { page: page.clone(), at }
    }

    /// The numbers by which other files refer to the item.
    pub fn reference(&self) -> Reference {
        (self.page.number, self.at)
    }
}
