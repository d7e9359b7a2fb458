//! Local ports for the registry of a virtual machine.

use std::io;
use std::net::{Ipv4Addr, TcpListener};

/// `wanted` if nothing listens there on 127.0.0.1, else a free port.
///
/// Between the answer and its use another program can take the port; QEMU then says so.
///
/// # Errors
/// When no port at all can be had.
pub fn free_port(wanted: u16) -> io::Result<u16> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, wanted))
        .or_else(|_| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)))?;
    Ok(listener.local_addr()?.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_in_use_is_replaced_by_a_free_one() {
        let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = taken.local_addr().unwrap().port();
        let other = free_port(port).unwrap();
        assert_ne!(other, port);
        assert_ne!(other, 0);
    }
}
