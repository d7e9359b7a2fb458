//! k3s's supervision with scripts in its place.

#![allow(clippy::unwrap_used)]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Instant;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid as Process, WaitOptions, waitpid};

use super::*;

const LONG: Duration = Duration::from_secs(20);

/// A K3s that starts this script, with arguments as the launch helper gets them: `k3s -999 ROLE`.
fn k3s(directory: &Path, script: &str) -> K3s {
    let launcher = directory.join("launcher");
    fs::write(&launcher, format!("#!/bin/sh\n{script}\n")).unwrap();
    fs::set_permissions(&launcher, fs::Permissions::from_mode(0o755)).unwrap();
    K3s::at(Place {
        launcher,
        notify: directory.join("notify.sock"),
        log: directory.join("k3s.log"),
    })
}

fn log(directory: &Path) -> String {
    fs::read_to_string(directory.join("k3s.log")).unwrap_or_default()
}

/// Polls its doors as PID 1's loop does, until `enough`.
fn hear(k3s: &mut K3s, mut enough: impl FnMut(&mut K3s) -> bool) {
    let begin = Instant::now();
    while !enough(k3s) {
        assert!(begin.elapsed() < LONG, "nothing happened: {k3s:?}");
        let doors: Vec<_> = k3s.doors().collect();
        let mut fds: Vec<_> = doors
            .iter()
            .map(|(_, fd)| PollFd::from_borrowed_fd(*fd, PollFlags::IN))
            .collect();
        let wait = Timespec {
            tv_sec: 0,
            tv_nsec: 20_000_000,
        };
        poll(&mut fds, Some(&wait)).unwrap();
        let ready: Vec<Door> = doors
            .iter()
            .zip(&fds)
            .filter(|(_, fd)| !fd.revents().is_empty())
            .map(|((door, _), _)| *door)
            .collect();
        for door in ready {
            k3s.ready(door);
        }
    }
}

/// Waits for its process and tells it.
fn reap(k3s: &mut K3s, now: Uptime) {
    let pid = k3s.process.as_ref().unwrap().pid;
    let (_, status) = waitpid(Process::from_raw(pid), WaitOptions::empty())
        .unwrap()
        .unwrap();
    assert!(!k3s.reaped(pid.wrapping_add(1), status, now));
    assert!(k3s.reaped(pid, status, now));
}

#[test]
fn an_end_with_code_0_is_an_end_and_followed_by_a_pause() {
    let directory = tempfile::tempdir().unwrap();
    let mut k3s = k3s(
        directory.path(),
        "echo \"$@\"; printf '\\033[31mlevel=fatal\\033[0m why\\n' >&2; exit 0",
    );
    let now = Uptime::from_seconds(100.0);
    assert_eq!(k3s.news(now), None);
    k3s.order(Order::Run(Role::Server), now);
    assert_eq!(k3s.deadline(), Some(now));
    k3s.tick(now);
    let state = k3s.news(now).unwrap();
    assert!(
        state.running && !state.ready && state.ends == 0,
        "{state:?}"
    );
    reap(&mut k3s, now);
    let state = k3s.news(now).unwrap();
    assert_eq!(
        state,
        K3sState {
            running: false,
            ready: false,
            ends: 1,
            how: "exit code 0".into(),
            pause: 5,
            tail: "k3s -999 server\nlevel=fatal why".into(),
        }
    );
    assert_eq!(
        k3s.notices(),
        ["k3s ended (exit code 0); it is started again in 5 s"]
    );
    assert!(log(directory.path()).starts_with("k3s -999 server\n"));

    // asked again it waits all the same; the next pause is longer
    k3s.order(Order::Run(Role::Server), now);
    k3s.tick(Uptime::from_seconds(104.9));
    assert!(!k3s.is_running());
    let later = Uptime::from_seconds(105.0);
    k3s.tick(later);
    reap(&mut k3s, later);
    let state = k3s.news(later).unwrap();
    assert_eq!((state.ends, state.pause), (2, 10));

    // an order to restart ends the pause
    k3s.order(Order::Restart, later);
    assert_eq!(k3s.deadline(), Some(later));
}

#[test]
fn ready_is_what_the_process_that_runs_says() {
    let directory = tempfile::tempdir().unwrap();
    let mut k3s = k3s(directory.path(), "read nothing < /dev/null; exec sleep 60");
    let now = Uptime::from_seconds(100.0);
    k3s.order(Order::Run(Role::Agent), now);
    k3s.tick(now);
    assert!(!k3s.news(now).unwrap().ready);
    let say = |text: &str| {
        let socket = std::os::unix::net::UnixDatagram::unbound().unwrap();
        let path = directory.path().join("notify.sock");
        socket.send_to(text.as_bytes(), path).unwrap();
    };
    say("STATUS=soon");
    say("READY=1\n");
    hear(&mut k3s, |k3s| k3s.process.as_ref().unwrap().is_ready);
    assert!(k3s.news(now).unwrap().ready);
    say("READY=1\n");
    k3s.ready(Door::Notify);
    assert_eq!(k3s.news(now), None);

    k3s.order(Order::Stop, now);
    assert!(!k3s.news(now).unwrap().ready);
    say("READY=1\n");
    k3s.ready(Door::Notify);
    reap(&mut k3s, now);
    let state = k3s.news(now).unwrap();
    assert_eq!((state.running, state.ready, state.ends), (false, false, 0));
    assert_eq!(k3s.deadline(), None);
}

