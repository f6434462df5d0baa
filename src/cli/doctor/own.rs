//! Checks of this machine: files and their modes, addresses, descriptors.

use std::fs::{self, Metadata};
use std::io;
use std::net::{TcpStream, ToSocketAddrs};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::report::{Outcome, Report};
use crate::chat::models::shutdowns::Day;
use crate::chat::models::{Model, Warning};
use crate::cli::about;
use crate::cli::check::Checked;
use crate::config::Settings;
use crate::files;
use crate::http::{connections_for, raise_descriptor_limit};
use crate::server::listen::UnixPlace;

/// Longest time that a server on this machine may take to accept a connection.
const LOCAL: Duration = Duration::from_millis(500);

/// Mode bits that a session file may not have: any for the group and for others.
const GROUP_AND_OTHERS: u32 = 0o077;
/// Mode bits that a secret's file may not have: any for others, and writing for the group, which may read it
/// because a service often gets its secrets that way.
const OTHERS_AND_GROUP_WRITES: u32 = 0o027;
/// Mode bits that the directory of the session may not have: writing for the group and for others.
const WRITES_OF_OTHERS: u32 = 0o022;

pub fn examine(settings: &Settings, checked: &Checked, report: &mut Report) -> io::Result<()> {
    let session = checked.langfast.session().path();
    if let Some(directory) = session.parent() {
        report.add("state directory", None, state_directory(directory))?;
    }
    report.add("session file", None, private_file(&session, GROUP_AND_OTHERS))?;
    if checked.langfast.session().may_sign_up() {
        report.add("sign-ups", None, sign_ups(checked))?;
    }
    for (name, file) in [
        ("password file", &settings.langfast.password_file),
        ("refresh token file", &settings.langfast.refresh_token_file),
        ("API keys file", &settings.clients.api_keys_file),
    ] {
        if let Some(file) = file {
            report.add(name, None, private_file(file, OTHERS_AND_GROUP_WRITES))?;
        }
    }
    for address in &settings.serving.listen {
        report.add("listen", None, listener(address))?;
    }
    report.add("descriptors", None, descriptors(checked))?;
    report.add("models", None, models(checked, &Day::today()))?;
    report.add("age", None, age(checked))?;
    Ok(())
}

/// Checks the age of what is built in.
fn age(checked: &Checked) -> Outcome {
    match about::old(checked.list.is_built_in(), SystemTime::now()).join("; ") {
        none if none.is_empty() => Outcome::ok("nothing that is built in is old"),
        old => Outcome::warning(format_args!("what is built in is old: {old}")).advise(
            "Install a newer version of langfast2api. A list of models can be brought up to date without \
             (`langfast2api models --import`)",
        ),
    }
}

/// Checks the list of models: which one counts, and whether the models that it and the aliases name are still
/// offered. An imported list that cannot be used is a failure.
fn models(checked: &Checked, today: &Day) -> Outcome {
    let list = &checked.list;
    if let Some(problem) = &list.problem {
        return Outcome::failed(problem)
            .advise("langfast2api models --import FILE, or langfast2api models --reset");
    }
    let warnings = checked.models.warnings(today);
    if !warnings.is_empty() {
        let joined = |part: fn(&Warning) -> &str| -> String {
            warnings.iter().map(part).collect::<Vec<&str>>().join("; ")
        };
        let what = format_args!("{list}; but {}", joined(|w| &w.what)).to_string();
        return Outcome::warning(what).advise(joined(|w| &w.advice));
    }
    let is_gone = |model: &&Arc<Model>| model.shutdown().is_some_and(|end| end.is_over(today));
    let gone = match checked.models.iter().filter(is_gone).count() {
        0 => String::new(),
        gone => format!("; OpenAI has shut down {gone} of them"),
    };
    let note = list.note.iter().map(|note| format!("; {note}")).collect::<String>();
    Outcome::ok(format_args!("{list}{gone}{note}"))
}

fn state_directory(path: &Path) -> Outcome {
    let shown = path.display();
    match fs::metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            match files::check_writable(path) {
                Ok(()) => Outcome::ok(format_args!("{shown} is made when it is needed")),
                Err(error) => Outcome::failed(format_args!(
                    "{shown} cannot be made ({error}): no session is kept"
                ))
                .advise(SAME_USER),
            }
        }
        Err(error) => Outcome::failed(format_args!("{shown}: {error}")).advise(SAME_USER),
        Ok(metadata) if !metadata.is_dir() => {
            Outcome::failed(format_args!("{shown} is no directory: no session is kept"))
                .advise("Name another one (LANGFAST2API_STATE_DIR)")
        }
        Ok(metadata) if mode(&metadata) & WRITES_OF_OTHERS != 0 => Outcome::failed(format_args!(
            "{shown} can be written by others: they could replace the session"
        ))
        .advise(format_args!("chmod 700 {shown}")),
        Ok(_) => match files::check_writable(path) {
            Ok(()) => Outcome::ok(shown),
            Err(error) => Outcome::failed(format_args!(
                "{shown} cannot be written ({error}): no session is kept"
            ))
            .advise(SAME_USER),
        },
    }
}

