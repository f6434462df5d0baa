//! Splits a choice's text into its parts as it arrives: text for the user, cut at stop texts, and calls
//! of tools, which are checked.

use std::sync::Arc;

use super::part::{Part, behind, joined};
use crate::chat::stop::StopFilter;
use crate::chat::tools::leak::{Hold, Leak};
use crate::chat::tools::{Parser, Piece, Plan};
use crate::chat::usage::TokenCounter;
use crate::chat::{FinishReason, Prompt, ToolCall};
use crate::dialects::Ending;

/// The state of a choice's calls at its end, the worst last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum CallVerdict {
    /// All arguments fit their schemas.
    Valid,
    /// All arguments fit their schemas since the model was asked again.
    Repaired,
    /// There are no calls, but the text holds one in a form that is not read.
    Leaked,
    /// A call was required and none came.
    NoCall,
    /// A call names no tool of the request.
    UnknownTool,
    /// The arguments of a call are not valid.
    InvalidArguments,
}

impl CallVerdict {
    /// The value of the answer's header `x-langfast2api-tools`.
    pub fn name(self) -> &'static str {
        match self {
            CallVerdict::Valid => "valid",
            CallVerdict::Repaired => "repaired",
            CallVerdict::Leaked => "leaked",
            CallVerdict::NoCall => "no-call",
            CallVerdict::UnknownTool => "unknown-tool",
            CallVerdict::InvalidArguments => "invalid-arguments",
        }
    }
}

/// Reads the text of one choice.
pub struct Reader {
    plan: Arc<Plan>,
    stops: Arc<[String]>,
    /// Whether calls are emitted when the text has ended, not as they come.
    holds_calls: bool,
    // In boxes, because most answers have none of them, and the room would take kilobytes of each stream.
    parser: Option<Box<Parser>>,
    leak: Option<Box<Leak>>,
    /// What may be a call in a form that is not read, if the model can be asked for it again.
    hold: Option<Box<Hold>>,
    stop: StopFilter,
    counter: TokenCounter,
    /// The calls so far.
    calls: Vec<ToolCall>,
    /// Whether the text ended within a call.
    broke_off: bool,
    /// All text read so far, for asking the model again; kept while calls are held.
    raw: String,
    /// Whether there was any text to show.
    has_text: bool,
    /// The result of the first run, while this reads a second one.
    before: Option<Box<Before>>,
    /// Estimated tokens of the first run, once there is a second one.
    tokens_before: Option<u64>,
}

/// The result of a run that is repeated.
struct Before {
    calls: Vec<ToolCall>,
    broke_off: bool,
    leak: Option<Box<Leak>>,
    has_text: bool,
    /// Text of the first run that is shown only if the second one brings no calls.
    held_back: String,
    /// Text of the second run, which is shown only if the first run brought nothing to show.
    text: String,
}

impl Reader {
    /// A reader of a choice whose text ends at any of `stops`. With `holds_calls`, calls are emitted
    /// when the text has ended.
    pub fn new(plan: Arc<Plan>, stops: Arc<[String]>, holds_calls: bool) -> Reader {
        Reader {
            parser: plan.parser().map(Box::new),
            leak: plan.leak().map(Box::new),
            hold: if holds_calls { plan.hold().map(Box::new) } else { None },
            stop: StopFilter::new(&stops),
            plan,
            stops,
            holds_calls,
            counter: TokenCounter::default(),
            calls: Vec::new(),
            broke_off: false,
            raw: String::new(),
            has_text: false,
            before: None,
            tokens_before: None,
        }
    }

    /// Forgets all that was read of the present run. Returns whether that run's text was shown.
    pub fn restart(&mut self) -> bool {
        let (mut before, tokens_before) = (self.before.take(), self.tokens_before);
        before.iter_mut().for_each(|before| before.text.clear());
        *self = Reader::new(self.plan.clone(), self.stops.clone(), self.holds_calls);
        (self.before, self.tokens_before) = (before, tokens_before);
        self.before.is_none()
    }

    /// Takes further text, and adds the parts that it completes to `parts`.
    pub fn push(&mut self, text: String, parts: &mut Vec<Part>) {
        let Some(parser) = &mut self.parser else {
            let text = self.stop.push(text);
            self.counter.push(&text);
            return self.show(text, parts);
        };
        self.counter.push(&text);
        if self.holds_calls {
            self.raw.push_str(&text);
        }
        let mut pieces = Vec::new();
        parser.push(&text, &mut pieces);
        self.take(pieces, parts);
    }

