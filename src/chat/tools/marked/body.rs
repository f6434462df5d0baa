//! What stands between the tags of a call. Arguments that are an object pass through as they come, repaired;
//! anything else is kept until the call ends.

use std::sync::Arc;

use serde_json::Value;

use super::super::cursor::{Cursor, Miss};
use super::super::relaxed::{Ends, Relaxed};
use super::super::{Piece, names, relaxed, slots, wrapped};
use super::loose;
use super::tag::{self, Begin};
use crate::chat::{Tool, values};

/// What may stand around the object of arguments.
const AROUND: [&str; 5] = ["<arguments>", "<parameters>", "<args>", "<input>", tag::CDATA];

/// Longest white space between two objects of arguments, in bytes.
const LONGEST_GAP: usize = 100;
/// Longest text before a call's arguments, in bytes, that white space may still decide on.
const LONGEST_OPENING: usize = 400;

/// A call under way.
pub struct Body {
    nonce: String,
    tools: Arc<[Tool]>,
    begin: Begin,
    tool: Option<usize>,
    phase: Phase,
    /// Text that has not been read as JSON.
    raw: String,
    json: Relaxed,
    /// The object as far as it is kept back.
    kept: String,
    shape: Shape,
    repaired: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Before anything that tells what the call holds.
    Opening,
    /// Within an object.
    Json,
    /// Behind a `<` outside of strings in an object.
    Marker,
    /// Within something else, which is read when the call ends.
    Raw,
    /// Behind an object, which another one may follow.
    Behind,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Shape {
    /// Not known before the object's first key.
    Open,
    /// The object is the arguments, and passes through.
    Arguments,
    /// The object may hold more than arguments, and is kept to its end.
    Kept,
}

/// What a character has led to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// The call goes on.
    Open,
    /// The call has ended before this text.
    Ended(String),
    /// It is no call; this text follows it.
    NoCall(String),
}

impl Body {
    /// Begins a call behind its begin tag.
    pub fn new(begin: Begin, tools: Arc<[Tool]>, nonce: &str) -> Body {
        let tool = begin.name.as_ref().and_then(|name| names::find(&tools, name));
        Body {
            nonce: nonce.to_owned(),
            tools,
            begin,
            tool,
            phase: Phase::Opening,
            raw: String::new(),
            json: Relaxed::new(Ends::new(nonce)),
            kept: String::new(),
            shape: Shape::Open,
            repaired: false,
        }
    }

    /// True if the call's beginning has been told, so that it is one.
    pub fn has_begun(&self) -> bool {
        self.shape == Shape::Arguments
    }

    /// True where no entity stands for another character: within a string of an object, or character data.
    pub fn is_verbatim(&self) -> bool {
        let in_data = || self.raw.matches(tag::CDATA).count() > self.raw.matches("]]>").count();
        match self.phase {
            Phase::Json => self.json.is_in_string(),
            _ => in_data(),
        }
    }

    /// True if arguments were repaired.
    pub fn is_repaired(&self) -> bool {
        self.repaired || (self.shape == Shape::Arguments && self.json.is_repaired())
    }

    /// Ends a call whose tag closes itself.
    pub fn closed(&mut self, found: &mut Vec<Piece>) -> Option<Step> {
        self.begin.is_closed.then(|| self.end_empty(String::new(), found))
    }

    /// Reads a character, and adds what it completes to `found`.
    pub fn push(&mut self, c: char, found: &mut Vec<Piece>) -> Step {
        match self.phase {
            Phase::Opening => {
                let is_again = c.is_whitespace() && self.raw.ends_with(char::is_whitespace);
                self.raw.push(c);
                // To read a long gap again with each of its characters would take ever longer.
                match is_again && self.raw.len() > LONGEST_OPENING {
                    true => Step::Open,
                    false => self.open(found),
                }
            }
            Phase::Json => {
                let schema = schema(&self.tools, self.tool);
                self.json.push(c, schema);
                self.read_json(found)
            }
            Phase::Marker => {
                self.raw.push(c);
                self.read_marker(found)
            }
            Phase::Raw => {
                self.raw.push(c);
                self.read_raw(found)
            }
            Phase::Behind => {
                self.raw.push(c);
                self.read_next(found)
            }
        }
    }

