//! One socket, read to its end: events are passed on, pings are answered, and the offset of the last
//! event is remembered.
//!
//! Enters: a joined socket. Leaves: events, to [`Leases`](super::Leases); and why the socket ended. It
//! may not know how sockets are connected, nor when another one is.

use std::io;
use std::str;
use std::time::Duration;

use tungstenite::Message;

use super::Shared;
use crate::error::clean;
use crate::langfast::acks::Acks;
use crate::langfast::join::Had;
use crate::langfast::leases::Instruction;
use crate::langfast::run::{Notice, with_object};
use crate::langfast::runner_socket::{Received, RunnerSocket};
use crate::langfast::socketio::{self, BadPacket, EnginePacket, EventFrame, SocketPacket};
use crate::observe::vitals::Loss;

/// Longest time of one message, as a multiple of the allowed silence: a message may come in pieces.
const LONGEST_MESSAGE: u32 = 4;

/// The state of a lost socket that the next one needs to ask for the events in between.
#[derive(Debug)]
pub(super) struct Past {
    /// The user whose events it brought.
    pub(super) user_id: String,
    /// The session's id for connection state recovery.
    pub(super) pid: String,
    /// The offset of the last event; empty before the first one.
    pub(super) offset: String,
}

impl Past {
    /// The place up to which events have come; `None` if the session is another user's, or no event has
    /// come yet.
    pub(super) fn had_by(&self, user_id: &str) -> Option<Had<'_>> {
        let is_had = self.user_id == user_id && !self.offset.is_empty();
        is_had.then_some((self.pid.as_str(), self.offset.as_str()))
    }
}

/// A socket that is being read.
pub(super) struct Reading {
    pub(super) socket: RunnerSocket,
    pub(super) acks: Acks,
    /// Kept for the next socket; `None` without connection state recovery.
    pub(super) past: Option<Past>,
}

/// Why a socket ended.
#[derive(Debug, PartialEq)]
pub(super) enum SocketEnd {
    /// Closed by us, for this reason.
    Unwanted(&'static str),
    /// Lost: the cause, and its description.
    Lost(Loss, String),
}

impl Shared {
    /// Reads the socket until it is lost or nobody needs it, and returns why it ended.
    pub(super) fn read(&self, reading: &mut Reading, silence: Duration) -> SocketEnd {
        loop {
            self.heartbeat.beat(silence * LONGEST_MESSAGE);
            match self.leases.look() {
                Instruction::Close(why) => return SocketEnd::Unwanted(why),
                Instruction::ReadOn(next_look) => {
                    if let Some(watch) = reading.socket.get_mut().watch() {
                        watch.look_at(next_look);
                    }
                }
            }
            let taken = match reading.socket.read() {
                Ok(Received::Text(frame)) => {
                    let taken = self.take(reading, &frame);
                    reading.socket.reuse(frame);
                    taken
                }
                Ok(Received::Other(Message::Close(_))) => Err(closed()),
                Ok(Received::Other(_)) => Ok(()),
                Err(error) => read_on_or_end(error),
            };
            if let Err(end) = taken {
                return end;
            }
        }
    }

    /// Handles a frame: passes an event on, answers a ping, or returns the end that the server
    /// announces. A frame that is no UTF-8 ends the socket, as RFC 6455 (8.1) has it.
    pub(super) fn take(&self, reading: &mut Reading, frame: &[u8]) -> Result<(), SocketEnd> {
        match socketio::event_frame(frame) {
            Some(event) => {
                if !self.leases.grow(event.body) {
                    self.take_event(checked(frame)?, checked(event.body)?);
                }
                reading.note(&event).map_err(broken)
            }
            None => self.take_other(reading, checked(frame)?),
        }
    }

    /// Passes an event on, which is `body` in its frame.
    fn take_event(&self, frame: &str, body: &str) {
        match socketio::parse(frame) {
            Ok(EnginePacket::Message(SocketPacket::Event { name, arguments })) => {
                let mut inside = String::new();
                let arguments = with_object(arguments, &mut inside);
                for notice in Notice::all(&name, arguments) {
                    self.leases.dispatch(body, &notice);
                }
            }
            Ok(_) => {}
            Err(error) => note_bad(frame, &error),
        }
    }

    /// Handles a frame that is no event.
    fn take_other(&self, reading: &mut Reading, frame: &str) -> Result<(), SocketEnd> {
        match socketio::parse(frame) {
            Ok(EnginePacket::Ping(data)) => {
                reading.socket.send(Message::text(socketio::pong(data))).map_err(broken)?;
                reading.acks.send(&mut reading.socket).map_err(broken)
            }
            // An event that names its namespace.
            Ok(EnginePacket::Message(SocketPacket::Event { .. })) => {
                self.take_event(frame, frame);
                reading.note_offset(None);
                Ok(())
            }
            Ok(EnginePacket::Close | EnginePacket::Message(SocketPacket::Disconnect)) => {
                Err(closed())
            }
            Ok(_) => Ok(()),
            Err(error) => {
                note_bad(frame, &error);
                Ok(())
            }
        }
    }
}

impl Reading {
    /// Remembers the offset of the last event. Behind one without, nothing can be asked for: what came
    /// before it would come twice.
    fn note_offset(&mut self, offset: Option<&str>) {
        if let Some(past) = &mut self.past {
            offset.unwrap_or_default().clone_into(&mut past.offset);
        }
    }

    /// Remembers an event's offset, and acknowledges it if it wants that.
    fn note(&mut self, event: &EventFrame<'_>) -> Result<(), tungstenite::Error> {
        self.note_offset(event.offset);
        match event.ack {
            Some(id) => self.acks.add(id, &mut self.socket),
            None => Ok(()),
        }
    }
}

fn note_bad(frame: &str, error: &BadPacket) {
    log::debug!("runner: a frame of {} bytes: {}", frame.len(), error.0);
}

/// Tells apart a failed read that ends the socket from one that was only interrupted, for the thread to
/// ask what to do next (`Ok`).
fn read_on_or_end(error: tungstenite::Error) -> Result<(), SocketEnd> {
    match &error {
        tungstenite::Error::Io(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(()),
        tungstenite::Error::Io(error) if error.kind() == io::ErrorKind::TimedOut => {
            Err(SocketEnd::Lost(Loss::Silent, "no ping in time".to_owned()))
        }
        _ => Err(broken(error)),
    }
}

fn checked(bytes: &[u8]) -> Result<&str, SocketEnd> {
    str::from_utf8(bytes).map_err(|error| broken(error.into()))
}

fn broken(error: tungstenite::Error) -> SocketEnd {
    SocketEnd::Lost(Loss::Broken, clean(&error.to_string()))
}

fn closed() -> SocketEnd {
    SocketEnd::Lost(Loss::Closed, "the server closed it".to_owned())
}
