//! The program: settings, then the server or a command, then the exit code.

use std::io::Write;
use std::net::TcpListener;
use std::os::unix::net::UnixListener;
use std::process::ExitCode;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use clap::Parser;
use crossbeam_channel::Sender;
use langfast2api::choices::{Deadlines, Never};
use langfast2api::completions::Completions;
use langfast2api::config::{Cli, Settings};
use langfast2api::front::{Limits, Listener, connections_for, raise_descriptor_limit};
use langfast2api::langfast::{Account, LangFast};
use langfast2api::logger;
use langfast2api::models::{BUILT_IN, Models};
use langfast2api::server::{Server, ServerLimits, Service};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

fn main() -> ExitCode {
    let cli = Cli::parse();
    logger::start(&cli.settings.log);
    match serve(&cli.settings) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("langfast2api: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Serves until a signal ends it.
fn serve(settings: &Settings) -> Result<()> {
    // Before anything else, so that a signal at any time is one that is heard.
    let mut signals = Signals::new([SIGTERM, SIGINT, SIGHUP])?;
    let descriptors = raise_descriptor_limit();
    let models = RwLock::new(Arc::new(read_models(settings)?));
    let (stop, stopping) = crossbeam_channel::bounded(0);
    let completions = Completions {
        langfast: LangFast::new(settings, Account::default())?,
        deadlines: Deadlines {
            first_event: settings.first_event_timeout,
            silence: settings.silence_timeout,
            run: settings.run_timeout,
        },
        strict: settings.strict,
        keep_alive: settings.keep_alive,
        stopping,
    };
    let who = completions.langfast.session().expected();
    let service = Arc::new(Service { models, completions });
    let defaults = Limits::default();
    let limits = ServerLimits {
        requests: 256,
        front: Limits {
            connections: defaults.connections.min(connections_for(descriptors)),
            ..defaults
        },
    };
    let (listener, address) = listen(&settings.listen)?;
    let server = Server::start(vec![listener], service.clone(), limits)?;
    announce(&address, settings, &who);

    for signal in signals.forever() {
        if signal != SIGHUP {
            break;
        }
        match read_models(settings) {
            Ok(models) => {
                *service.models.write().unwrap_or_else(PoisonError::into_inner) = models.into()
            }
            Err(error) => log::error!("the models stay as they were: {error}"),
        }
    }
    shut_down(&server, signals, stop, settings.shutdown_timeout);
    Ok(())
}

/// Lets running answers end, up to `patience`; then ends them with an error that says so. A further
/// signal ends at once.
fn shut_down(server: &Server, mut signals: Signals, stop: Sender<Never>, patience: Duration) {
    log::info!("stopping: no new connections, {} open", server.front.connections());
    server.front.stop_accepting();
    let deadline = Instant::now() + patience;
    let mut hurried = || signals.pending().any(|signal| signal != SIGHUP);
    let tick = Duration::from_millis(50);
    while Instant::now() < deadline && !server.front.wait_idle(Instant::now() + tick) {
        if hurried() {
            return;
        }
    }
    drop(stop);
    server.front.wait_idle(Instant::now() + Duration::from_secs(2));
}

fn read_models(settings: &Settings) -> Result<Models> {
    let models = match &settings.models {
        None => Models::parse(BUILT_IN, &settings.model_aliases)?,
        Some(path) => {
            let text = std::fs::read_to_string(path)
                .map_err(|e| format!("LANGFAST2API_MODELS: {}: {e}", path.display()))?;
            Models::parse(&text, &settings.model_aliases)?
        }
    };
    Ok(models)
}

/// The listener that the setting names, and its address for people to read.
fn listen(setting: &str) -> Result<(Listener, String)> {
    let failed = |e: std::io::Error| format!("cannot listen on {setting}: {e}");
    if let Some(path) = setting.strip_prefix("unix:") {
        let listener = UnixListener::bind(path).map_err(failed)?;
        return Ok((Listener::Unix(listener), setting.to_owned()));
    }
    let listener = TcpListener::bind(setting).map_err(failed)?;
    let address = format!("http://{}", listener.local_addr()?);
    Ok((Listener::Tcp(listener), address))
}

/// The one line that says where, in front of what, and as whom.
fn announce(address: &str, settings: &Settings, who: &str) {
    let line = format!(
        "langfast2api {} listens on {address}, in front of {}, as {who}",
        env!("CARGO_PKG_VERSION"),
        settings.supabase_url
    );
    // Nobody may be reading.
    let _ = writeln!(std::io::stdout(), "{line}");
}