    /// Reads on behind an object: another one is another call of the same tool.
    fn read_next(&mut self, found: &mut Vec<Piece>) -> Step {
        let rest = self.raw.trim_start_matches(|c: char| c.is_whitespace() || ",;".contains(c));
        match rest.chars().next() {
            None if self.raw.len() < LONGEST_GAP => return Step::Open,
            Some('{') => {}
            _ => return Step::Ended(std::mem::take(&mut self.raw)),
        }
        let rest = rest.to_owned();
        self.repaired = true;
        self.json = Relaxed::new(Ends::new(&self.nonce));
        (self.phase, self.shape) = (Phase::Json, Shape::Open);
        self.raw.clear();
        let mut rest = rest.chars();
        while let Some(c) = rest.next() {
            match self.push(c, found) {
                Step::Open => {}
                Step::Ended(more) => return Step::Ended(more + rest.as_str()),
                Step::NoCall(more) => return Step::NoCall(more + rest.as_str()),
            }
        }
        Step::Open
    }

    /// Finds out what the call holds.
    fn open(&mut self, found: &mut Vec<Piece>) -> Step {
        match opening(&self.raw, &self.nonce) {
            Err(Miss::More) => Step::Open,
            Err(Miss::Never) => {
                self.phase = Phase::Raw;
                self.read_raw(found)
            }
            Ok(Opening::Object) => {
                self.phase = Phase::Json;
                self.raw.clear();
                self.push('{', found)
            }
            Ok(Opening::Empty(rest)) => {
                let rest = rest.to_owned();
                self.end_empty(rest, found)
            }
        }
    }

    fn end_empty(&mut self, rest: String, found: &mut Vec<Piece>) -> Step {
        let schema = schema(&self.tools, self.tool);
        let arguments = loose::of_attributes(&self.begin, schema);
        match self.begin.name.clone() {
            Some(name) => {
                self.repaired |= arguments.is_some();
                self.tell(&name, arguments.as_deref().unwrap_or("{}"), found);
                Step::Ended(rest)
            }
            None => Step::NoCall(rest),
        }
    }

    fn read_json(&mut self, found: &mut Vec<Piece>) -> Step {
        self.kept.push_str(&self.json.take());
        if self.shape == Shape::Open {
            if self.json.is_escaped() {
                self.phase = Phase::Raw;
                self.raw = std::mem::take(&mut self.kept) + &self.json.rest();
                return self.read_raw(found);
            }
            match self.find_shape() {
                Some(Shape::Arguments) => self.begin(found),
                Some(shape) => {
                    self.shape = shape;
                    self.json.forget_schema();
                }
                None if self.is_placeholder() => return Step::NoCall(String::new()),
                None => {}
            }
        }
        if self.shape == Shape::Arguments {
            put_arguments(std::mem::take(&mut self.kept), found);
        }
        if self.json.is_done() {
            let rest = self.json.rest();
            return self.end_json(rest, found);
        }
        if self.json.is_stopped() {
            self.phase = Phase::Marker;
            self.raw = self.json.rest();
            return self.read_marker(found);
        }
        Step::Open
    }

    /// Whether the object is the arguments, as its first key says.
    fn find_shape(&self) -> Option<Shape> {
        let has_name = self.begin.name.is_some();
        let Some(key) = self.json.first_key() else {
            let is_empty = self.json.is_done() || self.json.is_stopped();
            return is_empty.then_some(if has_name { Shape::Arguments } else { Shape::Kept });
        };
        if is_ellipsis(key) {
            return None;
        }
        let is_own = slots::properties(schema(&self.tools, self.tool)).any(|own| own == key);
        let may_be_wrapped = !is_own && wrapped::may_be(key, &self.tools);
        Some(if !has_name || may_be_wrapped { Shape::Kept } else { Shape::Arguments })
    }

    /// True if the object stands for any, as in the instructions.
    fn is_placeholder(&self) -> bool {
        self.json.first_key().is_some_and(is_ellipsis)
    }

    fn name(&self) -> Option<String> {
        self.name_for(self.begin.name.as_ref()?)
    }

    fn begin(&mut self, found: &mut Vec<Piece>) {
        if let Some(name) = self.name() {
            self.shape = Shape::Arguments;
            found.push(Piece::Begin { name });
        }
    }

    fn end_json(&mut self, rest: String, found: &mut Vec<Piece>) -> Step {
        if self.shape == Shape::Arguments {
            found.push(Piece::End);
        } else {
            let kept = std::mem::take(&mut self.kept);
            if !self.tell_wrapped(&kept, found) {
                return Step::NoCall(rest);
            }
        }
        (self.phase, self.raw) = (Phase::Behind, rest);
        self.read_next(found)
    }

