//! Checks of the way to LangFast: names, connections, sign-in, prompt, socket, and a run if one is asked for.

use std::io;
use std::time::{Duration, Instant, SystemTime};

use super::report::{Outcome, Report};
use crate::chat::models::Model;
use crate::chat::models::shutdowns::Day;
use crate::chat::{Message, Prompt, Role};
use crate::cli::check::Checked;
use crate::config::{Examination, Settings};
use crate::error::meaning::Meaning;
use crate::error::{Error, Failure, Step};
use crate::langfast::{
    Deadlines, LangFast, Listener, Refused, RunClock, RunEvent, Session, prompt_meta, wanted_always,
};
use crate::net::dial::{Dialer, Endpoint, Stage};

/// Largest harmless difference between the clocks: beyond it, valid tokens may seem expired, or the reverse.
const MOST_SKEW: Duration = Duration::from_secs(60);

pub fn examine(
    settings: &Settings,
    checked: &Checked,
    examination: &Examination,
    report: &mut Report,
) -> io::Result<()> {
    let langfast = &checked.langfast;
    // There always is one: without any the settings were not sound.
    let Some(first) = checked.models.preferred(&Day::today()) else { return Ok(()) };

    let sign_in_server =
        connection("LangFast", langfast.dialer(), langfast.api().endpoint(), advice_for, report)?;
    let answers = after(sign_in_server, "LangFast: answer", report, || clock(langfast))?;
    let signed_in = after(answers, "sign-in", report, || sign_in(langfast, examination))?;
    let prompt = after(signed_in, "prompt", report, || prompt(langfast, &first.slug))?;

    let runner = langfast.runner().endpoint();
    let advice = if sign_in_server { runner_advice } else { advice_for };
    let runner = connection("runner", langfast.dialer(), runner, advice, report)?;
    let socket = after(runner && signed_in, "socket", report, || socket(langfast))?;

    if !examination.run {
        report.skip("run", "not asked for; --run spends one request of the quota")?;
        return Ok(());
    }
    after(prompt && socket, "run", report, || match &examination.model {
        None => run(settings, langfast, first),
        Some(name) => match checked.models.serve(name) {
            Ok(model) => run(settings, langfast, &model),
            Err(error) => Outcome::failed(error).advise("`langfast2api models` lists the models"),
        },
    })?;
    Ok(())
}

/// A step that is skipped when what it needs is not there.
pub(super) fn after(
    ready: bool,
    name: &str,
    report: &mut Report,
    work: impl FnOnce() -> Outcome,
) -> io::Result<bool> {
    match ready {
        true => report.step(name, work),
        false => report.skip(name, "it needs a step that has not succeeded"),
    }
}

/// Connects to a server, each stage a step, and closes the connection. `advice` is for a stage that
/// fails.
pub(super) fn connection(
    whose: &str,
    dialer: &Dialer,
    endpoint: &Endpoint,
    advice: fn(Stage) -> &'static str,
    report: &mut Report,
) -> io::Result<bool> {
    report.announce(&format!("{whose}: connection"))?;
    let mut last = Instant::now();
    let mut done = Vec::new();
    let dialled = dialer.dial_in_stages(endpoint, &mut |stage, what| {
        done.push((stage, last.elapsed(), what.to_string()));
        last = Instant::now();
    });
    let failed_after = last.elapsed();
    let error = dialled.err();

    let mut stages = dialer.stages(endpoint).into_iter();
    let ms = |took: Duration| Some(took.as_secs_f64() * 1e3);
    for ((stage, took, what), _) in done.into_iter().zip(stages.by_ref()) {
        let what = match stage {
            Stage::Lookup if what == endpoint.host => format!("{what} is an address already"),
            Stage::Lookup => format!("{}: {what}", endpoint.host),
            _ => what,
        };
        report.add(&format!("{whose}: {}", name_of(stage)), ms(took), Outcome::ok(what))?;
    }
    let Some(error) = error else { return Ok(true) };
    if let Some(stage) = stages.next() {
        let outcome = Outcome::failed(&error).advise(advice(stage));
        report.add(&format!("{whose}: {}", name_of(stage)), ms(failed_after), outcome)?;
    }
    for stage in stages {
        report.skip(&format!("{whose}: {}", name_of(stage)), "it needs a step that failed")?;
    }
    Ok(false)
}

fn name_of(stage: Stage) -> &'static str {
    match stage {
        Stage::Lookup => "name",
        Stage::Connect => "TCP",
        Stage::Tunnel => "proxy",
        Stage::Tls => "TLS",
    }
}

