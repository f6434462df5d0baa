//! A run's events, one after the other, to the sockets of its user.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::extract::ws::Message;
use tokio::sync::oneshot;
use tokio::task::yield_now;
use tokio::time::{Instant, sleep, sleep_until};
use uuid::Uuid;

use super::event::{Answer, Chunk, Content, Event, Fragment, error_json};
use super::script::{Failure, Pieces, Script};
use super::state::Shared;
use super::variant::LastText;

const CHUNK: &str = "execution:chunk";
const FINISHED: &str = "completion_finished";
const IN_PROGRESS: &str = "in_progress";

/// What a cut waits first, so that the events before it have left their queues.
const TIME_TO_LEAVE: Duration = Duration::from_millis(20);

/// A run that is under way.
pub struct Player {
    shared: Arc<Shared>,
    user: Uuid,
    /// The job's id, `executionId` in its events.
    job: String,
    script: Script,
    answer: Answer,
    /// When the next event is to be sent.
    due: Instant,
    /// How many events want to be acknowledged so far.
    acks: usize,
}

impl Player {
    pub fn new(shared: Arc<Shared>, user: Uuid, job: Uuid, script: Script) -> Self {
        let due = Instant::now() + script.first;
        Self { shared, user, job: job.to_string(), script, answer: Answer::default(), due, acks: 0 }
    }

    /// Plays the whole run. `started` is told once the first event is out.
    pub async fn play(mut self, started: oneshot::Sender<()>) {
        let mut started = Some(started);
        let foreign = self.script.foreign.then(|| Uuid::new_v4().to_string());
        for number in 1..=self.script.pieces.count() {
            self.wait_for_turn(number).await;
            if self.script.fail.as_ref().is_some_and(|fail| fail.after < number) {
                break;
            }
            if number == 1 && self.script.null {
                self.emit_without_text().await;
            }
            self.emit_piece(number).await;
            if let Some(foreign) = &foreign {
                self.emit_foreign(foreign).await;
            }
            if let Some(started) = started.take() {
                self.send_raw_frames().await;
                // Nobody listens unless the run was asked to be early.
                let _ = started.send(());
            }
            if self.script.cut == Some(number) {
                sleep(TIME_TO_LEAVE).await;
                self.shared.cut_sockets();
            }
        }
        if let Some(failure) = &self.script.fail {
            self.emit_error(failure).await;
        }
        self.shared.update(|state| state.stats.finished_runs += 1);
    }

    async fn emit(&mut self, event: Event) {
        let event = match self.script.variant.ack {
            true => {
                self.acks += 1;
                event.with_ack(self.acks)
            }
            false => event,
        };
        self.shared.emit(self.user, &event).await;
    }

    /// Waits until the event of this number, from 1, is due. Times are counted from the start, so
    /// that a slow event does not shift those after it.
    async fn wait_for_turn(&mut self, number: usize) {
        if number > 1 {
            self.due += self.script.delay;
        }
        if number == 2 {
            self.due += self.script.silence;
        }
        if self.due > Instant::now() {
            sleep_until(self.due).await;
        } else {
            // A run without delays leaves a chance to others.
            yield_now().await;
        }
    }

    /// Sends the event of this number, from 1, and what the script adds to it.
    async fn emit_piece(&mut self, number: usize) {
        if self.script.revise == Some(number) {
            self.answer.revise();
        }
        let sent_at = self.push_piece(number - 1);
        let is_last = number == self.script.pieces.count() && self.script.fail.is_none();
        if is_last && self.script.lose_last {
            return;
        }
        let has_own_last =
            self.script.variant.pieces && self.script.variant.last != LastText::Piece;
        if is_last && has_own_last {
            // The last piece comes before the event that ends the run.
            let event = self.dressed(self.next_event(sent_at));
            self.emit(event).await;
        }
        let event = if is_last { self.last_event(sent_at) } else { self.next_event(sent_at) };
        let event = self.dressed(event);
        if self.script.repeat {
            self.shared.emit(self.user, &event).await;
        }
        self.emit(event).await;
        if self.script.stale && number % 3 == 0 && !is_last {
            self.emit_earlier_text().await;
        }
    }

