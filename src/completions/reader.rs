//! What a choice's text is made of, told apart as it comes: text for the user, cut at stop texts, and
//! calls of tools, which are checked.

use std::sync::Arc;

use crate::chat::stop::StopFilter;
use crate::chat::tools::{Parser, Piece, Plan};
use crate::chat::usage::TokenCounter;
use crate::chat::{FinishReason, Prompt, ToolCall};
use crate::dialects::{Choice, Ending};

/// A part of a choice. Calls come behind all text, one after the other.
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

/// What became of a choice's calls, the worst last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// All arguments fit their schemas.
    Valid,
    /// They do since the model was asked again.
    Repaired,
    /// A call was required and none came.
    NoCall,
    /// The arguments of a call are not valid.
    InvalidArguments,
}

impl Verdict {
    /// The value of the answer's header `x-langfast2api-tools`.
    pub fn name(self) -> &'static str {
        match self {
            Verdict::Valid => "valid",
            Verdict::Repaired => "repaired",
            Verdict::NoCall => "no-call",
            Verdict::InvalidArguments => "invalid-arguments",
        }
    }
}

/// Reads the text of one choice.
pub struct Reader {
    plan: Arc<Plan>,
    stops: Arc<[String]>,
    /// Whether calls are told when the text has ended, not as they come.
    holds_calls: bool,
    parser: Option<Parser>,
    stop: StopFilter,
    counter: TokenCounter,
    /// The calls so far.
    calls: Vec<ToolCall>,
    /// The last call as it was written, if the text ended within it.
    cut: Option<String>,
    /// Whether that call could not be told as one.
    broke_off: bool,
    /// All that was read, for a model that is asked again; kept while calls are held.
    raw: String,
    /// Whether there was any text to show.
    has_text: bool,
    /// What another run before this one gave.
    before: Option<Before>,
    /// Estimated tokens of that run.
    tokens_before: u64,
}

/// What was read of a run that was repeated.
struct Before {
    calls: Vec<ToolCall>,
    cut: Option<String>,
    has_text: bool,
    /// Text of the second run, which is wanted only if the first gave nothing.
    text: String,
}

impl Reader {
    /// A reader of a choice that these texts end.
    pub fn new(plan: Arc<Plan>, stops: Arc<[String]>, holds_calls: bool) -> Reader {
        Reader {
            parser: plan.parser(),
            stop: StopFilter::new(&stops),
            plan,
            stops,
            holds_calls,
            counter: TokenCounter::default(),
            calls: Vec::new(),
            cut: None,
            broke_off: false,
            raw: String::new(),
            has_text: false,
            before: None,
            tokens_before: 0,
        }
    }

    /// Forgets all that was read of the run, and gives whether its text was shown.
    pub fn restart(&mut self) -> bool {
        let (mut before, tokens_before) = (self.before.take(), self.tokens_before);
        before.iter_mut().for_each(|before| before.text.clear());
        *self = Reader::new(self.plan.clone(), self.stops.clone(), self.holds_calls);
        (self.before, self.tokens_before) = (before, tokens_before);
        self.before.is_none()
    }

    /// Takes further text, and adds to `parts` what it is.
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

    /// Adds what was held back, but for calls that are held: the text has ended.
    pub fn finish(&mut self, parts: &mut Vec<Part>) {
        let mut pieces = Vec::new();
        if let Some(parser) = &mut self.parser {
            parser.finish(&mut pieces);
        }
        self.take(pieces, parts);
        self.show_held_back(parts);
    }

