//! The relay: passes one request on to the private socket, and watches whether its client is still
//! there while a worker answers it.

use rustix::event::{PollFd, PollFlags};
use rustix::io::Errno;

use super::exchange::{ClientNews, End, OpenExchange};
use super::socket::{Signal, Socket, wait};

const LOST: PollFlags = PollFlags::ERR.union(PollFlags::HUP).union(PollFlags::NVAL);

/// What an exchange runs between.
pub struct Relay<'a> {
    pub client: &'a Socket,
    pub backend: &'a Socket,
    pub exchange: &'a OpenExchange,
    /// Ends the exchange when raised.
    pub close: &'a Signal,
}

impl Relay<'_> {
    /// Runs the exchange to its end, which is that of the private connection. Nothing is read from the
    /// client: what it still sends is its next request's.
    pub fn run(self, mut request: Vec<u8>) -> End {
        let mut sent = 0;
        // That the client is lost is reported unasked.
        let mut of_client = PollFlags::RDHUP;
        loop {
            let of_backend = match request.is_empty() {
                true => PollFlags::IN,
                false => PollFlags::IN | PollFlags::OUT,
            };
            let (client, backend) = self.wait(of_client, of_backend);
            if client.intersects(LOST) {
                return End::Gone;
            }
            if client.contains(PollFlags::RDHUP) {
                of_client = PollFlags::empty();
                self.exchange.tell(ClientNews::HalfClosed);
                if !self.exchange.probe() {
                    return End::Gone;
                }
            }
            if backend.contains(PollFlags::OUT) {
                sent += self.pass_on(&request[sent..]);
                if sent == request.len() {
                    // An answer may take minutes, and a request may be large.
                    (request, sent) = (Vec::new(), 0);
                }
            }
            if backend.intersects(PollFlags::IN | LOST) && self.has_ended() {
                return self.exchange.end();
            }
        }
    }

    /// Waits for news, and tells what there is of the client and of the private socket.
    fn wait(&self, of_client: PollFlags, of_backend: PollFlags) -> (PollFlags, PollFlags) {
        let mut fds = [
            PollFd::new(self.client, of_client),
            PollFd::new(self.backend, of_backend),
            self.close.poll_fd(),
        ];
        if !wait(&mut fds, None) || !fds[2].revents().is_empty() {
            return (LOST, PollFlags::empty());
        }
        (fds[0].revents(), fds[1].revents())
    }

    /// Sends what the private socket takes now, and tells how much that was.
    fn pass_on(&self, request: &[u8]) -> usize {
        match self.backend.write(request) {
            Ok(written) => written,
            Err(Errno::AGAIN | Errno::INTR) => 0,
            // The worker reads no further; it may answer all the same.
            Err(_) => request.len(),
        }
    }

    /// Whether the private connection has ended. What tiny_http may say on it of its own, instead of
    /// handing the request to a worker, is nothing for the client.
    fn has_ended(&self) -> bool {
        let mut words = Vec::with_capacity(256);
        !matches!(self.backend.read(&mut words), Err(Errno::AGAIN | Errno::INTR) | Ok(1..))
    }
}
