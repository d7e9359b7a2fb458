//! Times and counts of connections, of a registry that listens: what is wired, not what could be.
//!
//! Time stands still but for what a test lets pass. Addresses that are not loopback's, which is not
//! counted, are in a network of the test's own: that needs root and `ip` (package iproute2).

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use image_layout::Digest;
use serde_json::json;
use socket2::{Domain, Socket, Type};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

use super::layout::Layout;
use super::state::Registry;
use super::status::StatusSource;
use super::{connections, limits, listen};

/// Something that is to happen has happened by then, in real time.
const BOUND: Duration = Duration::from_secs(20);
/// Something that is not to happen would have happened by then.
const SILENCE: Duration = Duration::from_millis(200);
/// Bytes of a blob that fits into no socket's buffers.
const HUGE: u64 = 64 << 20;

/// A registry over a haul with one blob of [`HUGE`] bytes, and that blob's path.
fn registry(dir: &Path) -> (Arc<Registry>, String) {
    let write = |digest: &Digest, bytes: &[u8]| {
        let path = dir.join(digest.blob_path());
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, bytes).unwrap();
        path
    };
    // nobody compares it with its digest here
    let blob = Digest::sha256_of(b"huge");
    let file = write(&blob, b"");
    let file = std::fs::File::options().write(true).open(file);
    file.and_then(|file| file.set_len(HUGE)).unwrap();
    let layer = json!({"mediaType": "a/b", "digest": blob, "size": HUGE});
    let config = Digest::sha256_of(b"{}");
    write(&config, b"{}");
    let config = json!({"mediaType": "a/b", "digest": config, "size": 2});
    let manifest = json!({"schemaVersion": 2, "config": config, "layers": [layer]}).to_string();
    let digest = Digest::sha256_of(manifest.as_bytes());
    write(&digest, manifest.as_bytes());
    let index = json!({"manifests": [{"mediaType": "a/b", "digest": digest,
        "size": manifest.len(), "annotations": {
            "io.containerd.image.name": "a.test/app:1",
            "org.opencontainers.image.ref.name": "app:1"}}]});
    std::fs::write(dir.join("index.json"), index.to_string()).unwrap();
    let layout = Layout::open(dir).unwrap();
    let (registry, _) = Registry::over(layout, StatusSource::Own(Box::default())).unwrap();
    (Arc::new(registry), format!("/v2/a.test/app/blobs/{blob}"))
}

/// A registry that listens.
struct Served {
    at: SocketAddr,
    blob: String,
    end: watch::Sender<bool>,
    task: JoinHandle<()>,
    _dir: tempfile::TempDir,
}

fn serve(address: Ipv4Addr) -> Served {
    let dir = tempfile::tempdir().unwrap();
    let (registry, blob) = registry(dir.path());
    let listener = listen::listen((address, 0).into()).unwrap();
    let at = listener.local_addr().unwrap();
    let (end, ended) = watch::channel(false);
    let task = tokio::spawn(connections::serve(listener, registry, ended));
    Served {
        at,
        blob,
        end,
        task,
        _dir: dir,
    }
}

impl Served {
    async fn ends(self) {
        self.end.send(true).unwrap();
        self.task.await.unwrap();
    }
}

/// What blocks is done beside the runtime. While it is done time that was stopped stands still.
async fn beside<T: Send + 'static>(what: impl FnOnce() -> T + Send + 'static) -> T {
    tokio::task::spawn_blocking(what).await.unwrap()
}

/// Time that passes only by [`Clock::pass`]: tokio lets a stopped one jump to the next timer when
/// nothing is to be done, but not while something blocks beside the runtime.
struct Clock {
    _holds: mpsc::Sender<()>,
}

impl Clock {
    fn stop() -> Clock {
        tokio::time::pause();
        let (holds, mut held) = mpsc::channel(1);
        tokio::task::spawn_blocking(move || held.blocking_recv());
        Clock { _holds: holds }
    }

    /// Second by second, with a moment after each for what it wakes.
    async fn pass(&self, seconds: u64) {
        for _ in 0..seconds {
            tokio::time::advance(Duration::from_secs(1)).await;
            beside(|| std::thread::sleep(Duration::from_millis(5))).await;
        }
    }
}

/// A client at an address of this machine.
fn connect(from: IpAddr, to: SocketAddr) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.set_reuse_address(true).unwrap();
    // what it does not take fills the server's side soon
    socket.set_recv_buffer_size(64 << 10).unwrap();
    socket.bind(&SocketAddr::from((from, 0)).into()).unwrap();
    socket.connect(&to.into()).unwrap();
    socket.set_read_timeout(Some(BOUND)).unwrap();
    socket.into()
}

fn ask(mut client: &TcpStream, path: &str) {
    let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n");
    client.write_all(request.as_bytes()).unwrap();
}

