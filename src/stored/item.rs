//! The parts of conversations, which the answers of one conversation share, and the bytes that they take.

use std::sync::{Arc, OnceLock};

use super::page::Place;
use crate::sync::atomic::{AtomicUsize, Ordering};

/// Bytes of an item besides its text: itself, and its places in the indexes.
const ITEM: usize = 250;

/// A part of a conversation: a message, a call, or a call's output.
pub struct Item {
    /// Its id.
    pub id: String,
    /// The item as a JSON object.
    pub json: Box<str>,
    /// Its place on disk, once it is written.
    pub(super) place: OnceLock<Place>,
    _cost: Cost,
}

impl Item {
    /// Creates an item, and adds its bytes to `cost`.
    pub(super) fn new(id: String, json: String, mut cost: Cost) -> Item {
        cost.add(size(&id, &json));
        Item { id, json: json.into(), place: OnceLock::new(), _cost: cost }
    }
}

/// Returns the bytes that an item takes.
pub(super) fn size(id: &str, json: &str) -> usize {
    ITEM + json.len() + 2 * id.len()
}

/// A share of the store's bytes, which is given back when it is dropped.
pub(super) struct Cost {
    all: Arc<AtomicUsize>,
    bytes: usize,
}

impl Cost {
    /// Creates a share of 0 bytes in the sum `all`.
    pub fn of(all: &Arc<AtomicUsize>) -> Cost {
        Cost { all: all.clone(), bytes: 0 }
    }

    /// Adds bytes to this share.
    pub fn add(&mut self, more: usize) {
        self.all.fetch_add(more, Ordering::Relaxed);
        self.bytes += more;
    }

    /// Returns the bytes of this share.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Sets the bytes of this share.
    pub fn set(&mut self, bytes: usize) {
        self.all.fetch_sub(self.bytes, Ordering::Relaxed);
        self.bytes = 0;
        self.add(bytes);
    }
}

impl Drop for Cost {
    fn drop(&mut self) {
        self.set(0);
    }
}
