//! Checks of the running server at its public URL: that it asks for the key, and that events arrive as they
//! are sent.

use std::io;

use serde_json::Value;

use super::outside::{Outside, Seen};
use super::report::{Outcome, Report};
use super::way::{advice_for, after, connection};
use crate::cli::check::Checked;
use crate::config::Settings;
use crate::error::clean;
use crate::net::dial::{Endpoint, Stage};
use crate::net::transport::Timeouts;
use crate::server::probe;

/// A URL that needs a key, if keys are set.
const MODELS: &str = "/v1/models";

pub fn examine(
    url: &str,
    settings: &Settings,
    checked: &Checked,
    report: &mut Report,
) -> io::Result<()> {
    // People have the base URL at hand that they give to clients.
    let url = url.trim_end_matches('/');
    let endpoint = match Endpoint::parse(url.strip_suffix("/v1").unwrap_or(url)) {
        Ok(endpoint) => endpoint,
        Err(why) => {
            report.add("public URL", None, Outcome::failed(why))?;
            return Ok(());
        }
    };
    let dialer = checked.langfast.dialer();
    let connected = connection("public URL", dialer, &endpoint, door_advice, report)?;
    let is_local = is_local(&endpoint.host);
    let is_plain = !endpoint.tls && !is_local;
    let langfast = &settings.langfast;
    let timeouts = Timeouts { call: langfast.request_timeout, keep_warm: langfast.keep_warm };
    let server = Outside::new(dialer.clone(), endpoint, timeouts);
    let key = checked.access.any_key();
    let key = key.as_deref();

    after(connected, "public URL: no key", report, || {
        without_key(&server, key.is_some(), is_local, is_plain)
    })?;
    let answers = after(connected, "public URL: models", report, || models(&server, key))?;
    after(answers, "public URL: stream", report, || stream(&server, key))?;
    after(answers, "public URL: requests", report, || requests(&server, key))?;
    Ok(())
}

/// Advice for when no connection to the server's URL can be made.
fn door_advice(stage: Stage) -> &'static str {
    match stage {
        Stage::Connect => {
            "Is it running, and does it listen there (`systemctl status langfast2api`, --listen)? If it is: a \
             firewall on the way"
        }
        _ => advice_for(stage),
    }
}

fn is_local(host: &str) -> bool {
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

/// Checks that a request without a key is refused, if there are keys.
fn without_key(server: &Outside, has_keys: bool, is_local: bool, is_plain: bool) -> Outcome {
    let seen = match server.get(MODELS, None) {
        Ok(seen) => seen,
        Err(why) => return no_answer(&why),
    };
    match (seen.status, has_keys) {
        (401, true) if is_plain => Outcome::warning("the key is asked for, and sent in the clear")
            .advise("Serve it over https: have nginx or Caddy do TLS in front"),
        (401, true) => Outcome::ok("the key is asked for"),
        (401, false) => Outcome::warning("a key is asked for, and these settings have none").advise(
            "Give the doctor the server's settings (its LANGFAST2API_API_KEYS or the file of keys)",
        ),
        (200, true) => Outcome::failed("it answers without the key").advise(
            "Was the server started again since the keys were set? Does the proxy add the key itself?",
        ),
        (200, false) if is_local => Outcome::ok("nobody is asked for a key, on this machine alone"),
        (200, false) => Outcome::failed("it answers everybody: nobody is asked for a key").advise(
            "Set LANGFAST2API_API_KEYS_FILE, or whoever finds this URL uses your LangFast account",
        ),
        _ => unexpected(&seen),
    }
}

fn models(server: &Outside, key: Option<&str>) -> Outcome {
    match server.get(MODELS, key) {
        Err(why) => no_answer(&why),
        Ok(seen) if seen.status == 200 => Outcome::ok("listed"),
        Ok(seen) if seen.status == 401 => {
            Outcome::failed("the key of these settings is not accepted").advise(
                "Start the server again after a change of keys; and the proxy must pass the header \
                 Authorization on",
            )
        }
        Ok(seen) => unexpected(&seen),
    }
}

fn stream(server: &Outside, key: Option<&str>) -> Outcome {
    let seen = match server.get(probe::PATH, key) {
        Ok(seen) => seen,
        Err(why) => return no_answer(&why),
    };
    if seen.status == 404 {
        return Outcome::failed("the server there has no stream to try it with (HTTP 404)")
            .advise("Is it langfast2api, of this version?");
    }
    if seen.status != 200 {
        return unexpected(&seen);
    }
    let compressed = seen.encoding.as_deref().is_some_and(|encoding| encoding != "identity");
    let events = String::from_utf8_lossy(&seen.body).matches("data: {").count();
    if !compressed && events != probe::EVENTS {
        return Outcome::failed(format_args!("{events} of {} events came", probe::EVENTS))
            .advise("Something on the way cuts or changes the answer");
    }
    match (probe::was_held_back(&seen.arrivals), compressed) {
        (false, _) => Outcome::ok("each event arrives when it is sent"),
        (true, true) => Outcome::failed("the proxy compresses events, and holds them back for it")
            .advise("nginx: `gzip off;`. Caddy: no `encode` for this site"),
        (true, false) => Outcome::failed("something on the way holds events back until the end").advise(
            "nginx: `proxy_buffering off;` (and no `proxy_ignore_headers X-Accel-Buffering`), and \
             `gzip off;`. Caddy: `flush_interval -1`. A CDN: switch its buffering off",
        ),
    }
}

/// Checks whether the running server answers requests for text from memory, because LangFast has refused
/// them.
fn requests(server: &Outside, key: Option<&str>) -> Outcome {
    let seen = match server.get("/status", key) {
        Ok(seen) => seen,
        Err(why) => return no_answer(&why),
    };
    let status: Option<Value> = serde_json::from_slice(&seen.body).ok();
    let Some(status) = status.filter(|status| status.get("uptime_s").is_some()) else {
        return Outcome::warning("the server there does not say how it is")
            .advise("A proxy that passes on /v1 alone keeps /status from being seen here");
    };
    match status["problem"].as_str() {
        None => Outcome::ok("nothing keeps them from being answered"),
        Some(problem) => Outcome::failed(format_args!("they fail: {}", clean(problem))),
    }
}

fn no_answer(why: &str) -> Outcome {
    Outcome::failed(format_args!("no answer: {why}"))
        .advise("Is the server running, and does the proxy pass on to its address?")
}

fn unexpected(seen: &Seen) -> Outcome {
    let outcome = Outcome::failed(format_args!("it answers with HTTP {}", seen.status));
    match (seen.status, &seen.location) {
        (300..=399, Some(location)) => {
            let there = location.strip_suffix(MODELS).unwrap_or(location);
            outcome.advise(format_args!("It sends clients elsewhere; try `--url {there}`"))
        }
        (403, _) => outcome.advise(
            "Without API keys only names in LANGFAST2API_ALLOWED_HOSTS are answered to; or the proxy \
             refuses",
        ),
        (404, _) => outcome.advise("The proxy must pass the path on as it is, /v1 included"),
        (502..=504, _) => outcome
            .advise("The proxy does not reach the server: is it running, at the address it is given?"),
        _ => outcome.advise("See the proxy's and the server's log"),
    }
}
