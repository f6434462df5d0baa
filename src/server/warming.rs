//! Prepares the way to LangFast at the start, so that the first requests need not wait for it.

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use super::Service;
use crate::chat::models::shutdowns::Day;

/// The pause behind the first failed try, which each further one doubles, and the longest one.
const PAUSES: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(300));

/// Signs in, makes the prompt and connects the socket, in a thread of its own. A failed try is repeated after
/// growing pauses, until one succeeds or a request has connected the socket.
pub fn warm_up(service: &Arc<Service>) {
    let service = service.clone();
    let work = move || go_on(&service);
    if let Err(error) = thread::Builder::new().name("warm-up".to_owned()).spawn(work) {
        log::warn!("could not warm up: no thread ({error})");
    }
}

fn go_on(service: &Service) {
    let langfast = &service.completions.langfast;
    for pause in pauses() {
        let models = service.models.current();
        let Some(model) = models.preferred(&Day::today()) else { return };
        match langfast.warm_up(&model.slug) {
            Ok(()) => return log::debug!("warm: signed in and connected"),
            Err(error) => {
                log::warn!("could not warm up: {error} (next try in {} s)", pause.as_secs());
            }
        }
        thread::sleep(pause);
        if langfast.runner().is_connected() {
            return;
        }
    }
}

fn pauses() -> impl Iterator<Item = Duration> {
    std::iter::successors(Some(PAUSES.0), |pause| Some((*pause * 2).min(PAUSES.1)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_pause_is_twice_the_one_before_up_to_a_longest() {
        let pauses: Vec<u64> = pauses().take(12).map(|pause| pause.as_secs()).collect();
        assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300, 300]);
    }
}
