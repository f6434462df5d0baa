//! The socket served by a Socket.IO library: what a client meets when all is well.

use std::fmt::{self, Display, Formatter};
use std::sync::Arc;

use serde_json::Value;
use socketioxide::extract::{SocketRef, TryData};
use socketioxide::handler::ConnectHandler;
use socketioxide::layer::SocketIoLayer;
use socketioxide::{SocketIo, TransportType};
use uuid::Uuid;

use super::accounts::BadToken;
use super::state::{Outlet, Shared};

/// How many packets may wait for a slow client before a run waits too.
const QUEUE: usize = 4096;

/// The layer that answers `/socket.io/`.
pub fn layer(shared: &Arc<Shared>) -> SocketIoLayer {
    let (layer, io) = SocketIo::builder()
        .transports([TransportType::Websocket])
        .ping_interval(shared.settings.ping_interval)
        .ping_timeout(shared.settings.ping_timeout)
        .max_buffer_size(QUEUE)
        .build_layer();
    let for_admission = shared.clone();
    let for_connection = shared.clone();
    let admit =
        move |TryData(auth): TryData<Value>| admit(&for_admission, auth.ok().as_ref()).map(drop);
    let connect = move |socket: SocketRef, TryData(auth): TryData<Value>| {
        if let Ok(user) = user_of(&for_connection, auth.ok().as_ref()) {
            connected(&for_connection, user, socket);
        }
    };
    io.ns("/", connect.with(admit));
    layer
}

/// Why a CONNECT is refused: the message of the `44` packet.
#[derive(Debug)]
pub struct Refusal(String);

impl Display for Refusal {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// Checks a CONNECT, `40{"token":…}`: whose it is, or why it is refused.
pub fn admit(shared: &Shared, auth: Option<&Value>) -> Result<Uuid, Refusal> {
    if let Some(message) = shared.update(|state| state.faults.next_refusal()) {
        return Err(Refusal(message));
    }
    let user = user_of(shared, auth)?;
    shared.update(|state| state.expect_socket(user));
    Ok(user)
}

/// Whose token a CONNECT carries.
fn user_of(shared: &Shared, auth: Option<&Value>) -> Result<Uuid, Refusal> {
    let token = auth.and_then(|auth| auth["token"].as_str());
    let token = token.ok_or_else(|| Refusal("no token".to_owned()))?;
    shared.state().accounts.check_access_token(token).map_err(|bad| {
        Refusal(match bad {
            BadToken::Invalid => "invalid token".to_owned(),
            BadToken::Expired => "jwt expired".to_owned(),
        })
    })
}

/// Puts a socket where the events of its user's runs go, until it ends.
fn connected(shared: &Arc<Shared>, user: Uuid, socket: SocketRef) {
    let id = Uuid::new_v4();
    let for_end = shared.clone();
    socket.on_disconnect(move || for_end.update(|state| state.remove_socket(user, id)));
    shared.update(|state| state.add_socket(user, id, Outlet::Library(socket)));
}
