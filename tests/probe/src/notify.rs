//! sd_notify(3).

use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::UnixDatagram;

use anyhow::{Context, Result};

/// Says READY=1 to whoever NOTIFY_SOCKET names, as k3s does; nothing without one.
pub fn ready() -> Result<()> {
    let Some(path) = std::env::var_os("NOTIFY_SOCKET") else {
        return Ok(());
    };
    let socket = UnixDatagram::unbound()?;
    match path.as_bytes().strip_prefix(b"@") {
        Some(name) => {
            use std::os::linux::net::SocketAddrExt as _;
            let address = std::os::unix::net::SocketAddr::from_abstract_name(name)?;
            socket.send_to_addr(b"READY=1\n", &address)
        }
        None => socket.send_to(b"READY=1\n", &path),
    }
    .with_context(|| format!("writing to {}", path.display()))?;
    Ok(())
}
