//! The log: one line for each record, on standard error, from this program's own modules only.
//! Other crates' records may hold what a log must not (tungstenite's hold whole messages), so all
//! of them are dropped.
//!
//! Lines about a request carry its id: code that works on a request calls [`concerning`].

use std::cell::RefCell;
use std::fmt::{Arguments, Write as _};
use std::io::{Write as _, stderr};
use std::marker::PhantomData;
use std::panic::PanicHookInfo;
use std::sync::OnceLock;
use std::time::SystemTime;

use anstream::{AutoStream, ColorChoice};
use clap::ValueEnum;
use clap::builder::styling::{self, AnsiColor};
use env_logger::{Builder, Target};
use log::kv::{Error, Key, Value, VisitSource, VisitValue};
use log::{Level, Record};
use serde_json::{Map, Value as Json};

/// The setting for the form of log lines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// `journal` if systemd's journal reads standard error, else `text`.
    #[default]
    Auto,
    /// For people: time, level (in colour on a terminal), words.
    Text,
    /// For systemd's journal, which knows the time itself: priority (`<6>`), words.
    Journal,
    /// One JSON object a line.
    Json,
}

/// The form of log lines, once [`LogFormat::Auto`] is resolved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Style {
    Text { in_colour: bool },
    Journal,
    Json,
}

/// The style in use, set once by [`start`].
static STYLE: OnceLock<Style> = OnceLock::new();

/// Bytes that most lines fit in.
const USUAL_LINE: usize = 256;

thread_local! {
    static REQUEST_ID: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Starts logging with the filter `levels`: a level, or a list of `module=level`. Panics are logged
/// too.
pub fn start(levels: &str, format: LogFormat) {
    let style = *STYLE.get_or_init(|| Style::choose(format));
    Builder::new()
        .parse_filters(&with_full_names(levels))
        .target(Target::Stderr)
        .format(move |out, record| match own_module(record.target()) {
            Some(module) => {
                let line = style.line(record, module, request_id().as_deref());
                out.write_all(line.as_bytes())
            }
            None => Ok(()),
        })
        .init();
    std::panic::set_hook(Box::new(log_panic));
}

/// Formats a line that is printed whatever the log's level (where the server listens, what ended
/// it): only its words for people, a line of the log for machines.
pub fn bare_line(level: Level, words: &str) -> String {
    match STYLE.get() {
        None | Some(Style::Text { .. }) => format!("{words}\n"),
        Some(style) => {
            // A single expression: before Rust 1.89 the borrow in `format_args!` does not outlive
            // its statement.
            style.line(
                &Record::builder().level(level).args(format_args!("{words}")).build(),
                "",
                None,
            )
        }
    }
}

/// Adds a request's id to all that this thread logs, until the returned value is dropped.
#[must_use]
pub fn concerning(request_id: &str) -> Concerning {
    Concerning { before: REQUEST_ID.replace(Some(request_id.to_owned())), thread: PhantomData }
}

/// Restores the thread's previous request id on drop; see [`concerning`].
pub struct Concerning {
    before: Option<String>,
    /// Makes the type `!Send`: it must be dropped on the thread that made it.
    thread: PhantomData<*const ()>,
}

impl Drop for Concerning {
    fn drop(&mut self) {
        REQUEST_ID.set(self.before.take());
    }
}

/// Returns the id of the request that this thread works on.
fn request_id() -> Option<String> {
    REQUEST_ID.with_borrow(Clone::clone)
}

/// Logs where a panic happened but not its message, which may quote a prompt (that of a bad slice
/// does).
fn log_panic(panic: &PanicHookInfo<'_>) {
    let place = panic.location().map_or("an unknown place".to_owned(), ToString::to_string);
    let thread = std::thread::current();
    log::error!("a panic at {place} in the thread `{}`", thread.name().unwrap_or("unnamed"));
}

/// Returns a record's module within this program; `None` if it is another crate's.
fn own_module(target: &str) -> Option<&str> {
    let rest = target.strip_prefix(env!("CARGO_PKG_NAME"))?;
    if rest.is_empty() { Some("main") } else { rest.strip_prefix("::") }
}

impl Style {
    fn choose(format: LogFormat) -> Style {
        let text =
            || Style::Text { in_colour: AutoStream::choice(&stderr()) != ColorChoice::Never };
        match format {
            LogFormat::Auto if is_read_by_the_journal() => Style::Journal,
            LogFormat::Auto | LogFormat::Text => text(),
            LogFormat::Journal => Style::Journal,
            LogFormat::Json => Style::Json,
        }
    }

    /// Formats a record as a line, including the line end.
    fn line(self, record: &Record<'_>, module: &str, request_id: Option<&str>) -> String {
        let level = record.level();
        match self {
            Style::Text { in_colour } => {
                let colour = if in_colour { colour(level) } else { styling::Style::new() };
                let time = humantime::format_rfc3339_millis(SystemTime::now());
                // A single expression: see `bare_line`.
                in_words(format_args!("{time} {colour}{level:<5}{colour:#} "), record, request_id)
            }
            Style::Journal => in_words(format_args!("<{}>", priority(level)), record, request_id),
            Style::Json => json(record, module, request_id) + "\n",
        }
    }
}

/// True if standard error goes to systemd's journal. systemd states in `JOURNAL_STREAM` which file
/// the journal reads, so that a redirected standard error is recognised.
fn is_read_by_the_journal() -> bool {
    let Ok(stream) = std::env::var("JOURNAL_STREAM") else { return false };
    let Ok(file) = rustix::fs::fstat(stderr()) else { return false };
    stream == format!("{}:{}", file.st_dev, file.st_ino)
}

/// Returns the syslog priority of a level.
fn priority(level: Level) -> u8 {
    match level {
        Level::Error => 3,
        Level::Warn => 4,
        Level::Info => 6,
        Level::Debug | Level::Trace => 7,
    }
}

/// Returns the colour of a level's name.
fn colour(level: Level) -> styling::Style {
    match level {
        Level::Error => AnsiColor::Red.on_default(),
        Level::Warn => AnsiColor::Yellow.on_default(),
        Level::Info => AnsiColor::Green.on_default(),
        Level::Debug | Level::Trace => styling::Style::new().dimmed(),
    }
}

/// Formats the record's words and fields as one line that begins so; control characters in them are
/// escaped.
fn in_words(begin: Arguments<'_>, record: &Record<'_>, request_id: Option<&str>) -> String {
    let mut line = String::with_capacity(USUAL_LINE);
    let _ = write!(line, "{begin}");
    let words = line.len();
    let _ = write!(line, "{}", record.args());
    // This visitor never fails.
    let _ = record.key_values().visit(&mut InWords(&mut line));
    if let Some(id) = request_id {
        let _ = write!(line, " id={id}");
    }
    if line[words..].contains(char::is_control) {
        let escape =
            |c: char| if c.is_control() { c.escape_default().to_string() } else { c.into() };
        let escaped: String = line[words..].chars().map(escape).collect();
        line.replace_range(words.., &escaped);
    }
    line.push('\n');
    line
}

/// Writes fields behind the words of a line.
struct InWords<'a>(&'a mut String);

