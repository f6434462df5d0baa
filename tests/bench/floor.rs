//! What the events of a long answer cost whoever has to read them: at the least, and without thought.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::thread;

use langfast2api::langfast::run::{Notice, Progress};
use langfast2api::langfast::socketio::{self, EnginePacket, SocketPacket};
use serde_json::Value;

use super::process::thread_cpu_micros;

/// Socket.IO's event packets of a text that grows, as the simulator sends them.
pub struct LongAnswer {
    /// JSON string content, with the escapes of ordinary prose.
    text: String,
    events: usize,
}

impl LongAnswer {
    pub fn new(bytes: usize, events: usize) -> LongAnswer {
        let prose = r#"The harbour wakes before the town does.\n\"Not today,\" says the skipper. "#;
        LongAnswer { text: prose.repeat(bytes / prose.len() + 1)[..bytes].to_owned(), events }
    }

    fn packet(&self, number: usize) -> String {
        let mut end = self.text.len() * number / self.events;
        // Not in the middle of an escape.
        end -= usize::from(self.text[..end].ends_with('\\'));
        let content = &self.text[..end];
        format!(
            r#"42["execution:chunk",{{"executionId":"00000000-0000-0000-0000-000000000000","status":"in_progress","finish_reason":null,"content":"{content}"}}]"#
        )
    }

    /// CPU time, in microseconds, of reading all packets from a TCP connection and doing with each
    /// what `each` does; it is given the packet before too.
    pub fn cpu_micros(&self, mut each: impl FnMut(&[u8], &[u8])) -> f64 {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut from = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (mut to, _) = listener.accept().unwrap();
        thread::scope(|scope| {
            scope.spawn(move || {
                for number in 1..=self.events {
                    let packet = self.packet(number);
                    to.write_all(&(packet.len() as u64).to_ne_bytes()).unwrap();
                    to.write_all(packet.as_bytes()).unwrap();
                }
            });
            let began = thread_cpu_micros();
            let (mut packet, mut before) = (Vec::new(), Vec::new());
            for _ in 0..self.events {
                read_packet(&mut from, &mut packet);
                each(&packet, &before);
                std::mem::swap(&mut packet, &mut before);
            }
            thread_cpu_micros() - began
        })
    }

    /// CPU time, in microseconds, of doing with each packet what `each` does, where it is in memory
    /// already.
    pub fn cpu_micros_in_memory(&self, mut each: impl FnMut(&str)) -> f64 {
        let mut spent = 0.0;
        for number in 1..=self.events {
            let packet = self.packet(number);
            let began = thread_cpu_micros();
            each(&packet);
            spent += thread_cpu_micros() - began;
        }
        spent
    }
}

/// Takes packets as the gateway's runner does.
pub fn take(progress: &mut Progress, packet: &str) {
    if std::hint::black_box(progress.grow(packet.as_bytes(), |_| true)).is_some() {
        return;
    }
    let Ok(EnginePacket::Message(SocketPacket::Event { name, arguments })) =
        socketio::parse(packet)
    else {
        panic!("an event");
    };
    let notice = Notice::read(&name, arguments).expect("an event of a run");
    std::hint::black_box(progress.take(packet, &notice));
}

fn read_packet(from: &mut TcpStream, packet: &mut Vec<u8>) {
    let mut length = [0; 8];
    from.read_exact(&mut length).unwrap();
    packet.resize(u64::from_ne_bytes(length) as usize, 0);
    from.read_exact(packet).unwrap();
}

/// Compares a packet with the one before: the least that finds out what is new.
pub fn compare(packet: &[u8], before: &[u8]) {
    let same = before.len().saturating_sub("\"}]".len());
    assert!(packet[..same] == before[..same]);
}

/// Reads the whole event as JSON.
pub fn parse(packet: &[u8], _: &[u8]) {
    let event: Value = serde_json::from_slice(&packet["42".len()..]).expect("JSON");
    std::hint::black_box(event);
}
