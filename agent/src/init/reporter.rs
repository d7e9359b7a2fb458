//! Everything PID 1 says: consoles, status port, kernel log and status file in one place.

use std::collections::{BTreeMap, VecDeque};
use std::path::Path;

use image_layout::paths::node;
use image_layout::status::{
    ClusterStatus, MissingFirmware, NodeStatus, Outcome, Problem, Stage, StageReport, StateStatus,
    Status, StatusLine,
};

use super::clock::Uptime;
use super::console::Consoles;
use super::kmsg::{self, KmsgWriter, Level, Record};
use super::logs::BoundedLog;
use super::port::StatusPort;
use super::{screen, statusfile};

/// Lines of the kernel's log kept for the failure screen.
const COMPLAINTS: usize = 10;
/// Firmware files named; a driver that asks for ever more does not fill the memory.
const FIRMWARE_FILES: usize = 200;
/// Longest text of one field of a report, in characters.
const FIELD: usize = 2000;

/// What PID 1 says and where.
#[derive(Debug)]
pub(super) struct Reporter {
    kmsg: KmsgWriter,
    /// The consoles; public to the loop, which polls those that lag.
    pub(super) consoles: Consoles,
    /// The status port.
    pub(super) port: StatusPort,
    status: Status,
    changed: bool,
    begun: BTreeMap<Stage, Uptime>,
    problems: BTreeMap<Stage, Problem>,
    /// The problems last shown as a screen.
    shown: BTreeMap<Stage, Problem>,
    complaints: VecDeque<String>,
    /// What the kernel's log named, and what the node process did.
    firmware_of_kernel: Vec<MissingFirmware>,
    firmware_of_node: Vec<MissingFirmware>,
    kernel_log: Option<BoundedLog>,
}

impl Reporter {
    /// Opens everything; `status` is the state so far.
    pub(super) fn open(command_line: &str, status: Status) -> Reporter {
        let mut port = StatusPort::default();
        port.find();
        let problems = status
            .stages
            .iter()
            .filter(|report| report.stage != Stage::Run)
            .filter_map(|report| Some((report.stage, report.problem.clone()?)))
            .collect::<BTreeMap<_, _>>();
        Reporter {
            kmsg: KmsgWriter::open(),
            consoles: Consoles::open(command_line),
            port,
            firmware_of_kernel: status.missing_firmware.clone(),
            status,
            changed: true,
            begun: BTreeMap::new(),
            shown: problems.clone(),
            problems,
            complaints: VecDeque::new(),
            firmware_of_node: Vec::new(),
            kernel_log: BoundedLog::create("kernel").ok(),
        }
    }

    /// The state so far.
    pub(super) fn status(&self) -> &Status {
        &self.status
    }

    /// What the image carries.
    pub(super) fn set_image(&mut self, image: image_layout::image::ImageInfo) {
        self.status.image = Some(image);
        self.changed = true;
    }

    /// Who this machine is.
    pub(super) fn set_node(&mut self, node: NodeStatus) {
        self.status.node = Some(node);
        self.changed = true;
    }

    /// Where k3s keeps its data.
    pub(super) fn set_state(&mut self, state: StateStatus) {
        self.status.state = Some(state);
        self.changed = true;
    }

    /// How k3s stands.
    pub(super) fn set_cluster(&mut self, cluster: ClusterStatus) {
        self.status.cluster = Some(cluster);
        self.changed = true;
    }

    /// How often k3s ended in this boot.
    pub(super) fn set_k3s_ends(&mut self, ends: u32) {
        if let Some(cluster) = self.status.cluster.as_mut().filter(|c| c.ends != ends) {
            cluster.ends = ends;
            self.changed = true;
        }
    }

    /// How a stage ended, if it did.
    pub(super) fn outcome(&self, stage: Stage) -> Option<Outcome> {
        let mut stages = self.status.stages.iter();
        stages
            .find(|report| report.stage == stage)
            .map(|r| r.outcome)
    }

    /// A line for the kernel's log alone.
    pub(super) fn log(&mut self, level: Level, text: &str) {
        self.kmsg.line(level, text);
    }

    /// A line for people in front of the machine, which ends no stage and is no notice: progress.
    pub(super) fn say(&mut self, text: &str) {
        let text = super::text::one_line(text, FIELD);
        self.kmsg.line(Level::Info, &text);
        let at = Uptime::now().seconds();
        self.consoles.write(&format!("[{at:9.3}] {text}\n"));
    }

    /// Takes the time: a stage begins now, or did at `at`.
    pub(super) fn begin(&mut self, stage: Stage, at: Uptime) {
        self.begun.insert(stage, at);
    }

    /// A stage ended well.
    pub(super) fn done(&mut self, stage: Stage, detail: &str) {
        self.end(stage, Outcome::Done, detail, None);
    }

    /// A stage failed.
    pub(super) fn failed(&mut self, stage: Stage, detail: &str, what: &str, mend: &str) {
        let problem = Problem {
            what: what.to_owned(),
            mend: mend.to_owned(),
        };
        self.end(stage, Outcome::Failed, detail, Some(problem));
    }

