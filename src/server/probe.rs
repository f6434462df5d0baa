//! The doctor's probe: a short stream of evenly spaced events that costs nothing. Their arrival
//! times show the doctor whether something on the way holds answers back.

use std::io;
use std::thread::sleep;
use std::time::Duration;

use crate::http::answer::Answer;
use crate::http::sse::EventStream;

/// The path of the stream below the server's root.
pub const PATH: &str = "/v1/doctor/stream";
/// Number of events in the stream.
pub const EVENTS: usize = 5;
/// Time between two events.
pub const INTERVAL: Duration = Duration::from_millis(100);

/// Answers with the stream.
///
/// # Errors
/// The client has gone.
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

/// True if the arrival times show that the stream was held back: its pieces came in one burst, or
/// in two if a beginning was let through. A delay in the network joins only a few of the five.
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
