//! A socket that listens.

use std::net::SocketAddr;

use tokio::net::{TcpListener, TcpSocket};

use super::limits;

/// Listens on an address, with a queue for more connections than are served at once. What the
/// standard library asks for, 128, overflows when a cluster's nodes all begin to pull, and whoever
/// is beyond it finds its connection reset. Inside a runtime.
pub(super) fn listen(address: SocketAddr) -> std::io::Result<TcpListener> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => TcpSocket::new_v6()?,
    };
    // a registry that was killed leaves connections behind, and its port must be free at once
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(limits::WAITING_CONNECTIONS)
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, TcpStream};

    use super::*;

    #[tokio::test]
    async fn a_burst_of_connections_waits_and_none_is_reset() {
        const BURST: usize = 300;
        let listener = listen((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
        let address = listener.local_addr().unwrap();
        // nobody accepts yet
        let clients: Vec<_> = (0..BURST)
            .map(|_| TcpStream::connect_timeout(&address, std::time::Duration::from_secs(5)))
            .collect::<Result<_, _>>()
            .unwrap();
        for _ in 0..BURST {
            listener.accept().await.unwrap();
        }
        drop(clients);
    }
}