/// Advice for when the prompt runner cannot be reached although LangFast's other server can.
fn runner_advice(stage: Stage) -> &'static str {
    match stage {
        Stage::Lookup | Stage::Connect => {
            "LangFast's other server is there, so the network is sound: the prompt runner is down (try \
             again later) or has moved (look for a newer version of langfast2api, or set \
             LANGFAST2API_RUNNER_URL)"
        }
        Stage::Tunnel | Stage::Tls => advice_for(stage),
    }
}

pub(super) fn advice_for(stage: Stage) -> &'static str {
    match stage {
        Stage::Lookup => {
            "Try `getent hosts NAME`. Is the machine on the network, does /etc/resolv.conf name a \
             server that answers?"
        }
        Stage::Connect => {
            "A firewall on the way, or no route: try from another network. If only a proxy gets out, \
             set HTTPS_PROXY"
        }
        Stage::Tunnel => "Check HTTPS_PROXY (and NO_PROXY), and what the proxy lets through",
        Stage::Tls => {
            "Check the clock (`date`) and the root certificates (the package ca-certificates, or \
             SSL_CERT_FILE); a proxy that opens TLS needs its own root there"
        }
    }
}

fn failed(error: &Error) -> Outcome {
    let outcome = Outcome::failed(error.headline());
    match error.remedy().or_else(|| advice(error)) {
        Some(advice) => outcome.advise(advice),
        None => outcome,
    }
}

/// Advice for an error whose own message has none.
fn advice(error: &Error) -> Option<&'static str> {
    let Error::Upstream { step, failure } = error else { return None };
    if let Some(Meaning::Parameter | Meaning::Value) = error.meaning() {
        return Some(
            "The server leaves out what a model refuses, and tries again (--refused-parameters)",
        );
    }
    Some(match failure {
        // They have a remedy.
        Failure::NeedsOperator(_) | Failure::Malformed(_) => return None,
        Failure::HoldOff { .. } => {
            "Do what it says, or wait as long; your own account (`langfast2api login`) needs no sign-ups"
        }
        Failure::Unreachable(_) => "Check the network between here and LangFast",
        Failure::Broken(_) | Failure::Lost { .. } | Failure::TimedOut { .. } => {
            "Try again; if it stays so, LangFast has trouble or something on the way cuts connections"
        }
        Failure::Status { status: 200..=400 | 402 | 404..=428, .. } if *step == Step::Connect => {
            "LangFast's prompt runner is not at this address any more: look for a newer version of \
             langfast2api, or for the address in the web page's WebSocket requests \
             (LANGFAST2API_RUNNER_URL)"
        }
        Failure::Status { status: 500.., .. } if *step == Step::Connect => {
            "LangFast's prompt runner is down, and only LangFast can mend that: try again later"
        }
        Failure::Status { status: 429, .. } => "Wait as long as LangFast asks for, then try again",
        Failure::Status { status: 500.., .. } => "LangFast has trouble: try again later",
        Failure::Status { status: 401 | 403, .. } => {
            "LangFast does not let us in: sign in with your own account (`langfast2api login`)"
        }
        Failure::Ended { .. } => "Try again; if it stays so, try another model",
        Failure::Refused(_) if *step == Step::Run => "The words are LangFast's or the model's own",
        Failure::Status { .. } | Failure::Refused(_) => {
            "LangFast may have changed: look for a newer version of langfast2api"
        }
        Failure::OverLimit(_) | Failure::Revised => return None,
    })
}

/// Compares the clock with LangFast's, which its answers tell to the second.
fn clock(langfast: &LangFast) -> Outcome {
    let date = match langfast.api().clock() {
        Ok(Some(date)) => date,
        Ok(None) => return Outcome::ok("it answers, and does not say what time it is"),
        Err(error) => return failed(&error),
    };
    let now = SystemTime::now();
    let (skew, word) = match now.duration_since(date) {
        Ok(ahead) => (ahead, "ahead"),
        Err(behind) => (behind.duration(), "behind"),
    };
    if skew <= MOST_SKEW {
        return Outcome::ok("it answers, and the clock here agrees with its own");
    }
    Outcome::warning(format_args!("this machine's clock is {} s {word}", skew.as_secs())).advise(
        "Set the clock (`timedatectl set-ntp true`): tokens are renewed by it, and certificates fail",
    )
}

