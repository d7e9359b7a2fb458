//! A PID 1 that notes what it is told and says what a test wants, and a machine that notes what is
//! done to it.

use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use image_layout::cluster::{Cluster, State};
use image_layout::status::{ClusterPhase, Outcome, Problem, Stage, StateStatus};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, socketpair};
use tokio::io::unix::AsyncFd;

use crate::node::Place;
use crate::node::cluster::files::{Facts, LaidDown};
use crate::node::cluster::machine::Machine;
use crate::node::cluster::screens::Failure;
use crate::node::state::Prepared;
use crate::node::status::Reports;
use crate::node::words::{Listener, Words};
use crate::report::{K3sState, Order, PACKET_BYTES, Report, Sender, Word};

/// How long anything in these tests may take; far more than it does.
const BOUND: Duration = Duration::from_secs(60);

pub(super) struct Pid1 {
    channel: AsyncFd<OwnedFd>,
    pub(super) said: Vec<Report>,
}

impl Pid1 {
    /// PID 1, and the two ends of the channel as the node process has them.
    #[allow(unsafe_code)]
    pub(super) fn new() -> (Pid1, Reports, Words) {
        let (parent, child) = socketpair(
            AddressFamily::UNIX,
            SocketType::SEQPACKET,
            SocketFlags::CLOEXEC | SocketFlags::NONBLOCK,
            None,
        )
        .unwrap();
        let sender = Sender::over(child);
        let (listener, words) = Listener::new(sender.listen().unwrap());
        tokio::spawn(listener.run());
        let pid1 = Pid1 {
            // SAFETY: an OwnedFd owns its one descriptor.
            channel: unsafe { AsyncFd::register(parent) }.unwrap(),
            said: Vec::new(),
        };
        (pid1, Reports::new(sender), words)
    }

    pub(super) fn say(&self, word: &Word) {
        let packet = serde_json::to_vec(word).unwrap();
        rustix::net::send(self.channel.get_ref(), &packet, SendFlags::NOSIGNAL).unwrap();
    }

    pub(super) fn k3s(&self, running: bool, ready: bool, ends: u32) {
        self.say(&Word::K3s(K3sState {
            running,
            ready,
            ends,
            how: if ends > 0 { "exit code 1" } else { "" }.to_owned(),
            pause: if running { 0 } else { 5 },
            tail: "level=fatal msg=\"something\"\n".to_owned(),
        }));
    }

    /// The next report.
    pub(super) async fn hear(&mut self) -> Report {
        let mut packet = vec![0; PACKET_BYTES];
        let receive = async {
            loop {
                let mut ready = self.channel.readable().await.unwrap();
                let received = ready.try_io(|channel| {
                    let flags = RecvFlags::empty();
                    let (length, _) = rustix::net::recv(channel.get_ref(), &mut packet[..], flags)?;
                    Ok(length)
                });
                if let Ok(received) = received {
                    break received.unwrap();
                }
            }
        };
        let length = tokio::time::timeout(BOUND, receive)
            .await
            .unwrap_or_else(|_| panic!("nothing more is said; so far {:#?}", self.said));
        let report: Report = serde_json::from_slice(&packet[..length]).unwrap();
        self.said.push(report.clone());
        report
    }

    /// What is said up to the first report that `wanted` finds something in.
    pub(super) async fn until<T>(&mut self, wanted: impl Fn(&Report) -> Option<T>) -> T {
        loop {
            let report = self.hear().await;
            if let Some(found) = wanted(&report) {
                return found;
            }
        }
    }

    pub(super) async fn end(&mut self, of: Stage) -> (Outcome, String, Option<Problem>) {
        self.until(|report| match report {
            Report::End {
                stage,
                outcome,
                detail,
                problem,
            } if *stage == of => Some((*outcome, detail.clone(), problem.clone())),
            _ => None,
        })
        .await
    }

    pub(super) async fn order(&mut self) -> Order {
        self.until(|report| match report {
            Report::K3s(order) => Some(*order),
            _ => None,
        })
        .await
    }

    pub(super) async fn notice(&mut self, beginning: &str) -> String {
        self.until(|report| match report {
            Report::Notice(text) if text.starts_with(beginning) => Some(text.clone()),
            _ => None,
        })
        .await
    }

    pub(super) async fn progress(&mut self, part: &str) -> String {
        self.until(|report| match report {
            Report::Progress(text) if text.contains(part) => Some(text.clone()),
            _ => None,
        })
        .await
    }

    pub(super) async fn phase(&mut self, phase: ClusterPhase) {
        self.until(|report| match report {
            Report::Cluster(status) if status.phase == phase => Some(()),
            _ => None,
        })
        .await;
    }
}

/// A machine that notes what is done to it.
#[derive(Debug, Default)]
pub(super) struct Noted {
    pub(super) clock: Option<u64>,
    pub(super) laid_down: Vec<(String, String, Option<String>)>,
    /// How often the place for the data is refused yet.
    pub(super) refusals: u32,
}

#[derive(Debug)]
pub(super) struct FakeMachine {
    pub(super) noted: Arc<Mutex<Noted>>,
    pub(super) server: Option<String>,
    pub(super) data_dir: PathBuf,
}

impl FakeMachine {
    pub(super) fn new(server: Option<String>, data_dir: &Path) -> FakeMachine {
        FakeMachine {
            noted: Arc::default(),
            server,
            data_dir: data_dir.to_owned(),
        }
    }
}

impl Machine for FakeMachine {
    fn prepare(&self, _: &Place, state: &State, _: &Reports) -> Result<Prepared, Failure> {
        let mut noted = self.noted.lock().unwrap();
        if noted.refusals > 0 {
            noted.refusals -= 1;
            return Err(Failure::new(
                "no disk",
                "There is no such disk.",
                "Put it in.",
            ));
        }
        Ok(Prepared {
            status: StateStatus::default(),
            detail: format!("disk {:?}", state.disk),
            notices: vec![],
        })
    }

    fn lay_down(&self, _: &Place, facts: &Facts) -> Result<LaidDown, Failure> {
        let what = (
            facts.name.clone(),
            format!("{} {}", facts.interface, facts.address),
            facts.server.clone(),
        );
        self.noted.lock().unwrap().laid_down.push(what);
        Ok(LaidDown {
            in_place: true,
            notices: vec!["laid down".to_owned()],
            data_dir: self.data_dir.clone(),
        })
    }

    fn server(&self, _: &Cluster) -> Result<String, Failure> {
        self.server
            .clone()
            .ok_or_else(|| Failure::new("no server", "No server.", "Name one."))
    }

    fn diagnose(&self, tail: &str) -> Option<Problem> {
        tail.contains("something").then(|| Problem {
            what: "It misses something.".to_owned(),
            mend: "Give it something.".to_owned(),
        })
    }

    fn set_clock(&self, time: u64) -> io::Result<()> {
        self.noted.lock().unwrap().clock = Some(time);
        Ok(())
    }
}
