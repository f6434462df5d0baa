//! Brings back what an earlier process has stored on disk.

use std::collections::HashMap;
use std::hash::BuildHasher;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::disk::{AnswerFile, Disk, Found, ItemsFile};
use super::entry::{Draft, Entry};
use super::item::{Cost, Item};
use super::page::{Page, Place, Reference};
use super::{Outcome, Store};

/// Items by their place on disk.
type Places = HashMap<Reference, Arc<Item>>;

/// Turns an answer that an earlier process has left unfinished into a failed one.
pub type Fail = fn(&str) -> String;

impl Store {
    /// Creates a store like [`Store::new`] whose answers are kept in `directory` too, and brings back those
    /// that are there already. `fail` makes failures of those that were under way. Files that this program has
    /// not written, or that are damaged, are left alone.
    ///
    /// Where the directory cannot be used, answers are kept in memory alone, and the log says why.
    pub fn on_disk(
        limit: usize,
        age: Duration,
        instance: Option<&str>,
        directory: &Path,
        fail: Fail,
    ) -> Arc<Store> {
        let disk = Disk::open(directory).inspect_err(|error| {
            let advice = Disk::advice(error);
            let directory = directory.display();
            log::warn!("responses are stored in memory alone: {directory}: {error}. {advice}");
        });
        let store = Store::with(limit, age, instance, disk.ok());
        store.restore(directory, fail);
        store
    }

    fn restore(&self, directory: &Path, fail: Fail) {
        let Some(disk) = &self.disk else { return };
        let Found { items, answers, mut strange } = disk.read(self.limit);
        let places = items.into_iter().flat_map(|(page, file)| self.restore_items(page, file));
        let places: Places = places.collect();
        for (page, file) in answers.into_iter().filter(|(_, file)| file.age() < self.age) {
            match self.restore_answer(&file, &places, fail) {
                Some(entry) => self.put_back(entry, page),
                None => {
                    strange += 1;
                    page.leave();
                }
            }
        }
        // If the limit is lower than it was, answers have to go; while `places` holds their items, that frees
        // little.
        drop(places);
        self.make_room(&mut self.shelf());
        let directory = directory.display();
        log::info!("{directory}: stored responses: {}", self.count());
        if strange > 0 {
            log::warn!("{directory}: {strange} files are damaged or foreign, and are left alone");
        }
    }

    fn restore_items(&self, page: Page, file: ItemsFile) -> Vec<(Reference, Arc<Item>)> {
        let page = Arc::new(page);
        let mut shelf = self.shelf();
        let restore = |(at, row): (usize, super::disk::ItemRow)| {
            let json = String::from(Box::<str>::from(row.json));
            let item = Arc::new(Item::new(row.id, json, Cost::of(&self.bytes)));
            let _ = item.place.set(Place::new(&page, at));
            shelf.index(self.hasher.hash_one(&*item.json), file.owner, &item);
            ((page.number(), at), item)
        };
        file.items.into_iter().enumerate().map(restore).collect()
    }

    /// Makes an answer of a file; `None` if some of its items are missing.
    fn restore_answer(&self, file: &AnswerFile, places: &Places, fail: Fail) -> Option<Arc<Entry>> {
        let items = |references: &[Reference]| -> Option<Vec<Arc<Item>>> {
            references.iter().map(|place| places.get(place).cloned()).collect()
        };
        let draft = Draft {
            id: file.id.clone(),
            earlier: items(&file.earlier)?,
            input: items(&file.input)?,
            is_background: file.is_background,
            has_events: false,
        };
        let mut outcome = file.outcome(items(&file.output)?);
        if !outcome.is_final {
            outcome = Outcome::new(&fail(&outcome.answer()), Vec::new(), true);
        }
        let mut entry = Entry::new(draft, file.owner, &self.bytes);
        entry.created = Instant::now().checked_sub(file.age())?;
        entry.set(outcome);
        entry.close();
        Some(Arc::new(entry))
    }

    fn put_back(&self, entry: Arc<Entry>, page: Page) {
        entry.set_page(page);
        self.shelf().put(entry);
    }
}
