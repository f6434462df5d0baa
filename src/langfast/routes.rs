//! The runs whose events the socket brings, and which event is whose.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::hash::{BuildHasher, RandomState};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, unbounded};

use super::api::Started;
use super::id_place::IdPlace;
use super::run::{Notice, Progress, RunEvent, range_within};

/// Runs kept that nobody has asked for yet: their events came before the answer that names them, or
/// they are another program's. When there are more, the oldest goes.
const MOST_EARLY: usize = 256;
/// Bytes that these runs may take together. The latest one is kept even if it alone takes more.
const MOST_EARLY_BYTES: usize = 16 << 20;
/// Ids of runs that are over which are remembered: LangFast goes on with a run that was given up, for
/// minutes perhaps, and each run has two ids.
const MOST_OVER: usize = 2048;
/// For so long after an event of somebody else's run, a failure that names no run may be theirs.
const SHARED: Duration = Duration::from_secs(600);
/// Room for so many runs is kept while there are none.
const FEW_RUNS: usize = 16;

/// The runs.
pub struct Routes {
    runs: HashMap<RunKey, RunRoute>,
    /// The run that an id names. A run that was asked for has two: LangFast's of its job and ours; an
    /// early one has that which its first event named first.
    by_id: HashMap<String, RunKey>,
    last_key: RunKey,
    /// The runs that nobody has asked for yet, and the bytes that each takes.
    early: BTreeMap<RunKey, usize>,
    over: Over,
    /// Where packets have named their run lately.
    id_place: Option<IdPlace>,
    /// How many runs are being started.
    starting: usize,
    /// When an event came last that was certainly of somebody else's run.
    foreign: Option<Instant>,
    /// Longest text of one answer, in bytes.
    answer_limit: usize,
}

/// What a run is known by in here. Later runs have larger keys.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RunKey(u64);

struct RunRoute {
    progress: Progress,
    /// Those that name it in [`Routes::by_id`].
    ids: Vec<String>,
    events: Destination,
}

/// Where a run's events go.
enum Destination {
    /// To the request that asked for them.
    Wanted(Sender<RunEvent>),
    /// Nowhere yet.
    Early(Vec<RunEvent>),
}