    /// Adds text that was held back to `parts`, because the text has ended. Held calls follow at
    /// [`Reader::end`].
    pub fn finish(&mut self, parts: &mut Vec<Part>) {
        let mut pieces = Vec::new();
        if let Some(parser) = &mut self.parser {
            parser.finish(&mut pieces);
        }
        self.take(pieces, parts);
        // A call behind a stop text is none.
        let breaks_off = self.parser.as_deref().is_some_and(Parser::broke_off);
        self.broke_off |= breaks_off && self.stop.stopped().is_none();
        self.show_held_back(parts);
    }

    /// Replaces all that was read of a run, streamed as `shown`, by its final `text`, which does not
    /// begin with that, and adds to `parts` what is still missing of it. This is possible as long as
    /// the two differ only in what was held back, as calls may be, and in white space at the end of a
    /// text; otherwise it returns false.
    pub fn revise(&mut self, shown: &str, text: String, parts: &mut Vec<Part>) -> bool {
        let mut told = Vec::new();
        // Nothing of a second run has been emitted.
        if self.before.is_none() {
            let mut again = Reader::new(self.plan.clone(), self.stops.clone(), self.holds_calls);
            again.push(shown.to_owned(), &mut told);
        }
        self.restart();
        let mut now = Vec::new();
        self.push(text, &mut now);
        self.finish(&mut now);
        let rest = behind(joined(told), joined(now));
        rest.is_some_and(|rest| {
            parts.extend(rest);
            true
        })
    }

    /// Whether nothing more is wanted of the text.
    pub fn is_done(&self) -> bool {
        self.stop.stopped().is_some() || self.parser.as_deref().is_some_and(Parser::is_done)
    }

    fn take(&mut self, pieces: Vec<Piece>, parts: &mut Vec<Part>) {
        for piece in pieces {
            if self.stop.stopped().is_some() {
                // A stop text has ended the answer before this.
                return;
            }
            match piece {
                Piece::Text(text) => {
                    let text = self.stop.push(text);
                    self.show(text, parts);
                }
                Piece::Begin { name } => {
                    self.show_held_back(parts);
                    let call = ToolCall { id: ToolCall::new_id(), name, arguments: String::new() };
                    self.calls.push(call.clone());
                    self.tell(Part::CallBegin(call), parts);
                }
                Piece::Arguments(piece) => {
                    if let Some(call) = self.calls.last_mut() {
                        call.arguments.push_str(&piece);
                    }
                    self.tell(Part::Arguments(piece), parts);
                }
                Piece::End | Piece::Cut => self.tell(Part::CallEnd, parts),
            }
        }
    }

    /// Emits a part of a call, unless calls are held.
    fn tell(&self, part: Part, parts: &mut Vec<Part>) {
        if !self.holds_calls {
            parts.push(part);
        }
    }

    fn show_held_back(&mut self, parts: &mut Vec<Part>) {
        let text = self.stop.finish();
        if self.parser.is_none() {
            self.counter.push(&text);
        }
        self.show(text, parts);
    }

    fn show(&mut self, text: String, parts: &mut Vec<Part>) {
        if text.is_empty() {
            return;
        }
        if let Some(leak) = &mut self.leak {
            leak.note(&text);
        }
        if let Some(before) = &mut self.before {
            before.text.push_str(&text);
            return;
        }
        self.has_text = true;
        let text = match &mut self.hold {
            Some(hold) => hold.push(&text),
            None => text,
        };
        put_text(text, parts);
    }

    /// The fault of the calls, in words for the model; `None` if they have none.
    pub fn fault(&self) -> Option<String> {
        if self.calls.is_empty() && self.plan.must_call() {
            return Some("You have to call a tool, and your message holds no call.".to_owned());
        }
        if self.is_leaked() {
            return Some(
                "Your message holds a tool call in another form than asked for.".to_owned(),
            );
        }
        if self.broke_off {
            return Some("Your message ends within a tool call.".to_owned());
        }
        self.calls.iter().find_map(|call| self.plan.fault(call))
    }

    fn is_leaked(&self) -> bool {
        self.calls.is_empty() && self.leak.as_deref().is_some_and(Leak::is_found)
    }

