//! Routes the socket's events to the runs that they belong to.

mod over;
mod route;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, unbounded};

use super::api::Started;
use super::id_place::{IdPlace, is_uuid};
use super::run::{Notice, Progress, RunEvent, range_within};
use super::texts::Manners;
use crate::sync::Bell;
use over::Over;
pub use route::Listener;
use route::{Destination, RunRoute};

/// Most early runs that are kept: their events came before the answer that names them, or they are
/// another program's. If there are more, the oldest is dropped.
const MOST_EARLY: usize = 256;
/// Most bytes that early runs take together. The one with the latest event is kept even if it alone
/// takes more.
const MOST_EARLY_BYTES: usize = 16 << 20;
/// Time after an event of another program's run in which a failure that names no run may belong to that
/// program.
const SHARED: Duration = Duration::from_secs(600);
/// So many bells are rung before all that has been read is dealt with.
const MANY_DUE: usize = 8;
/// Number of runs for which the maps keep room while there are none.
const FEW_RUNS: usize = 16;

/// The runs whose events are expected or kept.
pub struct Routes {
    runs: HashMap<RunKey, RunRoute>,
    /// Maps an id to its run. A claimed run has two ids: LangFast's id of the job, and our id of the
    /// run. An early run has the id that its first event names first.
    by_id: HashMap<String, RunKey>,
    last_key: RunKey,
    /// The early runs, which no request has claimed yet, each with the bytes that it takes.
    early: BTreeMap<RunKey, usize>,
    over: Over,
    /// The position of the run's id in the latest packets.
    id_place: Option<IdPlace>,
    /// How many runs are being started.
    starting: usize,
    /// The time of the latest event that certainly belonged to another program's run.
    foreign: Option<Instant>,
    /// What the runs so far have shown of how texts come.
    manners: Arc<Manners>,
    /// The bells to ring, because events have been sent: once for all that are read together.
    due: Vec<Arc<Bell>>,
    /// How often events may have been missed.
    gaps: u64,
    /// Whether the socket is lost, and not yet connected again.
    is_cut: bool,
    /// Longest text of one answer, in bytes.
    answer_limit: usize,
}

/// Identifies a run within [`Routes`]. Later runs have larger keys.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RunKey(u64);

impl Routes {
    /// Starts without runs; each may bring `answer_limit` bytes of text.
    pub fn new(answer_limit: usize) -> Routes {
        Routes {
            runs: HashMap::new(),
            by_id: HashMap::new(),
            last_key: RunKey::default(),
            early: BTreeMap::new(),
            over: Over::default(),
            id_place: None,
            starting: 0,
            foreign: None,
            manners: Arc::default(),
            due: Vec::new(),
            gaps: 0,
            is_cut: false,
            answer_limit,
        }
    }

    /// Tells the runs under way that the socket is lost, or connected again. [`Routes::take_due`] has their
    /// bells.
    pub fn note_cut(&mut self, is_cut: bool) {
        if std::mem::replace(&mut self.is_cut, is_cut) != is_cut {
            let told = |route: &mut RunRoute| route.events.add(RunEvent::Cut(is_cut));
            self.due.extend(self.runs.values_mut().filter_map(told));
        }
    }

    /// Announces that a run is about to be started: events of unknown runs are kept from now on, since
    /// they may belong to it. Followed by [`Routes::claim`] or [`Routes::end_start`].
    pub fn begin_start(&mut self) {
        self.starting += 1;
    }

    /// Ends what [`Routes::begin_start`] has announced. If no other run is being started, the early
    /// runs are dropped.
    pub fn end_start(&mut self) {
        self.starting -= 1;
        if self.starting > 0 {
            return;
        }
        while let Some((&key, _)) = self.early.first_key_value() {
            // The program that started the run never learned its id, or is another one.
            self.foreign = Some(Instant::now());
            self.forget(key);
        }
    }

    /// Notes that events of all runs may have been missed: the socket was lost, and what was sent
    /// meanwhile is gone.
    pub fn note_gap(&mut self) {
        self.gaps += 1;
        self.runs.values_mut().for_each(|route| route.progress.note_gap());
    }

    /// How often events may have been missed so far.
    pub fn gaps(&self) -> u64 {
        self.gaps
    }

