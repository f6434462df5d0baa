//! What requests are answered with: models, LangFast, what is stored, and who may ask.

use std::sync::Arc;

use super::models_in_use::ModelsInUse;
use super::peers::Peers;
use crate::completions::Completions;
use crate::config::FittedLimits;
use crate::observe::vitals::Vitals;
use crate::server::access::Access;
use crate::stored::{Lanes, Store};

/// The parts from which answers are made.
pub struct Service {
    /// The models.
    pub models: ModelsInUse,
    /// True if models that are shut down are listed, too.
    pub all_models: bool,
    /// Calls to models.
    pub completions: Completions,
    /// The access rules: keys, hosts and origins.
    pub access: Access,
    /// The server's counters.
    pub vitals: Arc<Vitals>,
    /// The responses that are stored.
    pub stored: Arc<Store>,
    /// The newest responses of each WebSocket, which only that WebSocket can continue.
    pub lanes: Arc<Lanes>,
    /// The other instances, which store responses of their own.
    pub peers: Peers,
    /// True if `/metrics` needs no key.
    pub open_metrics: bool,
    /// The limits, for the status page.
    pub limits: FittedLimits,
}
