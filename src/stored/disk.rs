//! Stored answers in files, so that they outlive the process.
//!
//! Each answer has a file, and the items that it was the first to bring have one beside it. Both are written
//! in one step and never changed; a file is removed when nothing that is kept needs it any more.

use std::cmp::Reverse;
use std::collections::{HashMap, HashSet};
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError};
use std::time::{Duration, SystemTime};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::Owner;
use super::entry::{Entry, Outcome};
use super::item::Item;
use super::page::{self, Page, Pages, Place, Reference};
use crate::files;
use crate::sync::Mutex;
use crate::sync::atomic::{AtomicBool, Ordering};

/// File name endings of an answer and of items.
const ANSWER: &str = "response";
const ITEMS: &str = "items";
/// First bytes of those files.
const ANSWER_BEGINS: &[u8] = b"{\"id\":\"";
const ITEMS_BEGIN: &[u8] = b"{\"owner\":";
/// Names of the lock file, and of the file that holds the salt of the owners' marks.
const LOCK: &str = "lock";
const SALT: &str = "salt";
/// Length of the salt, in letters and digits.
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
    /// True if answers are missing there that could not be written.
    has_missed: AtomicBool,
}

/// The contents of a file of items.
#[derive(Deserialize, Serialize)]
pub(super) struct ItemsFile {
    /// The owner of all items.
    pub owner: Owner,
    /// The items, which other files refer to by their index.
    pub items: Vec<ItemRow>,
}

/// An item in such a file.
#[derive(Deserialize, Serialize)]
pub(super) struct ItemRow {
    /// The item's id.
    pub id: String,
    /// The item as JSON.
    pub json: Box<RawValue>,
}

/// The contents of a file of an answer.
#[derive(Deserialize, Serialize)]
pub(super) struct AnswerFile {
    /// The answer's id.
    pub id: String,
    /// The answer's owner.
    pub owner: Owner,
    /// The time of its request, in seconds since 1970.
    pub created: u64,
    /// True if its run went on without a client from the beginning.
    pub is_background: bool,
    /// True if it had ended.
    pub is_final: bool,
    /// The answer's JSON: all of it, or, if that `is_cut`, what is before the items of its output.
    pub head: String,
    /// True if the items of the output and the closing brackets have to follow `head`.
    pub is_cut: bool,
    /// The places of the items of the conversation before its input.
    pub earlier: Vec<Reference>,
    /// The places of the items of its input.
    pub input: Vec<Reference>,
    /// The places of the items of its output.
    pub output: Vec<Reference>,
}

/// A file that has not been read.
struct Listed {
    number: u64,
    path: PathBuf,
    length: usize,
}

