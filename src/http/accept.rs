//! Accepting clients: a loop that no error ends.

use std::fs::File;
use std::io::{self, ErrorKind};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use log::warn;
use rustix::event::{PollFd, PollFlags};
use rustix::io::ioctl_fionbio;
use rustix::net::listen;

use super::connection::{Connection, new_request_id};
use super::head::{Head, Scan};
use super::refusal::refusal;
use super::socket::{ClientSocket, wait};
use super::{Listener, Look, Shared, Slot};
use crate::error::Error;
use crate::observe::heartbeat::Heartbeat;

/// Clients that the kernel keeps waiting for us, if `net.core.somaxconn` allows it.
const BACKLOG: i32 = 1024;
/// Stack of a connection's thread, in bytes; some 8 KiB are used. glibc keeps 40 MiB of ended threads'
/// stacks with what they have touched: the larger they are, the fewer it keeps.
const STACK: usize = 512 * 1024;
/// Between two tries when accepting fails.
const BACK_OFF: Duration = Duration::from_millis(50);
/// For the request of a client that is turned away: the answer looks as it asks for, and it must have
/// been read lest it resets the answer.
const LAST_LOOK: Duration = Duration::from_millis(5);
/// After so long without a client the loop turns all the same, to show that it does.
const TURN: Duration = Duration::from_secs(5);
/// Between two warnings.
const QUIET: Duration = Duration::from_secs(10);

pub struct Acceptor {
    listener: Listener,
    shared: Arc<Shared>,
    /// A descriptor to give up when there are no more, so that clients can be told.
    reserve: Option<File>,
    last_warning: Option<Instant>,
    heartbeat: Arc<Heartbeat>,
}

impl Acceptor {
    pub fn new(
        listener: Listener,
        shared: Arc<Shared>,
        heartbeat: Arc<Heartbeat>,
    ) -> io::Result<Acceptor> {
        // A client may leave between being reported and being accepted.
        ioctl_fionbio(&listener, true)?;
        // std asks for a queue of 128; beyond it a client of a burst waits a second for its next try.
        listen(&listener, BACKLOG)?;
        let reserve = spare_descriptor();
        Ok(Acceptor { listener, shared, reserve, last_warning: None, heartbeat })
    }

    /// Accepts until the front is stopped.
    pub fn run(mut self) {
        while self.await_client() {
            match self.listener.accept() {
                Ok((socket, peer)) => self.welcome(Arc::new(socket), peer),
                Err(error) => match error.kind() {
                    ErrorKind::WouldBlock | ErrorKind::ConnectionAborted => {}
                    _ => self.get_over(&error),
                },
            }
        }
        self.heartbeat.rest();
    }

    fn await_client(&self) -> bool {
        let mut fds = [PollFd::new(&self.listener, PollFlags::IN), self.shared.stop.poll_fd()];
        self.heartbeat.beat(TURN);
        wait(&mut fds, Some(Instant::now() + TURN));
        fds[1].revents().is_empty()
    }

    fn welcome(&mut self, socket: Arc<ClientSocket>, peer: String) {
        let Some(slot) = Slot::take(&self.shared) else {
            let limit = self.shared.limits.connections;
            return self.turn_away(&socket, format!("all {limit} connections are in use"));
        };
        let connection = Connection::new(socket.clone(), peer, self.shared.clone(), slot);
        let thread = thread::Builder::new().name("client".to_owned()).stack_size(STACK);
        if let Err(error) = thread.spawn(|| connection.serve()) {
            self.turn_away(&socket, format!("no thread can be started ({error})"));
        }
    }

    /// Tells a client at once that it cannot be served.
    fn turn_away(&mut self, socket: &ClientSocket, why: String) {
        self.warn(&why);
        self.shared.gate.note_turned_away();
        let error = Error::Overloaded(why);
        let look = self.last_look(socket);
        let refusal = refusal(&error, &look, &new_request_id(), true, false);
        let _ = socket.write(&refusal);
        socket.end_writing();
    }

    /// How the answer to a client that is turned away is to look, if its request is there.
    fn last_look(&self, socket: &ClientSocket) -> Look {
        let limits = &self.shared.limits;
        let mut request = Vec::with_capacity(limits.head_bytes);
        let _ = socket.read_by(&mut request, Instant::now() + LAST_LOOK, &self.shared.stop);
        let end = Scan::default().find_end(&request, limits).ok().flatten();
        let head = end.and_then(|end| Head::parse(&request[..end], limits).ok());
        head.map_or_else(Look::default, |head| self.shared.gate.look(&head))
    }

    /// Gets over an error: with the reserve descriptor one client can be told, else it is time that
    /// helps.
    fn get_over(&mut self, error: &io::Error) {
        self.reserve = None;
        match self.listener.accept() {
            Ok((socket, _)) => self.turn_away(&socket, format!("cannot accept ({error})")),
            Err(_) => {
                self.warn(&format!("cannot accept ({error})"));
                wait(&mut [self.shared.stop.poll_fd()], Some(Instant::now() + BACK_OFF));
            }
        }
        self.reserve = spare_descriptor();
    }

    /// Warns, though not about every client.
    fn warn(&mut self, what: &str) {
        if self.last_warning.is_none_or(|at| at.elapsed() > QUIET) {
            warn!("clients are turned away: {what}");
            self.last_warning = Some(Instant::now());
        }
    }
}

fn spare_descriptor() -> Option<File> {
    File::open("/dev/null").ok()
}
