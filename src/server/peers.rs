//! The other instances behind the same proxy: a request for what one of them has stored is handed to it, and
//! its answer is passed on as it comes.
//!
//! The id of a stored response names its instance, so that nobody has to be asked who has it.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::budget::Body;
use crate::config::{BadSetting, ServingSettings};
use crate::dialects::openai::responses;
use crate::error::Error;
use crate::http::Exchange;
use crate::http::answer::Answer;
use crate::server::route::Route;
use crate::sync::Alarm;

/// Longest time for a connection to another instance, and to hand a request to it.
const CONNECT: Duration = Duration::from_secs(3);
/// Longest time until another instance begins an answer that takes it no time: a stored response, or a sign
/// that it is well. A request for text may take as long as a run.
const ANSWER: Duration = Duration::from_secs(5);
/// Silence after which another instance is asked whether it is well: one that is stuck ends nothing.
const SILENCE: Duration = Duration::from_secs(5);
/// Interval at which a relay checks, while the other instance is silent, that its answer is still wanted.
const LOOK: Duration = Duration::from_millis(500);
/// Longest name of an instance.
const LONGEST_NAME: usize = 16;
/// Says that a request is from another instance and must not be handed on.
const MARK: &str = "x-langfast2api-instance";
/// Says that the request's origin has been let in: the other instance has another `Host` to compare it with.
const LET_IN: &str = "sec-fetch-site: same-origin";
/// The client's header fields that are handed on: who it is, and what it wants.
const FIELDS: [&str; 7] =
    ["authorization", "x-api-key", "api-key", "origin", "content-type", "accept", "user-agent"];

/// The instances behind the same proxy.
#[derive(Default)]
pub struct Peers {
    own: Option<String>,
    others: Vec<Peer>,
}

/// Another instance.
struct Peer {
    name: String,
    /// Its address, as HOST:PORT.
    address: String,
}

impl Peers {
    /// Reads the names and addresses of the other instances.
    ///
    /// # Errors
    /// A name cannot stand in an id, an address is no URL of HTTP, or this instance has no name.
    pub fn of(settings: &ServingSettings) -> Result<Peers, BadSetting> {
        let bad = |setting, why: String| settings.given.bad(setting, why);
        let own = settings.instance.clone();
        if let Some(name) = own.as_ref().filter(|name| !is_name(name)) {
            return Err(bad("instance", name_fault(name)));
        }
        let others: Result<Vec<Peer>, String> =
            settings.instances.iter().map(|text| Peer::read(text)).collect();
        let mut others = others.map_err(|why| bad("instances", why))?;
        if own.is_none() && !others.is_empty() {
            let why = "name this instance too (--instance)".to_owned();
            return Err(bad("instances", why));
        }
        others.retain(|peer| own.as_ref() != Some(&peer.name));
        Ok(Peers { own, others })
    }

    /// The name of this instance.
    pub fn own_name(&self) -> Option<&str> {
        self.own.as_deref()
    }

    /// Hands a request to the instance that has stored what it refers to. Returns `None` if that is this
    /// instance, or cannot be reached: the request is then answered here, with an error that names what is
    /// not stored.
    ///
    /// The relay ends when `stopping` is raised.
    pub fn hand_over(
        &self,
        route: &Route,
        exchange: &Exchange,
        body: &mut Body,
        stopping: &Arc<Alarm>,
    ) -> Option<Relay> {
        let head = &exchange.head;
        if self.others.is_empty() || head.header(MARK).is_some() {
            return None;
        }
        let id = match route {
            Route::Response(id) | Route::ResponseInput(id) | Route::ResponseCancel(id) => {
                id.clone()
            }
            Route::Responses => responses::referred(body)?,
            _ => return None,
        };
        let name = responses::instance_of(&id)?;
        let peer = self.others.iter().find(|peer| peer.name == name)?;
        match peer.send(exchange, body.bytes()) {
            Ok(connection) => {
                let starts_run = *route == Route::Responses;
                let begun_by = (!starts_run).then(|| Instant::now() + ANSWER);
                let heard = Instant::now();
                Some(Relay { connection, begun_by, heard, stopping: stopping.clone() })
            }
            Err(error) => {
                log::warn!("the instance {name} cannot be reached at {}: {error}", peer.address);
                None
            }
        }
    }
}

impl Peer {
    fn read(text: &str) -> Result<Peer, String> {
        let form = || format!("`{text}` is not of the form NAME=http://HOST:PORT");
        let (name, url) = text.trim().split_once('=').ok_or_else(form)?;
        if !is_name(name) {
            return Err(name_fault(name));
        }
        let address = url.strip_prefix("http://").ok_or_else(form)?.trim_end_matches('/');
        let has_port = address.rsplit_once(':').is_some_and(|(host, port)| {
            !host.is_empty() && !host.contains('/') && port.parse::<u16>().is_ok()
        });
        if !has_port {
            return Err(form());
        }
        Ok(Peer { name: name.to_owned(), address: address.to_owned() })
    }