/// What a client gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Got {
    /// The beginning of an answer.
    Answer,
    /// That there is no room.
    Refusal,
    /// Nothing yet; the connection is open.
    Silence,
    /// The connection's end.
    End,
}

/// Waits for something to come for a while.
fn got(mut client: &TcpStream, time: Duration) -> Got {
    client.set_read_timeout(Some(time)).unwrap();
    let mut bytes = [0; 4096];
    let read = client.read(&mut bytes);
    client.set_read_timeout(Some(BOUND)).unwrap();
    match read {
        Ok(0) => Got::End,
        Ok(read) => {
            let status = String::from_utf8_lossy(&bytes[..read.min(12)]).into_owned();
            match status.as_str() {
                "HTTP/1.1 200" => Got::Answer,
                "HTTP/1.1 503" => Got::Refusal,
                other => panic!("{other}"),
            }
        }
        Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => Got::Silence,
        Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => Got::End,
        Err(error) => panic!("{error}"),
    }
}

/// Whether an answer comes.
fn answered(client: &TcpStream) -> bool {
    ask(client, "/v2/");
    got(client, BOUND) == Got::Answer
}

/// Bytes until the connection's end; an error is one.
fn rest(mut client: &TcpStream) -> u64 {
    let mut piece = vec![0; 1 << 20];
    let mut read = 0;
    while let Ok(more @ 1..) = client.read(&mut piece) {
        read += more as u64;
    }
    read
}

const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

#[tokio::test]
async fn an_answer_that_nobody_takes_ends_after_the_stall_time_and_not_before() {
    let served = serve(Ipv4Addr::LOCALHOST);
    let clock = Clock::stop();
    let (at, blob) = (served.at, served.blob.clone());
    let (soon, late) = beside(move || {
        let [soon, late] = [(); 2].map(|()| connect(LOOPBACK, at));
        for client in [&soon, &late] {
            let mut client: &TcpStream = client;
            write!(
                client,
                "GET {blob} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
            )
            .unwrap();
            assert_eq!(got(client, BOUND), Got::Answer);
        }
        // until the kernel takes no more
        std::thread::sleep(SILENCE);
        (soon, late)
    })
    .await;
    let seconds = limits::STALL_TIME.as_secs();
    clock.pass(seconds - 5).await;
    let read = beside(move || rest(&soon)).await;
    assert!(read >= HUGE - 4096, "{read}: it was given up too soon");
    // a busy machine may have begun to count late
    clock.pass(seconds).await;
    let read = beside(move || rest(&late)).await;
    assert!(read < HUGE - 4096, "it was waited for");
    served.ends().await;
}

#[tokio::test]
async fn a_connection_without_a_request_ends_after_the_idle_time_and_not_before() {
    let served = serve(Ipv4Addr::LOCALHOST);
    let clock = Clock::stop();
    let at = served.at;
    let clients = beside(move || {
        let [fresh, used, half] = [(); 3].map(|()| connect(LOOPBACK, at));
        assert!(answered(&used));
        (&half).write_all(b"GET /v2/ HTT").unwrap();
        std::thread::sleep(SILENCE);
        [fresh, used, half]
    })
    .await;
    let (header, idle) = (limits::HEADER_TIME.as_secs(), limits::IDLE_TIME.as_secs());
    let look = async |clients: [TcpStream; 3], expected: [Got; 3]| {
        beside(move || {
            for (client, expected) in clients.iter().zip(expected) {
                let time = if expected == Got::End { BOUND } else { SILENCE };
                assert_eq!(got(client, time), expected);
            }
            clients
        })
        .await
    };
    clock.pass(header - 2).await;
    let clients = look(clients, [Got::Silence; 3]).await;
    // a busy machine may have begun to count late
    clock.pass(header).await;
    let clients = look(clients, [Got::Silence, Got::Silence, Got::End]).await;
    clock.pass(idle - 2 * header - 3).await;
    let clients = look(clients, [Got::Silence, Got::Silence, Got::End]).await;
    clock.pass(idle).await;
    look(clients, [Got::End; 3]).await;
    served.ends().await;
}

/// Runs a test in a network where this machine has the addresses 192.0.2.1 to 192.0.2.30.
fn in_a_network(test: impl AsyncFnOnce() + Send + 'static) {
    let thread = std::thread::spawn(|| {
        let needs = "root and the package iproute2 are needed";
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).expect(needs);
        let script =
            "ip link set lo up; for i in $(seq 30); do ip address add 192.0.2.$i/32 dev lo; done";
        let up = Command::new("sh").args(["-ec", script]).status();
        assert!(up.unwrap().success(), "{needs}");
        // clients and server are one process here
        let resource = rustix::process::Resource::Nofile;
        let mut limit = rustix::process::getrlimit(resource);
        limit.current = limit.maximum;
        rustix::process::setrlimit(resource, limit).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build();
        runtime.unwrap().block_on(test());
    });
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}

