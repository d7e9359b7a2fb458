//! The program in the demonstration images.
//!
//! Without arguments it prints two sentences and ends. `hello serve [ADDRESS]` answers every HTTP
//! request with them, which is what the demonstration chart runs in a cluster.

use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::ExitCode;
use std::time::Duration;

const GREETING: &str = "Hello from Docker!\nThis image was served from a Haulboot stick.\n";
/// How long a client may take to send its request, and to take the answer.
const PATIENCE: Duration = Duration::from_secs(5);

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let outcome = match words.as_slice() {
        [] => io::stdout().write_all(GREETING.as_bytes()),
        ["serve"] => serve("0.0.0.0:8080"),
        ["serve", address] => serve(address),
        _ => {
            eprintln!("usage: hello [serve [ADDRESS:PORT]]");
            return ExitCode::from(2);
        }
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("error: {}: {why}", arguments.join(" "));
            ExitCode::FAILURE
        }
    }
}

/// Serves one client after the other until the process is ended.
fn serve(address: &str) -> io::Result<()> {
    let listener = TcpListener::bind(address)?;
    println!("listening on {}", listener.local_addr()?);
    for client in listener.incoming() {
        if let Err(why) = client.and_then(answer) {
            eprintln!("a client was lost: {why}");
        }
    }
    Ok(())
}

fn answer(mut client: TcpStream) -> io::Result<()> {
    client.set_read_timeout(Some(PATIENCE))?;
    client.set_write_timeout(Some(PATIENCE))?;
    // The answer does not depend on the request; one read takes it off the wire.
    let mut request = [0; 4096];
    let _ = client.read(&mut request)?;
    write!(
        client,
        "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {}\r\n\
         Connection: close\r\n\r\n{GREETING}",
        GREETING.len()
    )
}
