//! One run under way: its ids, how far it has come, and where its events go: to the request that has
//! claimed it, or into keeping until one does.
//!
//! Enters: the events of one run, in order. Leaves: the same events on the run's channel, and the bell to
//! ring for each that is to be heard of. It may not know packets, nor other runs.

use std::sync::Arc;

use crossbeam_channel::Sender;

use crate::langfast::run::{Progress, RunEvent};
use crate::sync::Bell;

/// A run under way, claimed or early.
pub(super) struct RunRoute {
    pub(super) progress: Progress,
    /// The run's ids in [`Routes::by_id`].
    pub(super) ids: Vec<String>,
    pub(super) events: Destination,
}

impl RunRoute {
    /// Approximate memory of an early run, in bytes.
    pub(super) fn bytes(&self) -> usize {
        let events: usize = self.events.early().iter().map(RunEvent::bytes).sum();
        size_of::<RunRoute>() + self.progress.bytes() + events
    }

    /// The progress of an early run: the bytes of its text, and whether it has ended.
    pub(super) fn reached(&self) -> (usize, bool) {
        let texts = self.events.early().iter().map(|event| match event {
            RunEvent::Text(text) => text.len(),
            _ => 0,
        });
        (texts.sum(), self.progress.has_ended())
    }
}

/// Who waits for a run's events.
#[derive(Clone, Default)]
pub struct Listener {
    /// Rung when there are events to be looked at.
    pub bell: Arc<Bell>,
    /// Whether that is so for each. Else only the first text and what says more than that there is more text
    /// ring; the others have come unrung.
    pub wants_each: bool,
}

/// Where a run's events go.
pub(super) enum Destination {
    /// To the request that has claimed the run.
    Wanted {
        events: Sender<RunEvent>,
        listener: Listener,
        /// Whether any text has been sent.
        has_text: bool,
    },
    /// Kept here until a request claims the run.
    Early(Vec<RunEvent>),
}

impl Destination {
    /// The kept events of an early run; empty for a claimed one.
    pub(super) fn early(&self) -> &[RunEvent] {
        match self {
            Destination::Wanted { .. } => &[],
            Destination::Early(events) => events,
        }
    }

    /// Adds an event; returns the bell to ring for it, if any.
    pub(super) fn add(&mut self, event: RunEvent) -> Option<Arc<Bell>> {
        match self {
            // A receiver that has other events to read sees from them that the run is alive.
            Destination::Wanted { events, .. }
                if event == RunEvent::Alive && !events.is_empty() =>
            {
                None
            }
            Destination::Wanted { events, listener, has_text } => {
                let is_heard = listener.wants_each || is_heard(&event, has_text);
                // Sending fails only if the run is being dropped at this moment.
                let _ = events.send(event);
                is_heard.then(|| listener.bell.clone())
            }
            Destination::Early(events) => {
                keep_early(events, event);
                None
            }
        }
    }
}

/// Whether the bell rings for an event even if the listener does not want each.
fn is_heard(event: &RunEvent, has_text: &mut bool) -> bool {
    match event {
        RunEvent::Text(_) => !std::mem::replace(has_text, true),
        RunEvent::Alive => false,
        _ => true,
    }
}

/// Adds an event to the early ones. They stay few, however many come: all of them are looked at for each.
fn keep_early(events: &mut Vec<RunEvent>, event: RunEvent) {
    let takes_back = matches!(event, RunEvent::Text(_) | RunEvent::Ending { .. });
    if takes_back && matches!(events.last(), Some(RunEvent::Ending { .. })) {
        events.pop();
    }
    match (events.last_mut(), event) {
        // The last report counts.
        (_, RunEvent::Usage(usage)) => {
            events.retain(|event| !matches!(event, RunEvent::Usage(_)));
            events.insert(0, RunEvent::Usage(usage));
        }
        (Some(RunEvent::Text(text)), RunEvent::Text(more)) => text.push_str(&more),
        (Some(_), RunEvent::Alive) => {}
        // Whoever claims the run is told how it stands then.
        (_, RunEvent::Cut(_)) => {}
        (_, event) => events.push(event),
    }
}