    /// Claims a run that has been started when there had been `gaps` [gaps](Routes::gaps); returns its
    /// key and its events, including those that have come already.
    pub fn claim(
        &mut self,
        started: Started,
        gaps: u64,
        listener: Listener,
    ) -> (RunKey, Receiver<RunEvent>) {
        let ids = vec![started.job_id, started.run_id];
        let early: Vec<RunRoute> = ids.iter().filter_map(|id| self.take_early(id)).collect();
        // If some events named only one id and some only the other, the id with more text counts.
        // Should the end have come under the other, the run ends by its deadline, but its text is never
        // cut.
        let early = early.into_iter().max_by_key(RunRoute::reached);
        let (events, receiver) = unbounded();
        let mut progress = match early {
            Some(RunRoute { progress, events: Destination::Early(early), .. }) => {
                early.into_iter().for_each(|event| drop(events.send(event)));
                progress
            }
            _ => self.new_progress(),
        };
        if gaps < self.gaps {
            progress.note_gap();
        }
        if self.is_cut {
            // After what has come.
            let _ = events.send(RunEvent::Cut(true));
        }
        let events = Destination::Wanted { events, listener, has_text: false };
        let key = self.insert(RunRoute { progress, ids, events });
        self.end_start();
        (key, receiver)
    }

    /// Drops a run whose events nobody wants any more, whether it has ended or not, and remembers its
    /// ids.
    pub fn remove(&mut self, key: RunKey) {
        let route = self.forget(key);
        route.into_iter().flat_map(|route| route.ids).for_each(|id| self.over.add(&id));
    }

    /// Frees the room that a burst of runs has needed.
    pub fn shrink(&mut self) {
        self.runs.shrink_to(FEW_RUNS);
        self.by_id.shrink_to(FEW_RUNS);
    }

    /// Takes the fast path for a packet that differs from the run's last one only by longer text, and by
    /// nothing else that has a meaning: passes the new text on without parsing it. Returns false for any
    /// other packet, which may be no UTF-8.
    pub fn grow(&mut self, packet: &[u8]) -> bool {
        let id = self.id_place.and_then(|place| place.of(packet));
        let Some(&key) = id.and_then(|id| self.by_id.get(id)) else { return false };
        let Some(route) = self.runs.get_mut(&key) else { return false };
        let by_id = &self.by_id;
        let is_of_it =
            |notice: &Notice<'_>| notice.all_ids().find_map(|id| by_id.get(id)) == Some(&key);
        let Some(event) = route.progress.grow(packet, is_of_it) else { return false };
        self.due.extend(route.events.add(event));
        self.limit_early(key);
        true
    }

    /// Moves the bells to ring into `bells`, which is empty.
    pub fn take_due(&mut self, bells: &mut Vec<Arc<Bell>>) {
        std::mem::swap(&mut self.due, bells);
    }

    /// The bells to ring, if they are many already.
    pub fn take_many_due(&mut self) -> Option<Vec<Arc<Bell>>> {
        let due = &mut self.due;
        (due.len() >= MANY_DUE).then(|| std::mem::replace(due, Vec::with_capacity(MANY_DUE)))
    }

    /// Passes a notice, which came in `packet`, to the run that it belongs to.
    pub fn dispatch(&mut self, packet: &str, notice: &Notice<'_>) {
        let Some(key) = self.find_or_keep(notice) else {
            match notice.is_failure() && !notice.may_be_no_failure {
                true if notice.ids.is_empty() => {
                    log::warn!("runner: a failure that names no run and may be of anybody's");
                }
                true => log::warn!("runner: a failure of no run that is ours"),
                false => {}
            }
            return;
        };
        let Some(route) = self.runs.get_mut(&key) else { return };
        let events = route.progress.take(packet, notice);
        self.due.extend(events.into_iter().filter_map(|event| route.events.add(event)));
        self.limit_early(key);
        self.note_id_place(packet, notice);
    }

    /// Returns the run that a notice is about. Adds an early run if the notice may belong to one that
    /// is being started.
    fn find_or_keep(&mut self, notice: &Notice<'_>) -> Option<RunKey> {
        if let Some(&key) = notice.all_ids().find_map(|id| self.by_id.get(id)) {
            return Some(key);
        }
        if notice.all_ids().any(|id| self.over.contains(id)) {
            return None;
        }
        let Some(id) = notice.ids.first() else {
            return match notice.is_failure() {
                true if notice.may_be_no_failure => None,
                true => self.only_suspect(),
                false => self.keep_likely(notice),
            };
        };
        if self.starting == 0 {
            self.foreign = Some(Instant::now());
            return None;
        }
        Some(self.keep(id))
    }