impl<'kvs> VisitSource<'kvs> for InWords<'_> {
    fn visit_pair(&mut self, key: Key<'kvs>, value: Value<'kvs>) -> Result<(), Error> {
        value.visit(&mut FieldInWords { name: key.as_str(), line: &mut *self.0 })
    }
}

struct FieldInWords<'a> {
    name: &'a str,
    line: &'a mut String,
}

impl FieldInWords<'_> {
    fn put(&mut self, value: Arguments<'_>) -> Result<(), Error> {
        let _ = write!(self.line, " {}={value}", self.name);
        Ok(())
    }
}

impl<'v> VisitValue<'v> for FieldInWords<'_> {
    fn visit_any(&mut self, value: Value<'_>) -> Result<(), Error> {
        self.visit_str(&value.to_string())
    }

    fn visit_null(&mut self) -> Result<(), Error> {
        Ok(())
    }

    fn visit_u64(&mut self, value: u64) -> Result<(), Error> {
        self.put(format_args!("{value}"))
    }

    fn visit_i64(&mut self, value: i64) -> Result<(), Error> {
        self.put(format_args!("{value}"))
    }

    fn visit_str(&mut self, text: &str) -> Result<(), Error> {
        let is_plain = |c: char| !c.is_whitespace() && !['"', '='].contains(&c);
        match text.chars().all(is_plain) {
            true => self.put(format_args!("{text}")),
            false => self.put(format_args!("{text:?}")),
        }
    }
}

fn json(record: &Record<'_>, module: &str, request_id: Option<&str>) -> String {
    let mut line = Map::new();
    let mut put = |name: &str, value: Json| drop(line.insert(name.to_owned(), value));
    put("time", timestamp().into());
    put("level", record.level().as_str().to_ascii_lowercase().into());
    if !module.is_empty() {
        put("module", module.into());
    }
    if let Some(id) = request_id {
        put("request_id", id.into());
    }
    put("message", record.args().to_string().into());
    line.extend(fields(record).into_iter().filter(|(_, value)| !value.is_null()));
    Json::Object(line).to_string()
}