    /// Adds a piece to the text; returns the time if the script asks for it in the event.
    fn push_piece(&mut self, index: usize) -> Option<u64> {
        match &self.script.pieces {
            Pieces::Text(fragments) => {
                self.answer.push(&fragments[index]);
                None
            }
            Pieces::Stamps(_) => {
                let now = unix_micros();
                self.answer.push(&Fragment::new(&format!("{now} ")));
                Some(now)
            }
        }
    }

    fn next_event(&self, sent_at: Option<u64>) -> Event {
        let text = match self.script.variant.pieces {
            true => self.answer.last_piece(),
            false => self.answer.text(),
        };
        let chunk = Chunk { sent_at, ..self.chunk(Content::Escaped(text)) };
        self.script.variant.event(CHUNK, &chunk, false)
    }

    fn last_event(&self, sent_at: Option<u64>) -> Event {
        let trimmed = self.script.trim.then(|| self.answer.trimmed_text());
        let text = match (self.script.variant.pieces, self.script.variant.last) {
            (true, LastText::Piece) => self.answer.last_piece(),
            (true, LastText::Nothing) => "",
            _ => trimmed.as_deref().unwrap_or(self.answer.text()),
        };
        let chunk = Chunk {
            execution_id: &self.job,
            status: self.script.status.as_deref().unwrap_or("completed"),
            finish_reason: self.script.finish.as_deref(),
            content: Content::Escaped(text),
            sent_at,
        };
        let name = if self.script.completion_finished { FINISHED } else { CHUNK };
        self.script.variant.event(name, &chunk, true)
    }

    async fn emit_earlier_text(&self) {
        self.emit_chunk(self.chunk(Content::Escaped(self.answer.earlier_text()))).await;
    }

    /// Sends an event whose content is null, and one that has none.
    async fn emit_without_text(&self) {
        self.emit_chunk(self.chunk(Content::Null)).await;
        self.emit_chunk(self.chunk(Content::Missing)).await;
    }

    /// Sends an event of a run that the client knows nothing of.
    async fn emit_foreign(&self, execution_id: &str) {
        let content = Content::Escaped("This is the text of another run.");
        self.emit_chunk(Chunk { execution_id, ..self.chunk(content) }).await;
    }

    async fn emit_error(&self, failure: &Failure) {
        let status = self.script.status.as_deref().unwrap_or("failed");
        let payload = error_json(&self.job, status, &failure.message, failure.form);
        let event = self.dressed(Event::new(CHUNK, |json| json.push_str(&payload)));
        self.shared.emit(self.user, &event).await;
    }

    async fn emit_chunk(&self, chunk: Chunk<'_>) {
        let event = self.dressed(self.script.variant.event(CHUNK, &chunk, false));
        self.shared.emit(self.user, &event).await;
    }

    /// A chunk of this run that is not its last.
    fn chunk<'a>(&'a self, content: Content<'a>) -> Chunk<'a> {
        Chunk {
            execution_id: &self.job,
            status: IN_PROGRESS,
            finish_reason: None,
            content,
            sent_at: None,
        }
    }

    /// The event in the form that the script asks for.
    fn dressed(&self, event: Event) -> Event {
        if self.script.as_string { event.with_payload_as_string() } else { event }
    }

    async fn send_raw_frames(&self) {
        for frame in &self.script.raw {
            let frame = frame.replace("$JOB", &self.job);
            self.shared.send(self.user, Message::text(frame)).await;
        }
    }
}

fn unix_micros() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("the clock is past 1970");
    u64::try_from(now.as_micros()).expect("microseconds fit 64 bits for ages")
}
