//! Keeps the newest response of each lane of a WebSocket: it can be continued on that connection even if it is
//! not stored, and is forgotten with the connection.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use super::{Entry, OwnStore, Owner, Store};
use crate::sync::{Mutex, MutexGuard};

/// Most lanes with a name that a connection may use. Known: OpenAI has the same limit.
pub const MOST: usize = 32;

/// The responses that all connections keep.
pub struct Lanes {
    store: Arc<Store>,
    /// The id of the newest response, once there is one, by connection and name of the lane. The lane without
    /// a name exists as long as its connection does.
    newest: Mutex<BTreeMap<(u64, String), Option<String>>>,
}

/// A lane of a connection: its responses follow each other.
#[derive(Clone)]
pub struct Lane {
    lanes: Arc<Lanes>,
    connection: u64,
    name: String,
}

impl Lanes {
    /// Creates a keeper of responses, which take at most `limit` bytes together and are kept for at most `age`.
    pub fn new(limit: usize, age: Duration) -> Arc<Lanes> {
        Arc::new(Lanes { store: Store::new(limit, age, None), newest: Mutex::default() })
    }

    /// Notes that a connection has begun.
    pub fn begin(&self, connection: u64) {
        self.newest().insert((connection, String::new()), None);
    }

    /// Returns the lane of this name, which may be empty; `None` if the connection has used [`MOST`] others. A
    /// message may outlive its connection: its lane then keeps nothing.
    pub fn enter(self: &Arc<Lanes>, connection: u64, name: &str) -> Option<Lane> {
        let key = (connection, name.to_owned());
        let mut newest = self.newest();
        let of_connection =
            newest.range((connection, String::new())..(connection + 1, String::new()));
        let named = of_connection.filter(|((_, name), _)| !name.is_empty()).count();
        if !newest.contains_key(&key) && !name.is_empty() && named >= MOST {
            return None;
        }
        if newest.contains_key(&(connection, String::new())) {
            newest.entry(key).or_default();
        }
        Some(Lane { lanes: self.clone(), connection, name: name.to_owned() })
    }

    /// Forgets what a connection has kept.
    pub fn forget(&self, connection: u64) {
        let mut newest = self.newest();
        let mut later = newest.split_off(&(connection, String::new()));
        let mut rest = later.split_off(&(connection + 1, String::new()));
        newest.append(&mut rest);
        drop(newest);
        let own = self.own(connection);
        later.into_values().flatten().for_each(|id| drop(own.remove(&id)));
    }

    /// Returns the store that holds the responses of a connection.
    fn own(&self, connection: u64) -> OwnStore {
        self.store.of(Owner(connection))
    }

    fn newest(&self) -> MutexGuard<'_, BTreeMap<(u64, String), Option<String>>> {
        self.newest.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Lane {
    /// Returns the lane's name; empty if it has none.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns the responses that its connection keeps, those of other lanes included, so that a conversation
    /// can go on in several.
    pub fn own(&self) -> OwnStore {
        self.lanes.own(self.connection)
    }

    /// Keeps a response as the lane's newest, and drops the one before it. Does nothing once the connection has
    /// ended.
    pub fn keep(&self, entry: &Arc<Entry>) {
        let mut newest = self.lanes.newest();
        let Some(id) = newest.get_mut(&(self.connection, self.name.clone())) else { return };
        let before = id.replace(entry.id.clone());
        let own = self.own();
        own.keep(entry);
        before.map(|before| own.remove(&before));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stored::{Draft, Outcome};

    fn response(lane: &Lane, id: &str) {
        let entry = lane.own().entry(Draft {
            id: id.to_owned(),
            earlier: Vec::new(),
            input: Vec::new(),
            is_background: false,
            has_events: false,
        });
        entry.set(Outcome::new("", Vec::new(), true));
        lane.keep(&entry);
        lane.own().close(&entry);
    }

    /// With the connections 7 and 8.
    fn lanes() -> Arc<Lanes> {
        let lanes = Lanes::new(1 << 20, Duration::from_secs(60));
        [7, 8].iter().for_each(|connection| lanes.begin(*connection));
        lanes
    }

    #[test]
    fn each_lane_keeps_its_newest_and_all_lanes_of_the_connection_find_it() {
        let lanes = lanes();
        let [one, two] = ["", "two"].map(|name| lanes.enter(7, name).unwrap());
        ["a", "b"].iter().for_each(|id| response(&one, id));
        response(&two, "c");
        let found = |lane: &Lane| ["a", "b", "c"].map(|id| lane.own().find(id).is_some());
        assert_eq!((found(&one), found(&two)), ([false, true, true], [false, true, true]));
        assert_eq!(found(&lanes.enter(8, "").unwrap()), [false; 3]);
    }

    #[test]
    fn with_the_connection_all_of_its_own_is_forgotten_and_nothing_is_kept_for_it_any_more() {
        let lanes = lanes();
        let [gone, stays] = [7, 8].map(|connection| lanes.enter(connection, "x").unwrap());
        response(&gone, "a");
        response(&stays, "b");
        lanes.forget(7);
        response(&gone, "c");
        // A message that is read too late.
        response(&lanes.enter(7, "x").unwrap(), "d");
        assert!(["a", "c", "d"].iter().all(|id| gone.own().find(id).is_none()));
        assert!(stays.own().find("b").is_some());
        lanes.forget(8);
        assert!(lanes.newest().is_empty());
        assert_eq!((lanes.store.count(), lanes.store.bytes()), (0, 0));
    }

    #[test]
    fn a_connection_has_so_many_named_lanes_and_one_without_a_name() {
        let lanes = lanes();
        let names: Vec<String> = (0..MOST).map(|at| format!("lane{at}")).collect();
        assert!(names.iter().all(|name| lanes.enter(7, name).is_some()));
        assert!(lanes.enter(7, "more").is_none() && lanes.enter(7, "lane3").is_some());
        assert!(lanes.enter(7, "").is_some() && lanes.enter(8, "more").is_some());
    }
}
