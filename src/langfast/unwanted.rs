//! Giving up work that nobody waits for any more.

use std::sync::Arc;

use crate::error::Error;

/// Returns the reason to give up once nobody wants the result: its client has gone, or the server ends.
/// Every wait that takes one asks it again and again.
pub type Unwanted = Arc<dyn Fn() -> Option<Error> + Send + Sync>;

/// Never gives up.
pub fn wanted_always() -> Unwanted {
    Arc::new(|| None)
}

/// Gives up only when the server ends: for what is of use to other clients too.
pub fn wanted_by_others(unwanted: &Unwanted) -> Unwanted {
    let unwanted = unwanted.clone();
    Arc::new(move || unwanted().filter(|why| *why == Error::ShuttingDown))
}
