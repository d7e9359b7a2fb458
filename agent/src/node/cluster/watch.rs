//! k3s runs: it and the Node are watched for as long as the machine does.

use std::convert::Infallible;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::pin::Pin;

use image_layout::paths;
use image_layout::status::{ClusterPhase, Stage};
use tokio::time::{Instant, sleep_until};

use super::ready::{self, Look};
use super::screens::{self, Failure};
use super::stage::Node;
use super::standing::{Act, Own, Standing};
use crate::node::read_bounded;
use crate::report::{K3sState, Order};

/// Bytes of k3s's log that are looked at for its last lines.
const LOG_BYTES: u64 = 4 << 10;

impl Node {
    /// Watches k3s and the Node for as long as the machine runs.
    pub(super) async fn watch(mut self, data_dir: &Path) -> Infallible {
        let pace = self.stages.pace;
        let k3s = self.stages.words.k3s.borrow_and_update().clone();
        let own = self.own();
        let now = Instant::now();
        let mut standing =
            Standing::new(self.name.clone(), self.role, own, pace.patience, k3s, now);
        let mut address = self.stages.network.borrow_and_update().own.clone();
        let mut pause = pace.look.0;
        let (mut look_at, mut tick_at) = (now, now + pace.progress);
        let name = self.name.clone();
        // a server that does not answer keeps nobody from hearing PID 1
        let mut look: Option<Pin<Box<dyn Future<Output = Look>>>> = None;
        loop {
            self.tell(&standing);
            let due = standing.looks() && look.is_none();
            let acts = tokio::select! {
                changed = self.stages.words.k3s.changed() => {
                    if changed.is_err() {
                        return std::future::pending().await;
                    }
                    let k3s = self.stages.words.k3s.borrow_and_update().clone();
                    (pause, look_at) = (pace.look.0, Instant::now());
                    standing.k3s_says(k3s, Instant::now())
                }
                changed = self.stages.network.changed() => {
                    if changed.is_err() {
                        return std::future::pending().await;
                    }
                    self.address_changed(&mut address);
                    continue;
                }
                () = sleep_until(look_at), if due => {
                    look = Some(Box::pin(ready::look(data_dir, &name)));
                    continue;
                }
                seen = async {
                    match look.as_mut() {
                        Some(look) => look.await,
                        None => std::future::pending().await,
                    }
                } => {
                    look = None;
                    let acts = standing.saw(seen, Instant::now());
                    if standing.phase() == ClusterPhase::Ready {
                        pause = pace.look.1;
                    }
                    look_at = Instant::now() + pause;
                    pause = pause.saturating_mul(2).min(pace.look.1);
                    acts
                }
                () = sleep_until(tick_at) => {
                    tick_at = Instant::now() + pace.progress;
                    if let Some(text) = standing.progress(Instant::now()) {
                        self.stages.reports.progress(Stage::Cluster, &text);
                    }
                    standing.tick(Instant::now())
                }
            };
            // first, so that what ends the stage finds the status true already
            self.tell(&standing);
            for act in acts {
                self.act(act, &standing);
            }
        }
    }

    /// By what the Node is told from another machine's.
    fn own(&self) -> Own {
        let read = |path: PathBuf| {
            let bytes = read_bounded(&path, 256).unwrap_or_default();
            String::from_utf8_lossy(&bytes).trim().to_owned()
        };
        Own {
            boot_id: read(self.stages.place.proc.join("sys/kernel/random/boot_id")),
            machine_id: read(self.stages.place.root.join("etc/machine-id")),
        }
    }

    fn tell(&mut self, standing: &Standing) {
        let ends = standing.k3s().ends;
        if (self.status.phase, self.status.ends) != (standing.phase(), ends) {
            self.status.ends = ends;
            self.phase(standing.phase());
        }
    }

    fn act(&self, act: Act, standing: &Standing) {
        let stages = &self.stages;
        let failed = |Failure { detail, problem }| {
            stages.reports.failed(Stage::Cluster, detail, problem);
        };
        match act {
            Act::Notice(text) => stages.reports.notice(text),
            Act::Done => {
                let version = self.k3s.version.as_deref().unwrap_or("of unknown version");
                stages.reports.done(
                    Stage::Cluster,
                    format!("k3s {version} {}, node {} Ready", self.role, self.name),
                );
            }
            Act::Ends => {
                let k3s = standing.k3s();
                failed(screens::ends(k3s, stages.machine.diagnose(&k3s.tail)));
            }
            Act::Another => failed(screens::another(&self.name)),
            Act::Silent => self.silent(standing.k3s()),
            Act::Restart => stages.reports.order(Order::Restart),
        }
    }

    /// A slow machine is no failure; what k3s waits for stands in its log.
    fn silent(&self, k3s: &K3sState) {
        let minutes = self.stages.pace.patience.silent.as_secs() / 60;
        let log = self
            .stages
            .place
            .root
            .join(paths::node::LOGS.trim_start_matches('/'));
        let log = tail(&log.join("k3s.log")).unwrap_or_else(|| k3s.tail.clone());
        let lines = screens::last_lines(&log);
        let lines = match lines.is_empty() {
            true => "it wrote nothing".to_owned(),
            false => format!("its last lines: {}", lines.join(" | ")),
        };
        self.stages.reports.notice(format!(
            "k3s has not said for {minutes} minutes that it is ready; {lines}"
        ));
    }

    fn address_changed(&mut self, before: &mut Option<(Ipv4Addr, String)>) {
        let Some((address, interface)) = self.stages.network.borrow_and_update().own.clone() else {
            return;
        };
        if let Some((old, _)) = before.as_ref().filter(|(old, _)| *old != address) {
            self.stages.reports.notice(format!(
                "this machine's address was {old} when k3s was started and is {address} now; k3s \
                 keeps the old one until the machine is restarted. A fixed `address:` in \
                 cluster.yaml avoids that"
            ));
        }
        *before = Some((address, interface));
    }
}

/// The last bytes of a log.
fn tail(path: &Path) -> Option<String> {
    use std::io::{Read as _, Seek as _, SeekFrom};
    let mut file = std::fs::File::open(path).ok()?;
    let length = file.metadata().ok()?.len();
    let from = length.saturating_sub(LOG_BYTES);
    file.seek(SeekFrom::Start(from)).ok()?;
    let mut bytes = Vec::new();
    file.take(LOG_BYTES).read_to_end(&mut bytes).ok()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}