    /// Sends a request, and returns the connection on which the answer comes. Its host is an address: a name
    /// would need to be allowed there where no keys are asked for.
    fn send(&self, exchange: &Exchange, body: &[u8]) -> io::Result<TcpStream> {
        let no_address = || io::Error::from(ErrorKind::AddrNotAvailable);
        let address = self.address.to_socket_addrs()?.next().ok_or_else(no_address)?;
        let mut connection = connect(&address)?;
        connection.set_nodelay(true)?;
        connection.set_read_timeout(Some(LOOK))?;
        let (head, id) = (&exchange.head, &exchange.request_id);
        let mut request = format!(
            "{} {} HTTP/1.{}\r\nHost: {address}\r\nConnection: close\r\n{MARK}: 1\r\n{LET_IN}\r\n\
             x-request-id: {id}\r\nContent-Length: {}\r\n",
            head.method,
            head.target,
            head.minor_version,
            body.len()
        );
        for name in FIELDS {
            for value in head.headers(name) {
                request += &format!("{name}: {value}\r\n");
            }
        }
        request += "\r\n";
        connection.write_all(request.as_bytes())?;
        connection.write_all(body)?;
        Ok(connection)
    }
}

fn connect(address: &SocketAddr) -> io::Result<TcpStream> {
    let connection = TcpStream::connect_timeout(address, CONNECT)?;
    connection.set_write_timeout(Some(CONNECT))?;
    Ok(connection)
}

/// Asks an instance whether it is well. Any answer says so.
///
/// # Errors
/// It does not answer in time.
fn ask_health(address: &SocketAddr) -> io::Result<()> {
    let mut connection = connect(address)?;
    connection.set_read_timeout(Some(ANSWER))?;
    let request = format!("GET /healthz HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    connection.write_all(request.as_bytes())?;
    connection.read_exact(&mut [0])
}

fn is_name(name: &str) -> bool {
    (1..=LONGEST_NAME).contains(&name.len()) && name.bytes().all(|b| b.is_ascii_alphanumeric())
}

fn name_fault(name: &str) -> String {
    format!("`{name}` is no name of an instance: it takes up to {LONGEST_NAME} letters and digits")
}

/// An answer that comes from another instance.
pub struct Relay {
    connection: TcpStream,
    /// Deadline for the beginning of the answer; `None` if it may take as long as a run, or has come.
    begun_by: Option<Instant>,
    /// Time at which the other instance was last known to be well.
    heard: Instant,
    /// Raised when the server no longer waits for its answers to end.
    stopping: Arc<Alarm>,
}

impl Relay {
    /// Passes the answer on. The client's connection ends with it, as the other instance's does.
    ///
    /// # Errors
    /// The client has gone, the server stops, or the other instance has broken off or does not answer: what
    /// the client has of an answer is cut then.
    pub fn write(mut self, answer: &mut Answer) -> Result<(), Error> {
        let written = self.pass_on(answer);
        if written.is_err() && answer.status().is_none() && self.begun_by.is_none() {
            // The other instance may have started a run: trying again would start another one.
            answer.replace_field("x-should-retry", "false");
        }
        written
    }

    fn pass_on(&mut self, answer: &mut Answer) -> Result<(), Error> {
        answer.exchange().end_connection();
        // Not on the stack, which every writer would have to have room for.
        let mut buffer = vec![0; 16 * 1024];
        loop {
            match self.connection.read(&mut buffer) {
                Ok(0) => {
                    return answer.passed_on().map_err(|_| broken("it ended without an answer"));
                }
                Ok(length) => {
                    self.heard = Instant::now();
                    answer.pass_on(&buffer[..length]).map_err(|_| Error::ClientGone)?;
                }
                Err(error)
                    if [ErrorKind::WouldBlock, ErrorKind::TimedOut].contains(&error.kind()) =>
                {
                    self.check_wanted(answer)?;
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(broken(&error.to_string())),
            }
        }
    }

    /// Checks that the answer may still be waited for.
    fn check_wanted(&mut self, answer: &Answer) -> Result<(), Error> {
        if answer.exchange().client_has_gone() {
            return Err(Error::ClientGone);
        }
        if self.stopping.is_raised() {
            return Err(Error::CutShort);
        }
        let is_late = self.begun_by.is_some_and(|by| Instant::now() >= by);
        match answer.status() {
            None if is_late => Err(broken(&format!("not within {} s", ANSWER.as_secs()))),
            _ if self.heard.elapsed() >= SILENCE => self.check_health(),
            _ => Ok(()),
        }
    }

    fn check_health(&mut self) -> Result<(), Error> {
        let asked = self.connection.peer_addr().and_then(|address| ask_health(&address));
        self.heard = Instant::now();
        asked.map_err(|error| broken(&format!("it is stuck: {error}")))
    }
}

fn broken(why: &str) -> Error {
    Error::Overloaded(format!("the instance that has the stored response does not answer ({why})"))
}
