//! Stored answers in files, so that they outlive the process.
//!
//! Each answer has a file, and the items that it was the first to bring have one beside it. Both are written
//! in one step and never changed; a file goes when nothing that is kept needs it any more.

use std::cmp::Reverse;
use std::collections::HashSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError};
use std::time::{Duration, SystemTime};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::Owner;
use super::entry::{Entry, Outcome};
use super::item::Item;
use super::page::{Page, Pages, Place, Reference};
use crate::files;
use crate::sync::Mutex;
use crate::sync::atomic::{AtomicBool, Ordering};

/// File name endings of an answer and of items.
const ANSWER: &str = "response";
const ITEMS: &str = "items";
/// Names of the lock file, and of the file that holds the salt of the owners' marks.
const LOCK: &str = "lock";
const SALT: &str = "salt";
/// Letters and digits of the salt.
const SALT_LENGTH: usize = 32;
/// The directory that holds the files of stored answers.
pub(super) struct Disk {
    directory: PathBuf,
    salt: String,
    pages: Arc<Pages>,
    /// The number of the newest file. The lock on it is held while one is written.
    last: Mutex<u64>,
    /// True if the latest attempt to write has failed.
    is_failing: AtomicBool,
}

/// A file's items.
#[derive(Deserialize, Serialize)]
pub(super) struct ItemsFile {
    pub owner: Owner,
    pub items: Vec<ItemRow>,
}

/// An item in a file.
#[derive(Deserialize, Serialize)]
pub(super) struct ItemRow {
    pub id: String,
    pub json: Box<RawValue>,
}

/// An answer in a file.
#[derive(Deserialize, Serialize)]
pub(super) struct AnswerFile {
    pub id: String,
    pub owner: Owner,
    /// The time of its request, in seconds since 1970.
    pub created: u64,
    pub is_background: bool,
    pub is_final: bool,
    /// The answer's JSON, without what follows where its output begins if that `is_cut`.
    pub head: String,
    pub is_cut: bool,
    pub earlier: Vec<Reference>,
    pub input: Vec<Reference>,
    pub output: Vec<Reference>,
}

/// The contents of a directory, the oldest first.
#[derive(Default)]
pub(super) struct Found {
    pub items: Vec<(Page, ItemsFile)>,
    pub answers: Vec<(Page, AnswerFile)>,
    /// Files that are not as this program writes them.
    pub strange: usize,
}

impl Disk {
    /// Takes a directory for this process, and creates it if it does not exist.
    ///
    /// # Errors
    /// It cannot be written, or another process has it.
    pub fn open(directory: &Path) -> io::Result<Arc<Disk>> {
        files::make_private(directory)?;
        let lock = files::open_lock(&directory.join(LOCK))?;
        if !files::try_lock(&lock)? {
            return Err(io::Error::other("another process keeps its responses there"));
        }
        files::remove_all_leftovers(directory);
        Ok(Arc::new(Disk {
            directory: directory.to_owned(),
            salt: salt(&directory.join(SALT))?,
            pages: Pages::new(lock),
            last: Mutex::default(),
            is_failing: AtomicBool::default(),
        }))
    }

    /// The secret from which owners' marks are made.
    pub fn salt(&self) -> &str {
        &self.salt
    }

    /// The bytes that all files take.
    pub fn bytes(&self) -> usize {
        self.pages.bytes()
    }

    /// Leaves the files there for the next process.
    pub fn leave(&self) {
        self.pages.leave();
    }

    /// Makes removals durable, so that removed files stay gone after a power failure.
    pub fn sync(&self) {
        // What cannot be helped is gone at the next write.
        let _ = files::sync(&self.directory);
    }

    /// Writes an answer as it is now, and its items that are in no file yet. Warns, once, if that fails.
    pub fn keep(&self, entry: &Entry) -> Option<Page> {
        let written = self.write(entry);
        let was_failing = self.is_failing.swap(written.is_err(), Ordering::Relaxed);
        if let (Err(error), false) = (&written, was_failing) {
            let directory = self.directory.display();
            let advice = files::advice(error);
            log::warn!("responses are stored in memory alone: {directory}: {error}. {advice}");
        }
        written.ok()
    }

    fn write(&self, entry: &Entry) -> io::Result<Page> {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let outcome = entry.outcome();
        let parts = [&entry.earlier, &entry.input, &outcome.output];
        self.write_items(&mut last, entry.owner, parts.into_iter().flatten())?;
        let [earlier, input, output] = parts.map(|items| references(items));
        let age = entry.created.elapsed();
        let file = AnswerFile {
            id: entry.id.clone(),
            owner: entry.owner,
            created: since_1970().saturating_sub(age).as_secs(),
            is_background: entry.is_background,
            is_final: outcome.is_final,
            head: outcome.head.to_string(),
            is_cut: outcome.is_cut,
            earlier,
            input,
            output,
        };
        self.page(&mut last, ANSWER, &file)
    }

