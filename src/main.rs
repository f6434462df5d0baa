//! The program: settings, then the server or a command, then the exit code.
#![deny(unsafe_code)]

mod memory;

use std::io::Write;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use langfast2api::chat::models::shutdowns::Day;
use langfast2api::chat::tools::nonce::Secret;
use langfast2api::cli::check::{self, Checked};
use langfast2api::cli::{about, commands, doctor, import, keys, manual, service};
use langfast2api::completions::{Completions, Repeats};
use langfast2api::config::{
    BadSetting, Cli, ClientSettings, Command, FittedLimits, RefusedParameters, Settings,
};
use langfast2api::dialects::openai::responses::shown;
use langfast2api::http::{Limits, Listener, connections_for, raise_descriptor_limit};
use langfast2api::langfast::{self, Deadlines, LangFast, Outlook};
use langfast2api::observe::vitals::Vitals;
use langfast2api::observe::{logger, manager};
use langfast2api::server::listen::{Listening, listen};
use langfast2api::server::{ModelsInUse, Server, ServerLimits, Service, warming};
use langfast2api::stored::{Lanes, Store};
use langfast2api::sync::Alarm;
use log::Level;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

/// Extra time after the shutdown deadline for unfinished answers to send their error.
const LAST_WORDS: Duration = Duration::from_secs(2);

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

fn main() -> ExitCode {
    memory::set_up();
    if std::env::args_os().skip(1).eq(["--version"]) {
        // Who reads the first line alone, as `head`, has what it wants.
        let _ = writeln!(std::io::stdout(), "{}", about::long());
        return ExitCode::SUCCESS;
    }
    let cli = match Cli::read() {
        Ok(cli) => cli,
        Err(error) => {
            logger::start("info", Cli::log_format_alone());
            return failed(&error);
        }
    };
    logger::start(cli.log_levels(), cli.settings.serving.log_format);
    match run(&cli) {
        Ok(code) => code,
        // Who reads no more, as `head`, need not be told.
        Err(error) if is_broken_pipe(&*error) => ExitCode::FAILURE,
        Err(error) => failed(&*error),
    }
}

