//! Ports: one socket for each shard and address, so that the kernel spreads the clients.

use std::io;
use std::net::{SocketAddr, TcpListener};

use tidegate_base::Protocol;

use crate::registry::AppError;
use crate::settings::{AppSettings, ListenerSettings};
use crate::{Bound, GatewayError};

/// Ports of an app, or shared ones.
#[derive(Debug)]
pub(crate) struct Listening {
    /// What each shard gets.
    pub sockets: Vec<Vec<(ListenerSettings, TcpListener)>>,
    pub bound: Vec<Bound>,
}

/// Listens on every address of an app.
pub(crate) fn listen(app: &AppSettings, shards: usize) -> Result<Listening, AppError> {
    let mut sockets: Vec<_> = (0..shards).map(|_| Vec::new()).collect();
    let mut bound = Vec::new();
    for listener in &app.listeners {
        let refused = |error| AppError::Listen { app: app.name.clone(), address: listener.address, error };
        let address = bind_all(listener, &mut sockets).map_err(refused)?;
        bound.push(Bound {
            app: Some(app.name.clone()),
            protocol: listener.protocol,
            address,
            web: app.web.is_some() && listener.protocol == Protocol::Ws,
        });
    }
    Ok(Listening { sockets, bound })
}

/// Listens on ports that apps share.
pub(crate) fn listen_shared(
    listeners: &[ListenerSettings],
    shards: usize,
) -> Result<Listening, GatewayError> {
    let mut sockets: Vec<_> = (0..shards).map(|_| Vec::new()).collect();
    let mut bound = Vec::new();
    for listener in listeners {
        let (address, protocol) = (listener.address, listener.protocol);
        if protocol != Protocol::Ws {
            return Err(GatewayError::NotShared { address, protocol });
        }
        let refused = |error| GatewayError::Listen { address, error };
        let address = bind_all(listener, &mut sockets).map_err(refused)?;
        bound.push(Bound { app: None, protocol, address, web: false });
    }
    Ok(Listening { sockets, bound })
}

/// One socket more for each shard. Returns the address, with the port that was really taken.
fn bind_all(
    listener: &ListenerSettings,
    sockets: &mut [Vec<(ListenerSettings, TcpListener)>],
) -> io::Result<SocketAddr> {
    let mut address = listener.address;
    for of_shard in sockets {
        let socket = bind(address)?;
        address = socket.local_addr()?;
        of_shard.push((listener.clone(), socket));
    }
    Ok(address)
}

fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    const BACKLOG: i32 = 4096;
    use socket2::{Domain, Socket, Type};
    let socket = Socket::new(Domain::for_address(address), Type::STREAM.nonblocking(), None)?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}
