//! Driving a client over one card.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::io;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::client::{Action, Client};
use super::request::Asker;
use super::{CLIENT_PORT, Lease, PACKET_BYTES, SERVER_PORT, frame};
use crate::node::network::links::Card;
use crate::node::network::packet_socket::{EtherType, PacketSocket};

/// Failures of the socket in a row after which the client ends; the card is gone by then.
const FAILURES: u32 = 16;

/// What a client tells.
#[derive(Debug)]
pub(in crate::node::network) enum Event {
    /// The lease holds, anew or still.
    Bound(Box<Lease>),
    /// The address must no longer be used; why.
    Lost(String),
    /// Something a person should know.
    Say(String),
    /// The client ended: its card can't be used.
    Ended(io::Error),
}

/// What a client is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::node::network) enum Command {
    /// The cable is in again.
    LinkUp,
}

/// A running client; dropping it ends it.
#[derive(Debug)]
pub(in crate::node::network) struct Running {
    task: tokio::task::JoinHandle<()>,
    commands: mpsc::Sender<Command>,
}

impl Running {
    /// Tells the client something. One that has enough to do already may miss it.
    pub(in crate::node::network) fn tell(&self, command: Command) {
        let _ = self.commands.try_send(command);
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Starts a client for `card`. With `held`, a lease of an earlier run, it asks whether it may
/// keep that. Events come with the card's index.
pub(in crate::node::network) fn start(
    card: &Card,
    host_name: &str,
    held: Option<Lease>,
    events: mpsc::Sender<(u32, Event)>,
) -> Running {
    let (commands, received) = mpsc::channel(4);
    let asker = Asker {
        mac: card.mac,
        host_name: host_name.to_owned(),
    };
    let (index, name) = (card.index, card.name.clone());
    let task = tokio::spawn(async move {
        let ended = drive(index, &name, asker, held, &events, received).await;
        if let Err(error) = ended {
            let _ = events.send((index, Event::Ended(error))).await;
        }
    });
    Running { task, commands }
}

async fn drive(
    index: u32,
    name: &str,
    asker: Asker,
    held: Option<Lease>,
    events: &mpsc::Sender<(u32, Event)>,
    mut commands: mpsc::Receiver<Command>,
) -> io::Result<()> {
    let socket = PacketSocket::open(index, EtherType::DhcpAnswers)?;
    let mut client = Client::new(asker, held, uptime(), random);
    let mut sender = Sender {
        name,
        unicast: None,
    };
    let mut buffer = [0; PACKET_BYTES];
    let mut failures = 0;
    let mut actions = client.tick(uptime());
    loop {
        for action in actions.drain(..) {
            let event = match action {
                Action::Broadcast { from, packet } => {
                    // a cable that is out, a full queue: the question is repeated anyway
                    if let Err(error) = broadcast(&socket, from, &packet) {
                        tracing::debug!("{name}: asking every DHCP server: {error}");
                    }
                    continue;
                }
                Action::Unicast { from, to, packet } => {
                    if let Err(error) = sender.unicast(from, to, &packet) {
                        tracing::debug!("{name}: asking the DHCP server {to}: {error}");
                    }
                    continue;
                }
                Action::Bound(lease) => Event::Bound(Box::new(lease)),
                Action::Lost(why) => Event::Lost(why),
                Action::Say(what) => Event::Say(what),
            };
            if events.send((index, event)).await.is_err() {
                return Ok(());
            }
        }
        let wake = Instant::now() + client.deadline().saturating_sub(uptime());
        actions = tokio::select! {
            received = socket.receive(&mut buffer) => match received {
                Ok(length) => {
                    failures = 0;
                    let payload = buffer.get(..length).and_then(frame::unwrap);
                    payload.map_or_else(Vec::new, |payload| client.packet(payload, uptime()))
                }
                Err(error) => {
                    failures += 1;
                    if failures > FAILURES {
                        return Err(error);
                    }
                    Vec::new()
                }
            },
            () = tokio::time::sleep_until(wake) => client.tick(uptime()),
            command = commands.recv() => match command {
                Some(Command::LinkUp) => client.link_up(uptime()),
                None => return Ok(()),
            },
        };
    }
}

fn broadcast(socket: &PacketSocket, from: Ipv4Addr, payload: &[u8]) -> io::Result<()> {
    let packet = frame::wrap(from, payload)
        .ok_or_else(|| io::Error::other("the question is too long for a packet"))?;
    socket.broadcast(&packet)
}

/// The kernel's own UDP for questions to one server, which may be behind a router. Answers are
/// read from the packet socket like all others; this one only keeps the port open.
struct Sender<'a> {
    name: &'a str,
    unicast: Option<(Ipv4Addr, Socket)>,
}

impl Sender<'_> {
    fn unicast(&mut self, from: Ipv4Addr, to: Ipv4Addr, payload: &[u8]) -> io::Result<()> {
        let socket = match self.unicast.take() {
            Some((address, socket)) if address == from => socket,
            _ => self.open(from)?,
        };
        let sent = socket.send_to(payload, &SocketAddrV4::new(to, SERVER_PORT).into());
        self.unicast = Some((from, socket));
        sent.map(drop)
    }

    fn open(&self, from: Ipv4Addr) -> io::Result<Socket> {
        let socket = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP))?;
        socket.set_nonblocking(true)?;
        socket.set_reuse_address(true)?;
        socket.bind_device(Some(self.name.as_bytes()))?;
        // nobody reads here: the kernel drops what does not fit
        socket.set_recv_buffer_size(0)?;
        socket.bind(&SocketAddrV4::new(from, CLIENT_PORT).into())?;
        Ok(socket)
    }
}

/// Time since the kernel started; a restart of this process does not change it.
pub(in crate::node::network) fn uptime() -> Duration {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    Duration::try_from(now).unwrap_or_default()
}

/// A number that others on the cable can't guess: std's hash keys come from the system.
fn random() -> u32 {
    let bits = RandomState::new().build_hasher().finish();
    u32::try_from(bits >> 32).unwrap_or_default()
}
