//! Finding the run of a packet without parsing it.

use std::ops::Range;
use std::str;

/// The position of a run's id in its packets: a distance from their start, or from their end if the
/// text, which grows, comes before the id.
#[derive(Clone, Copy)]
pub struct IdPlace {
    from_end: bool,
    distance: usize,
    length: usize,
}

impl IdPlace {
    /// Finds `id` in a packet whose text is at `text`; `None` if it is not there.
    pub fn find(id: &str, packet: &str, text: Range<usize>) -> Option<IdPlace> {
        let length = id.len();
        if let Some(distance) = packet[..text.start].find(id) {
            return Some(IdPlace { from_end: false, distance, length });
        }
        let distance = packet.len() - text.end - packet[text.end..].find(id)?;
        Some(IdPlace { from_end: true, distance, length })
    }

    /// The part of `packet` at this position; `None` if the packet is too short, or that is no text.
    pub fn of(self, packet: &[u8]) -> Option<&str> {
        let start = match self.from_end {
            true => packet.len().checked_sub(self.distance)?,
            false => self.distance,
        };
        str::from_utf8(packet.get(start..start + self.length)?).ok()
    }
}

/// Whether this has the form of LangFast's ids (known).
pub fn is_uuid(id: &str) -> bool {
    let is_right = |(at, byte): (usize, u8)| match at {
        8 | 13 | 18 | 23 => byte == b'-',
        _ => byte.is_ascii_hexdigit(),
    };
    id.len() == 36 && id.bytes().enumerate().all(is_right)
}
