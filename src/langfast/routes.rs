//! The runs whose events the socket brings, and which event is whose.

use std::collections::HashMap;
use std::time::Instant;

use crossbeam_channel::{Receiver, Sender, unbounded};

use super::api::Started;
use super::id_place::IdPlace;
use super::run::{Notice, Progress, RunEvent, range_within};

/// Runs kept that nobody has asked for yet: their events came before the answer that names them, or
/// they are another program's. When there are more, the oldest goes.
const MOST_UNCLAIMED: usize = 256;
/// Room for so many runs is kept while there are none.
const FEW_RUNS: usize = 16;

/// The runs.
pub struct Routes {
    by_job: HashMap<String, Route>,
    /// Job ids by our own run ids.
    job_ids: HashMap<String, String>,
    /// Where packets have named their run lately.
    id_place: Option<IdPlace>,
    /// How many runs are being started.
    starting: usize,
    /// Longest text of one answer, in bytes.
    answer_limit: usize,
}

struct Route {
    progress: Progress,
    events: Sender<RunEvent>,
    /// The channel's other end, until the run is asked for.
    unclaimed: Option<Receiver<RunEvent>>,
    since: Instant,
}

impl Routes {
    /// No runs yet; each may have `answer_limit` bytes of text.
    pub fn new(answer_limit: usize) -> Routes {
        let (by_job, job_ids) = Default::default();
        Routes { by_job, job_ids, id_place: None, starting: 0, answer_limit }
    }

    /// A run is about to be started: until it has been claimed or given up, events of unknown runs are
    /// kept, as they may be its. Ends with [`Routes::claim`] or [`Routes::end_start`].
    pub fn begin_start(&mut self) {
        self.starting += 1;
    }

    /// The run was not started after all.
    pub fn end_start(&mut self) {
        self.starting -= 1;
        if self.starting == 0 {
            self.by_job.retain(|_, route| route.unclaimed.is_none());
        }
    }

    /// The events of the run that has been started, those included that have come already.
    pub fn claim(&mut self, started: &Started) -> Receiver<RunEvent> {
        let claimed = [&started.job_id, &started.run_id]
            .into_iter()
            .find_map(|id| self.by_job.remove(id))
            .unwrap_or_else(|| Route::new(self.answer_limit));
        let events = claimed.unclaimed.unwrap_or_else(crossbeam_channel::never);
        let route = Route { unclaimed: None, ..claimed };
        self.by_job.insert(started.job_id.clone(), route);
        self.job_ids.insert(started.run_id.clone(), started.job_id.clone());
        self.end_start();
        events
    }

    /// Nobody wants the events of this run any more.
    pub fn remove(&mut self, run: &Started) {
        self.by_job.remove(&run.job_id);
        self.job_ids.remove(&run.run_id);
    }

    /// Lets go of the room that a burst has needed.
    pub fn shrink(&mut self) {
        self.by_job.shrink_to(FEW_RUNS);
        self.job_ids.shrink_to(FEW_RUNS);
    }

    /// Hands a packet that is the last one of its run but for more text to that run, without parsing
    /// it; false if it is any other.
    pub fn grow(&mut self, packet: &str) -> bool {
        let Some(route) = self.id_place.and_then(|place| self.find(place.of(packet)?)) else {
            return false;
        };
        let Some(event) = route.progress.grow(packet) else { return false };
        route.send(event);
        true
    }

    /// Hands a notice, which came in `packet`, to the run that it belongs to.
    pub fn dispatch(&mut self, packet: &str, notice: &Notice<'_>) {
        match self.find_or_keep(notice) {
            Some(route) => {
                let events = route.progress.take(packet, notice);
                events.into_iter().for_each(|event| route.send(event));
                self.note_id_place(packet, notice);
            }
            None if notice.is_failure() => log::warn!("runner: a failure of no run that is ours"),
            None => {}
        }
    }

    /// The run of an id, ours or LangFast's.
    fn find(&mut self, id: &str) -> Option<&mut Route> {
        let id = self.job_ids.get(id).map_or(id, String::as_str);
        self.by_job.get_mut(id)
    }

    /// The run that a notice is about, a new one if it may be one that is being started.
    fn find_or_keep(&mut self, notice: &Notice<'_>) -> Option<&mut Route> {
        let known = notice.ids.iter().find_map(|id| {
            let id = self.job_ids.get(id).unwrap_or(id);
            self.by_job.contains_key(id).then(|| id.clone())
        });
        let id = match known {
            Some(id) => id,
            // A failure of nothing in particular can only be the one run's, if there is but one.
            None if notice.ids.is_empty() => match self.by_job.len() {
                1 if notice.is_failure() => self.by_job.keys().next()?.clone(),
                _ => return None,
            },
            None if self.starting > 0 => self.keep(notice.ids[0].clone()),
            None => return None,
        };
        self.by_job.get_mut(&id)
    }

    fn keep(&mut self, id: String) -> String {
        let unclaimed = self.by_job.iter().filter(|(_, route)| route.unclaimed.is_some());
        if unclaimed.clone().count() >= MOST_UNCLAIMED {
            let oldest = unclaimed.min_by_key(|(_, route)| route.since).map(|(id, _)| id.clone());
            oldest.and_then(|id| self.by_job.remove(&id));
        }
        self.by_job.insert(id.clone(), Route::new(self.answer_limit));
        id
    }

    /// Notes where to look for the id of a run in packets like this one.
    fn note_id_place(&mut self, packet: &str, notice: &Notice<'_>) {
        let Some(text) = notice.text().and_then(|text| range_within(packet, text)) else { return };
        if let Some(id) = notice.ids.iter().find(|id| self.find(id).is_some()) {
            self.id_place = IdPlace::find(id, packet, text).or(self.id_place);
        }
    }
}

impl Route {
    fn new(answer_limit: usize) -> Route {
        let (events, receiver) = unbounded();
        let progress = Progress::new(answer_limit);
        Route { progress, events, unclaimed: Some(receiver), since: Instant::now() }
    }

    /// Hands an event over; that fails only if the run was given up in this moment.
    fn send(&self, event: RunEvent) {
        let _ = self.events.send(event);
    }
}
