//! The program in the demonstration's and the tests' images.
//!
//! Without arguments it prints two sentences and ends. As `serve` it answers every HTTP request
//! with them, which is what charts run. `front` and `database` are an application of two pods that
//! have to find each other, and `pause` is what holds a pod together.

use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream, ToSocketAddrs};
use std::process::ExitCode;
use std::time::Duration;

const GREETING: &str = "Hello from Docker!\nThis image was served from a Haulboot stick.\n";
/// What the database has.
const ROW: &str = "A row of the database.\n";
/// How long a peer may take to send its request, and to take the answer.
const PATIENCE: Duration = Duration::from_secs(5);
/// No answer of the database is longer.
const ROW_BYTES: u64 = 4096;

const USAGE: &str = "usage: hello
       hello serve [ADDRESS:PORT]               HTTP, the greeting
       hello database [ADDRESS:PORT]            one row to everybody who connects
       hello front [ADDRESS:PORT] HOST:PORT     HTTP, the row of the database there
       hello pause                              nothing, until it is killed";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let outcome = match words.as_slice() {
        // As k3s is started: a k3s that ends at once and means well.
        [] | ["server" | "agent", ..] => io::stdout().write_all(GREETING.as_bytes()),
        ["serve"] => serve("0.0.0.0:8080", greet),
        ["serve", address] => serve(address, greet),
        ["database"] => serve("0.0.0.0:3306", hand_out),
        ["database", address] => serve(address, hand_out),
        ["front", database] => serve("0.0.0.0:8080", |client| front(client, database)),
        ["front", address, database] => serve(address, |client| front(client, database)),
        ["pause"] => loop {
            std::thread::park();
        },
        _ => {
            eprintln!("{USAGE}");
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
fn serve(address: &str, answer: impl Fn(TcpStream) -> io::Result<()>) -> io::Result<()> {
    let listener = TcpListener::bind(address)?;
    println!("listening on {}", listener.local_addr()?);
    for client in listener.incoming() {
        let served = client.and_then(|client| {
            client.set_read_timeout(Some(PATIENCE))?;
            client.set_write_timeout(Some(PATIENCE))?;
            answer(client)
        });
        if let Err(why) = served {
            eprintln!("a client was lost: {why}");
        }
    }
    Ok(())
}

fn greet(client: TcpStream) -> io::Result<()> {
    http(client, "200 OK", GREETING)
}

fn hand_out(mut client: TcpStream) -> io::Result<()> {
    client.write_all(ROW.as_bytes())
}

fn front(client: TcpStream, database: &str) -> io::Result<()> {
    match ask(database) {
        Ok(row) => http(client, "200 OK", &row),
        Err(why) => http(
            client,
            "503 Service Unavailable",
            &format!("The database at {database} does not answer: {why}\n"),
        ),
    }
}

/// What the database says, at the first of its addresses that answers. The name is asked for
/// every time, as it may come up after this.
fn ask(database: &str) -> io::Result<String> {
    let mut last = io::Error::from(io::ErrorKind::NotFound);
    for address in database.to_socket_addrs()? {
        match TcpStream::connect_timeout(&address, PATIENCE) {
            Ok(connection) => {
                connection.set_read_timeout(Some(PATIENCE))?;
                let mut row = String::new();
                connection.take(ROW_BYTES).read_to_string(&mut row)?;
                return Ok(row);
            }
            Err(why) => last = why,
        }
    }
    Err(last)
}

fn http(mut client: TcpStream, status: &str, body: &str) -> io::Result<()> {
    // The answer does not depend on the request; one read takes it off the wire.
    let mut request = [0; 4096];
    let _ = client.read(&mut request)?;
    write!(
        client,
        "HTTP/1.1 {status}\r\nContent-Type: text/plain\r\nContent-Length: {}\r\n\
         Connection: close\r\n\r\n{body}",
        body.len()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A server on a free port, and the port.
    fn started(answer: impl Fn(TcpStream) -> io::Result<()> + Send + 'static) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        std::thread::spawn(move || answer(listener.accept().unwrap().0));
        address
    }

    fn get(address: &str) -> String {
        let mut connection = TcpStream::connect(address).unwrap();
        connection
            .write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            .unwrap();
        let mut answer = String::new();
        connection.read_to_string(&mut answer).unwrap();
        answer
    }

    #[test]
    fn the_front_answers_with_the_databases_row() {
        let database = started(hand_out);
        let front = started(move |client| front(client, &database));
        let answer = get(&front);
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
        assert!(answer.ends_with(ROW), "{answer}");
    }

    #[test]
    fn a_front_without_its_database_says_so() {
        let gone = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = gone.local_addr().unwrap().to_string();
        drop(gone);
        let front = started(move |client| front(client, &address));
        let answer = get(&front);
        assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
    }
}
