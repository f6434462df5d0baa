//! For unit tests: stories, that is, answers to write in a dialect, and what a client gets of them.

use proptest::prelude::*;
use proptest::sample::Index;

use crate::chat::{FinishReason, ToolCall, Usage};
use crate::dialects::{Choice, Dialect, Ending, Events, Start};
use crate::error::Error;

/// An event or sign of life, as a client gets it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Told {
    /// An event: its name, if it has one, and its data.
    Event(Option<String>, String),
    /// A sign of life that is no event.
    KeepAlive,
}

impl Told {
    /// The event on one line: its name, if it has one, and its data.
    pub fn line(&self) -> String {
        match self {
            Told::Event(Some(name), data) => format!("{name} {data}"),
            Told::Event(None, data) => data.clone(),
            Told::KeepAlive => "(keep-alive)".to_owned(),
        }
    }
}

/// An [`Events`] that keeps all events, in their order.
#[derive(Default)]
pub struct Kept(pub Vec<Told>);

impl Events for Kept {
    fn put(&mut self, name: Option<&str>, data: &dyn Fn(&mut Vec<u8>)) {
        // The buffer may already hold framing, to which the data is appended.
        let before = b"data: ";
        let mut buffer = before.to_vec();
        data(&mut buffer);
        let data = buffer.strip_prefix(before).expect("data is appended");
        let data = String::from_utf8(data.to_vec()).expect("data is text");
        assert!(!data.is_empty() && !data.contains(['\n', '\r']), "data is one line: {data:?}");
        self.0.push(Told::Event(name.map(str::to_owned), data));
    }

    fn keep_alive(&mut self) {
        self.0.push(Told::KeepAlive);
    }
}

/// A step of a choice in a story.
#[derive(Clone, Debug)]
pub enum StoryStep {
    Text(String),
    CallBegin(ToolCall),
    Arguments(String),
    CallEnd,
    Finish(Ending),
    /// A sign of life, which belongs to no choice.
    KeepAlive,
}

pub fn text(text: &str) -> StoryStep {
    StoryStep::Text(text.to_owned())
}

/// The call `call_<name>` of the tool of this name.
pub fn call(name: &str) -> StoryStep {
    StoryStep::CallBegin(ToolCall {
        id: format!("call_{name}"),
        name: name.to_owned(),
        arguments: String::new(),
    })
}

pub fn arguments(piece: &str) -> StoryStep {
    StoryStep::Arguments(piece.to_owned())
}

pub fn finish(reason: FinishReason) -> StoryStep {
    StoryStep::Finish(Ending { reason, stop: None })
}

/// A streamed answer: the steps of its choices, interleaved.
#[derive(Clone, Debug)]
pub struct Story {
    /// The number of choices.
    pub choices: usize,
    /// The steps, each with the index of its choice.
    pub steps: Vec<(usize, StoryStep)>,
    /// The usage at the end; `None` if the answer breaks off after the steps.
    pub usage: Option<Usage>,
}

/// The error with which stories break off.
pub fn failure() -> Error {
    Error::Overloaded("no \"room\"\n".to_owned())
}

impl Story {
    /// A complete answer of one choice.
    pub fn of(steps: impl IntoIterator<Item = StoryStep>) -> Story {
        Story::interleaved(1, steps.into_iter().map(|step| (0, step)))
    }

    /// A complete answer of several choices.
    pub fn interleaved(
        choices: usize,
        steps: impl IntoIterator<Item = (usize, StoryStep)>,
    ) -> Story {
        let usage = Usage { prompt_tokens: 7, completion_tokens: 3, ..Usage::default() };
        Story { choices, steps: steps.into_iter().collect(), usage: Some(usage) }
    }

    /// The same story, broken off after all steps.
    pub fn broken_off(self) -> Story {
        Story { usage: None, ..self }
    }

    /// Writes the story in a dialect; returns what a client gets, event by event.
    pub fn told(&self, dialect: &mut dyn Dialect) -> Vec<Told> {
        let mut kept = Kept::default();
        let mut calls = vec![0; self.choices];
        dialect.begin(&mut kept, &Start { choices: self.choices, prompt_tokens: 7 });
        for (at, step) in &self.steps {
            let call_index = calls[*at];
            match step {
                StoryStep::Text(text) => dialect.text(&mut kept, *at, text),
                StoryStep::CallBegin(call) => dialect.call_begin(&mut kept, *at, call_index, call),
                StoryStep::Arguments(piece) => {
                    dialect.call_arguments(&mut kept, *at, call_index, piece)
                }
                StoryStep::CallEnd => {
                    dialect.call_end(&mut kept, *at, call_index);
                    calls[*at] += 1;
                }
                StoryStep::Finish(ending) => dialect.finish(&mut kept, *at, ending),
                StoryStep::KeepAlive => dialect.keep_alive(&mut kept),
            }
        }
        match &self.usage {
            Some(usage) => dialect.end(&mut kept, usage),
            None => dialect.fail(&mut kept, &failure()),
        }
        kept.0
    }