/// Returns the record's fields in their order.
fn fields(record: &Record<'_>) -> Map<String, Json> {
    let mut fields = Fields::default();
    // This visitor never fails.
    let _ = record.key_values().visit(&mut fields);
    fields.0
}

#[derive(Default)]
struct Fields(Map<String, Json>);

impl<'kvs> VisitSource<'kvs> for Fields {
    fn visit_pair(&mut self, key: Key<'kvs>, value: Value<'kvs>) -> Result<(), Error> {
        let mut seen = AsJson(Json::Null);
        value.visit(&mut seen)?;
        self.0.insert(key.as_str().to_owned(), seen.0);
        Ok(())
    }
}

struct AsJson(Json);

impl AsJson {
    fn put(&mut self, value: impl Into<Json>) -> Result<(), Error> {
        self.0 = value.into();
        Ok(())
    }
}

impl<'v> VisitValue<'v> for AsJson {
    fn visit_any(&mut self, value: Value<'_>) -> Result<(), Error> {
        self.put(value.to_string())
    }

    fn visit_null(&mut self) -> Result<(), Error> {
        self.put(Json::Null)
    }

    fn visit_u64(&mut self, value: u64) -> Result<(), Error> {
        self.put(value)
    }

    fn visit_i64(&mut self, value: i64) -> Result<(), Error> {
        self.put(value)
    }

    fn visit_str(&mut self, value: &str) -> Result<(), Error> {
        self.put(value)
    }
}

/// Puts this program's name before bare modules: `langfast=debug` means its own module `langfast`.
fn with_full_names(levels: &str) -> String {
    let full = |part: &str| match part.split_once('=') {
        Some((module, level)) if !module.starts_with(env!("CARGO_PKG_NAME")) => {
            format!("{}::{}={level}", env!("CARGO_PKG_NAME"), module.trim())
        }
        _ => part.to_owned(),
    };
    levels.split(',').map(full).collect::<Vec<_>>().join(",")
}

/// Returns the time as RFC 3339, in UTC, to the millisecond.
fn timestamp() -> String {
    humantime::format_rfc3339_millis(SystemTime::now()).to_string()
}

#[cfg(test)]
mod tests {
    use log::kv::ToValue;

    use super::*;

    fn line(style: Style) -> String {
        let fields = [("status", 200.to_value()), ("model", None::<&str>.to_value())];
        let fields = fields.into_iter().chain([("step", "start the run".to_value())]);
        let fields: Vec<_> = fields.collect();
        let words = format_args!("one\ntwo");
        let record = Record::builder().level(Level::Warn).args(words).key_values(&fields).build();
        style.line(&record, "server", Some("req_1"))
    }

    #[test]
    fn a_record_is_one_line_in_every_style_and_leaves_out_what_there_is_not() {
        let words = "one\\ntwo status=200 step=\"start the run\" id=req_1\n";
        assert_eq!(line(Style::Journal), format!("<4>{words}"));
        let text = line(Style::Text { in_colour: false });
        assert_eq!(text.split_once(' ').unwrap().1, format!("WARN  {words}"));
        let coloured = line(Style::Text { in_colour: true });
        assert_eq!(coloured.split_once(' ').unwrap().1, format!("\x1b[33mWARN \x1b[0m {words}"));

        let json = line(Style::Json);
        assert_eq!(json.matches('\n').count(), 1);
        let json: Json = serde_json::from_str(&json).unwrap();
        let names: Vec<_> = json.as_object().unwrap().keys().collect();
        let expected = ["time", "level", "module", "request_id", "message", "status", "step"];
        assert_eq!(names, expected);
        assert_eq!((&json["message"], &json["status"]), (&"one\ntwo".into(), &200.into()));
    }

    #[test]
    fn ids_belong_to_their_thread_and_end_with_their_scope() {
        let outer = concerning("outer");
        drop(concerning("inner"));
        assert_eq!(request_id().as_deref(), Some("outer"));
        std::thread::scope(|scope| {
            scope.spawn(|| assert_eq!(request_id(), None));
        });
        drop(outer);
        assert_eq!(request_id(), None);
    }

    #[test]
    fn a_bare_module_is_one_of_ours() {
        let full = with_full_names("info,langfast=debug,langfast2api::front=trace");
        assert_eq!(full, "info,langfast2api::langfast=debug,langfast2api::front=trace");
    }
}