    /// Tells the calls that JSON holds; false if it holds none.
    fn tell_wrapped(&mut self, json: &str, found: &mut Vec<Piece>) -> bool {
        let Ok(value) = values::of_text(json) else { return false };
        let calls = wrapped::calls(value, self.begin.name.as_deref(), &self.tools);
        if calls.is_empty() || calls.iter().any(|call| self.name_for(&call.name).is_none()) {
            return false;
        }
        self.repaired = true;
        for call in &calls {
            self.tell(&call.name, &call.arguments, found);
        }
        true
    }

    /// The name of the call of a tool that is written so.
    fn name_for(&self, written: &str) -> Option<String> {
        let own = names::find(&self.tools, written).map(|at| self.tools[at].name.clone());
        own.or_else(|| names::unknown(written))
    }

    /// Tells a whole call, whose name can be one.
    fn tell(&mut self, name: &str, arguments: &str, found: &mut Vec<Piece>) {
        let tool = names::find(&self.tools, name);
        let Some(name) = self.name_for(name) else { return };
        let fitting = relaxed::whole(arguments, schema(&self.tools, tool), &slots::Slot::root());
        found.push(Piece::Begin { name });
        put_arguments(fitting.unwrap_or_else(|| arguments.to_owned()), found);
        found.push(Piece::End);
    }

    /// Reads what begins with a `<` outside of strings: the end of the call, or nothing that makes sense.
    fn read_marker(&mut self, found: &mut Vec<Piece>) -> Step {
        let end = match tag::any_end(&self.raw, &self.nonce) {
            Ok(rest) => Ok(rest.to_owned()),
            Err(Miss::More) => Err(Miss::More),
            Err(Miss::Never) => tag::own_begin(&self.raw, &self.nonce).map(|()| self.raw.clone()),
        };
        match end {
            Ok(rest) => self.end_at_marker(rest, found),
            Err(Miss::More) => Step::Open,
            Err(Miss::Never) => {
                let raw = std::mem::take(&mut self.raw);
                self.phase = Phase::Json;
                let schema = schema(&self.tools, self.tool);
                self.json.resume(&raw, schema);
                self.read_json(found)
            }
        }
    }

    fn end_at_marker(&mut self, rest: String, found: &mut Vec<Piece>) -> Step {
        let schema = schema(&self.tools, self.tool);
        self.json.close(schema);
        self.phase = Phase::Json;
        self.kept.push_str(&self.json.take());
        if self.shape == Shape::Open && self.name().is_some() {
            self.begin(found);
        }
        if self.shape == Shape::Arguments {
            put_arguments(std::mem::take(&mut self.kept), found);
        }
        self.end_json(rest, found)
    }

    fn read_raw(&mut self, found: &mut Vec<Piece>) -> Step {
        // All of the text would be looked through for each of its characters.
        if !self.raw.ends_with(|c| tag::may_complete(c, &self.nonce)) {
            return Step::Open;
        }
        let far = self.raw.len().saturating_sub(tag::LONGEST);
        let far = (far..).find(|at| self.raw.is_char_boundary(*at)).unwrap_or_default();
        let Some(at) = self.raw[far..].rfind(tag::opens) else { return Step::Open };
        let (before, last) = self.raw.split_at(far + at);
        let is_plain = last.starts_with('<') && !before.contains('<');
        let own = tag::own_end(last, &self.nonce);
        let end =
            own.or_else(|miss| if is_plain { tag::any_end(last, &self.nonce) } else { Err(miss) });
        let rest = match end {
            Ok(rest) => rest.to_owned(),
            Err(_) if tag::own_begin(last, &self.nonce).is_ok() => last.to_owned(),
            Err(_) => return Step::Open,
        };
        let raw = before.to_owned();
        self.end_raw(&raw, rest, found)
    }

    /// Ends a call that holds something else than an object.
    fn end_raw(&mut self, raw: &str, rest: String, found: &mut Vec<Piece>) -> Step {
        match self.tell_raw(raw, found) {
            Some(()) => Step::Ended(rest),
            None => Step::NoCall(rest),
        }
    }

    fn tell_raw(&mut self, raw: &str, found: &mut Vec<Piece>) -> Option<()> {
        let raw = loose::without_label(raw);
        if raw.trim_start().starts_with(['[', '{', '"', '\'']) {
            let json = relaxed::whole(raw.trim(), None, &slots::Slot::none());
            if json.is_some_and(|json| self.tell_wrapped(&json, found)) {
                return Some(());
            }
        }
        let named = self.begin.name.clone();
        let (name, raw) = match (named, loose::name_before(raw)) {
            (None, Some((name, arguments))) => (name.to_owned(), arguments),
            (Some(name), Some((again, arguments))) if self.is_own_name(again) => (name, arguments),
            (Some(name), _) => (name, raw),
            (None, None) => return self.tell_loose(raw, found),
        };
        let tool = names::find(&self.tools, &name);
        self.name_for(&name)?;
        if let Some(arguments) = loose::arguments(raw, schema(&self.tools, tool)) {
            self.repaired |= arguments != "{}";
            self.tell(&name, &arguments, found);
            return Some(());
        }
        // It may have the name and the arguments, though not as JSON.
        self.tell_loose(raw, found).or_else(|| tool.map(|_| self.tell(&name, raw.trim(), found)))
    }

