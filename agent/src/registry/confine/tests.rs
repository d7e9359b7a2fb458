//! Each test confines a thread of its own: both walls are around threads.

use std::fs::{self, File};
use std::io::{Error, Read as _};
use std::net::{TcpListener, TcpStream};
use std::process::Command;

use nix::libc::{EACCES, ENOSYS};

use super::*;

/// Runs `act` in a confined thread that may read `read`. The kernel must have both walls: what the
/// tests are made for is not skipped in silence.
fn confined<T: Send>(read: &std::path::Path, act: impl FnOnce() -> T + Send) -> T {
    let reach = Reach {
        read: vec![read.to_owned()],
        port: 0,
    };
    std::thread::scope(|scope| {
        let thread = scope.spawn(move || {
            let notices = enter(&reach).notices;
            assert!(notices.is_empty(), "{notices:?}");
            act()
        });
        thread.join().unwrap()
    })
}

#[track_caller]
fn refused<T>(result: Result<T, impl Into<Error>>, errno: i32) {
    let error = result
        .err()
        .map(Into::into)
        .and_then(|e: Error| e.raw_os_error());
    assert_eq!(error, Some(errno));
}

#[test]
fn what_is_served_can_be_read_and_nothing_else_can() {
    let served = tempfile::tempdir().unwrap();
    let other = tempfile::tempdir().unwrap();
    fs::create_dir(served.path().join("blobs")).unwrap();
    fs::write(served.path().join("blobs/x"), "x").unwrap();
    fs::write(other.path().join("secret"), "secret").unwrap();
    let mut open_before = File::open(other.path().join("secret")).unwrap();
    confined(served.path(), || {
        assert_eq!(fs::read(served.path().join("blobs/x")).unwrap(), b"x");
        assert_eq!(fs::read_dir(served.path()).unwrap().count(), 1);
        refused(File::open(other.path().join("secret")), EACCES);
        refused(fs::read_dir(other.path()), EACCES);
        refused(File::open("/etc/passwd"), EACCES);
        let mut text = String::new();
        open_before.read_to_string(&mut text).unwrap();
        assert_eq!(text, "secret");
    });
}

#[test]
fn nothing_can_be_written_made_or_removed() {
    let served = tempfile::tempdir().unwrap();
    let file = served.path().join("x");
    fs::write(&file, "x").unwrap();
    confined(served.path(), || {
        refused(fs::write(&file, "y"), ENOSYS);
        refused(File::options().append(true).open(&file), ENOSYS);
        refused(File::create_new(served.path().join("new")), ENOSYS);
        refused(fs::create_dir(served.path().join("new")), ENOSYS);
        refused(fs::remove_file(&file), ENOSYS);
        refused(fs::rename(&file, served.path().join("y")), ENOSYS);
    });
    assert_eq!(fs::read(&file).unwrap(), b"x");
}

#[test]
fn no_program_starts_and_no_other_process_is_touched() {
    let served = tempfile::tempdir().unwrap();
    confined(served.path(), || {
        assert!(Command::new("/bin/true").spawn().is_err());
        let arguments: [&std::ffi::CStr; 1] = [c"true"];
        refused(nix::unistd::execv(c"/bin/true", &arguments), ENOSYS);
        refused(nix::sys::ptrace::traceme(), ENOSYS);
        refused(
            nix::sys::signal::kill(nix::unistd::Pid::this(), None),
            ENOSYS,
        );
    });
}

#[test]
fn connections_are_taken_and_none_is_opened() {
    let served = tempfile::tempdir().unwrap();
    let elsewhere = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = elsewhere.local_addr().unwrap();
    confined(served.path(), || {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        assert!(listener.local_addr().unwrap().port() > 0);
        refused(TcpStream::connect(address), ENOSYS);
        // a port that was not named
        refused(TcpListener::bind("127.0.0.1:59999"), EACCES);
        refused(
            rustix::net::socket(
                rustix::net::AddressFamily::NETLINK,
                rustix::net::SocketType::RAW,
                None,
            ),
            ENOSYS,
        );
    });
}

#[test]
fn the_kernel_itself_is_out_of_reach() {
    let served = tempfile::tempdir().unwrap();
    confined(served.path(), || {
        let flags = rustix::mount::MountFlags::empty();
        refused(
            rustix::mount::mount("none", "/", "tmpfs", flags, None),
            ENOSYS,
        );
        refused(
            nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWUSER),
            ENOSYS,
        );
        refused(
            rustix::process::setrlimit(
                rustix::process::Resource::Nofile,
                rustix::process::getrlimit(rustix::process::Resource::Nofile),
            ),
            ENOSYS,
        );
    });
}

#[test]
fn threads_timers_and_blocking_reads_go_on() {
    let served = tempfile::tempdir().unwrap();
    fs::write(served.path().join("x"), vec![7; 100_000]).unwrap();
    confined(served.path(), || {
        let runtime = crate::registry::serve::runtime().unwrap();
        runtime.block_on(async {
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
            let path = served.path().join("x");
            let read = tokio::task::spawn_blocking(move || fs::read(path)).await;
            assert_eq!(read.unwrap().unwrap().len(), 100_000);
            let end = crate::registry::serve::end_signal().unwrap();
            assert!(!*end.borrow());
        });
        let panicked = std::thread::spawn(|| panic!("on purpose")).join();
        assert!(panicked.is_err());
    });
}
