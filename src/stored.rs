//! Keeps answers in memory, and on disk too if that is wanted, so that they can be asked for again and be
//! continued. They are bounded in bytes and in age, and only their owner sees them.
//!
//! Enters: an answer's id, its input and its output as JSON, and the events of its stream. Leaves: the same,
//! until it is deleted, too old, or in the way of newer ones. It may know no dialect, no run and no route,
//! and nothing of it may reach the log.
//!
//! - `disk`: the directory of the files, and what they hold
//! - `entry`: one answer, under way or ended
//! - `events`: the events of a stream, in little room
//! - `item`: the parts of conversations, which answers share
//! - `lanes`: what a WebSocket keeps for itself
//! - `page`: one file, which is removed when nothing needs it any more
//! - `restored`: what an earlier process has left on disk

mod disk;
mod entry;
mod events;
mod item;
mod lanes;
mod page;
mod restored;

use std::collections::hash_map::RandomState;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::hash::BuildHasher;
use std::sync::{Arc, PoisonError, Weak};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::sync::atomic::{AtomicUsize, Ordering};
use crate::sync::{Mutex, MutexGuard};

pub use entry::{Draft, Entry, Outcome};
pub use events::{Cursor, Event};
pub use item::Item;
pub use lanes::{Lane, Lanes, MOST as MOST_LANES};
pub use restored::Fail;

use disk::Disk;
use item::Cost;

/// Most answers that are completed at the same time after their clients have left. Each holds a thread, and
/// counts as one of the requests that may be under way.
const ORPHANS: usize = 32;
/// Number of entries from which on dead ones are removed from an index of items.
const LEAST_SWEPT: usize = 64;

/// The owner of answers: the mark of an API key, or 0 where no keys are asked for.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq, Hash, Serialize)]
pub struct Owner(pub u64);

/// All answers that are kept, of all owners.
pub struct Store {
    /// Most bytes that all answers may take in memory, and again on disk; 0 if nothing is kept.
    limit: usize,
    /// The name of this instance, which is part of each id.
    instance: Option<String>,
    /// Age, counted from its request, at which an answer is removed.
    age: Duration,
    /// The bytes in use, those of requests that are not kept yet included.
    bytes: Arc<AtomicUsize>,
    /// The number of places for answers without clients that are taken.
    orphans: Arc<AtomicUsize>,
    /// Hashes the texts of items: clients cannot make two that collide.
    hasher: RandomState,
    shelf: Mutex<Shelf>,
    /// The files of the answers; `None` if they are kept in memory alone.
    disk: Option<Arc<Disk>>,
}

/// The contents of the store. Its lock is taken before that of an entry, never after.
#[derive(Default)]
struct Shelf {
    /// All answers by their numbers, the oldest first.
    entries: BTreeMap<u64, Arc<Entry>>,
    /// The numbers of all answers by their ids.
    numbers: HashMap<String, u64>,
    /// The number of the newest answer.
    last: u64,
    /// The numbers of the answers that have ended and whose events are kept.
    replayable: BTreeSet<u64>,
    /// Items by their owner and a hash of their text.
    texts: HashMap<(Owner, u64), Weak<Item>>,
    /// Items by their owner and id.
    items: HashMap<(Owner, String), Weak<Item>>,
    /// The size of `items` or `texts` at which dead ones are removed.
    sweep_at: usize,
}

/// The part of the store that one owner may see.
#[derive(Clone)]
pub struct OwnStore {
    store: Arc<Store>,
    owner: Owner,
    /// The lane of the WebSocket on which the owner asks; `None` without a WebSocket.
    lane: Option<Lane>,
}

/// The right to complete an answer whose client has left; dropping it gives the place back.
pub struct Orphan(Arc<AtomicUsize>);

impl Store {
    /// Creates a store of at most `limit` bytes, 0 for none, which removes answers at the age `age`.
    /// `instance` is the name of this instance among several.
    pub fn new(limit: usize, age: Duration, instance: Option<&str>) -> Arc<Store> {
        Store::with(limit, age, instance, None)
    }

    fn with(
        limit: usize,
        age: Duration,
        instance: Option<&str>,
        disk: Option<Arc<Disk>>,
    ) -> Arc<Store> {
        Arc::new(Store {
            instance: instance.map(str::to_owned),
            limit,
            age,
            bytes: Arc::default(),
            orphans: Arc::default(),
            hasher: RandomState::new(),
            shelf: Mutex::default(),
            disk,
        })
    }

