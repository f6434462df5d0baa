//! Finding the run of a packet without parsing it.

use std::ops::Range;

/// Where the id of a run stands in its packets: so far from their start, or from their end where the
/// text, which grows, stands before it.
#[derive(Clone, Copy)]
pub struct IdPlace {
    from_end: bool,
    distance: usize,
    length: usize,
}

impl IdPlace {
    /// Finds it in a packet with a text at `text`.
    pub fn find(id: &str, packet: &str, text: Range<usize>) -> Option<IdPlace> {
        let length = id.len();
        if let Some(distance) = packet[..text.start].find(id) {
            return Some(IdPlace { from_end: false, distance, length });
        }
        let distance = packet.len() - text.end - packet[text.end..].find(id)?;
        Some(IdPlace { from_end: true, distance, length })
    }

    /// What stands in that place.
    pub fn of(self, packet: &str) -> Option<&str> {
        let start = match self.from_end {
            true => packet.len().checked_sub(self.distance)?,
            false => self.distance,
        };
        packet.get(start..start + self.length)
    }
}