    /// Writes those items that are in no file yet.
    fn write_items<'a>(
        &self,
        last: &mut u64,
        owner: Owner,
        items: impl Iterator<Item = &'a Arc<Item>>,
    ) -> io::Result<()> {
        let new: Vec<&Arc<Item>> = items.filter(|item| item.place.get().is_none()).collect();
        if new.is_empty() {
            return Ok(());
        }
        let rows = new.iter().map(|item| {
            let json = RawValue::from_string(item.json.to_string())?;
            Ok(ItemRow { id: item.id.clone(), json })
        });
        let file = ItemsFile { owner, items: rows.collect::<io::Result<_>>()? };
        let page = Arc::new(self.page(last, ITEMS, &file)?);
        for (at, item) in new.into_iter().enumerate() {
            // One that stands there twice has its place already.
            let _ = item.place.set(Place::new(&page, at));
        }
        Ok(())
    }

    fn page(&self, last: &mut u64, ending: &str, file: &impl Serialize) -> io::Result<Page> {
        let content = serde_json::to_vec(file)?;
        let path = self.directory.join(format!("{:016x}.{ending}", *last + 1));
        files::replace(&path, &content, 0o600)?;
        *last += 1;
        Ok(self.pages.page(*last, path, content.len()))
    }

    /// Reads all files of at most `most` bytes each. If a crash has left two files of one answer, the newer
    /// one counts, and the other is removed.
    pub fn read(&self, most: usize) -> Found {
        let mut found = Found::default();
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let entries = fs::read_dir(&self.directory).into_iter().flatten().flatten();
        for path in entries.map(|entry| entry.path()) {
            let known = number_of(&path);
            *last = known.unwrap_or_default().max(*last);
            if !known.is_some_and(|number| self.read_file(number, &path, most, &mut found)) {
                let is_own = [LOCK, SALT].iter().any(|name| path.ends_with(name));
                found.strange += usize::from(!is_own);
            }
        }
        found.answers.sort_by_key(|(page, _)| Reverse(page.number()));
        let mut seen = HashSet::new();
        found.answers.retain(|(_, file)| seen.insert(file.id.clone()));
        found.answers.sort_by_key(|(page, file)| (file.created, page.number()));
        found
    }

    /// Reads one file into `found`; false if this program has not written it so.
    fn read_file(&self, number: u64, path: &Path, most: usize, found: &mut Found) -> bool {
        let page = |length| self.pages.page(number, path.to_owned(), length);
        let ending = path.extension().unwrap_or_default();
        let read = match ending == ITEMS {
            true => parsed(path, most).map(|(length, file)| found.items.push((page(length), file))),
            false => {
                parsed(path, most).map(|(length, file)| found.answers.push((page(length), file)))
            }
        };
        read.is_some()
    }
}

impl AnswerFile {
    /// The answer, with the items of its output.
    pub fn outcome(&self, output: Vec<Arc<Item>>) -> Outcome {
        let head = self.head.as_str().into();
        Outcome { head, is_cut: self.is_cut, output, is_final: self.is_final }
    }

    /// The time since its request came; zero if the clock has been set back.
    pub fn age(&self) -> Duration {
        since_1970().saturating_sub(Duration::from_secs(self.created))
    }
}

fn references(items: &[Arc<Item>]) -> Vec<Reference> {
    let places = items.iter().filter_map(|item| item.place.get());
    places.map(Place::reference).collect()
}

/// The number in a file's name; `None` if this program gives no such names.
fn number_of(path: &Path) -> Option<u64> {
    let is_known = path.extension().is_some_and(|ending| ending == ANSWER || ending == ITEMS);
    let name = path.file_stem()?.to_str().filter(|name| is_known && name.len() == 16)?;
    // The largest would leave no number for the next file.
    u64::from_str_radix(name, 16).ok().filter(|number| number >> 63 == 0)
}

/// A file's length and content; `None` if it is too long or does not hold the expected JSON.
fn parsed<T: DeserializeOwned>(path: &Path, most: usize) -> Option<(usize, T)> {
    // Opening a pipe would wait for somebody to write to it.
    let metadata = fs::symlink_metadata(path).ok().filter(fs::Metadata::is_file)?;
    if metadata.len() > most as u64 {
        return None;
    }
    let content = fs::read(path).ok()?;
    Some((content.len(), serde_json::from_slice(&content).ok()?))
}

/// Reads the salt, or makes a new one, with which owners of earlier answers are no longer recognised.
fn salt(path: &Path) -> io::Result<String> {
    let is_salt = |text: &String| {
        text.len() == SALT_LENGTH && text.bytes().all(|byte| byte.is_ascii_alphanumeric())
    };
    let found = fs::symlink_metadata(path).ok().filter(fs::Metadata::is_file);
    let known = found.and_then(|_| fs::read_to_string(path).ok()).filter(is_salt);
    if let Some(salt) = known {
        return Ok(salt);
    }
    let salt = uuid::Uuid::new_v4().simple().to_string();
    files::replace(path, salt.as_bytes(), 0o600)?;
    Ok(salt)
}

fn since_1970() -> Duration {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default()
}
