//! What a run answers, read from the last user message: `/sim key=value …`, or an echo.

use std::str::FromStr;
use std::time::Duration;

use axum::http::StatusCode;
use percent_encoding::percent_decode_str;

use super::event::{ErrorForm, Fragment};
use super::texts::Text;
use super::variant::{LastText, UsageForm, Variant, Wrap};

/// The keys of a `/sim` line, for people.
pub const KEYS: &str = r#"
What a run answers is chosen by its last user message. If that begins with "/sim ", the rest of its
first line is a list of key=value; any other message comes back as an echo, a word an event. Keys
may be combined. The values of say, error and raw are percent-encoded: a space is %20. A request
without "stream":true gets the text in one event.

the text
  text=KIND     count (the default), lorem, unicode, json, code, or echo: the lines after the first
  say=TEXT      this text
  events=N      number of events; without it a word each (unicode: a code point each)
  bytes=N       length of the text, about; in 100 events unless events=N
  stamp=1       each event's piece of text is the unix time in microseconds; so is its "sentAt"

the times, in milliseconds
  delay=MS      between two events; 0 is as fast as it can
  first=MS      before the first event; without it as delay
  silence=MS    after the first event
  early=1       the run starts before its request is answered, which waits for the first event
  slowrun=MS    the request is answered so much later

the end
  finish=WORD   finish_reason of the last event; without it stop; none is null
  status=WORD   status of the last event; without it completed, or failed
  done=NAME     completed, or completion_finished: the last event has that name
  lost=last     the last event is never sent
  trim=1        the last event's text has no white space at its end
  fail=K        after K events comes an error event, and then nothing more
  error=TEXT    its message; without fail=K it comes at once
  error_as=FORM object: "error":{"message":TEXT}; string: "error":TEXT; status: its status alone
  http=CODE     the request itself is answered with this status, and nothing runs
  refuse=NAMES  the run fails only if it carries one of these parameters (a,b), or a message of this
                role: in OpenAI's words, or those of error=; with http=CODE by that answer

the wire
  as=FORM       payloads as object, or as string: JSON in a JSON string
  repeat=1      every event comes twice
  stale=1       after every third event comes an earlier, shorter one again
  revise=K      event K has another word in place of the one before its own
  null=1        first comes an event whose content is null, and one without content
  foreign=1     after every event comes one of a foreign run
  surrogate=1   text is cut in surrogate pairs: a lone \ud83d comes first, then the whole character;
                surrogate=escaped writes that as two escapes
  cut=K         after event K all sockets are cut; the run goes on, unheard
  raw=FRAMES    after the first event come these text frames, one a line (%0A), with the job's id in
                place of $JOB; needs the literal socket

what LangFast may send some day
  event=NAME    name of all events
  field=NAME    name of the text in place of content
  id=NAME       name of the job's id in place of executionId; argument: an argument before the payload
                (needs the literal socket)
  wrap=FORM     the payload is in data or payload, is a chunk as OpenAI's (choices), or one of a list
                (needs the literal socket)
  pieces=1      each event has only what is new of the text
  last=KIND     of pieces the last event has the whole text, the last piece, or none
  ack=1         events want to be acknowledged; needs the literal socket
  usage=FORM    the last event tells of tokens: chat, responses, camel, or absurd ones

tools
  POST /_sim/turns takes a list of {"text":TEXT,"calls":[{"name":NAME,"arguments":{…}}],"sim":KEYS},
  which the next runs answer with, one each, whatever their messages say. How to write a call is read
  in the instructions, as a model does.
"#;

/// What a run does, in full.
#[derive(Debug, Clone)]
pub struct Script {
    pub pieces: Pieces,
    pub delay: Duration,
    pub first: Duration,
    pub silence: Duration,
    pub early: bool,
    pub slow_run: Duration,
    /// `finish_reason` of the last event.
    pub finish: Option<String>,
    /// `status` of the last event or of the error event, if not the usual one.
    pub status: Option<String>,
    pub completion_finished: bool,
    pub lose_last: bool,
    pub trim: bool,
    pub fail: Option<Failure>,
    /// The request is answered with this and nothing runs.
    pub http: Option<StatusCode>,
    /// The parameters, and roles of messages, that the model does not take.
    pub refuse: Vec<String>,
    /// Its words about them, if not the usual ones.
    pub refusal: Option<String>,
    pub as_string: bool,
    pub repeat: bool,
    pub stale: bool,
    /// The event, from 1, that changes what came before it.
    pub revise: Option<usize>,
    pub null: bool,
    pub foreign: bool,
    pub surrogates: Surrogates,
    /// The event, from 1, after which the sockets are cut.
    pub cut: Option<usize>,
    /// Frames to send after the first event.
    pub raw: Vec<String>,
    pub variant: Variant,
}

/// The text of a run, a piece an event.
#[derive(Debug, Clone)]
pub enum Pieces {
    Text(Vec<Fragment>),
    /// So many times of sending.
    Stamps(usize),
}

impl Pieces {
    fn of_text(pieces: &[String]) -> Self {
        Self::Text(pieces.iter().map(|piece| Fragment::new(piece)).collect())
    }