    /// Returns the secret from which owners' marks are made, which lasts as long as the answers on disk; `None`
    /// if answers end with this process.
    pub fn salt(&self) -> Option<&str> {
        self.disk.as_ref().map(|disk| disk.salt())
    }

    /// Returns the part of the store that `owner` may see.
    pub fn of(self: &Arc<Store>, owner: Owner) -> OwnStore {
        OwnStore { store: self.clone(), owner, lane: None }
    }

    /// True if anything is kept at all.
    pub fn is_on(&self) -> bool {
        self.limit > 0
    }

    /// Returns the number of answers that are kept, under way or ended.
    pub fn count(&self) -> usize {
        self.swept_shelf().entries.len()
    }

    /// Returns the bytes in use in memory, including those of requests that are not kept yet.
    pub fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }

    fn shelf(&self) -> MutexGuard<'_, Shelf> {
        self.shelf.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Locks the shelf, and removes the answers that have ended and are too old. Nothing else removes them, so
    /// that no thread has to wake for that.
    fn swept_shelf(&self) -> MutexGuard<'_, Shelf> {
        let mut shelf = self.shelf();
        let now = Instant::now();
        let is_old = |entry: &Entry| now.duration_since(entry.created) >= self.age;
        let old = shelf.entries.iter().take_while(|(_, entry)| is_old(entry));
        let old: Vec<u64> =
            old.filter(|(_, entry)| entry.is_closed()).map(|(number, _)| *number).collect();
        old.into_iter().for_each(|number| shelf.let_go(number));
        shelf
    }

    /// Removes the oldest until the rest is within the limit: first events, without which an answer can still
    /// be asked for and continued, then answers, those under way last.
    fn make_room(&self, shelf: &mut Shelf) {
        let on_disk = || self.disk.as_ref().map_or(0, |disk| disk.bytes());
        while self.bytes() > self.limit || on_disk() > self.limit {
            if self.bytes() > self.limit {
                if let Some(number) = shelf.replayable.pop_first() {
                    if let Some(entry) = shelf.entries.get(&number) {
                        entry.forget_events();
                    }
                    continue;
                }
            }
            let ended = shelf.entries.iter().find(|(_, entry)| entry.is_closed());
            let Some((&number, entry)) = ended.or_else(|| shelf.entries.first_key_value()) else {
                return;
            };
            if !entry.is_closed() {
                self.lose(entry);
            }
            shelf.let_go(number);
        }
    }

    /// Writes an answer to the disk as it is now. Does nothing if answers are kept in memory alone, or this one
    /// is not kept.
    fn write(&self, entry: &Entry) {
        let Some(disk) = &self.disk else { return };
        let is_kept = |shelf: &Shelf| shelf.numbers.contains_key(&entry.id);
        if !is_kept(&self.shelf()) {
            return;
        }
        let Some(page) = disk.keep(entry) else { return };
        let mut shelf = self.shelf();
        // Dropping the page of one that has been deleted meanwhile removes the file.
        if is_kept(&shelf) {
            entry.set_page(page);
        }
        self.make_room(&mut shelf);
    }

    /// Writes the answers that have ended and are in no file. Those that fail again are tried another time.
    fn write_missed(&self) {
        let shelf = self.shelf();
        let missed = shelf.entries.values().filter(|entry| entry.is_missed());
        let missed: Vec<Arc<Entry>> = missed.cloned().collect();
        drop(shelf);
        missed.iter().for_each(|entry| self.write(entry));
    }

    /// Stops keeping an answer that is under way.
    fn lose(&self, entry: &Entry) {
        let limit = self.limit >> 20;
        log::warn!("a response under way is not stored: there is no room in the {limit} MiB");
        entry.lose();
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        self.disk.iter().for_each(|disk| disk.leave());
    }
}

impl Shelf {
    /// Adds an answer as the newest.
    fn put(&mut self, entry: Arc<Entry>) {
        self.last += 1;
        self.numbers.insert(entry.id.clone(), self.last);
        self.entries.insert(self.last, entry);
    }