#[test]
fn a_restart_is_at_once_and_no_end() {
    let directory = tempfile::tempdir().unwrap();
    let mut k3s = k3s(directory.path(), "echo \"$3\"; exec sleep 60");
    let now = Uptime::from_seconds(100.0);
    k3s.order(Order::Restart, now);
    assert_eq!(k3s.deadline(), None, "nobody said in which role");
    k3s.order(Order::Run(Role::Server), now);
    k3s.tick(now);
    hear(&mut k3s, |_| log(directory.path()).contains("server\n"));
    k3s.order(Order::Restart, now);
    k3s.order(Order::Restart, now);
    k3s.order(Order::Stop, now);
    k3s.order(Order::Run(Role::Agent), now);
    reap(&mut k3s, now);
    assert_eq!(k3s.deadline(), Some(now));
    k3s.tick(now);
    hear(&mut k3s, |_| log(directory.path()).contains("agent\n"));
    let state = k3s.news(now).unwrap();
    assert_eq!((state.running, state.ends, state.pause), (true, 0, 0));

    // another role is a restart too
    k3s.order(Order::Run(Role::Server), now);
    reap(&mut k3s, now);
    assert_eq!(k3s.deadline(), Some(now));
    k3s.hold(now);
    assert_eq!(k3s.deadline(), None);
    k3s.order(Order::Run(Role::Server), now);
    assert_eq!(k3s.deadline(), None, "the machine goes down");
}

#[test]
fn one_that_does_not_end_when_asked_is_killed() {
    let directory = tempfile::tempdir().unwrap();
    // a second SIGTERM would show in the log
    let mut k3s = k3s(
        directory.path(),
        "trap 'echo asked' TERM; echo up; while :; do sleep 0.05; done",
    );
    let now = Uptime::from_seconds(100.0);
    k3s.order(Order::Run(Role::Server), now);
    k3s.tick(now);
    hear(&mut k3s, |_| log(directory.path()).contains("up"));
    k3s.hold(now);
    hear(&mut k3s, |_| log(directory.path()).contains("asked"));
    k3s.order(Order::Stop, now);
    k3s.hold(now);
    k3s.tick(Uptime::from_seconds(129.0));
    assert!(k3s.notices().is_empty());
    k3s.tick(Uptime::from_seconds(130.0));
    assert_eq!(
        k3s.notices(),
        ["k3s did not end within 30 s; it was killed"]
    );
    reap(&mut k3s, now);
    assert!(!k3s.is_running());
    assert_eq!(log(directory.path()).matches("asked").count(), 1);
}

#[test]
fn what_it_says_too_fast_is_kept_within_bounds() {
    let directory = tempfile::tempdir().unwrap();
    let mut k3s = k3s(
        directory.path(),
        "yes 'level=info msg=\"one of very many lines\"' | head -c 5000000; echo the last line; exit 1",
    );
    let now = Uptime::from_seconds(100.0);
    k3s.order(Order::Run(Role::Server), now);
    k3s.tick(now);
    hear(&mut k3s, |_| {
        log(directory.path()).contains("the last line")
    });
    reap(&mut k3s, now);
    let state = k3s.news(now).unwrap();
    assert_eq!(state.how, "exit code 1");
    assert!(state.tail.len() <= TAIL_BYTES, "{}", state.tail.len());
    assert!(state.tail.ends_with("\nthe last line"));
    let size = |name: &str| fs::metadata(directory.path().join(name)).unwrap().len();
    assert!(size("k3s.log") <= LOG_BYTES && size("k3s.log.1") <= LOG_BYTES);
}

#[test]
fn a_binary_that_is_missing_is_said_in_words() {
    let directory = tempfile::tempdir().unwrap();
    let mut missing = k3s(directory.path(), "exit 127");
    let now = Uptime::from_seconds(100.0);
    missing.order(Order::Run(Role::Server), now);
    missing.tick(now);
    reap(&mut missing, now);
    let how = missing.news(now).unwrap().how;
    assert_eq!(how, "/usr/local/bin/k3s is not there");

    let mut unstarted = K3s::at(Place {
        launcher: directory.path().join("nothing"),
        notify: directory.path().join("notify.sock"),
        log: directory.path().join("k3s.log"),
    });
    unstarted.order(Order::Run(Role::Server), now);
    unstarted.tick(now);
    let state = unstarted.news(now).unwrap();
    assert_eq!((state.running, state.ends, state.pause), (false, 1, 5));
    assert!(state.how.contains("No such file"), "{}", state.how);
}