    fn cut_in_pairs(pieces: &[String], surrogates: Surrogates) -> Self {
        let fragments = pieces.iter().flat_map(|piece| Fragment::cut_in_pairs(piece, surrogates));
        Self::Text(fragments.collect())
    }

    /// The whole text in one piece, as a model answers that does not stream.
    pub fn in_one(self) -> Self {
        match self {
            Self::Text(fragments) => Self::Text(vec![Fragment::joined(&fragments)]),
            Self::Stamps(_) => Self::Stamps(1),
        }
    }

    /// How many events that makes.
    pub fn count(&self) -> usize {
        match self {
            Self::Text(pieces) => pieces.len(),
            Self::Stamps(count) => *count,
        }
    }
}

/// The error event that ends a run.
#[derive(Debug, Clone)]
pub struct Failure {
    /// How many events come before it.
    pub after: usize,
    pub message: String,
    pub form: ErrorForm,
}

/// Whether text is cut inside surrogate pairs, and how the whole pair is written then.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Surrogates {
    Whole,
    /// As JavaScript does: a lone half escaped, a pair as it is.
    Cut,
    /// A pair as two escapes too.
    CutAndEscaped,
}

/// Milliseconds, from the value of a key.
#[derive(Clone, Copy)]
struct Millis(Duration);

/// The words of a `/sim` line, before they are put together.
#[derive(Default)]
struct Words {
    text: Option<String>,
    say: Option<String>,
    events: Option<usize>,
    bytes: Option<usize>,
    stamp: bool,
    delay: Option<Millis>,
    first: Option<Millis>,
    fail: Option<usize>,
    error: Option<String>,
    error_as: Option<ErrorForm>,
}

impl Script {
    /// Reads the last user message. The error names the word that is not understood.
    pub fn parse(message: &str, delay: Duration) -> Result<Self, String> {
        let mut script = Self::usual();
        let mut words = Words::default();
        let (line, rest) = message.split_once('\n').unwrap_or((message, ""));
        let Some(line) = line.strip_prefix("/sim ") else {
            script.pieces = Pieces::of_text(&Text::Say(message.to_owned()).pieces(None, None));
            script.first = delay;
            script.delay = delay;
            return Ok(script);
        };
        for word in line.split_whitespace() {
            let (key, value) = word.split_once('=').ok_or(format!("{word:?} is no key=value"))?;
            script.read(&mut words, key, value).map_err(|why| format!("{word:?}: {why}"))?;
        }
        let echo = if rest.is_empty() { message } else { rest };
        script.pieces = words.pieces(echo, script.surrogates)?;
        script.delay = words.delay.map_or(delay, |millis| millis.0);
        script.first = words.first.map_or(script.delay, |millis| millis.0);
        script.refusal = words.error.clone();
        script.fail = words.failure();
        Ok(script)
    }

    /// What it does with a run that carries `refused`, or with one that carries nothing that it refuses.
    pub fn refusing(mut self, refused: Option<&str>) -> Self {
        if self.refuse.is_empty() {
            return self;
        }
        let after = self.fail.take().map_or(0, |fail| fail.after);
        let Some(name) = refused else {
            self.http = None;
            return self;
        };
        let message = self.refusal.take().unwrap_or_else(|| match name {
            "system" | "developer" => format!(
                "Unsupported value: 'messages[0].role' does not support '{name}' with this model."
            ),
            _ => format!("Unsupported parameter: '{name}' is not supported with this model."),
        });
        self.fail = Some(Failure { after, message, form: ErrorForm::Object });
        self
    }

    /// A run that fails at once.
    pub fn failing(message: String) -> Self {
        let fail = Some(Failure { after: 0, message, form: ErrorForm::Object });
        Self { fail, ..Self::usual() }
    }

    /// A run without anything special, and without a text yet.
    fn usual() -> Self {
        Self {
            pieces: Pieces::Stamps(0),
            delay: Duration::ZERO,
            first: Duration::ZERO,
            silence: Duration::ZERO,
            early: false,
            slow_run: Duration::ZERO,
            finish: Some("stop".to_owned()),
            status: None,
            completion_finished: false,
            lose_last: false,
            trim: false,
            fail: None,
            http: None,
            refuse: Vec::new(),
            refusal: None,
            as_string: false,
            repeat: false,
            stale: false,
            revise: None,
            null: false,
            foreign: false,
            surrogates: Surrogates::Whole,
            cut: None,
            raw: Vec::new(),
            variant: Variant::default(),
        }
    }