    /// Makes an item findable, by the hash of its text and by its id.
    fn index(&mut self, hash: u64, owner: Owner, item: &Arc<Item>) {
        self.sweep_items();
        self.texts.insert((owner, hash), Arc::downgrade(item));
        self.items.insert((owner, item.id.clone()), Arc::downgrade(item));
    }

    /// Removes the answer of this number, and its file.
    fn let_go(&mut self, number: u64) {
        self.replayable.remove(&number);
        if let Some(entry) = self.entries.remove(&number) {
            self.numbers.remove(&entry.id);
            entry.drop_page();
        }
    }

    /// Removes the entries of dead items from the indexes, whenever they could have become as many as the
    /// living ones. The indexes differ in size, since clients may give one id to many texts.
    fn sweep_items(&mut self) {
        if self.items.len().max(self.texts.len()) < self.sweep_at.max(LEAST_SWEPT) {
            return;
        }
        self.items.retain(|_, item| item.strong_count() > 0);
        self.texts.retain(|_, item| item.strong_count() > 0);
        self.sweep_at = 2 * self.items.len().max(self.texts.len());
    }
}

impl OwnStore {
    /// Returns the same part of the store, together with what the WebSocket of `lane` keeps for itself.
    pub fn on(self, lane: Lane) -> OwnStore {
        OwnStore { lane: Some(lane), ..self }
    }

    /// Returns the lane of the WebSocket on which the owner asks; `None` without a WebSocket.
    pub fn lane(&self) -> Option<&Lane> {
        self.lane.as_ref()
    }

    /// True if anything is kept at all.
    pub fn is_on(&self) -> bool {
        self.store.is_on()
    }

    /// Returns the name of this instance among several, which is part of each id.
    pub fn instance(&self) -> Option<&str> {
        self.store.instance.as_deref()
    }

    /// True if this many bytes could be kept once everything else has made room.
    pub fn could_hold(&self, bytes: usize) -> bool {
        bytes <= self.store.limit
    }

    /// True if this answer with this outcome, without its events, could be kept once everything else has made
    /// room.
    pub fn has_room_for(&self, entry: &Entry, outcome: &Outcome) -> bool {
        entry.size_with(outcome) <= self.store.limit
    }

    /// Creates an answer whose bytes count at once; [`OwnStore::keep`] stores it.
    pub fn entry(&self, draft: Draft) -> Arc<Entry> {
        Arc::new(Entry::new(draft, self.owner, &self.store.bytes))
    }

    /// Stores an answer, so that it can be asked for. One that is larger than the whole store is lost, which
    /// the log says.
    pub fn keep(&self, entry: &Arc<Entry>) {
        let mut shelf = self.store.swept_shelf();
        if !self.has_room_for(entry, &entry.outcome()) {
            return self.store.lose(entry);
        }
        shelf.put(entry.clone());
        self.store.make_room(&mut shelf);
        drop(shelf);
        // Nobody can ask for any other one before its end: its client waits for it.
        if entry.is_background {
            self.write(entry);
        }
    }

    /// Writes an answer to the disk, and, once that works again, those that could not be written before.
    fn write(&self, entry: &Entry) {
        self.store.write(entry);
        if self.store.disk.as_ref().is_some_and(|disk| disk.take_missed()) {
            self.store.write_missed();
        }
    }

    /// Keeps the store within its limit after an answer has grown. An answer that has become larger than the
    /// whole store loses its events, and if that is not enough, is removed.
    pub fn settle(&self, entry: &Entry) {
        if self.store.bytes() <= self.store.limit {
            return;
        }
        let mut shelf = self.store.shelf();
        let number = shelf.numbers.get(&entry.id).copied();
        match number {
            Some(number) if !self.has_room_for(entry, &entry.outcome()) => {
                self.store.lose(entry);
                shelf.let_go(number);
            }
            Some(_) if entry.memory() > self.store.limit => entry.forget_events(),
            _ => {}
        }
        self.store.make_room(&mut shelf);
    }

    /// Ends the writing of an answer, and writes it to the disk.
    pub fn close(&self, entry: &Entry) {
        let mut shelf = self.store.shelf();
        entry.close();
        if let (true, Some(&number)) = (entry.has_events(), shelf.numbers.get(&entry.id)) {
            shelf.replayable.insert(number);
        }
        self.store.make_room(&mut shelf);
        drop(shelf);
        self.write(entry);
    }

