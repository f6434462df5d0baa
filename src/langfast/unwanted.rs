//! Giving up work that nobody waits for any more.

use std::sync::Arc;

use crate::error::Error;

/// Returns the reason to give up once nobody wants the result: its client has gone, or the server ends.
/// Every wait that takes one calls it repeatedly.
pub type Unwanted = Arc<dyn Fn() -> Option<Error> + Send + Sync>;

/// An [`Unwanted`] that never gives up.
pub fn wanted_always() -> Unwanted {
    Arc::new(|| None)
}

/// An [`Unwanted`] that gives up only when the server ends, for results that other clients can use too.
pub fn wanted_by_others(unwanted: &Unwanted) -> Unwanted {
    let unwanted = unwanted.clone();
    Arc::new(move || unwanted().filter(|why| *why == Error::ShuttingDown))
}