    /// Writes the story in a dialect; returns what a client gets, one line for each event.
    pub fn lines(&self, dialect: &mut dyn Dialect) -> Vec<String> {
        self.told(dialect).iter().map(Told::line).collect()
    }

    /// The story's choices as a whole; a choice without an end has ended with [`FinishReason::Stop`].
    pub fn whole(&self) -> Vec<Choice> {
        let ending = Ending { reason: FinishReason::Stop, stop: None };
        let empty = Choice { text: String::new(), calls: Vec::new(), ending };
        let mut choices = vec![empty; self.choices];
        for (at, step) in &self.steps {
            let choice = &mut choices[*at];
            match step {
                StoryStep::Text(text) => choice.text.push_str(text),
                StoryStep::CallBegin(call) => choice.calls.push(call.clone()),
                StoryStep::Arguments(piece) => {
                    choice.calls.last_mut().unwrap().arguments.push_str(piece);
                }
                StoryStep::Finish(ending) => choice.ending = ending.clone(),
                StoryStep::CallEnd | StoryStep::KeepAlive => {}
            }
        }
        choices
    }
}

/// Any answer of up to `most` choices, with or without calls, whole or broken off.
pub fn any_story(most: usize, with_calls: bool) -> impl Strategy<Value = Story> {
    let choices = prop::collection::vec(any_choice(with_calls), 1..=most);
    let order = prop::collection::vec(any::<u8>(), 32);
    let usage = (any::<u32>(), any::<u32>());
    (choices, order, usage, prop::option::of(any::<Index>())).prop_map(
        |(choices, order, (prompt, completion), cut)| {
            let count = choices.len();
            let mut story = Story::interleaved(count, interleaved(choices, &order));
            let (prompt_tokens, completion_tokens) = (prompt.into(), completion.into());
            story.usage = Some(Usage { prompt_tokens, completion_tokens, ..Usage::default() });
            if let Some(cut) = cut {
                let length = cut.index(story.steps.len() + 1);
                story.steps.truncate(length);
                story = story.broken_off();
            }
            story
        },
    )
}

/// Merges the steps of several choices in the given order, with signs of life between them.
fn interleaved(choices: Vec<Vec<StoryStep>>, order: &[u8]) -> Vec<(usize, StoryStep)> {
    let mut queues: Vec<_> =
        choices.into_iter().enumerate().map(|(at, steps)| (at, steps.into_iter())).collect();
    let mut merged = Vec::new();
    for picked in order.iter().cycle() {
        if queues.is_empty() {
            break;
        }
        if picked % 8 == 0 {
            merged.push((0, StoryStep::KeepAlive));
        }
        let next = usize::from(picked / 8) % queues.len();
        let (at, steps) = &mut queues[next];
        match steps.next() {
            Some(step) => merged.push((*at, step)),
            None => drop(queues.remove(next)),
        }
    }
    merged
}

fn any_choice(with_calls: bool) -> impl Strategy<Value = Vec<StoryStep>> {
    let texts = prop::collection::vec("(?s).{1,6}", 0..4);
    let calls = prop::collection::vec(any_call(), if with_calls { 0..3 } else { 0..1 });
    let reasons = vec![FinishReason::Stop, FinishReason::Length, FinishReason::ContentFilter];
    (texts, calls, prop::sample::select(reasons)).prop_map(|(texts, calls, reason)| {
        let has_calls = !calls.is_empty();
        let mut steps: Vec<StoryStep> = texts.into_iter().map(StoryStep::Text).collect();
        steps.extend(calls.into_iter().flatten());
        steps.push(finish(if has_calls { FinishReason::ToolCalls } else { reason }));
        steps
    })
}

/// A call with arguments that are JSON, in pieces.
fn any_call() -> impl Strategy<Value = Vec<StoryStep>> {
    let name = prop::sample::select(&["weather", "time"][..]);
    (name, any::<u16>(), "(?s).{0,6}", 1..6usize).prop_map(|(name, id, value, size)| {
        let id = format!("call_{id}");
        let call = ToolCall { id, name: name.to_owned(), arguments: String::new() };
        let json: Vec<char> = serde_json::json!({ "input": value }).to_string().chars().collect();
        let pieces = json.chunks(size).map(|piece| StoryStep::Arguments(piece.iter().collect()));
        std::iter::once(StoryStep::CallBegin(call))
            .chain(pieces)
            .chain([StoryStep::CallEnd])
            .collect()
    })
}