    /// A stage ended. Said once: the same end again is no news.
    pub(super) fn end(
        &mut self,
        stage: Stage,
        outcome: Outcome,
        detail: &str,
        problem: Option<Problem>,
    ) {
        let now = Uptime::now();
        let detail = super::text::one_line(detail, FIELD);
        let problem = problem.map(|problem| Problem {
            what: problem.what.chars().take(FIELD).collect(),
            mend: problem.mend.chars().take(FIELD).collect(),
        });
        let began = self.begun.get(&stage).copied().unwrap_or(now);
        let known = self.status.stages.iter().find(|known| known.stage == stage);
        if known.is_some_and(|known| {
            known.outcome == outcome && known.detail == detail && known.problem == problem
        }) {
            return;
        }
        let report = StageReport {
            stage,
            outcome,
            detail,
            at: now.seconds(),
            took: Uptime::seconds(Uptime::default().after(now.since(began))),
            problem,
        };
        let verdict = match outcome {
            Outcome::Done => "done",
            Outcome::Failed => "FAILED",
            Outcome::Skipped => "skipped",
        };
        let line = format!("{stage:<8} {verdict:<7} {}", report.detail);
        let level = if outcome == Outcome::Failed {
            Level::Warning
        } else {
            Level::Info
        };
        self.kmsg
            .line(level, &format!("{line} ({:.3} s)", report.took));
        self.consoles
            .write(&format!("[{:9.3}] {line}\n", report.at));
        self.port.send(&StatusLine::Stage(report.clone()));
        match (&report.problem, outcome) {
            // run fails only because another stage did, whose screen says why
            (Some(problem), Outcome::Failed) if stage != Stage::Run => {
                self.problems.insert(stage, problem.clone())
            }
            _ => self.problems.remove(&stage),
        };
        statusfile::record_stage(&mut self.status, report);
        self.changed = true;
    }

    /// Something a person should know that ends no stage.
    pub(super) fn notice(&mut self, text: &str) {
        let text = super::text::one_line(text, FIELD);
        let at = Uptime::now().seconds();
        self.kmsg.line(Level::Notice, &text);
        self.consoles.write(&format!("[{at:9.3}] note: {text}\n"));
        statusfile::record_notice(&mut self.status, &text);
        self.port.send(&StatusLine::Notice { text, at });
        self.changed = true;
    }

    /// The machine goes down. The last line.
    pub(super) fn down(&mut self, action: &str) {
        let at = Uptime::now().seconds();
        self.say(&format!("down: {action}"));
        self.port.send(&StatusLine::Down {
            action: action.to_owned(),
            at,
        });
    }

    /// A record of the kernel's log: kept, and looked at for firmware that was not found.
    pub(super) fn kernel_record(&mut self, record: &Record) {
        if let Some(log) = &mut self.kernel_log {
            let seconds = record.micros as f64 / 1e6;
            log.append(format!("[{seconds:13.6}] {}\n", record.text).as_bytes());
        }
        if record.is_ours() {
            return;
        }
        if record.level <= 3 {
            if self.complaints.len() >= COMPLAINTS {
                self.complaints.pop_front();
            }
            self.complaints.push_back(record.text.clone());
        }
        let Some(mut missing) = kmsg::missing_firmware(&record.text) else {
            return;
        };
        let known = |known: &MissingFirmware| known.file == missing.file;
        if self.firmware_of_kernel.iter().any(known)
            || self.firmware_of_kernel.len() >= FIRMWARE_FILES
        {
            return;
        }
        if let Some(interface) = kmsg::interface_of(&missing.device) {
            missing.device = interface;
        }
        self.notice(&format!(
            "firmware {} is not on the stick; {} needs it for {}. Add it with: builder --firmware",
            missing.file, missing.driver, missing.device
        ));
        self.firmware_of_kernel.push(missing);
        self.merge_firmware();
    }

    /// What the node process found missing; replaces what it said before.
    pub(super) fn firmware_of_node(&mut self, mut missing: Vec<MissingFirmware>) {
        missing.truncate(FIRMWARE_FILES);
        self.firmware_of_node = missing;
        self.merge_firmware();
    }

    /// A network card appeared: devices named by their address so far may have a name by now.
    pub(super) fn name_devices(&mut self) {
        let mut named = Vec::new();
        for missing in &mut self.firmware_of_kernel {
            if let Some(interface) = kmsg::interface_of(&missing.device) {
                named.push(format!(
                    "firmware {} is what {interface} ({}) misses",
                    missing.file, missing.device
                ));
                missing.device = interface;
            }
        }
        for notice in named {
            self.notice(&notice);
        }
        self.merge_firmware();
    }

    fn merge_firmware(&mut self) {
        let mut all = self.firmware_of_node.clone();
        for missing in &self.firmware_of_kernel {
            if !all.iter().any(|known| known.file == missing.file) {
                all.push(missing.clone());
            }
        }
        all.sort();
        if all != self.status.missing_firmware {
            self.status.missing_firmware = all;
            self.changed = true;
        }
    }

    /// At the end of each turn of the loop: the screen if the problems are others than shown, and
    /// the status file if the state is another.
    pub(super) fn settle(&mut self) {
        if self.problems != self.shown {
            if !self.problems.is_empty() {
                let problems: Vec<_> = self.problems.clone().into_iter().collect();
                let complaints = self.complaints.make_contiguous();
                let screen = screen::render(&problems, complaints);
                self.consoles.write(&screen);
            }
            self.shown = self.problems.clone();
        }
        if self.changed {
            self.changed = false;
            self.status.root_bytes_used = statusfile::root_bytes_used();
            if let Err(error) = statusfile::write(Path::new(node::STATUS), &self.status) {
                self.kmsg
                    .line(Level::Error, &format!("writing {}: {error}", node::STATUS));
            }
        }
    }
}
