//! System calls, by seccomp (Linux: `Documentation/userspace-api/seccomp_filter.rst`).
//!
//! A list of what is allowed. Everything else is answered with `ENOSYS`, "no such system call",
//! and does not end the process:
//!
//! - To an attacker it makes no difference: what is not done is not done.
//! - A C library or runtime that is newer than this list tries a new call, is told what an old
//!   kernel would tell it, and takes the old one. `clone3` is such a case: its arguments lie in
//!   memory, where no filter sees them, so it is refused, and threads come by `clone`.
//! - If the list lacked something, ending the process would take the registry from every client
//!   again and again; a refused call is an error in one place.
//!
//! Some calls are allowed with certain arguments only; see [`with_arguments`].

use std::collections::BTreeMap;

use nix::libc;
use seccompiler::{
    BackendError, BpfProgram, SeccompAction, SeccompCmpArgLen as Length, SeccompCmpOp as Is,
    SeccompCondition, SeccompFilter, SeccompRule, TargetArch,
};

/// Calls that are allowed whatever their arguments are.
const ALLOWED: &[libc::c_long] = &[
    // reading and writing what is open
    libc::SYS_read,
    libc::SYS_readv,
    libc::SYS_pread64,
    libc::SYS_preadv,
    libc::SYS_preadv2,
    libc::SYS_write,
    libc::SYS_writev,
    libc::SYS_sendfile,
    libc::SYS_splice,
    libc::SYS_pipe2,
    libc::SYS_lseek,
    libc::SYS_fadvise64,
    libc::SYS_readahead,
    libc::SYS_close,
    libc::SYS_dup,
    libc::SYS_dup3,
    libc::SYS_fcntl,
    // looking at files
    libc::SYS_fstat,
    libc::SYS_newfstatat,
    libc::SYS_statx,
    libc::SYS_fstatfs,
    libc::SYS_faccessat,
    libc::SYS_readlinkat,
    libc::SYS_getdents64,
    libc::SYS_getcwd,
    libc::SYS_inotify_init1,
    libc::SYS_inotify_add_watch,
    libc::SYS_inotify_rm_watch,
    // connections that clients open; connect is not among them
    libc::SYS_bind,
    libc::SYS_listen,
    libc::SYS_accept4,
    libc::SYS_getsockname,
    libc::SYS_getpeername,
    libc::SYS_setsockopt,
    libc::SYS_getsockopt,
    libc::SYS_sendto,
    libc::SYS_sendmsg,
    libc::SYS_recvfrom,
    libc::SYS_recvmsg,
    libc::SYS_shutdown,
    // waiting
    libc::SYS_epoll_create1,
    libc::SYS_epoll_ctl,
    libc::SYS_epoll_pwait,
    libc::SYS_epoll_pwait2,
    libc::SYS_eventfd2,
    libc::SYS_ppoll,
    libc::SYS_futex,
    libc::SYS_nanosleep,
    libc::SYS_clock_nanosleep,
    libc::SYS_restart_syscall,
    // memory
    libc::SYS_brk,
    libc::SYS_munmap,
    libc::SYS_mremap,
    libc::SYS_madvise,
    // threads
    libc::SYS_set_robust_list,
    libc::SYS_set_tid_address,
    libc::SYS_rseq,
    libc::SYS_membarrier,
    libc::SYS_sched_yield,
    libc::SYS_sched_getaffinity,
    libc::SYS_sched_getparam,
    libc::SYS_sched_getscheduler,
    libc::SYS_sched_setscheduler,
    libc::SYS_setpriority,
    libc::SYS_getpriority,
    libc::SYS_ioprio_set,
    libc::SYS_exit,
    libc::SYS_exit_group,
    // signals to this process
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_sigaltstack,
    // questions
    libc::SYS_clock_gettime,
    libc::SYS_clock_getres,
    libc::SYS_gettimeofday,
    libc::SYS_getrandom,
    libc::SYS_getrusage,
    libc::SYS_sysinfo,
    libc::SYS_uname,
    libc::SYS_getpid,
    libc::SYS_gettid,
    libc::SYS_getuid,
    libc::SYS_geteuid,
    libc::SYS_getgid,
    libc::SYS_getegid,
];

