//! An exchange: one request and its answer, as the front and the worker share it.

use std::any::Any;
use std::collections::HashMap;
use std::ops::Deref;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use crossbeam_channel::{Receiver, Sender, bounded};

use super::Head;

/// What the front has seen of a client during its exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientNews {
    /// The client will send nothing more. It may still read, or it may have gone: writing something
    /// finds out. Told once.
    HalfClosed,
}

/// One request and its answer.
pub struct Exchange {
    /// What the header `X-Exchange` of the private request holds.
    pub id: u64,
    /// The client's head.
    pub head: Head,
    /// The client's own `x-request-id` if it is sane, else a new one.
    pub request_id: String,
    /// The client's address, for logs; `unix` if it came over a Unix socket.
    pub peer: String,
    /// When the request was let in: its head had been read, its body had not.
    pub accepted: Instant,
    _permit: Box<dyn Any + Send + Sync>,
    news: Receiver<ClientNews>,
    finished: AtomicBool,
    last: AtomicBool,
    gone: AtomicBool,
}

impl Exchange {
    /// Whether the client has gone, for those who cannot wait for its news.
    pub fn client_has_gone(&self) -> bool {
        self.gone.load(Ordering::Acquire)
    }

    /// News of the client. Disconnected means that it has gone: nobody reads the answer any more.
    pub fn client(&self) -> &Receiver<ClientNews> {
        &self.news
    }

    /// Asks the front to end the client's connection behind this answer, whatever its head says.
    pub fn end_connection(&self) {
        self.last.store(true, Ordering::Release);
    }

    /// Tells the front that the answer is complete. To be called after its last byte has been
    /// flushed and before the private connection is closed; an answer that ends without it is cut.
    pub fn finish(&self) {
        self.finished.store(true, Ordering::Release);
    }
}

/// The exchanges that wait for their worker.
#[derive(Default)]
pub struct Exchanges {
    last_id: AtomicU64,
    waiting: Mutex<HashMap<u64, Arc<Exchange>>>,
}

impl Exchanges {
    /// Hands over the exchange that a private request names in `X-Exchange`; each only once. None if
    /// its client has left already: then there is nothing to do. To be taken before anything is
    /// answered: what is answered without comes from tiny_http, not from a worker, and is not relayed.
    pub fn take(&self, id: u64) -> Option<Arc<Exchange>> {
        self.waiting().remove(&id)
    }

    /// Opens an exchange; a worker can take it as soon as it is told the id.
    pub(super) fn open(
        self: &Arc<Exchanges>,
        head: Head,
        request_id: String,
        peer: String,
        accepted: Instant,
        permit: Box<dyn Any + Send + Sync>,
    ) -> OpenExchange {
        let id = self.last_id.fetch_add(1, Ordering::Relaxed) + 1;
        let (client, news) = bounded(1);
        let exchange = Arc::new(Exchange {
            id,
            head,
            request_id,
            peer,
            accepted,
            _permit: permit,
            news,
            finished: AtomicBool::new(false),
            last: AtomicBool::new(false),
            gone: AtomicBool::new(false),
        });
        self.waiting().insert(id, exchange.clone());
        OpenExchange { exchanges: self.clone(), exchange, client }
    }

    fn waiting(&self) -> MutexGuard<'_, HashMap<u64, Arc<Exchange>>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The front's side of an exchange. Dropping it tells the worker that the client has gone.
pub struct OpenExchange {
    exchanges: Arc<Exchanges>,
    exchange: Arc<Exchange>,
    client: Sender<ClientNews>,
}

impl OpenExchange {
    /// Whether a worker has the exchange.
    pub fn is_taken(&self) -> bool {
        !self.exchanges.waiting().contains_key(&self.exchange.id)
    }

    /// Whether the connection can serve another request behind this answer.
    pub fn keeps_alive(&self) -> bool {
        self.exchange.head.keep_alive && !self.exchange.last.load(Ordering::Acquire)
    }

    /// Whether the worker has said that the answer is complete.
    pub fn is_finished(&self) -> bool {
        self.exchange.finished.load(Ordering::Acquire)
    }

    /// Passes news on. Never waits: there is only one piece of news, and the channel has room for it.
    pub fn tell(&self, news: ClientNews) {
        let _ = self.client.try_send(news);
    }
}

impl Deref for OpenExchange {
    type Target = Exchange;

    fn deref(&self) -> &Exchange {
        &self.exchange
    }
}

impl Drop for OpenExchange {
    fn drop(&mut self) {
        self.exchange.gone.store(true, Ordering::Release);
        self.exchanges.waiting().remove(&self.exchange.id);
    }
}