    /// Begins to read a second run, which mends the calls of this one, and returns its prompt. The
    /// second run's text is shown only if there is nothing else to show.
    ///
    /// Returns `None` if the calls have no fault, if the text was cut or ended by a stop text, or if
    /// this is the second run.
    pub fn repair(&mut self, reason: FinishReason) -> Option<Prompt> {
        if self.before.is_some() || reason != FinishReason::Stop || self.stop.stopped().is_some() {
            return None;
        }
        let prompt = self.plan.repair(&self.raw, &self.fault()?);
        let before = Before {
            calls: std::mem::take(&mut self.calls),
            broke_off: self.broke_off,
            leak: self.leak.take(),
            has_text: self.has_text,
            held_back: self.hold.as_deref_mut().map(Hold::take).unwrap_or_default(),
            text: String::new(),
        };
        let tokens = self.counter.total();
        self.restart();
        (self.before, self.tokens_before) = (Some(before.into()), Some(tokens));
        Some(prompt)
    }

    /// Adds the held calls to `parts`, now that the text has ended for `reason`, and returns how the
    /// choice ended.
    pub fn end(&mut self, reason: FinishReason, parts: &mut Vec<Part>) -> Ending {
        if self.holds_calls {
            self.end_held(parts);
        }
        let stop = self.stop.stopped().map(str::to_owned);
        let reason = match reason {
            _ if stop.is_some() => FinishReason::Stop,
            // As a complete one, a call of which a part is missing would be executed.
            FinishReason::Stop if self.broke_off => FinishReason::Length,
            FinishReason::Stop if !self.calls.is_empty() => FinishReason::ToolCalls,
            reason => reason,
        };
        Ending { reason, stop }
    }

    fn end_held(&mut self, parts: &mut Vec<Part>) {
        if self.calls.is_empty() || self.broke_off {
            self.fall_back(parts);
        }
        if self.before.is_none() {
            put_text(self.hold.as_deref_mut().map(Hold::take).unwrap_or_default(), parts);
        }
        for call in &self.calls {
            parts.push(Part::CallBegin(ToolCall { arguments: String::new(), ..call.clone() }));
            if !call.arguments.is_empty() {
                parts.push(Part::Arguments(call.arguments.clone()));
            }
            parts.push(Part::CallEnd);
        }
    }

    /// Restores the first run's calls if there was a second run, which brought none, or no whole ones.
    fn fall_back(&mut self, parts: &mut Vec<Part>) {
        let Some(before) = &mut self.before else { return };
        self.calls = std::mem::take(&mut before.calls);
        (self.broke_off, self.leak) = (before.broke_off, before.leak.take());
        let text = std::mem::take(&mut before.text);
        put_text(std::mem::take(&mut before.held_back), parts);
        let is_empty = self.calls.is_empty() && !before.has_text;
        self.before = None;
        if is_empty {
            self.show(text, parts);
        }
    }

    /// The state of the calls, at the end. `None` if there are none and none was required.
    pub fn verdict(&self) -> Option<CallVerdict> {
        if self.broke_off {
            return Some(CallVerdict::InvalidArguments);
        }
        if self.calls.is_empty() {
            let leaked = || self.is_leaked().then_some(CallVerdict::Leaked);
            return self.plan.must_call().then_some(CallVerdict::NoCall).or_else(leaked);
        }
        if self.calls.iter().any(|call| !self.plan.offers(&call.name)) {
            return Some(CallVerdict::UnknownTool);
        }
        Some(match (self.fault(), &self.before) {
            (Some(_), _) => CallVerdict::InvalidArguments,
            (None, Some(_)) => CallVerdict::Repaired,
            (None, None) => CallVerdict::Valid,
        })
    }

    /// Whether arguments were not JSON of the schema's types, and were made that.
    pub fn repaired(&self) -> bool {
        self.parser.as_deref().is_some_and(Parser::repaired)
    }

    /// Whether there was text behind the calls, which is not shown.
    pub fn left_out(&self) -> bool {
        self.parser.as_deref().is_some_and(Parser::left_out)
    }

    /// Estimated tokens of all that has been read of the first run, and of the second.
    pub fn tokens(&self) -> [u64; 2] {
        let now = self.counter.total();
        self.tokens_before.map_or([now, 0], |before| [before, now])
    }
}

fn put_text(text: String, parts: &mut Vec<Part>) {
    if !text.is_empty() {
        parts.push(Part::Text(text));
    }
}

#[cfg(test)]
mod tests;
