//! The accept loop, which no error ends.

use std::fs::File;
use std::io::{self, ErrorKind};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use log::warn;
use rustix::event::{PollFd, PollFlags};
use rustix::io::ioctl_fionbio;
use rustix::net::listen;

use super::connection::Connection;
use super::head::{Head, Scan};
use super::refusal::Refusal;
use super::socket::{ClientSocket, wait};
use super::{Listener, Look, Shared, Slot, request_id};
use crate::error::Error;
use crate::observe::heartbeat::Heartbeat;

/// Length of the kernel's queue of clients to accept, capped by `net.core.somaxconn`.
const BACKLOG: i32 = 1024;
/// Stack of a connection's thread, in bytes; about 8 KiB are used. glibc caches up to 40 MiB of
/// ended threads' stacks with the pages they touched: the larger each stack, the fewer it caches.
const STACK: usize = 512 * 1024;
/// Pause between two tries when accepting fails.
const BACK_OFF: Duration = Duration::from_millis(50);
/// Longest wait for the request of a client that is turned away. The refusal takes the form that
/// this request asks for, and unread bytes would reset the connection before the client reads it.
const LAST_LOOK: Duration = Duration::from_millis(5);
/// Longest wait for a client, after which the loop reports its heartbeat again.
const TURN: Duration = Duration::from_secs(5);
/// Least time between two warnings.
const QUIET: Duration = Duration::from_secs(10);

pub struct Acceptor {
    listener: Listener,
    shared: Arc<Shared>,
    /// A spare descriptor, given up when there are no others, so that a client can still be told.
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
        // A client may leave between poll and accept; accept must not block then.
        ioctl_fionbio(&listener, true)?;
        // std asks for a queue of 128; clients of a burst beyond it would wait a second for their
        // next try.
        listen(&listener, BACKLOG)?;
        let reserve = spare_descriptor();
        Ok(Acceptor { listener, shared, reserve, last_warning: None, heartbeat })
    }

    /// Accepts clients until the server is stopped.
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

    /// Sends a client a 503 and ends its connection.
    fn turn_away(&mut self, socket: &ClientSocket, why: String) {
        self.warn(&why);
        self.shared.gate.note_turned_away();
        let error = Error::Overloaded(why);
        let look = self.last_look(socket);
        let refusal = Refusal {
            error: &error,
            look: &look,
            request_id: &request_id::new(),
            has_body: true,
            keeps_alive: false,
        };
        // Who cannot take as little as this at once is not waited for.
        let _ = socket.write(&refusal.bytes());
        socket.end_writing();
    }

    /// Returns the form of the refusal for a client that is turned away; the default one if its
    /// request has not arrived.
    fn last_look(&self, socket: &ClientSocket) -> Look {
        let limits = &self.shared.limits;
        let mut request = Vec::with_capacity(limits.head_bytes);
        let _ = socket.read_by(&mut request, Instant::now() + LAST_LOOK, &self.shared.stop);
        let end = Scan::default().find_end(&request, limits).ok().flatten();
        let head = end.and_then(|end| Head::parse(&request[..end], limits).ok());
        head.map_or_else(Look::default, |head| self.shared.gate.look(&head))
    }

    /// Handles a failed accept. With the spare descriptor one client can be told; if even that
    /// fails, waits.
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

    /// Warns, at most once in [`QUIET`].
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
