//! The load balancer of agents on 127.0.0.1:6444 (k3s: pkg/agent/loadbalancer).

use std::net::{TcpListener, TcpStream};

use anyhow::Result;

use crate::{http, report};

/// k3s's load balancer: what connects to the listener is handed on to the server.
pub fn forward(listener: TcpListener, server: String) -> Result<()> {
    std::thread::Builder::new()
        .name("balancer".to_owned())
        .spawn(move || {
            for client in listener.incoming().flatten() {
                let server = server.clone();
                let handed = std::thread::Builder::new().spawn(move || {
                    // a client sees the end of its connection, which is all it needs to know
                    if let Err(error) = hand_on(client, &server) {
                        report::log(format!("Proxy error: {error:#}"));
                    }
                });
                if let Err(error) = handed {
                    report::log(format!("a connection is refused: {error}"));
                }
            }
        })?;
    Ok(())
}

fn hand_on(client: TcpStream, server: &str) -> Result<()> {
    let server = http::connect(server)?;
    http::bound(&client)?;
    let (mut from, mut to) = (client.try_clone()?, server.try_clone()?);
    let back = std::thread::Builder::new().spawn(move || {
        let (mut from, mut to) = (server, client);
        let _ = std::io::copy(&mut from, &mut to);
        let _ = to.shutdown(std::net::Shutdown::Both);
        let _ = from.shutdown(std::net::Shutdown::Both);
    })?;
    let _ = std::io::copy(&mut from, &mut to);
    let _ = to.shutdown(std::net::Shutdown::Write);
    let _ = back.join();
    Ok(())
}
