//! The problems of the stage *cluster*, in words for the person in front of the machine.

use image_layout::status::Problem;

use crate::report::K3sState;

/// Lines of k3s's log on a screen, and characters of each: two of the screen's lines.
const LINES: usize = 4;
const CHARACTERS: usize = 148;

/// Why a stage can't be done: one line, and the screen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::node) struct Failure {
    /// One line.
    pub(in crate::node) detail: String,
    /// The screen.
    pub(in crate::node) problem: Problem,
}

impl Failure {
    /// From its three texts.
    pub(in crate::node) fn new(
        detail: impl Into<String>,
        what: impl Into<String>,
        mend: impl Into<String>,
    ) -> Failure {
        Failure {
            detail: detail.into(),
            problem: Problem {
                what: what.into(),
                mend: mend.into(),
            },
        }
    }
}

/// `haulboot.json` can't be read.
pub(super) fn no_image(why: &str) -> Failure {
    Failure::new(
        "haulboot.json can't be read",
        format!("What the stick carries can't be read from it: {why}."),
        "Write the stick again. If that does not help, try another one.",
    )
}

/// A secret is missing or damaged.
pub(super) fn no_secret(name: &str, why: &str) -> Failure {
    Failure::new(
        format!("secrets/{name} can't be used"),
        format!("The cluster's credentials on the stick can't be used: secrets/{name}: {why}."),
        "Build the stick again with the directory of credentials of this cluster (--credentials).",
    )
}

/// The server's certificate comes from another authority.
pub(super) fn foreign_server(server: &str, why: &str) -> Failure {
    Failure::new(
        format!("{server} belongs to another cluster"),
        format!(
            "At {server} answers a server whose certificate was not signed by the authority on \
             this stick: the server belongs to another cluster, or one of the two sticks comes \
             from another build. ({why})"
        ),
        "Write this machine's and the server's stick from one image, or build both with the same \
         directory of credentials (--credentials). If the address is wrong, put the stick into any \
         computer and change the first server's `address:` in cluster.yaml on the drive HAULCFG. \
         The node keeps trying.",
    )
}

/// The server's certificate does not fit for another reason.
pub(super) fn odd_certificate(server: &str, why: &str) -> Failure {
    Failure::new(
        format!("the certificate of {server} is not accepted"),
        format!(
            "At {server} answers a server of this cluster whose certificate is not accepted: \
             {why}."
        ),
        "If it is said to be expired, look at the clocks of both machines. If it is not for this \
         address, the server was started with another one: restart the server, or correct its \
         `address:` in cluster.yaml. The node keeps trying.",
    )
}

/// 401 or 403.
pub(super) fn refused_token(server: &str, status: u16) -> Failure {
    Failure::new(
        "the server refuses this stick's token",
        format!("The server {server} refuses this stick's agent token (HTTP status {status})."),
        "Write this machine's and the server's stick from one image, or build both with the same \
         directory of credentials (--credentials); with state on disk the server keeps the token \
         of its first start. The node keeps trying.",
    )
}

/// k3s ends again and again. `meaning` is what its last lines usually mean.
pub(super) fn ends(k3s: &K3sState, meaning: Option<Problem>) -> Failure {
    let mut what = format!(
        "k3s ended {} times, the last time with {}.",
        k3s.ends, k3s.how
    );
    let mut mend = "k3s is started again with growing pauses. Its whole log is at \
                    http://NODE:5000/logs/k3s, if cluster.yaml says registry: {logs: true}."
        .to_owned();
    if let Some(meaning) = meaning {
        what.push(' ');
        what.push_str(&meaning.what);
        mend = format!("{} {mend}", meaning.mend);
    }
    let lines = last_lines(&k3s.tail);
    if !lines.is_empty() {
        what.push_str("\nIts last lines:\n");
        what.push_str(&lines.join("\n"));
    }
    Failure::new(
        format!("k3s ended {} times ({})", k3s.ends, k3s.how),
        what,
        mend,
    )
}

/// Two machines under one name.
pub(super) fn another(node: &str) -> Failure {
    Failure::new(
        format!("another machine runs as node {node}"),
        format!(
            "Another machine runs as node {node} of this cluster too: both match the same node of \
             cluster.yaml."
        ),
        format!(
            "Switch one of them off. For both to be nodes, put a stick into any computer, open \
             cluster.yaml on the drive HAULCFG, give each a node of its own below `nodes:` with \
             its own `match:`, and change `match:` of {node} to the MAC address or serial number \
             of its machine."
        ),
    )
}

/// The last lines of a log, as they fit a screen: without the time at their beginning, which takes
/// half the width, and cut where they are long.
pub(super) fn last_lines(log: &str) -> Vec<String> {
    let lines: Vec<&str> = log.lines().filter(|line| !line.trim().is_empty()).collect();
    let first = lines.len().saturating_sub(LINES);
    let shown = lines.iter().skip(first);
    shown
        .map(|line| without_time(line).chars().take(CHARACTERS).collect())
        .collect()
}

/// logrus writes `time="2026-11-28T22:43:04Z" level=fatal msg="..."`.
fn without_time(line: &str) -> &str {
    let rest = line.trim().strip_prefix("time=\"");
    rest.and_then(|rest| rest.split_once("\" "))
        .map_or(line, |(_, rest)| rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_screen_of_a_k3s_that_ends_shows_its_last_lines_and_what_they_mean() {
        let long = "x".repeat(300);
        let k3s = K3sState {
            ends: 3,
            how: "exit code 1".into(),
            tail: format!(
                "one\ntwo\nthree\n\n{long}\ntime=\"2026-11-28T22:43:04Z\" level=fatal msg=\"no\"\n"
            ),
            ..K3sState::default()
        };
        let meaning = Problem {
            what: "It has no address.".into(),
            mend: "Give it one.".into(),
        };
        let problem = ends(&k3s, Some(meaning)).problem;
        let lines: Vec<&str> = problem.what.lines().collect();
        assert_eq!(
            lines,
            [
                "k3s ended 3 times, the last time with exit code 1. It has no address.",
                "Its last lines:",
                "two",
                "three",
                &"x".repeat(148),
                "level=fatal msg=\"no\"",
            ]
        );
        assert!(problem.mend.starts_with("Give it one. k3s is started"));
        let silent = ends(&K3sState::default(), None).problem.what;
        assert!(!silent.contains("last lines"), "{silent}");
    }
}