    /// Returns the answer of this id, be it in the store or kept by the WebSocket alone; `None` if it is not
    /// the owner's, or not kept any more.
    pub fn find(&self, id: &str) -> Option<Arc<Entry>> {
        self.find_here(id).or_else(|| self.lane.as_ref()?.own().find_here(id))
    }

    fn find_here(&self, id: &str) -> Option<Arc<Entry>> {
        let shelf = self.store.swept_shelf();
        let entry = shelf.entries.get(shelf.numbers.get(id)?)?;
        (entry.owner == self.owner).then(|| entry.clone())
    }

    /// Removes the answer of this id, and returns it; `None` if it is not the owner's, or not kept any more.
    pub fn remove(&self, id: &str) -> Option<Arc<Entry>> {
        let entry = self.find_here(id)?;
        let mut shelf = self.store.shelf();
        let number = *shelf.numbers.get(id)?;
        shelf.let_go(number);
        drop(shelf);
        self.store.disk.iter().for_each(|disk| disk.sync());
        Some(entry)
    }

    /// Returns the owner's item of this text, which is held in memory once however often it comes. `id` makes
    /// the id of a new item.
    pub fn item(&self, json: String, id: impl FnOnce() -> String) -> Arc<Item> {
        let hash = self.store.hasher.hash_one(&json);
        let mut shelf = self.store.shelf();
        let known = shelf.texts.get(&(self.owner, hash)).and_then(Weak::upgrade);
        if let Some(item) = known.filter(|item| *item.json == *json) {
            return item;
        }
        let item = Arc::new(Item::new(id(), json, Cost::of(&self.store.bytes)));
        shelf.index(hash, self.owner, &item);
        item
    }

    /// Returns the item of this id; `None` once no stored answer holds it any more.
    pub fn find_item(&self, id: &str) -> Option<Arc<Item>> {
        self.find_item_here(id).or_else(|| self.lane.as_ref()?.own().find_item_here(id))
    }

    fn find_item_here(&self, id: &str) -> Option<Arc<Item>> {
        let shelf = self.store.swept_shelf();
        shelf.items.get(&(self.owner, id.to_owned()))?.upgrade()
    }

    /// Takes one of the places for answers whose clients have left; `None` if all are taken.
    pub fn adopt(&self) -> Option<Orphan> {
        let orphans = Orphan(self.store.orphans.clone());
        (orphans.0.fetch_add(1, Ordering::Relaxed) < ORPHANS).then_some(orphans)
    }
}

impl Drop for Orphan {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sync::Bell;

    const HOUR: Duration = Duration::from_secs(3600);
    const ONE: Owner = Owner(1);

    fn own(limit: usize, age: Duration) -> OwnStore {
        Store::new(limit, age, None).of(ONE)
    }

    /// An answer with this input and with events, begun and kept.
    fn begun(own: &OwnStore, id: &str, input: &str) -> Arc<Entry> {
        let input = own.item(format!("{{\"text\":\"{input}\"}}"), || format!("msg_{id}"));
        let entry = own.entry(Draft {
            id: id.to_owned(),
            earlier: Vec::new(),
            input: vec![input],
            is_background: false,
            has_events: true,
        });
        entry.set(Outcome::new("{\"output\":[]}", Vec::new(), false));
        own.keep(&entry);
        entry
    }

    fn ended(own: &OwnStore, id: &str, input: &str) {
        let entry = begun(own, id, input);
        entry.tell("done", &[b'x'; 1000]);
        entry.set(Outcome::new("{\"output\":[]}", Vec::new(), true));
        entry.flush();
        own.close(&entry);
    }

    #[test]
    fn what_is_too_old_is_let_go_when_somebody_looks_unless_it_is_under_way() {
        let own = own(1 << 20, Duration::ZERO);
        let entry = begun(&own, "resp_1", "a");
        assert!(own.find("resp_1").is_some() && own.find_item("msg_resp_1").is_some());
        own.close(&entry);
        drop(entry);
        assert!(own.find("resp_1").is_none() && own.find_item("msg_resp_1").is_none());
        assert_eq!((own.store.count(), own.store.bytes()), (0, 0));
    }