fn sign_in(langfast: &LangFast, examination: &Examination) -> Outcome {
    let session = langfast.session();
    if !examination.sign_in {
        session.forbid_sign_ups();
    }
    let outlook = session.outlook();
    let kept = session.kept().ok().flatten().map(|(who, _)| who);
    match session.grant(&wanted_always()) {
        Err(error) if Session::is_unasked(&error) => unasked(examination.run),
        Err(error) => failed(&error),
        Ok(grant) => {
            // The report may be shown to others: it does not name the account.
            let who = if grant.email.is_some() { "your account" } else { "an anonymous user" };
            let how = match outlook.change.is_none() && kept == Some(grant.who()) {
                true => "the session that was kept",
                false if keeps_session(langfast) => "a new session, which is kept",
                false => "a new session, which is not kept",
            };
            match outlook.warnings.join("; ") {
                none if none.is_empty() => Outcome::ok(format_args!("as {who}, by {how}")),
                warnings => Outcome::warning(format_args!("as {who}, by {how}; but {warnings}")),
            }
        }
    }
}

/// Notes that nobody is signed in, so that the server would sign up an anonymous user.
fn unasked(is_run_wanted: bool) -> Outcome {
    const HOW: &str =
        "--sign-in does so now; or sign in with your own account (`langfast2api login`)";
    match is_run_wanted {
        true => Outcome::failed("nobody is signed in, as a run needs").advise(HOW),
        false => Outcome::skipped(
            "nobody is signed in yet: the server signs up an anonymous user with its first request",
        )
        .advise(HOW),
    }
}

fn prompt(langfast: &LangFast, model: &str) -> Outcome {
    match langfast.prepare_prompt(model) {
        Ok(true) => Outcome::ok("the one that was kept"),
        Ok(false) if keeps_session(langfast) => Outcome::ok("a new one, which is kept"),
        Ok(false) => Outcome::ok("a new one, which is not kept"),
        Err(error) => failed(&error),
    }
}

/// True if the session in use, with its prompt, is in the session file.
fn keeps_session(langfast: &LangFast) -> bool {
    let session = langfast.session();
    let now = session.present().map(|grant| grant.who());
    now.is_some() && session.kept().ok().flatten().map(|(who, _)| who) == now
}

fn socket(langfast: &LangFast) -> Outcome {
    match langfast.connect() {
        Ok(()) => Outcome::ok("connected, and the access token is accepted"),
        Err(error) => failed(&error),
    }
}

/// Runs a prompt whose answer is a few tokens.
fn run(settings: &Settings, langfast: &LangFast, model: &Model) -> Outcome {
    match try_run(settings, langfast, model) {
        Ok((_, 0)) => Outcome::warning(format_args!("{}: it has answered nothing", model.slug))
            .advise("Ask it something yourself; if answers stay empty, take another model"),
        Ok((first, pieces)) => Outcome::ok(format_args!(
            "{}: first event after {:.1} ms, {pieces} pieces of text",
            model.slug,
            first.as_secs_f64() * 1e3
        )),
        Err(error) => match (error.meaning(), model.shutdown()) {
            (Some(Meaning::NoSuchModel), Some(shutdown)) => {
                let remedy = error.remedy().unwrap_or_default();
                failed(&error).advise(format_args!("{}. {remedy}", shutdown.words(&Day::today())))
            }
            _ => failed(&error),
        },
    }
}

/// Returns the time to the first event, and the number of pieces of text.
fn try_run(
    settings: &Settings,
    langfast: &LangFast,
    model: &Model,
) -> Result<(Duration, usize), Error> {
    let prompt = Prompt {
        messages: vec![Message { role: Role::User, content: "Say ok.".into() }],
        // Without a limit of tokens: a model that reasons would fail by a small one.
        ..Prompt::default()
    };
    let (meta, _) = prompt_meta(&prompt, model, &Refused::default())?;
    let began = Instant::now();
    let admission = langfast.admit(&model.slug, &wanted_always())?;
    let run =
        langfast.start(&model.slug, &meta, &admission, &Listener::default(), &wanted_always())?;
    let mut clock = RunClock::start(Deadlines::of(&settings.deadlines));
    let (mut first, mut pieces) = (None, 0);
    loop {
        let Ok(event) = run.events.recv_deadline(clock.deadline()) else {
            clock.expire()?;
            break;
        };
        clock.note(&event);
        first.get_or_insert_with(|| began.elapsed());
        match event {
            RunEvent::Text(_) => pieces += 1,
            RunEvent::Alive | RunEvent::Cut(_) | RunEvent::Usage(_) | RunEvent::Ending { .. } => {}
            RunEvent::Finished { .. } => break,
            RunEvent::Failed(error) => return Err(*error),
        }
    }
    Ok((first.unwrap_or_else(|| began.elapsed()), pieces))
}
