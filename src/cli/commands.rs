//! The small commands: login, logout, whoami and models.

use std::io::{BufRead, IsTerminal, Read, Write, stderr, stdin, stdout};

use super::terminal;
use crate::chat::models::Accepted;
use crate::chat::models::shutdowns::Day;
use crate::config::model_list::LoadedModels;
use crate::langfast::refresh_token::{self, FoundToken, Wrapping};
use crate::langfast::{Credentials, Session};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// Most bytes that are read from a pipe for a refresh token.
const LONGEST_INPUT: u64 = 1 << 16;

/// Signs in with the user's own account and keeps the session. Prompts on a terminal; from a pipe
/// it reads the address and the password, a line each, or only the refresh token, in whatever a browser
/// keeps it.
///
/// # Errors
/// Nothing could be read, LangFast refuses, or the session cannot be kept.
pub fn login(session: &Session, by_refresh_token: bool) -> Result<()> {
    let credentials = if by_refresh_token {
        Credentials::RefreshToken(ask_refresh_token(session)?)
    } else {
        let email = ask("E-mail: ")?;
        Credentials::Password { email, password: ask_secret("Password: ")? }
    };
    let who = session.log_in(&credentials)?.who();
    let outlook = session.outlook();
    match outlook.change {
        None => {
            say(&format!("Signed in as {who}. A running server takes it up on SIGHUP or restart."))?
        }
        Some(change) => say(&format!(
            "Signed in as {who}. But a server with the present settings will {change}."
        ))?,
    }
    tell(&outlook.warnings)
}

/// Deletes the kept session.
///
/// # Errors
/// The session file cannot be written.
pub fn logout(session: &Session) -> Result<()> {
    let place = session.path();
    match session.log_out().map_err(|error| format!("{}: {error}", place.display()))? {
        Some(who) => say(&format!("Signed out: {who}")),
        None => say("Nobody is signed in"),
    }
}

/// Prints whose session is kept, how long its access token lasts, and what a server with the
/// present settings will do. It makes no call to LangFast.
///
/// # Errors
/// The session file cannot be read.
pub fn whoami(session: &Session) -> Result<()> {
    let outlook = session.outlook();
    let server = outlook.change.map(|change| format!(". The server will {change}"));
    let server = server.unwrap_or_default();
    let kept = session.kept().map_err(|error| {
        let path = session.path();
        format!("{}: {error}. --state-dir names the directory of the session", path.display())
    })?;
    match kept {
        Some((who, 0)) if server.is_empty() => {
            say(&format!("{who}; the access token has ended and will be renewed"))?;
        }
        Some((who, 0)) => say(&format!("{who}; the access token has ended{server}"))?,
        Some((who, seconds)) => {
            say(&format!("{who}; the access token lasts {seconds} s more{server}"))?;
        }
        None => say(&format!("Nobody is signed in{server}"))?,
    }
    tell(&outlook.warnings)
}

fn tell(warnings: &[String]) -> Result<()> {
    warnings.iter().try_for_each(|warning| say(&format!("Note: {warning}")))
}

/// Lists the models with what each accepts and until when, as a table for people or as JSON. Which list they
/// are of goes to standard error, so that the output is the table alone.
///
/// # Errors
/// Standard output cannot be written.
pub fn models(LoadedModels { models, list }: &LoadedModels, today: &Day, json: bool) -> Result<()> {
    let accepted = models.accepted(today);
    list.remarks().for_each(|remark| eprintln!("Note: {remark}"));
    if json {
        return say(&serde_json::to_string_pretty(&accepted)?);
    }
    eprintln!("{list}");
    let head =
        ["MODEL", "SHUTDOWN", "TOKENS", "STREAMED", "ALSO CALLED", "ACCEPTS"].map(str::to_owned);
    let rows: Vec<[String; 6]> = [head].into_iter().chain(accepted.iter().map(row)).collect();
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max();
    let widths = [0, 1, 2, 3, 4].map(|column| width(column).unwrap_or(0));
    for [model, end, tokens, streamed, names, accepts] in &rows {
        let [a, b, c, d, e] = widths;
        say(&format!("{model:a$}  {end:b$}  {tokens:>c$}  {streamed:d$}  {names:e$}  {accepts}"))?;
    }
    // Beside the table, so that a program can read that.
    models.warnings(today).iter().for_each(|warning| eprintln!("Note: {warning}"));
    Ok(())
}

fn row(model: &Accepted) -> [String; 6] {
    let words = model.words.iter().map(|(name, values)| format!("{name}={}", values.join("|")));
    let accepts: Vec<String> =
        model.numbers.iter().map(|name| (*name).to_owned()).chain(words).collect();
    [
        model.id.to_owned(),
        match model.shutdown_date {
            Some(date) if model.is_shut_down => format!("{date} (gone)"),
            Some(date) => date.to_owned(),
            None => "-".to_owned(),
        },
        model.max_completion_tokens.map_or("-".to_owned(), |most| most.to_string()),
        if model.streams { "yes" } else { "no" }.to_owned(),
        model.names.join(", "),
        accepts.join(", "),
    ]
}

fn ask(question: &str) -> Result<String> {
    if stdin().is_terminal() {
        eprint!("{question}");
        std::io::stderr().flush()?;
    }
    let mut line = String::new();
    stdin().lock().read_line(&mut line)?;
    not_empty(question, line)
}

/// Asks for a line, without echo on a terminal.
fn ask_secret(question: &str) -> Result<String> {
    if stdin().is_terminal() {
        return not_empty(question, terminal::ask(question, "", |_| true)?);
    }
    ask(question)
}

/// Asks for a refresh token, and says what it was found in.
fn ask_refresh_token(session: &Session) -> Result<String> {
    let question = "Refresh token, or the value in the browser that holds it: ";
    let go_on = "There is no refresh token in it so far. Paste the rest, or press Enter: ";
    let is_enough = |text: &str| refresh_token::find(text).is_ok();
    let text = match stdin().is_terminal() {
        true => terminal::ask(question, go_on, is_enough)?,
        false => read_until(is_enough)?,
    };
    let FoundToken { token, within } = refresh_token::find(&text).map_err(|why| {
        format!("Refresh token: {why}. To get one, {}", session.browser_place().recipe())
    })?;
    let took = match within {
        Wrapping::None => "Took what was given as the refresh token itself.".to_owned(),
        _ => format!("Took the refresh token out of {within}."),
    };
    // Nobody may be reading.
    let _ = writeln!(stderr(), "{took}");
    Ok(token)
}

/// Reads lines from standard input until there is enough: a pipe may stay open.
fn read_until(is_enough: impl Fn(&str) -> bool) -> Result<String> {
    let (mut text, mut input) = (String::new(), stdin().lock().take(LONGEST_INPUT));
    while input.read_line(&mut text)? > 0 && !is_enough(&text) {}
    Ok(text)
}

fn not_empty(question: &str, answer: String) -> Result<String> {
    match answer.trim() {
        "" => Err(format!("{} nothing was given", question.trim_end()).into()),
        answer => Ok(answer.to_owned()),
    }
}

/// Prints a line on standard output.
///
/// # Errors
/// Standard output cannot be written.
pub fn say(line: &str) -> Result<()> {
    Ok(writeln!(stdout(), "{line}")?)
}
