//! What a choice's text is made of, told apart as it comes: text for the user, cut at stop texts, and
//! calls of tools.

use crate::chat::{FinishReason, ToolCall};
use crate::dialect::{Choice, Ending};
use crate::stop::StopFilter;
use crate::usage::TokenCounter;

/// A piece of a choice. Calls come behind all text, one after the other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part {
    /// Text, never empty.
    Text(String),
    /// A call begins; its arguments follow.
    CallBegin(ToolCall),
    /// A piece of its arguments, never empty.
    Arguments(String),
    /// Its arguments are complete, or are all that there is of them.
    CallEnd,
}

/// Reads the text of one choice.
pub struct Reader {
    stop: StopFilter,
    calls: usize,
    counter: TokenCounter,
}

impl Reader {
    /// A reader of a choice that these texts end.
    pub fn new(stops: &[String]) -> Reader {
        Reader { stop: StopFilter::new(stops), calls: 0, counter: TokenCounter::default() }
    }

    /// Takes further text, and adds to `parts` what it is.
    pub fn push(&mut self, text: String, parts: &mut Vec<Part>) {
        let text = self.stop.push(text);
        self.counter.push(&text);
        if !text.is_empty() {
            parts.push(Part::Text(text));
        }
    }

    /// Adds what was held back: the text has ended.
    pub fn finish(&mut self, parts: &mut Vec<Part>) {
        let text = self.stop.finish();
        self.counter.push(&text);
        if !text.is_empty() {
            parts.push(Part::Text(text));
        }
    }

    /// Whether nothing that may follow is wanted.
    pub fn is_done(&self) -> bool {
        self.stop.stopped().is_some()
    }

    /// How the choice ended, whose run ended for `reason`.
    pub fn ending(&self, reason: FinishReason) -> Ending {
        let stop = self.stop.stopped().map(str::to_owned);
        let reason = match reason {
            _ if stop.is_some() => FinishReason::Stop,
            FinishReason::Stop if self.calls > 0 => FinishReason::ToolCalls,
            reason => reason,
        };
        Ending { reason, stop }
    }

    /// Estimated tokens of what has been read.
    pub fn tokens(&self) -> u64 {
        self.counter.total()
    }
}

/// Puts a part where it belongs in a whole choice.
pub fn add_part(choice: &mut Choice, part: Part) {
    match part {
        Part::Text(text) => choice.text.push_str(&text),
        Part::CallBegin(call) => choice.calls.push(call),
        Part::Arguments(piece) => {
            if let Some(call) = choice.calls.last_mut() {
                call.arguments.push_str(&piece);
            }
        }
        Part::CallEnd => {}
    }
}
