//! An access token that LangFast takes for one of the future: it is good, and LangFast accepts the same one
//! a moment later (known of PostgREST before 14.18, which is wrong about the time after an idle spell).

use std::thread::sleep;
use std::time::{Duration, Instant};

use super::unwanted::Unwanted;
use crate::error::Error;
use crate::error::meaning::Meaning;
use crate::net::transport::LOOK;

/// Pauses before a token is tried again. Together they are shorter than a client's patience.
const PAUSES: [Duration; 3] =
    [Duration::from_millis(300), Duration::from_secs(1), Duration::from_secs(2)];

/// Makes an attempt, and makes it again after a moment as long as LangFast takes its token for one of the
/// future.
///
/// # Errors
/// The last attempt's error, or the one that `unwanted` returns.
pub fn once_valid<T>(
    unwanted: &Unwanted,
    mut attempt: impl FnMut() -> Result<T, Error>,
) -> Result<T, Error> {
    for moment in PAUSES {
        match attempt() {
            Err(error) if error.meaning() == Some(Meaning::IssuedInFuture) => {
                log::debug!("{}, the same token again in a moment", error.headline());
                pause(moment, unwanted)?;
            }
            other => return other,
        }
    }
    attempt()
}

fn pause(moment: Duration, unwanted: &Unwanted) -> Result<(), Error> {
    let until = Instant::now() + moment;
    loop {
        if let Some(why) = unwanted() {
            return Err(why);
        }
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(());
        }
        sleep(left.min(LOOK));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::{Failure, Step};
    use crate::langfast::wanted_always;
    use std::sync::Arc;

    fn not_yet() -> Error {
        Error::upstream(Step::Connect, Failure::Refused("JWT issued at future".to_owned()))
    }

    #[test]
    fn the_attempts_end_with_the_first_that_meets_something_else() {
        let mut attempts = 0;
        let second = once_valid(&wanted_always(), || {
            attempts += 1;
            if attempts == 1 { Err(not_yet()) } else { Ok(attempts) }
        });
        assert_eq!(second, Ok(2));
        let other = Error::Internal("x".to_owned());
        assert_eq!(once_valid(&wanted_always(), || Err::<(), _>(other.clone())), Err(other));
    }

    #[test]
    fn who_is_not_waited_for_any_more_ends_the_wait() {
        let unwanted: Unwanted = Arc::new(|| Some(Error::ClientGone));
        let mut attempts = 0;
        let gone = once_valid(&unwanted, || {
            attempts += 1;
            Err::<(), _>(not_yet())
        });
        assert_eq!((gone, attempts), (Err(Error::ClientGone), 1));
    }
}