/// Says what has failed; the exit code is as `config::EXIT_CODES` has it.
fn failed(error: &(dyn std::error::Error + 'static)) -> ExitCode {
    eprint!("{}", logger::bare_line(Level::Error, &format!("langfast2api: {error}")));
    ExitCode::from(if error.is::<BadSetting>() { 2 } else { 1 })
}

fn is_broken_pipe(error: &(dyn std::error::Error + 'static)) -> bool {
    let error = error.downcast_ref::<std::io::Error>();
    error.is_some_and(|error| error.kind() == std::io::ErrorKind::BrokenPipe)
}

fn run(cli: &Cli) -> Result<ExitCode> {
    if let Some(code) = service::hand_over(cli)? {
        return Ok(code);
    }
    let settings = &cli.settings;
    let langfast = || LangFast::new(&settings.langfast);
    match &cli.command {
        _ if cli.check_config => commands::say(&check::check(settings)?.to_string())?,
        None => serve(settings)?,
        Some(Command::Login { refresh_token }) => {
            commands::login(langfast()?.session(), *refresh_token)?;
        }
        Some(Command::Logout) => commands::logout(langfast()?.session())?,
        Some(Command::Whoami) => commands::whoami(langfast()?.session())?,
        Some(Command::Doctor(examination)) => return doctor::examine(settings, examination),
        Some(Command::Models(command)) => match &command.import {
            Some(from) => import::import(&settings.model_source(), from, command)?,
            None if command.reset => import::reset(&settings.model_source())?,
            None => {
                commands::models(&settings.model_source().read()?, &Day::today(), command.json)?;
            }
        },
        Some(Command::Keys(command)) => keys::run(command, &settings.clients)?,
        Some(Command::Completions { shell }) => manual::completions(*shell)?,
        Some(Command::Man) => manual::man_page()?,
    }
    Ok(ExitCode::SUCCESS)
}

/// The calls for text, as the settings have them.
fn completions(settings: &Settings, langfast: LangFast, vitals: Arc<Vitals>) -> Completions {
    let answers = &settings.answers;
    let retries = answers.refused_parameters == RefusedParameters::Retry;
    Completions {
        langfast: Arc::new(langfast),
        deadlines: Deadlines::of(&settings.deadlines),
        strict: answers.strict,
        second_tries: retries.then(Arc::default),
        keep_alive: answers.keep_alive,
        images: answers.images,
        tool_repair: answers.tool_repair,
        marker_secret: Secret::kept(settings.langfast.state_dir().ok().as_deref()),
        stopping: Arc::default(),
        repeats: Repeats::new(answers.remember_failures),
        vitals,
    }
}

/// Serves until a signal ends it.
fn serve(settings: &Settings) -> Result<()> {
    // Before anything else, so that a signal at any time is one that is heard.
    let mut signals = Signals::new([SIGTERM, SIGINT, SIGHUP])?;
    let descriptors = raise_descriptor_limit();
    let mut checked = check::check(settings)?;
    settings.given.warnings().iter().for_each(|warning| log::warn!("{warning}"));
    checked.list.log("serving", &checked.models);
    fit(&mut checked.limits, descriptors);
    let Outlook { who, warnings, .. } = checked.langfast.session().outlook();
    let mut listening = listen(&settings.serving, &checked.access)?;
    let listeners = std::mem::take(&mut listening.listeners);
    if listeners.iter().any(|listener| matches!(listener, Listener::Tcp(_))) {
        checked.access.restrict_hosts();
    }
    let limits = limits(settings, &checked.limits);
    let service = Arc::new(service_of(settings, checked, limits.front.socket_age)?);
    let server = Server::start(listeners, service.clone(), limits)?;
    manager::keep_telling(server.health())?;
    manager::ready();
    announce(&listening, settings, &who);
    warnings.iter().for_each(|warning| log::warn!("{warning}"));
    if settings.langfast.warm_up {
        warming::warm_up(&service);
    }
    reload_until_stopped(&mut signals, &service, &settings.clients);
    let to_spare = Duration::from_secs(5);
    let patience = settings.deadlines.shutdown_timeout;
    manager::stopping(patience + LAST_WORDS + to_spare);
    shut_down(&server, signals, &service.completions.stopping, patience);
    Ok(())
}

/// Lowers the limits to the descriptors that there are, and logs what memory has lowered.
fn fit(limits: &mut FittedLimits, descriptors: u64) {
    limits.connections = limits.connections.min(connections_for(descriptors));
    if let Some(memory) = limits.lowered_by {
        let FittedLimits { requests, connections, .. } = limits;
        log::info!("{requests} requests and {connections} connections at once fit into {memory}");
    }
}

/// Everything that answers are made from, by settings that have been checked. WebSockets end at `socket_age`.
fn service_of(settings: &Settings, checked: Checked, socket_age: Duration) -> Result<Service> {
    let Checked { models, list, access, langfast, peers, limits, .. } = checked;
    let vitals = Arc::new(Vitals::default());
    let stored = store(settings, limits.stored, peers.own_name())?;
    if let Some(salt) = stored.salt().map(str::to_owned) {
        access.mark_keys(move |key| langfast::mark(&salt, key));
    }
    Ok(Service {
        models: ModelsInUse::new(settings.model_source(), models, &list),
        all_models: settings.serving.all_models,
        completions: completions(settings, langfast, vitals.clone()),
        access,
        vitals,
        stored,
        lanes: Lanes::new(limits.lanes, socket_age),
        peers,
        open_metrics: settings.clients.metrics_open,
        limits,
    })
}

/// Reads keys, models and the session again at each SIGHUP, until another signal comes.
fn reload_until_stopped(signals: &mut Signals, service: &Service, clients: &ClientSettings) {
    for signal in signals.forever() {
        if signal != SIGHUP {
            return;
        }
        manager::reloading();
        service.completions.reload();
        service.access.reload_keys(clients);
        // The last, because it says that all of it is done.
        service.models.reload();
        manager::ready();
    }
}

/// Where responses are stored, in at most `limit` bytes: several instances that share a state directory have a place each.
fn store(settings: &Settings, limit: usize, instance: Option<&str>) -> Result<Arc<Store>> {
    let age = settings.limits.store_age;
    if limit == 0 || !settings.limits.store_on_disk {
        return Ok(Store::new(limit, age, instance));
    }
    let name = instance.map_or("responses".to_owned(), |name| format!("responses-{name}"));
    let directory = settings.langfast.state_dir()?.join(name);
    Ok(Store::on_disk(limit, age, instance, &directory, shown::interrupted))
}

fn limits(settings: &Settings, fitted: &FittedLimits) -> ServerLimits {
    let ping = settings.answers.keep_alive;
    let settings = &settings.limits;
    let front = Limits {
        connections: fitted.connections,
        body_bytes: usize::from(settings.max_body) << 20,
        body_memory: fitted.body_memory,
        head_deadline: settings.head_timeout,
        idle: settings.idle_timeout,
        write_stall: settings.write_timeout,
        ping,
        ..Limits::default()
    };
    let (requests, after_burst) = (fitted.requests, memory::give_back);
    ServerLimits { front, requests, after_burst }
}

/// Lets running answers end, up to `patience`, or until a further signal; then ends them with an error that
/// says so.
fn shut_down(server: &Server, mut signals: Signals, stopping: &Alarm, patience: Duration) {
    log::info!("stopping: no new connections, {} open", server.front.connections());
    server.front.stop_accepting();
    let deadline = Instant::now() + patience;
    let mut hurried = || signals.pending().any(|signal| signal != SIGHUP);
    let tick = Duration::from_millis(50);
    while Instant::now() < deadline && !server.wait_idle(Instant::now() + tick) {
        if hurried() {
            log::warn!("a further signal: {} connections end now", server.front.connections());
            break;
        }
    }
    stopping.raise();
    server.wait_idle(Instant::now() + LAST_WORDS);
}

/// The one line that says where, in front of what, and as whom.
fn announce(listening: &Listening, settings: &Settings, who: &str) {
    let line = format!(
        "langfast2api {} listens on {}, in front of {}, as {who}",
        env!("CARGO_PKG_VERSION"),
        listening.addresses.join(" and "),
        settings.langfast.supabase_url
    );
    // Nobody may be reading.
    let _ = write!(std::io::stdout(), "{}", logger::bare_line(Level::Info, &line));
}