    /// Reads one `key=value`.
    fn read(&mut self, words: &mut Words, key: &str, value: &str) -> Result<(), String> {
        match key {
            "text" => words.text = Some(value.to_owned()),
            "say" => words.say = Some(percent_decoded(value)?),
            "events" => words.events = Some(number(value)?),
            "bytes" => words.bytes = Some(number(value)?),
            "stamp" => words.stamp = flag(value)?,
            "delay" => words.delay = Some(number(value)?),
            "first" => words.first = Some(number(value)?),
            "silence" => self.silence = number::<Millis>(value)?.0,
            "early" => self.early = flag(value)?,
            "slowrun" => self.slow_run = number::<Millis>(value)?.0,
            "finish" => self.finish = (value != "none").then(|| value.to_owned()),
            "status" => self.status = Some(value.to_owned()),
            "done" => {
                self.completion_finished =
                    choice(value, &[("completed", false), ("completion_finished", true)])?;
            }
            "lost" => self.lose_last = choice(value, &[("last", true)])?,
            "trim" => self.trim = flag(value)?,
            "fail" => words.fail = Some(number(value)?),
            "error" => words.error = Some(percent_decoded(value)?),
            "error_as" => words.error_as = Some(choice(value, ErrorForm::NAMES)?),
            "http" => self.http = Some(number(value)?),
            "refuse" => self.refuse = value.split(',').map(str::to_owned).collect(),
            "as" => self.as_string = choice(value, &[("object", false), ("string", true)])?,
            "repeat" => self.repeat = flag(value)?,
            "stale" => self.stale = flag(value)?,
            "revise" => self.revise = Some(number(value)?),
            "null" => self.null = flag(value)?,
            "foreign" => self.foreign = flag(value)?,
            "surrogate" => self.surrogates = choice(value, Surrogates::NAMES)?,
            "cut" => self.cut = Some(number(value)?),
            "raw" => self.raw = percent_decoded(value)?.lines().map(str::to_owned).collect(),
            _ => return self.read_variant(key, value),
        }
        Ok(())
    }

    /// Reads one `key=value` of those for what LangFast may send some day.
    fn read_variant(&mut self, key: &str, value: &str) -> Result<(), String> {
        let variant = &mut self.variant;
        match key {
            "event" => variant.event = Some(value.to_owned()),
            "field" => variant.field = Some(value.to_owned()),
            "id" => variant.id = Some(value.to_owned()),
            "wrap" => variant.wrap = choice(value, Wrap::NAMES)?,
            "pieces" => variant.pieces = flag(value)?,
            "last" => variant.last = choice(value, LastText::NAMES)?,
            "ack" => variant.ack = flag(value)?,
            "usage" => variant.usage = Some(choice(value, UsageForm::NAMES)?),
            _ => return Err("no such key".to_owned()),
        }
        Ok(())
    }
}

impl Words {
    /// The text that the words ask for.
    fn pieces(&self, echo: &str, surrogates: Surrogates) -> Result<Pieces, String> {
        if self.stamp {
            return Ok(Pieces::Stamps(self.events.unwrap_or(20).max(1)));
        }
        let text = match (&self.say, self.text.as_deref()) {
            (Some(text), _) => Text::Say(text.clone()),
            (None, Some(kind)) => text_of_kind(kind, echo)?,
            (None, None) if surrogates != Surrogates::Whole => Text::Unicode,
            (None, None) => Text::Count,
        };
        let pieces = text.pieces(self.events, self.bytes);
        Ok(match surrogates {
            Surrogates::Whole => Pieces::of_text(&pieces),
            _ => Pieces::cut_in_pairs(&pieces, surrogates),
        })
    }

    /// The error event that the words ask for.
    fn failure(self) -> Option<Failure> {
        if self.fail.is_none() && self.error.is_none() && self.error_as.is_none() {
            return None;
        }
        Some(Failure {
            after: self.fail.unwrap_or(0),
            message: self.error.unwrap_or_else(|| "simulated failure".to_owned()),
            form: self.error_as.unwrap_or(ErrorForm::Object),
        })
    }
}

impl Surrogates {
    const NAMES: &[(&str, Self)] =
        &[("0", Self::Whole), ("1", Self::Cut), ("escaped", Self::CutAndEscaped)];
}

impl FromStr for Millis {
    type Err = std::num::ParseIntError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse().map(|ms| Self(Duration::from_millis(ms)))
    }
}

fn text_of_kind(kind: &str, echo: &str) -> Result<Text, String> {
    match kind {
        "echo" => Ok(Text::Say(echo.to_owned())),
        "count" => Ok(Text::Count),
        "lorem" => Ok(Text::Lorem),
        "unicode" => Ok(Text::Unicode),
        "json" => Ok(Text::Json),
        "code" => Ok(Text::Code),
        _ => Err(format!("text={kind}: no such text")),
    }
}

fn number<T: FromStr>(value: &str) -> Result<T, String> {
    value.parse().map_err(|_| "not a fitting number".to_owned())
}

fn flag(value: &str) -> Result<bool, String> {
    choice(value, &[("0", false), ("1", true)])
}

/// What the value stands for, of those that it may be.
fn choice<T: Copy>(value: &str, choices: &[(&str, T)]) -> Result<T, String> {
    let found = choices.iter().find(|(name, _)| *name == value);
    found.map(|(_, meaning)| *meaning).ok_or_else(|| {
        let names: Vec<_> = choices.iter().map(|(name, _)| *name).collect();
        format!("may be {}", names.join(", "))
    })
}

fn percent_decoded(value: &str) -> Result<String, String> {
    let decoded = percent_decode_str(value).decode_utf8();
    decoded.map(String::from).map_err(|_| "not UTF-8".to_owned())
}
