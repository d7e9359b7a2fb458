//! What the kernel is told about partitions.

use std::ffi::{c_int, c_longlong, c_void};
use std::fs::File;
use std::os::fd::AsRawFd as _;

use nix::errno::Errno;
use nix::libc;

/// Linux: include/uapi/linux/fs.h, `_IO(0x12, 95)`.
const BLKRRPART: libc::c_ulong = 0x125f;
/// Linux: include/uapi/linux/blkpg.h, `_IO(0x12, 105)`.
const BLKPG: libc::c_ulong = 0x1269;
const BLKPG_ADD_PARTITION: c_int = 1;

/// `struct blkpg_ioctl_arg`.
#[repr(C)]
struct Argument {
    op: c_int,
    flags: c_int,
    datalen: c_int,
    data: *mut c_void,
}

/// `struct blkpg_partition`; the names are not read by the kernel.
#[repr(C)]
struct NewPartition {
    start: c_longlong,
    length: c_longlong,
    pno: c_int,
    devname: [u8; 64],
    volname: [u8; 64],
}

/// Makes the kernel forget the partitions of a disk whose table is gone. It does not where one is
/// in use, and there is nothing to forget on a partition; neither matters to whoever asks.
#[allow(unsafe_code)]
pub(super) fn forget_partitions(disk: &File) {
    // SAFETY: the request takes no argument, and the descriptor is open for as long as the call.
    let _ = unsafe { libc::ioctl(disk.as_raw_fd(), BLKRRPART as _) };
}

/// Adds one partition to those the kernel knows of a disk. Reading the whole table anew, the usual
/// way, is refused while a partition is mounted. `start` and `length` are in bytes.
#[allow(unsafe_code)]
pub(super) fn add_partition(
    disk: &File,
    number: u32,
    start: u64,
    length: u64,
) -> std::io::Result<()> {
    let number_too_large = |_| std::io::Error::from(std::io::ErrorKind::InvalidInput);
    let mut partition = NewPartition {
        start: start.try_into().map_err(number_too_large)?,
        length: length.try_into().map_err(number_too_large)?,
        pno: number.try_into().map_err(number_too_large)?,
        devname: [0; 64],
        volname: [0; 64],
    };
    let mut argument = Argument {
        op: BLKPG_ADD_PARTITION,
        flags: 0,
        datalen: size_of::<NewPartition>() as c_int,
        data: (&raw mut partition).cast(),
    };
    // SAFETY: both structures have the kernel's layout and live until the call returns; the kernel
    // reads `datalen` bytes of the second at most.
    let result = unsafe { libc::ioctl(disk.as_raw_fd(), BLKPG as _, &raw mut argument) };
    Errno::result(result).map(drop).map_err(Into::into)
}
