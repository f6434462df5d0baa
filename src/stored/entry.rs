//! One answer that is kept, under way or ended.

use std::sync::{Arc, PoisonError, Weak};
use std::time::Instant;

use super::Owner;
use super::events::{Cursor, Event, EventLog};
use super::item::{self, Cost, Item};
use super::page::Page;
use crate::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use crate::sync::{Alarm, Bell, Mutex, MutexGuard};

/// Bytes of an answer besides its texts.
const ENTRY: usize = 800;

/// The facts of an answer that are known before it begins.
pub struct Draft {
    /// Its id, which nobody can guess.
    pub id: String,
    /// The conversation before its input.
    pub earlier: Vec<Arc<Item>>,
    /// Its input.
    pub input: Vec<Arc<Item>>,
    /// True if its run goes on without a client from the beginning.
    pub is_background: bool,
    /// True if the events of its stream are kept.
    pub has_events: bool,
}

/// The state of an answer at one moment.
#[derive(Clone, Default)]
pub struct Outcome {
    /// The answer as JSON: all of it, or, if that `is_cut`, what is before the items of its output. Empty
    /// before the answer begins.
    pub(super) head: Arc<str>,
    /// True if the items of the output and the closing brackets have to follow `head`.
    pub(super) is_cut: bool,
    /// The items of its output.
    pub output: Vec<Arc<Item>>,
    /// True if it has ended, in whatever way, and no longer changes.
    pub is_final: bool,
}

impl Outcome {
    /// Creates the state of an answer with this output. If the answer's JSON ends with the output, that part
    /// is stored once.
    pub fn new(answer: &str, output: Vec<Arc<Item>>, is_final: bool) -> Outcome {
        let head = answer.strip_suffix(&*tail(&output));
        let is_cut = head.is_some();
        Outcome { head: head.unwrap_or(answer).into(), is_cut, output, is_final }
    }

    /// Returns the answer as JSON; empty before it begins.
    pub fn answer(&self) -> String {
        let tail = if self.is_cut { tail(&self.output) } else { String::new() };
        format!("{}{tail}", self.head)
    }
}

/// Returns the end of an answer's JSON with this output.
fn tail(output: &[Arc<Item>]) -> String {
    let items: Vec<&str> = output.iter().map(|item| &*item.json).collect();
    format!("{}]}}", items.join(","))
}

/// One answer that is kept.
pub struct Entry {
    /// Its id.
    pub id: String,
    /// The time of its request.
    pub created: Instant,
    /// The conversation before its input.
    pub earlier: Vec<Arc<Item>>,
    /// Its input.
    pub input: Vec<Arc<Item>>,
    /// True if its run goes on without a client from the beginning.
    pub is_background: bool,
    pub(super) owner: Owner,
    /// True if nothing more is added.
    closed: AtomicBool,
    /// Raised to end the run.
    abort: Arc<Alarm>,
    state: Mutex<State>,
}

struct State {
    outcome: Outcome,
    /// The events of its stream; `None` if they are not kept, or not any more.
    events: Option<EventLog>,
    /// The bells of its readers, which ring when there is more to read.
    followers: Vec<Weak<Bell>>,
    /// Its file, if it has one.
    page: Option<Page>,
    /// The bytes that it takes besides its items.
    cost: Cost,
}

impl State {
    /// Rings the bells of all readers, and removes those of readers that have left.
    fn wake(&mut self) {
        self.followers.retain(|follower| follower.upgrade().inspect(|bell| bell.ring()).is_some());
    }
}