    /// Tells the calls in elements, or in lines, that hold more than arguments.
    fn tell_loose(&mut self, raw: &str, found: &mut Vec<Piece>) -> Option<()> {
        let json = loose::object_in(raw)?;
        self.tell_wrapped(&json, found).then_some(())
    }

    fn is_own_name(&self, name: &str) -> bool {
        self.tool.is_some() && names::find(&self.tools, name) == self.tool
    }

    /// Ends the call because the text has ended.
    pub fn finish(&mut self, found: &mut Vec<Piece>) -> Step {
        let step = match self.phase {
            Phase::Opening if self.raw.trim_start().starts_with("</") => {
                self.end_empty(String::new(), found)
            }
            Phase::Json => {
                let schema = schema(&self.tools, self.tool);
                self.json.finish(schema);
                self.read_json(found)
            }
            Phase::Raw if values::is_value(self.raw.trim()) => {
                let raw = std::mem::take(&mut self.raw);
                self.end_raw(&raw, String::new(), found)
            }
            _ => Step::Open,
        };
        match step {
            Step::Open if self.phase == Phase::Marker && self.raw.starts_with("</") => {
                self.end_at_marker(String::new(), found)
            }
            Step::Open if self.phase == Phase::Behind => Step::Ended(std::mem::take(&mut self.raw)),
            Step::Open => self.cut(found),
            step => step,
        }
    }

    /// Tells as much as there is of a call that the text ends within.
    fn cut(&mut self, found: &mut Vec<Piece>) -> Step {
        let Some(name) = self.name() else { return Step::NoCall(String::new()) };
        if self.shape != Shape::Arguments {
            found.push(Piece::Begin { name });
        }
        self.json.flush();
        let mut rest = std::mem::take(&mut self.kept) + &self.json.take();
        rest.push_str(self.raw.trim_start());
        put_arguments(rest, found);
        found.push(Piece::Cut);
        Step::Ended(String::new())
    }
}

enum Opening<'a> {
    Object,
    /// Nothing stands before the end, and this behind it.
    Empty(&'a str),
}

/// Finds out what a call holds from the text behind its begin tag.
fn opening<'a>(text: &'a str, nonce: &str) -> Result<Opening<'a>, Miss> {
    let mut cursor = Cursor::new(text);
    loop {
        cursor.rest = cursor.rest.trim_start_matches(['>', ':', '=', ' ', '\n']);
        cursor.fence()?;
        match cursor.rest.chars().next() {
            None => return Err(Miss::More),
            Some('{') => return Ok(Opening::Object),
            Some(c) if tag::opens(c) => {}
            Some(_) => return Err(Miss::Never),
        }
        match tag::any_end(cursor.rest, nonce) {
            Ok(rest) => return Ok(Opening::Empty(rest)),
            Err(Miss::More) => return Err(Miss::More),
            Err(Miss::Never) => {}
        }
        if tag::own_begin(cursor.rest, nonce).is_ok() {
            return Ok(Opening::Empty(cursor.rest));
        }
        match AROUND.iter().find(|tag| cursor.rest.starts_with(*tag)) {
            Some(tag) => cursor.word(tag)?,
            None => {
                let may_be = AROUND.iter().any(|tag| tag.starts_with(cursor.rest));
                let more = may_be || tag::own_begin(cursor.rest, nonce) == Err(Miss::More);
                return Err(if more { Miss::More } else { Miss::Never });
            }
        }
    }
}

fn is_ellipsis(key: &str) -> bool {
    !key.is_empty() && key.chars().all(|c| matches!(c, '.' | '…'))
}

fn schema(tools: &[Tool], tool: Option<usize>) -> Option<&Value> {
    tools[tool?].parameters.as_ref()
}

fn put_arguments(text: String, found: &mut Vec<Piece>) {
    match found.last_mut() {
        _ if text.is_empty() => {}
        Some(Piece::Arguments(last)) => last.push_str(&text),
        _ => found.push(Piece::Arguments(text)),
    }
}
