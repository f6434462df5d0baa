//! The TCP side: connections that can be ended from outside, at any moment and without a word.

use std::io;
use std::net::{Shutdown, SocketAddr};
use std::os::fd::AsFd;
use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::extract::connect_info::Connected;
use axum::serve::{IncomingStream, Listener};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::sleep;

use super::state::Shared;

/// How long to wait after a failed `accept`, which mostly means too many open files.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Accepts connections, with TCP_NODELAY, and counts them.
pub struct LinkListener {
    listener: TcpListener,
    shared: Arc<Shared>,
}

impl LinkListener {
    pub fn new(listener: TcpListener, shared: Arc<Shared>) -> Self {
        Self { listener, shared }
    }
}

impl Listener for LinkListener {
    type Io = Connection;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Connection, SocketAddr) {
        loop {
            match self.listener.accept().await {
                Ok((stream, address)) => {
                    // Fails only for a connection that is already gone.
                    let _ = stream.set_nodelay(true);
                    self.shared.update(|state| state.stats.http_connections += 1);
                    return (Connection(Arc::new(stream)), address);
                }
                Err(_) => sleep(ACCEPT_PAUSE).await,
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

/// A handle on a connection, by which others can end it; it does not keep the connection open.
/// Handlers get theirs as `ConnectInfo<Link>`.
#[derive(Clone)]
pub struct Link(Weak<TcpStream>);

impl Link {
    /// Ends the connection: the client reads what is under way, then end of file.
    pub fn cut(&self) {
        if let Some(stream) = self.0.upgrade() {
            shut_down(&stream, Shutdown::Both);
        }
    }

    /// Ends the connection with a TCP reset. Our side only reads its end here; the reset goes out
    /// when the server, seeing that, drops the socket.
    pub fn reset(&self) {
        if let Some(stream) = self.0.upgrade() {
            // Fails only for a connection that is already gone.
            let _ = stream.set_zero_linger();
            shut_down(&stream, Shutdown::Read);
        }
    }

    /// Whether the connection still exists.
    pub fn is_open(&self) -> bool {
        self.0.strong_count() > 0
    }
}

/// tokio shuts a socket down only through its owner, so this goes by a duplicate descriptor. An
/// error means that the connection has ended by itself.
fn shut_down(stream: &TcpStream, how: Shutdown) {
    if let Ok(socket) = stream.as_fd().try_clone_to_owned() {
        let _ = std::net::TcpStream::from(socket).shutdown(how);
    }
}

impl Connected<IncomingStream<'_, LinkListener>> for Link {
    fn connect_info(stream: IncomingStream<'_, LinkListener>) -> Self {
        Self(Arc::downgrade(&stream.io().0))
    }
}

/// A TCP connection as the HTTP server sees it, and its only owner.
pub struct Connection(Arc<TcpStream>);

impl AsyncRead for Connection {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            ready!(self.0.poll_read_ready(cx))?;
            match self.0.try_read(buffer.initialize_unfilled()) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error)),
                Ok(read) => {
                    buffer.advance(read);
                    return Poll::Ready(Ok(()));
                }
            }
        }
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        loop {
            ready!(self.0.poll_write_ready(cx))?;
            match self.0.try_write(bytes) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                result => return Poll::Ready(result),
            }
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        shut_down(&self.0, Shutdown::Write);
        Poll::Ready(Ok(()))
    }
}