impl Entry {
    pub(super) fn new(draft: Draft, owner: Owner, bytes: &Arc<AtomicUsize>) -> Entry {
        let state = State {
            outcome: Outcome::default(),
            events: draft.has_events.then(EventLog::default),
            followers: Vec::new(),
            page: None,
            cost: Cost::of(bytes),
        };
        Entry {
            id: draft.id,
            created: Instant::now(),
            earlier: draft.earlier,
            input: draft.input,
            is_background: draft.is_background,
            owner,
            closed: AtomicBool::new(false),
            abort: Arc::default(),
            state: Mutex::new(state),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the present state of the answer.
    pub fn outcome(&self) -> Outcome {
        self.state().outcome.clone()
    }

    /// Returns the conversation up to and with this answer, which is what comes before the next one.
    pub fn conversation(&self) -> Vec<Arc<Item>> {
        let output = self.outcome().output;
        [&self.earlier, &self.input, &output].into_iter().flatten().cloned().collect()
    }

    /// Sets the state of the answer; false, and without effect, if it has ended before.
    pub fn set(&self, outcome: Outcome) -> bool {
        let mut state = self.state();
        let changes = !state.outcome.is_final;
        if changes {
            state.outcome = outcome;
            self.count(&mut state);
        }
        changes
    }

    /// Adds an event, if they are kept. [`Entry::flush`] makes it visible.
    pub fn tell(&self, name: &str, data: &[u8]) {
        if let Some(events) = &mut self.state().events {
            events.push(name, data);
        }
    }

    /// Counts the events added since the last call, and wakes their readers.
    pub fn flush(&self) {
        let mut state = self.state();
        self.count(&mut state);
        state.wake();
    }

    /// Counts the bytes that the answer takes now.
    fn count(&self, state: &mut State) {
        let events = state.events.as_ref().map_or(0, EventLog::size);
        let bytes = self.own_size(&state.outcome) + events;
        state.cost.set(bytes);
    }

    /// Returns the bytes that it takes besides its items.
    pub(super) fn memory(&self) -> usize {
        self.state().cost.bytes()
    }

    /// Returns the bytes that it takes with this outcome, besides its items and events.
    fn own_size(&self, outcome: &Outcome) -> usize {
        let pointers = self.earlier.len() + self.input.len() + outcome.output.len();
        ENTRY + size_of::<Arc<Item>>() * pointers + outcome.head.len()
    }

    /// Returns the bytes that it takes with this outcome, without its events, if it is alone in the store: the
    /// items of its input and output count, those of the conversation before it do not.
    pub(super) fn size_with(&self, outcome: &Outcome) -> usize {
        let mut items: Vec<&Arc<Item>> = self.input.iter().chain(&outcome.output).collect();
        // One that stands there twice is stored once.
        items.sort_unstable_by_key(|item| Arc::as_ptr(item));
        items.dedup_by_key(|item| Arc::as_ptr(item));
        let items = items.into_iter().map(|item| item::size(&item.id, &item.json));
        self.own_size(outcome) + items.sum::<usize>()
    }

    /// True if nothing more is added: it has ended, or is lost.
    pub fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    /// True if the events of its stream can be read.
    pub fn has_events(&self) -> bool {
        self.state().events.is_some()
    }

    /// Returns the next event for a reader at `cursor`; `None` if there is none yet, or events are not kept.
    pub fn next_event(&self, cursor: &mut Cursor) -> Option<Event> {
        self.state().events.as_ref()?.next(cursor)
    }

    /// Registers a bell, which rings when there is more to read, and at the end. It is forgotten when its last
    /// other owner drops it.
    pub fn follow(&self, bell: &Arc<Bell>) {
        let mut state = self.state();
        state.followers.retain(|follower| follower.strong_count() > 0);
        state.followers.push(Arc::downgrade(bell));
    }

    /// Returns the alarm that is raised when the run has to end: see [`Entry::abort`].
    pub fn aborted(&self) -> &Arc<Alarm> {
        &self.abort
    }

    /// Has the run end, if one goes on.
    pub fn abort(&self) {
        self.abort.raise();
    }

    /// Ends the writing, and tells the readers.
    pub(super) fn close(&self) {
        if let Some(events) = &mut self.state().events {
            events.end();
        }
        self.closed.store(true, Ordering::Release);
        self.flush();
    }

    /// True if it has ended and is in no file.
    pub(super) fn is_missed(&self) -> bool {
        let state = self.state();
        self.is_closed() && state.outcome.is_final && state.page.is_none()
    }

    /// Sets the file that holds it, and removes the one that held it before.
    pub(super) fn set_page(&self, page: Page) {
        let earlier = self.state().page.replace(page);
        drop(earlier);
    }

    /// Removes the file that holds it.
    pub(super) fn drop_page(&self) {
        let page = self.state().page.take();
        drop(page);
    }

    /// Drops the events, and tells their readers.
    pub(super) fn forget_events(&self) {
        let mut state = self.state();
        state.events = None;
        self.count(&mut state);
        state.wake();
    }

    /// Stops keeping an answer that is under way: its readers are told of the end, and its run ends if no
    /// client waits for it.
    pub(super) fn lose(&self) {
        self.state().outcome = Outcome { is_final: true, ..Outcome::default() };
        self.forget_events();
        if self.is_background {
            self.abort();
        }
        self.closed.store(true, Ordering::Release);
        self.flush();
    }
}
