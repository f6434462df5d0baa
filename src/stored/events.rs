//! The events of a stream, compressed: an event is kept without the beginning that it shares with the event of
//! the same name before it. Of the 200 bytes of a token's event that leaves about 40.

/// Most names of events in one stream; events of further names are not kept.
const NAMES: usize = 64;

/// The events of one stream.
#[derive(Default)]
pub struct EventLog {
    names: Vec<Box<str>>,
    /// The latest event of each name.
    latest: Vec<Vec<u8>>,
    /// Each event as the number of its name, the length that it shares, the length of the rest, and the rest.
    bytes: Vec<u8>,
}

/// A reader's position in the events of a stream, from their beginning.
#[derive(Default)]
pub struct Cursor {
    offset: usize,
    latest: Vec<Vec<u8>>,
}

/// An event's name and data.
pub type Event = (String, Vec<u8>);

impl EventLog {
    /// Adds an event.
    pub fn push(&mut self, name: &str, data: &[u8]) {
        let Some(at) = self.number_of(name) else { return };
        let latest = &mut self.latest[at];
        let shared = latest.iter().zip(data).take_while(|(a, b)| a == b).count();
        let rest = &data[shared..];
        self.bytes.push(at as u8);
        put_number(&mut self.bytes, shared);
        put_number(&mut self.bytes, rest.len());
        self.bytes.extend_from_slice(rest);
        latest.truncate(shared);
        latest.extend_from_slice(rest);
    }

    /// Returns the number of a name, a new one if need be; `None` if there are too many names.
    fn number_of(&mut self, name: &str) -> Option<usize> {
        if let Some(at) = self.names.iter().position(|known| **known == *name) {
            return Some(at);
        }
        let at = self.names.len();
        (at < NAMES).then(|| {
            self.names.push(name.into());
            self.latest.push(Vec::new());
            at
        })
    }

    /// Returns the next event for a reader; `None` if it has read all.
    pub fn next(&self, cursor: &mut Cursor) -> Option<Event> {
        let at = usize::from(*self.bytes.get(cursor.offset)?);
        cursor.offset += 1;
        let shared = take_number(&self.bytes, &mut cursor.offset);
        let rest = take_number(&self.bytes, &mut cursor.offset);
        cursor.latest.resize_with(self.names.len(), Vec::new);
        let data = &mut cursor.latest[at];
        data.truncate(shared);
        data.extend_from_slice(&self.bytes[cursor.offset..cursor.offset + rest]);
        cursor.offset += rest;
        Some((self.names[at].to_string(), data.clone()))
    }

    /// Returns the bytes that the log takes.
    pub fn size(&self) -> usize {
        let latest = self.latest.iter().map(Vec::capacity).sum::<usize>();
        self.bytes.capacity() + latest + 64 * self.names.len()
    }

    /// Frees what only further events would need: none may follow.
    pub fn end(&mut self) {
        self.latest.iter_mut().for_each(|latest| *latest = Vec::new());
        self.bytes.shrink_to_fit();
    }
}

/// Writes a number, seven bits a byte, the lowest first.
fn put_number(bytes: &mut Vec<u8>, mut number: usize) {
    while number > 127 {
        bytes.push(number as u8 | 128);
        number >>= 7;
    }
    bytes.push(number as u8);
}

/// Reads a number that [`put_number`] has written.
fn take_number(bytes: &[u8], offset: &mut usize) -> usize {
    let mut number = 0;
    for shift in (0..).step_by(7) {
        let byte = bytes[*offset];
        *offset += 1;
        number |= usize::from(byte & 127) << shift;
        if byte < 128 {
            break;
        }
    }
    number
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn events_are_read_as_they_were_added_also_while_more_come(
            events in proptest::collection::vec(("[ab]", "[xy]{0,300}"), 0..20),
        ) {
            let (mut log, mut behind) = (EventLog::default(), Cursor::default());
            for (name, data) in &events {
                log.push(name, data.as_bytes());
                let read = log.next(&mut behind).unwrap();
                prop_assert_eq!(read, (name.clone(), data.clone().into_bytes()));
            }
            log.end();
            prop_assert!(log.next(&mut behind).is_none());
            let mut cursor = Cursor::default();
            let all: Vec<Event> = std::iter::from_fn(|| log.next(&mut cursor)).collect();
            let expected = events.into_iter().map(|(name, data)| (name, data.into_bytes()));
            prop_assert_eq!(all, expected.collect::<Vec<_>>());
        }
    }

    #[test]
    fn a_token_takes_little_more_than_its_text() {
        let mut log = EventLog::default();
        for at in 0..1000 {
            let data = format!(
                r#"{{"type":"delta","place":"{}","delta":"word","sequence_number":{at}}}"#,
                "x".repeat(150)
            );
            log.push("delta", data.as_bytes());
        }
        log.end();
        assert!(log.size() < 40 * 1000, "{}", log.size());
    }
}
