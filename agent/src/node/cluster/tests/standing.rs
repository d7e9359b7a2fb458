use std::time::Duration;

use image_layout::cluster::Role;
use image_layout::status::ClusterPhase::{self, Failed, NotReady, Ready, Starting, WaitingForNode};
use tokio::time::Instant;

use crate::node::cluster::ready::{Look, NodeObject};
use crate::node::cluster::standing::{Act, Own, Patience, Standing};
use crate::report::K3sState;

/// What happens, and the letter for an act that follows:
/// `n`otice, `D`one, `E`nds, `A`nother, `S`ilent, `R`estart.
enum Now {
    /// k3s: running, ready, ends.
    K3s(bool, bool, u32),
    /// The Node as this boot's kubelet wrote it, Ready or not.
    Ours(bool),
    /// As another boot's did.
    Other(bool),
    Unknown,
    Silent,
    Tick,
}

/// Seconds since the last line, what happens, acts, phase.
type Line = (u64, Now, &'static str, ClusterPhase);

fn play(role: Role, lines: Vec<Line>) -> Vec<String> {
    let own = Own {
        boot_id: "ours".into(),
        // where the boot is known, it decides
        machine_id: "another's".into(),
    };
    let mut now = Instant::now();
    let state = K3sState::default();
    let patience = Patience::default();
    let mut standing = Standing::new("a".into(), role, own, patience, state, now);
    let mut notices = Vec::new();
    for (at, (wait, what, expected, phase)) in lines.into_iter().enumerate() {
        now += Duration::from_secs(wait);
        let node = |boot: &str, ready| {
            Look::Node(NodeObject {
                ready,
                why: "no CNI".into(),
                boot_id: boot.into(),
                machine_id: "m".into(),
            })
        };
        let acts = match what {
            Now::K3s(running, ready, ends) => {
                let state = K3sState {
                    running,
                    ready,
                    ends,
                    how: "exit code 1".into(),
                    ..K3sState::default()
                };
                standing.k3s_says(state, now)
            }
            Now::Ours(ready) => standing.saw(node("ours", ready), now),
            Now::Other(ready) => standing.saw(node("other", ready), now),
            Now::Unknown => standing.saw(Look::Unknown, now),
            Now::Silent => standing.saw(Look::Silent("connection refused".into()), now),
            Now::Tick => standing.tick(now),
        };
        let letters: String = acts.iter().map(letter).collect();
        assert_eq!(letters, expected, "line {at}: {acts:?}");
        assert_eq!(standing.phase(), phase, "line {at}");
        notices.extend(acts.into_iter().filter_map(|act| match act {
            Act::Notice(text) => Some(text),
            _ => None,
        }));
    }
    notices
}

fn letter(act: &Act) -> char {
    match act {
        Act::Notice(_) => 'n',
        Act::Done => 'D',
        Act::Ends => 'E',
        Act::Another => 'A',
        Act::Silent => 'S',
        Act::Restart => 'R',
    }
}

#[test]
fn the_stage_is_done_when_k3s_is_ready_and_the_node_is_too() {
    let notices = play(
        Role::Server,
        vec![
            (0, Now::K3s(true, false, 0), "", Starting),
            // what a disk kept of the boot before
            (1, Now::Ours(true), "", Starting),
            (60, Now::K3s(true, true, 0), "", WaitingForNode),
            (1, Now::Silent, "", WaitingForNode),
            (1, Now::Unknown, "", WaitingForNode),
            (1, Now::Other(true), "", WaitingForNode),
            (1, Now::Ours(false), "", WaitingForNode),
            (5, Now::Ours(true), "D", Ready),
            (10, Now::Ours(true), "", Ready),
        ],
    );
    assert_eq!(notices.len(), 0);
}

#[test]
fn k3s_that_said_ready_and_dies_ends_no_stage_well() {
    play(
        Role::Server,
        vec![
            (0, Now::K3s(true, true, 0), "", WaitingForNode),
            (1, Now::K3s(false, false, 1), "", Failed),
            (5, Now::K3s(true, false, 1), "", Starting),
            (60, Now::K3s(true, true, 1), "", WaitingForNode),
            // it was started again before anybody heard that it ended
            (1, Now::K3s(true, false, 2), "", Starting),
            (1, Now::K3s(false, false, 3), "E", Failed),
            (9, Now::K3s(true, false, 3), "", Starting),
            (1, Now::K3s(false, false, 4), "", Failed),
            (9, Now::K3s(true, true, 4), "", WaitingForNode),
            (1, Now::Ours(true), "D", Ready),
            // ends in a row are counted anew
            (9, Now::K3s(false, false, 5), "", Failed),
            (9, Now::K3s(true, true, 5), "", WaitingForNode),
            (9, Now::Ours(true), "n", Ready),
        ],
    );
}

#[test]
fn a_node_that_flaps_is_told_only_if_it_lasts() {
    let notices = play(
        Role::Server,
        vec![
            (0, Now::K3s(true, true, 0), "", WaitingForNode),
            (1, Now::Ours(true), "D", Ready),
            (10, Now::Ours(false), "", Ready),
            (50, Now::Silent, "", Ready),
            (10, Now::Ours(true), "", Ready),
            (10, Now::Ours(false), "", Ready),
            (59, Now::Ours(false), "", Ready),
            (1, Now::Ours(false), "n", NotReady),
            (60, Now::Ours(false), "", NotReady),
            (10, Now::Ours(true), "n", Ready),
        ],
    );
    assert_eq!(
        notices,
        [
            "node a is not Ready any more: no CNI",
            "node a is Ready again"
        ]
    );
}

#[test]
fn an_agent_that_its_server_forgot_is_started_anew_and_a_server_that_is_away_is_waited_for() {
    let notices = play(
        Role::Agent,
        vec![
            (0, Now::K3s(true, true, 0), "", WaitingForNode),
            (1, Now::Ours(true), "D", Ready),
            (10, Now::Silent, "", Ready),
            (10, Now::Unknown, "", Ready),
            (10, Now::Silent, "", Ready),
            (10, Now::Unknown, "", Ready),
            (4, Now::Unknown, "", Ready),
            (1, Now::Unknown, "nR", Starting),
            (1, Now::K3s(false, false, 0), "", Starting),
            (1, Now::K3s(true, false, 0), "", Starting),
            (9, Now::K3s(true, true, 0), "", WaitingForNode),
            (1, Now::Unknown, "", WaitingForNode),
            (10, Now::Unknown, "", WaitingForNode),
            (10, Now::Ours(true), "n", Ready),
        ],
    );
    let forgot = "the server does not know this node any more; k3s agent is started anew";
    assert_eq!(notices, [forgot, "node a is Ready again"]);
}

#[test]
fn an_agent_that_never_appears_is_started_anew_after_a_while_and_a_server_never() {
    for (role, acts, phase) in [
        (Role::Agent, "nR", Starting),
        (Role::Server, "", WaitingForNode),
    ] {
        play(
            role,
            vec![
                (0, Now::K3s(true, true, 0), "", WaitingForNode),
                (1, Now::Unknown, "", WaitingForNode),
                (179, Now::Unknown, "", WaitingForNode),
                (1, Now::Unknown, acts, phase),
            ],
        );
    }
}

#[test]
fn another_machine_of_the_same_name_is_told_and_one_that_was_replaced_is_not() {
    let notices = play(
        Role::Agent,
        vec![
            (0, Now::K3s(true, true, 0), "", WaitingForNode),
            // the one whose name this machine took
            (1, Now::Other(true), "", WaitingForNode),
            (9, Now::Other(false), "", WaitingForNode),
            (1, Now::Ours(true), "D", Ready),
            (10, Now::Other(true), "", Ready),
            (10, Now::Ours(true), "", Ready),
            // its last word, long ago
            (300, Now::Other(true), "", Ready),
            (10, Now::Ours(true), "", Ready),
            (10, Now::Other(true), "nA", Ready),
            (10, Now::Ours(true), "", Ready),
            (10, Now::Other(true), "", Ready),
            (299, Now::Ours(true), "", Ready),
            (1, Now::Ours(true), "nD", Ready),
        ],
    );
    assert_eq!(
        notices,
        [
            "another machine runs as node a too; switch one of them off",
            "no other machine runs as node a any more"
        ]
    );
}

#[test]
fn a_slow_start_is_a_note_once_for_each() {
    play(
        Role::Server,
        vec![
            (0, Now::K3s(true, false, 0), "", Starting),
            (899, Now::Tick, "", Starting),
            (1, Now::Tick, "S", Starting),
            (10, Now::Tick, "", Starting),
            (10, Now::K3s(false, false, 1), "", Failed),
            (999, Now::Tick, "", Failed),
            (1, Now::K3s(true, false, 1), "", Starting),
            (900, Now::Tick, "S", Starting),
        ],
    );
}