/// Calls that x86-64 has beside newer ones, which later architectures alone have. C libraries
/// still use them.
#[cfg(target_arch = "x86_64")]
const ALLOWED_OLD: &[libc::c_long] = &[
    libc::SYS_stat,
    libc::SYS_lstat,
    libc::SYS_access,
    libc::SYS_readlink,
    libc::SYS_pipe,
    libc::SYS_poll,
    libc::SYS_epoll_wait,
    libc::SYS_accept,
    libc::SYS_getrlimit,
    libc::SYS_time,
];
#[cfg(not(target_arch = "x86_64"))]
const ALLOWED_OLD: &[libc::c_long] = &[];

/// A call, which argument is looked at, the bits of it that count, and what those may be.
type Condition = (libc::c_long, u8, u64, &'static [u64]);

/// All bits of an `int`.
const INT: u64 = u32::MAX as u64;
/// Bits of `open`'s flags that change or make files. `O_TMPFILE` is more than one bit, of which
/// one is `O_DIRECTORY`.
const WRITES: u64 = (libc::O_ACCMODE | libc::O_CREAT | libc::O_TRUNC | libc::O_APPEND) as u64
    | (libc::O_TMPFILE & !libc::O_DIRECTORY) as u64;
/// Memory that can be executed is what was loaded at start.
const EXECUTE: u64 = libc::PROT_EXEC as u64;

/// Calls that are allowed with certain arguments.
// numbers of ioctls have different types in C libraries
#[allow(clippy::unnecessary_cast)]
fn with_arguments() -> Vec<Condition> {
    #[cfg(target_arch = "x86_64")]
    let old: &[Condition] = &[(libc::SYS_open, 1, WRITES, &[0])];
    #[cfg(not(target_arch = "x86_64"))]
    let old: &[Condition] = &[];
    let new: &[Condition] = &[
        (libc::SYS_openat, 2, WRITES, &[0]),
        (libc::SYS_mmap, 2, EXECUTE, &[0]),
        (libc::SYS_mprotect, 2, EXECUTE, &[0]),
        // threads, never processes
        (
            libc::SYS_clone,
            0,
            libc::CLONE_THREAD as u64,
            &[libc::CLONE_THREAD as u64],
        ),
        (
            libc::SYS_socket,
            0,
            INT,
            &[libc::AF_INET as u64, libc::AF_INET6 as u64],
        ),
        // a runtime wakes itself by one
        (libc::SYS_socketpair, 0, INT, &[libc::AF_UNIX as u64]),
        (
            libc::SYS_ioctl,
            1,
            INT,
            &[
                libc::FIONBIO as u64,
                libc::TCGETS as u64,
                libc::TIOCGWINSZ as u64,
            ],
        ),
        (
            libc::SYS_prctl,
            0,
            INT,
            &[libc::PR_SET_NAME as u64, libc::PR_GET_NAME as u64],
        ),
        // asked, not set; the address of new limits is the whole argument
        (libc::SYS_prlimit64, 2, u64::MAX, &[0]),
    ];
    [old, new].concat()
}

/// The process may end itself by a signal, as abort(3) does, and no other process.
fn own_signals() -> Result<SeccompRule, BackendError> {
    let pid = u64::from(std::process::id());
    SeccompRule::new(vec![SeccompCondition::new(0, Length::Dword, Is::Eq, pid)?])
}

fn filter() -> Result<BpfProgram, BackendError> {
    let arch: TargetArch = std::env::consts::ARCH.try_into()?;
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> = BTreeMap::new();
    for call in ALLOWED.iter().chain(ALLOWED_OLD) {
        rules.insert(*call, Vec::new());
    }
    for (call, argument, mask, values) in with_arguments() {
        let length = match mask > INT {
            true => Length::Qword,
            false => Length::Dword,
        };
        for value in values {
            let condition =
                SeccompCondition::new(argument, length.clone(), Is::MaskedEq(mask), *value)?;
            let rule = SeccompRule::new(vec![condition])?;
            rules.entry(call).or_default().push(rule);
        }
    }
    rules.insert(libc::SYS_tgkill, vec![own_signals()?]);
    let refused = SeccompAction::Errno(libc::ENOSYS as u32);
    SeccompFilter::new(rules, refused, SeccompAction::Allow, arch)?.try_into()
}

/// Restricts the calling thread.
pub(super) fn restrict() -> Result<(), String> {
    let program = filter().map_err(|error| error.to_string())?;
    seccompiler::apply_filter(&program).map_err(|error| error.to_string())
}