    /// Reads the final `text` of a run that was streamed as `shown`, which it does not begin with, in
    /// place of all that was read, and adds to `parts` what follows on what has been told. That can be
    /// done as long as the two differ only in what was held back, as calls may be, and in white space at
    /// the end of a text; if they differ in more, it is false.
    pub fn revise(&mut self, shown: &str, text: String, parts: &mut Vec<Part>) -> bool {
        let mut told = Vec::new();
        // Of a second run nothing has been told.
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

    /// Whether nothing that may follow is wanted.
    pub fn is_done(&self) -> bool {
        self.stop.stopped().is_some() || self.parser.as_ref().is_some_and(Parser::is_done)
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
                Piece::End => self.tell(Part::CallEnd, parts),
                Piece::Cut { raw } => {
                    self.cut = Some(raw);
                    self.tell(Part::CallEnd, parts);
                }
            }
        }
    }

    /// Tells a part of a call, unless calls are held.
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
        if let Some(before) = &mut self.before {
            before.text.push_str(&text);
            return;
        }
        self.has_text = true;
        parts.push(Part::Text(text));
    }

    /// What is wrong with the calls, for the model to read; `None` if nothing is.
    pub fn fault(&self) -> Option<String> {
        if self.calls.is_empty() && self.plan.must_call() {
            return Some("You have to call a tool, and your message holds no call.".to_owned());
        }
        self.calls.iter().find_map(|call| self.plan.fault(call))
    }

    /// Begins to read another run, which is to mend this one, and gives its prompt. Its text is
    /// shown only if there is nothing else to show.
    ///
    /// `None` if nothing is to be mended, or was tried to be before.
    pub fn repair(&mut self, reason: FinishReason) -> Option<Prompt> {
        if self.before.is_some() || reason != FinishReason::Stop || self.stop.stopped().is_some() {
            return None;
        }
        let prompt = self.plan.repair(&self.raw, &self.fault()?);
        let before = Before {
            calls: std::mem::take(&mut self.calls),
            cut: self.cut.take(),
            has_text: self.has_text,
            text: String::new(),
        };
        let tokens = self.tokens();
        self.restart();
        (self.before, self.tokens_before) = (Some(before), tokens);
        Some(prompt)
    }

    /// Adds the calls that were held, now that the text has ended for `reason`, and gives how it did.
    pub fn end(&mut self, reason: FinishReason, parts: &mut Vec<Part>) -> Ending {
        if self.holds_calls {
            self.end_held(reason, parts);
        }
        let stop = self.stop.stopped().map(str::to_owned);
        let reason = match reason {
            _ if stop.is_some() => FinishReason::Stop,
            FinishReason::Stop if !self.calls.is_empty() => FinishReason::ToolCalls,
            reason => reason,
        };
        Ending { reason, stop }
    }

    fn end_held(&mut self, reason: FinishReason, parts: &mut Vec<Part>) {
        if reason != FinishReason::Length {
            self.undo_cut_call(parts);
        }
        if self.calls.is_empty() {
            self.fall_back(parts);
        }
        for call in &self.calls {
            parts.push(Part::CallBegin(ToolCall { arguments: String::new(), ..call.clone() }));
            parts.push(Part::Arguments(call.arguments.clone()));
            parts.push(Part::CallEnd);
        }
    }

    /// A call that the text ended within is one only if the text was cut for its length; else it is
    /// text, or nothing behind other calls.
    fn undo_cut_call(&mut self, parts: &mut Vec<Part>) {
        let Some(raw) = self.cut.take() else { return };
        self.broke_off = true;
        self.calls.pop();
        if self.calls.is_empty() {
            self.show(raw, parts);
        }
    }

    /// A second run that brought no call was in vain: what the first one gave counts.
    fn fall_back(&mut self, parts: &mut Vec<Part>) {
        let Some(before) = &mut self.before else { return };
        self.calls = std::mem::take(&mut before.calls);
        self.cut = before.cut.take();
        let text = std::mem::take(&mut before.text);
        let is_empty = self.calls.is_empty() && !before.has_text;
        self.before = None;
        self.undo_cut_call(parts);
        if is_empty {
            self.show(text, parts);
        }
    }

    /// What became of the calls, at the end. `None` if there are none and none was required.
    pub fn verdict(&self) -> Option<Verdict> {
        if self.broke_off {
            return Some(Verdict::InvalidArguments);
        }
        if self.calls.is_empty() {
            return self.plan.must_call().then_some(Verdict::NoCall);
        }
        Some(match (self.fault(), &self.before) {
            (Some(_), _) => Verdict::InvalidArguments,
            (None, Some(_)) => Verdict::Repaired,
            (None, None) => Verdict::Valid,
        })
    }

    /// Whether there was something behind the calls, which is not shown.
    pub fn left_out(&self) -> bool {
        self.parser.as_ref().is_some_and(Parser::left_out)
    }

    /// Estimated tokens of all that has been read.
    pub fn tokens(&self) -> u64 {
        self.tokens_before + self.counter.total()
    }
}

/// The same parts with pieces of the same text or arguments joined.
fn joined(parts: Vec<Part>) -> Vec<Part> {
    let mut joined: Vec<Part> = Vec::new();
    for part in parts {
        match (joined.last_mut(), &part) {
            (Some(Part::Text(text)), Part::Text(more))
            | (Some(Part::Arguments(text)), Part::Arguments(more)) => text.push_str(more),
            _ => joined.push(part),
        }
    }
    joined
}

/// What follows in `now` on the parts that have been `told`; `None` if it does not begin with them, but
/// for white space at the end of a text.
fn behind(told: Vec<Part>, now: Vec<Part>) -> Option<Vec<Part>> {
    let mut now = now.into_iter().peekable();
    // What the last part told lacks.
    let mut more = None;
    for part in told {
        if more.is_some() {
            return None;
        }
        let is_nothing = matches!(&part, Part::Text(told) if told.trim_end().is_empty());
        if is_nothing && !matches!(now.peek(), Some(Part::Text(_))) {
            continue;
        }
        more = match (part, now.next()?) {
            (Part::Text(told), Part::Text(now)) => match now.strip_prefix(&told) {
                Some("") => None,
                Some(more) => Some(Part::Text(more.to_owned())),
                None if told.trim_end() == now.trim_end() => None,
                None => return None,
            },
            (Part::Arguments(told), Part::Arguments(now)) => match now.strip_prefix(&told)? {
                "" => None,
                more => Some(Part::Arguments(more.to_owned())),
            },
            (Part::CallBegin(told), Part::CallBegin(now)) if told.name == now.name => None,
            (Part::CallEnd, Part::CallEnd) => None,
            _ => return None,
        };
    }
    Some(more.into_iter().chain(now).collect())
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