impl Routes {
    /// No runs yet; each may have `answer_limit` bytes of text.
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
            answer_limit,
        }
    }

    /// A run is about to be started: until it has been claimed or given up, events of unknown runs are
    /// kept, as they may be its. Ends with [`Routes::claim`] or [`Routes::end_start`].
    pub fn begin_start(&mut self) {
        self.starting += 1;
    }

    /// The run was not started after all.
    pub fn end_start(&mut self) {
        self.starting -= 1;
        if self.starting > 0 {
            return;
        }
        while let Some((&key, _)) = self.early.first_key_value() {
            // Who has started it has not been told, or it is another program's.
            self.foreign = Some(Instant::now());
            self.forget(key);
        }
    }

    /// The run that has been started, and its events, those included that have come already.
    pub fn claim(&mut self, started: Started) -> (RunKey, Receiver<RunEvent>) {
        let ids = vec![started.job_id, started.run_id];
        let early: Vec<RunRoute> = ids.iter().filter_map(|id| self.take_early(id)).collect();
        // If events came under either name alone, the one with more text counts. Should the end have come
        // under the other, the run ends by its deadline, but its text is never cut.
        let early = early.into_iter().max_by_key(RunRoute::reached);
        let (events, receiver) = unbounded();
        let progress = match early {
            Some(RunRoute { progress, events: Destination::Early(early), .. }) => {
                early.into_iter().for_each(|event| drop(events.send(event)));
                progress
            }
            _ => Progress::new(self.answer_limit),
        };
        let key = self.insert(RunRoute { progress, ids, events: Destination::Wanted(events) });
        self.end_start();
        (key, receiver)
    }

    /// Nobody wants the events of this run any more, whether it has ended or not.
    pub fn remove(&mut self, key: RunKey) {
        let route = self.forget(key);
        route.into_iter().flat_map(|route| route.ids).for_each(|id| self.over.add(&id));
    }

    /// Lets go of the room that a burst has needed.
    pub fn shrink(&mut self) {
        self.runs.shrink_to(FEW_RUNS);
        self.by_id.shrink_to(FEW_RUNS);
    }

    /// Hands a packet that is the last one of its run but for more text to that run, without parsing
    /// it; false if it is any other.
    pub fn grow(&mut self, packet: &str) -> bool {
        let id = self.id_place.and_then(|place| place.of(packet));
        let Some(&key) = id.and_then(|id| self.by_id.get(id)) else { return false };
        let Some(route) = self.runs.get_mut(&key) else { return false };
        let Some(event) = route.progress.grow(packet) else { return false };
        route.events.add(event);
        self.limit_early(key);
        true
    }

    /// Hands a notice, which came in `packet`, to the run that it belongs to.
    pub fn dispatch(&mut self, packet: &str, notice: &Notice<'_>) {
        let Some(key) = self.find_or_keep(notice) else {
            match notice.is_failure() {
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
        events.into_iter().for_each(|event| route.events.add(event));
        self.limit_early(key);
        self.note_id_place(packet, notice);
    }

    /// The run that a notice is about, a new one if it may be one that is being started.
    fn find_or_keep(&mut self, notice: &Notice<'_>) -> Option<RunKey> {
        if let Some(&key) = notice.ids.iter().find_map(|id| self.by_id.get(id)) {
            return Some(key);
        }
        let Some(id) = notice.ids.first() else {
            return if notice.is_failure() { self.only_suspect() } else { None };
        };
        if notice.ids.iter().any(|id| self.over.contains(id)) {
            return None;
        }
        if self.starting == 0 {
            self.foreign = Some(Instant::now());
            return None;
        }
        let (progress, events) = (Progress::new(self.answer_limit), Destination::Early(Vec::new()));
        let key = self.insert(RunRoute { progress, ids: vec![id.clone()], events });
        self.early.insert(key, 0);
        Some(key)
    }

    /// The run that a failure of nothing in particular is taken to be of.
    ///
    /// Events go to every socket of the user, so such a failure may be about a run of another instance
    /// with the same account, or of the web page. To end a sound run for it would lose an answer and a
    /// request of the quota; a run that has failed and is not ended here is ended by its deadline, which is
    /// named. So it counts only for a run that alone can be meant: no other is under way or being started,
    /// it has shown no sign of life, as a failure would be named after its run from then on, and nobody
    /// else has been seen to run anything lately.
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

    /// Whether anything is kept of the run of this id.
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

    /// Takes the early run of this name out.
    fn take_early(&mut self, id: &str) -> Option<RunRoute> {
        let key = *self.by_id.get(id)?;
        if self.early.contains_key(&key) { self.forget(key) } else { None }
    }

    /// Makes sure that early runs stay within their limits now that this run has got an event.
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

    /// Notes where to look for the id of a run in packets like this one.
    fn note_id_place(&mut self, packet: &str, notice: &Notice<'_>) {
        let Some(text) = notice.text().and_then(|text| range_within(packet, text)) else { return };
        if let Some(id) = notice.ids.iter().find(|id| self.by_id.contains_key(*id)) {
            self.id_place = IdPlace::find(id, packet, text).or(self.id_place);
        }
    }
}

impl RunRoute {
    /// About the memory that an early run takes, in bytes.
    fn bytes(&self) -> usize {
        let events: usize = self.events.early().iter().map(RunEvent::bytes).sum();
        size_of::<RunRoute>() + self.progress.bytes() + events
    }

    /// How far an early run is: the bytes of its text, and whether it has ended.
    fn reached(&self) -> (usize, bool) {
        let texts = self.events.early().iter().map(|event| match event {
            RunEvent::Text(text) => text.len(),
            _ => 0,
        });
        (texts.sum(), self.progress.has_ended())
    }
}

impl Destination {
    /// Those of an early run.
    fn early(&self) -> &[RunEvent] {
        match self {
            Destination::Wanted(_) => &[],
            Destination::Early(events) => events,
        }
    }

    fn add(&mut self, event: RunEvent) {
        match self {
            // Who has others to take yet will see that the run is alive.
            Destination::Wanted(sender) if event == RunEvent::Alive && !sender.is_empty() => {}
            // It fails only if the run was given up in this moment.
            Destination::Wanted(sender) => drop(sender.send(event)),
            Destination::Early(events) => match (events.last_mut(), event) {
                (Some(RunEvent::Text(text)), RunEvent::Text(more)) => text.push_str(&more),
                (Some(RunEvent::Ending(last)), RunEvent::Ending(now)) => *last = now,
                (Some(_), RunEvent::Alive) => {}
                (_, event) => events.push(event),
            },
        }
    }
}

/// Ids of runs that are over, the latest [`MOST_OVER`]: of each a hash, which is enough to know it by.
#[derive(Default)]
struct Over {
    hasher: RandomState,
    hashes: HashSet<u64>,
    /// The same, the oldest first.
    in_order: VecDeque<u64>,
}

impl Over {
    fn add(&mut self, id: &str) {
        let hash = self.hasher.hash_one(id);
        if !self.hashes.insert(hash) {
            return;
        }
        self.in_order.push_back(hash);
        if self.in_order.len() > MOST_OVER {
            if let Some(oldest) = self.in_order.pop_front() {
                self.hashes.remove(&oldest);
            }
        }
    }

    fn contains(&self, id: &str) -> bool {
        !self.hashes.is_empty() && self.hashes.contains(&self.hasher.hash_one(id))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn send(routes: &mut Routes, payload: Value) {
        let packet = payload.to_string();
        if !routes.grow(&packet) {
            routes.dispatch(&packet, &Notice::read("execution:chunk", &packet).unwrap());
        }
    }

    fn started(name: &str) -> Started {
        Started { job_id: format!("job of {name}"), run_id: format!("run of {name}") }
    }

    fn claim(routes: &mut Routes, name: &str) -> (RunKey, Receiver<RunEvent>) {
        routes.begin_start();
        routes.claim(started(name))
    }

    fn text(events: &Receiver<RunEvent>) -> String {
        let texts = events.try_iter().filter_map(|event| match event {
            RunEvent::Text(text) => Some(text),
            _ => None,
        });
        texts.collect()
    }

    fn has_failed(events: &Receiver<RunEvent>) -> bool {
        events.try_iter().any(|event| matches!(event, RunEvent::Failed(_)))
    }

    fn early_bytes(routes: &Routes) -> usize {
        routes.early.values().sum()
    }

    #[test]
    fn nothing_is_kept_of_a_run_that_is_over_while_others_are_being_started() {
        let mut routes = Routes::new(1 << 20);
        let (key, events) = claim(&mut routes, "a");
        send(&mut routes, json!({"executionId": "job of a", "content": "one"}));
        assert_eq!(text(&events), "one");
        routes.remove(key);
        routes.begin_start();
        for ids in [
            json!({"executionId": "job of a"}),
            json!({"runId": "run of a"}),
            json!({"executionId": "a third id", "runId": "run of a"}),
        ] {
            let mut payload = ids.clone();
            payload["content"] = json!("one two");
            send(&mut routes, payload);
            assert!(routes.early.is_empty() && routes.runs.is_empty(), "{ids}");
        }
        send(&mut routes, json!({"executionId": "job of b", "content": "b"}));
        assert_eq!(text(&routes.claim(started("b")).1), "b");
    }

    #[test]
    fn the_ids_of_runs_that_are_over_are_remembered_up_to_a_limit() {
        let mut over = Over::default();
        (0..3 * MOST_OVER).for_each(|id| over.add(&id.to_string()));
        over.add("0");
        over.add("0");
        assert_eq!((over.hashes.len(), over.in_order.len()), (MOST_OVER, MOST_OVER));
        let known = (0..3 * MOST_OVER).filter(|id| over.contains(&id.to_string()));
        assert!(known.eq(std::iter::once(0).chain(2 * MOST_OVER + 1..3 * MOST_OVER)));
    }

    #[test]
    fn early_events_take_no_more_memory_than_they_may_and_the_latest_are_kept() {
        let mut routes = Routes::new(16 << 20);
        routes.begin_start();
        let mebibyte = "x".repeat(1 << 20);
        for number in 0..24 {
            send(
                &mut routes,
                json!({"executionId": format!("foreign {number}"), "content": mebibyte}),
            );
            assert!(early_bytes(&routes) <= MOST_EARLY_BYTES);
        }
        // Alone it takes more than all may together.
        let long = "x".repeat(12 << 20);
        send(&mut routes, json!({"executionId": "job of a", "content": long}));
        assert_eq!(routes.early.len(), 1);
        assert_eq!(text(&routes.claim(started("a")).1).len(), long.len());
        assert!(routes.early.is_empty());
    }

    #[test]
    fn early_events_without_text_are_not_gathered() {
        let mut routes = Routes::new(1 << 20);
        routes.begin_start();
        for _ in 0..1_000 {
            send(&mut routes, json!({"executionId": "job of a", "content": null}));
        }
        for end in 1..=1_000 {
            send(&mut routes, json!({"executionId": "job of a", "content": "y".repeat(end)}));
        }
        assert!(early_bytes(&routes) < 10_000, "{}", early_bytes(&routes));
        let (_, events) = routes.claim(started("a"));
        assert!(events.len() <= 2);
        assert_eq!(text(&events).len(), 1_000);
    }

    #[test]
    fn early_events_under_either_name_lose_no_text_and_are_never_an_end_too_soon() {
        for (job, run, expected) in [("one", "one two", "one two"), ("one two", "on", "one two")] {
            let mut routes = Routes::new(1 << 20);
            routes.begin_start();
            send(&mut routes, json!({"executionId": "job of a", "content": job}));
            let end = json!({"runId": "run of a", "content": run, "status": "completed"});
            send(&mut routes, end);
            let (key, events) = routes.claim(started("a"));
            let all: Vec<RunEvent> = events.try_iter().collect();
            assert_eq!(all[0], RunEvent::Text(expected.to_owned()));
            assert_eq!(all.len() > 1, run == expected, "an end: {all:?}");
            send(&mut routes, json!({"runId": "run of a", "content": "one two three"}));
            routes.remove(key);
            assert!(routes.runs.is_empty() && routes.by_id.is_empty() && routes.early.is_empty());
        }
    }

    #[test]
    fn two_runs_of_the_same_id_do_not_disturb_what_is_kept() {
        let mut routes = Routes::new(1 << 20);
        let (first, _) = claim(&mut routes, "a");
        let (second, events) = claim(&mut routes, "a");
        routes.remove(first);
        send(&mut routes, json!({"executionId": "job of a", "content": "one"}));
        assert_eq!(text(&events), "one");
        routes.remove(second);
        assert!(routes.by_id.is_empty() && routes.runs.is_empty());
    }

    #[test]
    fn a_failure_that_names_no_run_ends_only_a_run_that_alone_can_be_meant() {
        let failure = || json!({"status": "failed", "error": "boom"});
        let fails = |prepare: &dyn Fn(&mut Routes)| {
            let mut routes = Routes::new(1 << 20);
            let (_, events) = claim(&mut routes, "a");
            prepare(&mut routes);
            send(&mut routes, failure());
            has_failed(&events)
        };
        assert!(fails(&|_| {}));
        assert!(!fails(&|routes| send(routes, json!({"executionId": "job of a", "content": "x"}))));
        assert!(!fails(&|routes| send(routes, json!({"executionId": "job of a"}))));
        assert!(!fails(&|routes| drop(claim(routes, "b"))));
        assert!(!fails(&Routes::begin_start));
        let foreign =
            |routes: &mut Routes| send(routes, json!({"executionId": "x", "content": "x"}));
        assert!(!fails(&foreign));
        assert!(!fails(&|routes| {
            routes.begin_start();
            foreign(routes);
            routes.end_start();
        }));
        assert!(fails(&|routes| {
            let (key, _) = claim(routes, "b");
            routes.remove(key);
            send(routes, json!({"executionId": "job of b", "content": "x"}));
        }));
    }
}