/// The nth of the network's addresses.
fn address(nth: usize) -> IpAddr {
    Ipv4Addr::new(192, 0, 2, u8::try_from(nth).unwrap()).into()
}

#[test]
fn one_machine_has_64_connections_of_a_registry_and_its_next_one_is_refused() {
    in_a_network(async || {
        let served = serve(Ipv4Addr::UNSPECIFIED);
        let port = served.at.port();
        beside(move || {
            let server = SocketAddr::new(address(1), port);
            let open = |from| connect(from, server);
            assert_eq!(limits::CONNECTIONS_PER_ADDRESS, 64);
            let mut clients: Vec<_> = (0..64).map(|_| open(address(2))).collect();
            assert!(clients.iter().all(answered));
            let refused = open(address(2));
            ask(&refused, "/v2/");
            assert_eq!(got(&refused, BOUND), Got::Refusal);
            // one that says nothing is closed
            assert_eq!(got(&open(address(2)), BOUND), Got::End);
            // others are answered, and so is this machine, as often as it likes
            assert!(answered(&open(address(3))));
            let own: Vec<_> = (0..65)
                .map(|_| connect(LOOPBACK, SocketAddr::new(LOOPBACK, port)))
                .collect();
            assert!(own.iter().all(answered));
            drop(clients.pop());
            let deadline = std::time::Instant::now() + BOUND;
            loop {
                let again = open(address(2));
                if answered(&again) {
                    break;
                }
                assert!(std::time::Instant::now() < deadline, "its place is lost");
            }
        })
        .await;
        served.ends().await;
    });
}

#[test]
fn a_registry_answers_512_connections_and_the_nodes_own_and_has_512_more_wait() {
    in_a_network(async || {
        let served = serve(Ipv4Addr::UNSPECIFIED);
        let (port, blob) = (served.at.port(), served.blob.clone());
        beside(move || {
            let server = SocketAddr::new(address(1), port);
            let open = |from| connect(from, server);
            // one that idles would end for whoever waits
            let busy = |client: &TcpStream| {
                ask(client, &blob);
                got(client, BOUND) == Got::Answer
            };
            let of = |addresses: std::ops::Range<usize>| -> Vec<TcpStream> {
                addresses
                    .flat_map(|nth| (0..64).map(move |_| address(nth)))
                    .map(open)
                    .collect()
            };
            let mut served = of(2..10);
            assert_eq!(served.len(), 512);
            assert!(served.iter().all(busy));
            let waits = open(address(10));
            ask(&waits, &blob);
            assert_eq!(got(&waits, SILENCE), Got::Silence);
            // pods of this node start whatever others do
            let own = || connect(LOOPBACK, SocketAddr::new(LOOPBACK, port));
            let mut nodes: Vec<_> = (0..limits::NODE_CONNECTIONS).map(|_| own()).collect();
            assert!(nodes.iter().all(busy));
            let one_too_many = own();
            ask(&one_too_many, &blob);
            assert_eq!(got(&one_too_many, SILENCE), Got::Silence);
            drop(served.pop());
            assert_eq!(got(&waits, BOUND), Got::Answer);
            drop(nodes.pop());
            assert_eq!(got(&one_too_many, BOUND), Got::Answer);

            // those who wait are counted, too: further ones are refused
            let waiting = of(11..19);
            assert_eq!(waiting.len(), limits::CONNECTIONS_AHEAD);
            let beyond = open(address(20));
            ask(&beyond, "/v2/");
            assert_eq!(got(&beyond, BOUND), Got::Refusal);
            assert_eq!(got(&waiting[511], SILENCE), Got::Silence);
            drop((served, waits));
            assert!(waiting.iter().all(answered));
        })
        .await;
        served.ends().await;
    });
}

#[test]
fn connections_that_say_nothing_make_room_after_the_time_for_headers() {
    in_a_network(async || {
        let served = serve(Ipv4Addr::UNSPECIFIED);
        let server = SocketAddr::new(address(1), served.at.port());
        let clock = Clock::stop();
        let (silent, waits) = beside(move || {
            let silent: Vec<_> = (0..limits::CONNECTIONS)
                .map(|nth| connect(address(2 + nth / 64), server))
                .collect();
            let waits = connect(address(10), server);
            ask(&waits, "/v2/");
            assert_eq!(got(&waits, SILENCE), Got::Silence);
            (silent, waits)
        })
        .await;
        assert!(limits::HEADER_TIME < limits::TURN_TIME);
        clock.pass(limits::HEADER_TIME.as_secs() + 2).await;
        beside(move || {
            assert_eq!(got(&waits, BOUND), Got::Answer);
            drop(silent);
        })
        .await;
        served.ends().await;
    });
}
