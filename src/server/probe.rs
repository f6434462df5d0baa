//! A short stream of evenly spaced events, which says nothing and costs nothing: by how they arrive,
//! the doctor sees whether something on the way holds answers back.

use std::io;
use std::thread::sleep;
use std::time::Duration;

use crate::http::answer::Answer;
use crate::http::sse::EventStream;

/// Its path below the server's root.
pub const PATH: &str = "/v1/doctor/stream";
/// So many events are sent.
pub const EVENTS: usize = 5;
/// One every so often.
pub const INTERVAL: Duration = Duration::from_millis(100);

/// Answers with the stream.
///
/// # Errors
/// When the client has gone.
pub fn send(answer: &mut Answer) -> io::Result<()> {
    let mut events = EventStream::begin(answer);
    for at in 0..EVENTS {
        if at > 0 {
            sleep(INTERVAL);
        }
        events.event(None, |data| data.extend_from_slice(format!("{{\"event\":{at}}}").as_bytes()));
        events.flush()?;
    }
    events.finish()
}

/// Whether the stream was held back, by when its pieces arrived: then they come in one burst, or in
/// two if a beginning was let through. A network's hiccup joins a few of the five at most.
pub fn was_held_back(arrivals: &[Duration]) -> bool {
    let mut bursts = 0;
    let mut last = None;
    for arrival in arrivals {
        if last.is_none_or(|last| arrival.saturating_sub(last) > INTERVAL / 4) {
            bursts += 1;
        }
        last = Some(*arrival);
    }
    bursts <= EVENTS / 2
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_that_arrive_together_were_held_back() {
        let held_back = |millis: &[u64]| {
            let arrivals = millis.iter().map(|millis| Duration::from_millis(*millis));
            was_held_back(&arrivals.collect::<Vec<_>>())
        };
        assert!(!held_back(&[0, 100, 200, 300, 400]));
        assert!(!held_back(&[0, 0, 210, 215, 290]), "two hiccups");
        assert!(held_back(&[400, 401, 401, 402, 402]));
        assert!(held_back(&[0, 400, 400, 401, 402]), "only its beginning came in time");
        assert!(held_back(&[]));
    }
}
