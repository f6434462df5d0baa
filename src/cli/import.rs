//! `langfast2api models --import` and `--reset`: LangFast's own list of models, as it was copied out of a
//! browser, is kept in the state directory.

mod pasted;

use std::fs::File;
use std::io::{IsTerminal, Read, stdin};
use std::path::Path;

use rustix::fs::FlockOperation::LockExclusive;
use rustix::fs::flock;

use crate::chat::models::import::{Changes, INPUT_LIMIT, Plan, find, plan};
use crate::cli::commands::say;
use crate::config::model_list::ModelSource;
use crate::config::{BadSetting, ModelsCommand};
use crate::files;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// The list is public, and a service may run as another user than whoever imports it.
const MODE: u32 = 0o644;

/// Most names that a line of the report shows.
const SHOWN: usize = 30;

/// Reads a list from a file, or standard input (`-`), keeps it where the server looks for it, and says what
/// differs from the list before. Nothing is written unless all is well.
///
/// # Errors
/// The input is no list of models, it cannot be served with these settings, or nothing can be written.
pub fn import(source: &ModelSource, from: &Path, command: &ModelsCommand) -> Result<()> {
    let path = kept_in(source)?;
    let found = find(&read(from)?)?;
    let (before, what_before) = source.before_import();
    let Plan { json, changes } = plan(found, &before, command.merge)?;
    source.parse(&json, "the new list")?;
    write(path, &json).map_err(|error| {
        format!("{} cannot be written: {error}. {}", path.display(), files::advice(&error))
    })?;
    if let Some((setting, other)) = source.set_instead() {
        let other = other.display();
        eprintln!(
            "Note: with the present settings it does not count, because {setting} names {other}"
        );
    }
    if command.json {
        return say(&serde_json::to_string_pretty(&changes)?);
    }
    report(&changes, what_before)?;
    say(&format!("Written to {}.", path.display()))?;
    say("A running server takes it up by itself within two seconds. \
         `langfast2api models --reset` goes back to the built-in list.")
}

/// Removes the imported list.
///
/// # Errors
/// There is no state directory, or it cannot be written.
pub fn reset(source: &ModelSource) -> Result<()> {
    let path = kept_in(source)?;
    let cannot = |error| format!("{} cannot be removed: {error}", path.display());
    match files::remove(path).map_err(cannot)? {
        true => say(&format!("{} is removed: the built-in list counts again.", path.display())),
        false => say("No list is imported."),
    }
}

fn kept_in(source: &ModelSource) -> std::result::Result<&Path, BadSetting> {
    source.imported_path().ok_or_else(|| {
        BadSetting("no directory to keep the list in: set LANGFAST2API_STATE_DIR".to_owned())
    })
}

fn write(path: &Path, json: &str) -> std::io::Result<()> {
    path.parent().map_or(Ok(()), files::make_private)?;
    // One import at a time: then what others have left behind is of ones that were killed.
    let directory = path.parent().map(File::open).transpose()?;
    directory.as_ref().map_or(Ok(()), |directory| flock(directory, LockExclusive))?;
    files::remove_leftovers(path);
    files::replace(path, json.as_bytes(), MODE)
}

fn read(from: &Path) -> Result<Vec<u8>> {
    let cannot = |error| BadSetting(format!("--import: {}: {error}", from.display()));
    let mut bytes = Vec::new();
    let most = INPUT_LIMIT as u64 + 1;
    if from != Path::new("-") {
        let file = File::open(from).map_err(cannot)?;
        file.take(most).read_to_end(&mut bytes).map_err(cannot)?;
    } else if stdin().is_terminal() {
        return Ok(pasted::read(INPUT_LIMIT)?);
    } else {
        stdin().lock().take(most).read_to_end(&mut bytes)?;
    }
    match bytes.len() > INPUT_LIMIT {
        true => Err(format!(
            "it has more than {} MiB: copy the one answer that lists the models",
            INPUT_LIMIT >> 20
        )
        .into()),
        false => Ok(bytes),
    }
}

/// Prints what differs from the list before.
fn report(changes: &Changes, before: &str) -> Result<()> {
    let records = match changes.records {
        1 => "1 record".to_owned(),
        count => format!("{count} records"),
    };
    let from = match changes.found_in.is_empty() {
        true => String::new(),
        false => format!(", from {}", changes.found_in.join(", ")),
    };
    match changes.merged {
        true => say(&format!("{records}{from}: added to {before}, whose other models stay."))?,
        false => say(&format!("{records}{from}: the whole list now, in place of {before}."))?,
    }
    let changed = changes.changed.iter();
    let changed = changed.map(|(slug, fields)| format!("{slug} ({})", fields.join(", ")));
    line("new", &changes.new)?;
    line("changed", &changed.collect::<Vec<_>>())?;
    line("gone", &changes.gone)?;
    if !changes.gone.is_empty() {
        say("           (--merge would have kept them)")?;
    }
    if changes.new.is_empty() && changes.changed.is_empty() && changes.gone.is_empty() {
        say("Nothing differs.")?;
    }
    for why in changes.left_out.iter().take(SHOWN) {
        say(&format!("left out: {why}"))?;
    }
    let more = changes.left_out.len().saturating_sub(SHOWN);
    if more > 0 {
        say(&format!("left out: {more} more"))?;
    }
    match changes.missing.is_empty() {
        true => Ok(()),
        false => say(&format!(
            "Note: no record has {} any more. LangFast's format may have changed: see with a question whether \
             models still answer as they should.",
            changes.missing.join(" and ")
        )),
    }
}

fn line(what: &str, names: &[String]) -> Result<()> {
    if names.is_empty() {
        return Ok(());
    }
    let more = match names.len().saturating_sub(SHOWN) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    let shown = names[..names.len().min(SHOWN)].join(", ");
    say(&format!("{:9} {shown}{more}", format!("{what}:")))
}