    /// Adds an early run for a notice with a text that names no run, but holds what looks like the id of
    /// one.
    fn keep_likely(&mut self, notice: &Notice<'_>) -> Option<RunKey> {
        if self.starting == 0 || notice.text().is_none() {
            return None;
        }
        let id = notice.maybe_ids.iter().find(|id| is_uuid(id))?;
        Some(self.keep(id))
    }

    /// Adds an early run.
    fn keep(&mut self, id: &str) -> RunKey {
        let (progress, events) = (self.new_progress(), Destination::Early(Vec::new()));
        let key = self.insert(RunRoute { progress, ids: vec![id.to_owned()], events });
        self.early.insert(key, 0);
        key
    }

    fn new_progress(&self) -> Progress {
        Progress::among(self.manners.clone(), self.answer_limit)
    }

    /// The run that a failure without a run's id is attributed to, if only one can be meant.
    ///
    /// Events go to every socket of the user, so such a failure may be about a run of another instance
    /// with the same account, or of the web page. Ending a sound run for it would lose an answer and a
    /// request of the quota; a failed run that is not ended here ends by its deadline, which the error
    /// names. So the failure counts only if exactly one run is under way and none is being started,
    /// that run has had no event yet (later failures name their run), and no other program has been
    /// seen to run anything lately.
    fn only_suspect(&self) -> Option<RunKey> {
        if self.starting > 0 || self.foreign.is_some_and(|at| at.elapsed() < SHARED) {
            return None;
        }
        let mut under_way = self.runs.iter().filter(|(_, route)| !route.progress.has_ended());
        match (under_way.next(), under_way.next()) {
            (Some((key, route)), None) if !route.progress.has_begun() => Some(*key),
            _ => None,
        }
    }

    /// Whether a run with this id is kept.
    #[cfg(all(test, feature = "interleavings"))]
    pub fn knows(&self, id: &str) -> bool {
        self.by_id.contains_key(id)
    }

    fn insert(&mut self, route: RunRoute) -> RunKey {
        let key = RunKey(self.last_key.0 + 1);
        self.last_key = key;
        self.by_id.extend(route.ids.iter().map(|id| (id.clone(), key)));
        self.runs.insert(key, route);
        key
    }

    fn forget(&mut self, key: RunKey) -> Option<RunRoute> {
        self.early.remove(&key);
        let route = self.runs.remove(&key)?;
        for id in &route.ids {
            // LangFast may have given two jobs the same id: then it names the later one.
            if self.by_id.get(id) == Some(&key) {
                self.by_id.remove(id);
            }
        }
        Some(route)
    }

    /// Removes the early run with this id and returns it.
    fn take_early(&mut self, id: &str) -> Option<RunRoute> {
        let key = *self.by_id.get(id)?;
        if self.early.contains_key(&key) { self.forget(key) } else { None }
    }

    /// Updates the size of an early run that has just got an event, and drops the oldest of the others
    /// while there are too many.
    fn limit_early(&mut self, key: RunKey) {
        let (Some(bytes), Some(route)) = (self.early.get_mut(&key), self.runs.get(&key)) else {
            return;
        };
        *bytes = route.bytes();
        while self.early.len() > MOST_EARLY
            || self.early.len() > 1 && self.early.values().sum::<usize>() > MOST_EARLY_BYTES
        {
            let oldest = self.early.keys().find(|other| **other != key).copied();
            self.forget(oldest.expect("there is more than one"));
        }
    }

    /// Remembers where this packet has its run's id, for [`Routes::grow`].
    fn note_id_place(&mut self, packet: &str, notice: &Notice<'_>) {
        let text = notice.text().and_then(|(_, text)| range_within(packet, text));
        let Some(text) = text else { return };
        if let Some(id) = notice.all_ids().find(|id| self.by_id.contains_key(*id)) {
            self.id_place = IdPlace::find(id, packet, text).or(self.id_place);
        }
    }
}

#[cfg(test)]
mod tests;