    #[test]
    fn events_are_let_go_before_answers_and_the_oldest_first() {
        let own = own(20_000, HOUR);
        let replayable = |id: &str| own.find(id).is_some_and(|entry| entry.has_events());
        let ids: Vec<String> = (0..12).map(|at| format!("resp_{at}")).collect();
        for id in &ids {
            ended(&own, id, id);
            assert!(own.store.bytes() <= 20_000);
        }
        assert!(
            ids.iter().all(|id| own.find(id).is_some()),
            "without events there is room for all"
        );
        assert!(!replayable("resp_0") && replayable("resp_11"));
        ids.iter().for_each(|id| ended(&own, &format!("{id}_more"), id));
        assert!(own.find("resp_0").is_none() && own.find("resp_11_more").is_some());
    }

    #[test]
    fn one_that_grows_larger_than_the_store_loses_its_events_and_if_that_is_not_enough_goes_itself()
    {
        let own = own(20_000, HOUR);
        ended(&own, "resp_1", "a");
        let entry = begun(&own, "resp_2", "b");
        let bell: Arc<Bell> = Arc::default();
        entry.follow(&bell);
        entry.tell("delta", &[b'x'; 30_000]);
        entry.flush();
        own.settle(&entry);
        assert!(own.find("resp_2").is_some() && own.find("resp_1").is_some());
        assert!(!entry.is_closed() && !entry.has_events() && bell.wait(Some(Instant::now())));
        entry.set(Outcome::new(&"x".repeat(30_000), Vec::new(), false));
        own.settle(&entry);
        assert!(own.find("resp_2").is_none() && own.find("resp_1").is_some());
        assert!(entry.is_closed() && !entry.has_events() && bell.wait(Some(Instant::now())));
        let large = begun(&own, "resp_3", &"x".repeat(30_000));
        assert!(own.find("resp_3").is_none() && large.is_closed());
        assert!(own.find("resp_1").is_some(), "nothing is let go for it");
        own.close(&large);
    }

    #[test]
    fn items_are_shared_by_one_owner_and_forgotten_with_their_last_answer() {
        let own = own(1 << 20, HOUR);
        let other = own.store.of(Owner(2));
        for at in 0..500 {
            let id = format!("resp_{at}");
            ended(&own, &id, &format!("question {at}"));
            let again =
                own.item(format!("{{\"text\":\"question {at}\"}}"), || panic!("it is known"));
            assert_eq!(again.id, format!("msg_{id}"));
            assert!(other.find(&id).is_none() && other.find_item(&again.id).is_none());
            assert!(other.remove(&id).is_none() && own.remove(&id).is_some());
        }
        let shelf = own.store.shelf();
        assert!(shelf.items.len() <= 2 * LEAST_SWEPT, "{} items", shelf.items.len());
        assert!(shelf.texts.len() <= 2 * LEAST_SWEPT && shelf.replayable.is_empty());
        assert_eq!(own.store.bytes(), 0);
    }

    #[test]
    fn the_indexes_stay_small_where_all_items_bring_the_same_id() {
        let own = own(1 << 20, HOUR);
        for at in 0..500 {
            drop(own.item(format!("{{\"id\":\"msg_1\",\"text\":{at}}}"), || "msg_1".to_owned()));
        }
        let shelf = own.store.shelf();
        assert!(
            shelf.items.len() <= 1 && shelf.texts.len() <= LEAST_SWEPT,
            "{}",
            shelf.texts.len()
        );
    }

    #[test]
    fn only_so_many_answers_are_completed_without_their_clients() {
        let own = own(1 << 20, HOUR);
        let orphans: Vec<Orphan> = std::iter::from_fn(|| own.adopt()).collect();
        assert_eq!(orphans.len(), ORPHANS);
        drop(orphans);
        assert!(own.adopt().is_some());
    }

    #[test]
    fn an_answer_that_ends_with_its_output_is_read_as_it_was_written() {
        let own = own(1 << 20, HOUR);
        let item = |json: &str| own.item(json.to_owned(), || "i".to_owned());
        let items = vec![item("{\"a\":1}"), item("{\"b\":2}")];
        for (answer, output) in [
            (r#"{"id":1,"output":[{"a":1},{"b":2}]}"#, items),
            (r#"{"id":1,"output":[]}"#, Vec::new()),
            (r#"{"output":[],"id":1}"#, Vec::new()),
            ("", Vec::new()),
        ] {
            assert_eq!(Outcome::new(answer, output, true).answer(), answer);
        }
        assert_eq!(Outcome::default().answer(), "");
    }
}