/// Reports whether anonymous sign-ups are counted, and in which file.
fn sign_ups(checked: &Checked) -> Outcome {
    match checked.langfast.session().sign_ups_counted_in() {
        Ok((path, None)) => {
            Outcome::ok(format_args!("anonymous ones are counted in {}", path.display()))
        }
        Ok((path, Some(why))) => Outcome::warning(format_args!(
            "anonymous ones are counted in {}, and no session is kept",
            path.display()
        ))
        .advise(why),
        Err(why) => Outcome::warning(why),
    }
}

const SAME_USER: &str = "Run the doctor as the user that the server runs as, or give that user the \
                         directory (LANGFAST2API_STATE_DIR)";

/// Checks that a file has none of these mode bits.
fn private_file(path: &Path, forbidden: u32) -> Outcome {
    let shown = path.display();
    match fs::metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            Outcome::ok(format_args!("{shown} is not there yet"))
        }
        Err(error) => Outcome::failed(format_args!("{shown}: {error}")).advise(SAME_USER),
        Ok(metadata) => {
            let mode = mode(&metadata);
            let says = format!("{shown} has mode {mode:04o}");
            match mode & forbidden {
                0 => Outcome::ok(says),
                _ => Outcome::failed(format_args!("{says}: others get at what is in it"))
                    .advise(format_args!("chmod 600 {shown}, and change what was in it")),
            }
        }
    }
}

fn mode(metadata: &Metadata) -> u32 {
    metadata.permissions().mode() & 0o7777
}

/// Checks whether the server, or another program, already listens there. Either may be intended; a Unix
/// socket that no proxy can connect to is hardly.
fn listener(address: &str) -> Outcome {
    let place = UnixPlace::of(address).and_then(Result::ok);
    if let Some(closed) = place.as_ref().and_then(closed_to_proxies) {
        return closed;
    }
    let is_taken = match place {
        Some(place) => UnixStream::connect(place.path).is_ok(),
        None => address
            .to_socket_addrs()
            .into_iter()
            .flatten()
            .any(|address| TcpStream::connect_timeout(&address, LOCAL).is_ok()),
    };
    Outcome::ok(format_args!(
        "{address}: {}",
        if is_taken { "somebody listens there now" } else { "nobody listens there now" }
    ))
}

/// Why a program of another user cannot connect to a Unix socket, if that is not plainly what is wanted.
fn closed_to_proxies(place: &UnixPlace<'_>) -> Option<Outcome> {
    let path = place.path.display();
    let wants = place.mode.map_or(0o020, |mode| mode & 0o022);
    if wants == 0 {
        return None;
    }
    let group = place.group_id().ok().flatten();
    if place.mode.is_none() || wants == 0o020 && group.is_none() {
        return Some(
            Outcome::warning(format_args!(
                "unix:{path}: only this user may connect; a proxy of another user, as nginx is, cannot"
            ))
            .advise(format_args!(
                "Say who may: unix:{path}?mode=660&group=www-data (nginx's group on Debian; this program's user \
                 has to be in it), or mode=666 for everybody on this machine, or mode=600 for this user. For the \
                 installed service, langfast2api.socket makes one"
            )),
        );
    }
    let is_closed = |directory: &&Path| {
        let found = fs::metadata(directory).ok();
        found.is_some_and(|found| match group {
            Some(group) if found.gid() == group => mode(&found) & 0o011 == 0,
            _ => mode(&found) & 0o001 == 0,
        })
    };
    let closed = place.path.ancestors().skip(1).find(is_closed)?.display();
    Some(
        Outcome::warning(format_args!(
            "unix:{path}: the directory {closed} is closed to others, so a proxy of another user, as nginx is, cannot connect"
        ))
        .advise(format_args!("chmod o+x {closed}, or put the socket into another directory")),
    )
}

fn descriptors(checked: &Checked) -> Outcome {
    let descriptors = raise_descriptor_limit();
    let connections = connections_for(descriptors);
    let wanted = checked.limits.connections;
    if connections >= wanted {
        return Outcome::ok(format_args!("enough for {wanted} connections"));
    }
    Outcome::warning(format_args!(
        "{descriptors} descriptors are enough for {connections} connections, not for {wanted}"
    ))
    .advise("Raise the limit (`ulimit -Hn`, or systemd's LimitNOFILE=), or lower --max-connections")
}