/// The contents of a directory that are served, the oldest first.
#[derive(Default)]
pub(super) struct Found {
    /// The files of items.
    pub items: Vec<(Page, ItemsFile)>,
    /// The files of answers.
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
            let held = "another process keeps its responses there";
            return Err(io::Error::new(io::ErrorKind::WouldBlock, held));
        }
        files::remove_all_leftovers(directory);
        Ok(Arc::new(Disk {
            directory: directory.to_owned(),
            salt: salt(&directory.join(SALT))?,
            pages: Pages::new(lock),
            last: Mutex::default(),
            is_failing: AtomicBool::default(),
            has_missed: AtomicBool::default(),
        }))
    }

    /// Returns what the operator can do about a directory that cannot be used.
    pub fn advice(error: &io::Error) -> &'static str {
        match error.kind() {
            io::ErrorKind::WouldBlock => {
                "Give this one another name (LANGFAST2API_INSTANCE) or another directory \
                 (LANGFAST2API_STATE_DIR)"
            }
            _ => files::advice(error),
        }
    }

    /// Returns the secret from which owners' marks are made.
    pub fn salt(&self) -> &str {
        &self.salt
    }

    /// Returns the bytes that all files take on disk.
    pub fn bytes(&self) -> usize {
        self.pages.bytes()
    }

    /// Has the files stay for the next process when everything is dropped.
    pub fn leave(&self) {
        self.pages.leave();
    }

    /// Makes removals durable, so that removed files stay gone after a power failure.
    pub fn sync(&self) {
        // If it fails, the next write makes them durable.
        let _ = files::sync(&self.directory);
    }

    /// Writes an answer as it is now, and its items that are in no file yet. `None` if that fails, which the
    /// log says once until it works again.
    pub fn keep(&self, entry: &Entry) -> Option<Page> {
        let written = self.write(entry);
        let was_failing = self.is_failing.swap(written.is_err(), Ordering::Relaxed);
        let directory = self.directory.display();
        match &written {
            Err(error) => {
                self.has_missed.store(true, Ordering::Relaxed);
                if !was_failing {
                    let advice = files::advice(error);
                    log::warn!(
                        "responses are stored in memory alone: {directory}: {error}. {advice}"
                    );
                }
            }
            Ok(_) if was_failing => log::info!("{directory}: responses are stored on disk again"),
            Ok(_) => {}
        }
        written.ok()
    }

    /// True, once, if the directory can be written again and answers are missing there.
    pub fn take_missed(&self) -> bool {
        !self.is_failing.load(Ordering::Relaxed) && self.has_missed.swap(false, Ordering::Relaxed)
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

    /// Writes those items that are in no file yet, all into one.
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

    /// Writes a file under the number behind `last`.
    fn page(&self, last: &mut u64, ending: &str, file: &impl Serialize) -> io::Result<Page> {
        let content = serde_json::to_vec(file)?;
        let path = self.directory.join(format!("{:016x}.{ending}", *last + 1));
        files::replace(&path, &content, 0o600)?;
        *last += 1;
        Ok(self.pages.page(*last, path, content.len()))
    }

    /// Reads the newest answers and their items, as many as take at most `budget` bytes on disk together. Older
    /// ones are removed unread. If a crash has left two files of one answer, the newer one counts.
    pub fn read(&self, budget: usize) -> Found {
        let mut found = Found::default();
        let (mut answers, mut items) = self.list(&mut found);
        answers.sort_by_key(|file| Reverse(file.number));
        let (mut taken, mut is_full) = (0, false);
        let (mut seen, mut wanted) = (HashSet::new(), HashSet::new());
        for file in answers {
            if is_full {
                file.remove(ANSWER_BEGINS, &mut found);
                continue;
            }
            let Some(answer) = file.read::<AnswerFile>(2 * budget, &mut found) else { continue };
            let own = |number: &u64| items.get(number).map_or(0, |file: &Listed| file.bytes());
            let new = answer.needed().difference(&wanted).map(own).sum::<usize>() + file.bytes();
            is_full = taken + new > budget;
            let page = self.pages.page(file.number, file.path, file.length);
            if seen.insert(answer.id.clone()) && !is_full {
                taken += new;
                wanted.extend(answer.needed());
                found.answers.push((page, answer));
            }
        }
        let is_wanted = |file: &Listed| wanted.contains(&file.number);
        for file in std::mem::take(&mut items).into_values() {
            if !is_wanted(&file) {
                file.remove(ITEMS_BEGIN, &mut found);
            } else if let Some(rows) = file.read(2 * budget, &mut found) {
                let page = self.pages.page(file.number, file.path, file.length);
                found.items.push((page, rows));
            }
        }
        found.answers.sort_by_key(|(page, file)| (file.created, page.number()));
        found
    }

    /// Lists the files of answers, and those of items by their number, and notes the newest number.
    fn list(&self, found: &mut Found) -> (Vec<Listed>, HashMap<u64, Listed>) {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let (mut answers, mut items) = (Vec::new(), HashMap::new());
        let entries = fs::read_dir(&self.directory).into_iter().flatten().flatten();
        for path in entries.map(|entry| entry.path()) {
            let known = number_of(&path);
            *last = known.unwrap_or_default().max(*last);
            // Opening a pipe would wait for somebody to write to it.
            let metadata = fs::symlink_metadata(&path).ok().filter(fs::Metadata::is_file);
            let (Some(number), Some(metadata)) = (known, metadata) else {
                let is_own = [LOCK, SALT].iter().any(|name| path.ends_with(name));
                found.strange += usize::from(!is_own);
                continue;
            };
            let length = usize::try_from(metadata.len()).unwrap_or(usize::MAX / 2);
            let is_items = path.extension().is_some_and(|ending| ending == ITEMS);
            let file = Listed { number, path, length };
            match is_items {
                true => drop(items.insert(number, file)),
                false => answers.push(file),
            }
        }
        (answers, items)
    }
}

impl Listed {
    /// Returns the bytes that the file takes on disk.
    fn bytes(&self) -> usize {
        page::bytes_of(self.length)
    }

    /// Reads the file; `None`, and one more that is strange, if it is longer than `most` bytes or not as this
    /// program writes it.
    fn read<T: DeserializeOwned>(&self, most: usize, found: &mut Found) -> Option<T> {
        let content = (self.length <= most).then(|| fs::read(&self.path).ok()).flatten();
        let read = content.and_then(|content| serde_json::from_slice(&content).ok());
        found.strange += usize::from(read.is_none());
        read
    }

    /// Removes the file unread, if its first bytes are `begins`; else it is one more that is strange.
    fn remove(&self, begins: &[u8], found: &mut Found) {
        let mut begin = vec![0; begins.len()];
        let read = File::open(&self.path).and_then(|mut file| file.read_exact(&mut begin));
        match read.is_ok() && begin == begins {
            // One that cannot be removed becomes too old one day.
            true => drop(fs::remove_file(&self.path)),
            false => found.strange += 1,
        }
    }
}

impl AnswerFile {
    /// Returns the numbers of the files that its items are in.
    fn needed(&self) -> HashSet<u64> {
        let parts = [&self.earlier, &self.input, &self.output];
        parts.into_iter().flatten().map(|(number, _)| *number).collect()
    }

    /// Returns the answer's state, with these items as its output.
    pub fn outcome(&self, output: Vec<Arc<Item>>) -> Outcome {
        let head = self.head.as_str().into();
        Outcome { head, is_cut: self.is_cut, output, is_final: self.is_final }
    }

    /// Returns the time since its request came; zero if the clock has been set back.
    pub fn age(&self) -> Duration {
        since_1970().saturating_sub(Duration::from_secs(self.created))
    }
}

fn references(items: &[Arc<Item>]) -> Vec<Reference> {
    let places = items.iter().filter_map(|item| item.place.get());
    places.map(Place::reference).collect()
}

/// Returns the number in a file's name; `None` if this program gives no such names.
fn number_of(path: &Path) -> Option<u64> {
    let is_known = path.extension().is_some_and(|ending| ending == ANSWER || ending == ITEMS);
    let name = path.file_stem()?.to_str().filter(|name| is_known && name.len() == 16)?;
    // The largest would leave no number for the next file.
    u64::from_str_radix(name, 16).ok().filter(|number| number >> 63 == 0)
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
