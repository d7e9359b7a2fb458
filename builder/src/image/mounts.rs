//! Whether a block device is in use.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// A device's numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct DeviceNumber {
    pub(super) major: u32,
    pub(super) minor: u32,
}

/// Where the kernel tells of devices and mounts; another root in tests.
#[derive(Debug)]
pub(super) struct Kernel {
    mountinfo: PathBuf,
    sys: PathBuf,
}

impl Default for Kernel {
    fn default() -> Kernel {
        Kernel {
            mountinfo: "/proc/self/mountinfo".into(),
            sys: "/sys".into(),
        }
    }
}

impl Kernel {
    /// Where a device, one of its partitions, or something built upon them (LVM, RAID, dm-crypt)
    /// is mounted or in use; none if it is free.
    pub(super) fn use_of(&self, device: DeviceNumber) -> io::Result<Option<String>> {
        let mountinfo = fs::read_to_string(&self.mountinfo)?;
        let directory = self
            .sys
            .join(format!("dev/block/{}:{}", device.major, device.minor));
        self.use_of_directory(&directory, device, &mountinfo, 0)
    }

    fn use_of_directory(
        &self,
        directory: &Path,
        device: DeviceNumber,
        mountinfo: &str,
        depth: u32,
    ) -> io::Result<Option<String>> {
        if let Some(place) = mount_point(mountinfo, device) {
            return Ok(Some(format!("it is mounted at {place}")));
        }
        // what is stacked upon devices is stacked a few times at most
        if depth > 8 || !directory.exists() {
            return Ok(None);
        }
        // partitions are directories with a file `partition`; holders are links to devices
        let mut inside = Vec::new();
        for entry in fs::read_dir(directory)? {
            let path = entry?.path();
            if path.join("partition").exists() {
                inside.push(path);
            }
        }
        let holders = directory.join("holders");
        if holders.exists() {
            for entry in fs::read_dir(&holders)? {
                inside.push(entry?.path());
            }
        }
        for path in inside {
            let Some(number) = read_number(&path.join("dev"))? else {
                continue;
            };
            if let Some(why) = self.use_of_directory(&path, number, mountinfo, depth + 1)? {
                let name = path.file_name().unwrap_or_default().to_string_lossy();
                return Ok(Some(match why.strip_prefix("it is") {
                    Some(rest) => format!("{name} on it is{rest}"),
                    None => why,
                }));
            }
        }
        Ok(None)
    }
}

fn read_number(path: &Path) -> io::Result<Option<DeviceNumber>> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(parse_number(text.trim())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn parse_number(text: &str) -> Option<DeviceNumber> {
    let (major, minor) = text.split_once(':')?;
    Some(DeviceNumber {
        major: major.parse().ok()?,
        minor: minor.parse().ok()?,
    })
}

/// The mount point of a device: fields 3 and 5 of a line (proc_pid_mountinfo(5)). The kernel
/// writes blanks in octal.
fn mount_point(mountinfo: &str, device: DeviceNumber) -> Option<String> {
    mountinfo.lines().find_map(|line| {
        let mut fields = line.split(' ').skip(2);
        let number = parse_number(fields.next()?)?;
        let place = (number == device).then(|| fields.nth(1)).flatten()?;
        Some(place.replace("\\040", " "))
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    /// sda with sda1 (mounted), sda2 (below dm-0, which is mounted); sdb with sdb1, free.
    fn machine() -> (tempfile::TempDir, Kernel) {
        let root = tempfile::tempdir().unwrap();
        let devices = root.path().join("sys/devices");
        for (path, number) in [
            ("sda", "8:0"),
            ("sda/sda1", "8:1"),
            ("sdb", "8:16"),
            ("sdb/sdb1", "8:17"),
            ("sdc", "8:32"),
            ("sdc/sdc1", "8:33"),
            ("dm-0", "253:0"),
        ] {
            let directory = devices.join(path);
            fs::create_dir_all(directory.join("holders")).unwrap();
            fs::write(directory.join("dev"), format!("{number}\n")).unwrap();
            if path.contains('/') {
                fs::write(directory.join("partition"), "1\n").unwrap();
            }
            let links = root.path().join("sys/dev/block");
            fs::create_dir_all(&links).unwrap();
            symlink(&directory, links.join(number)).unwrap();
        }
        symlink(devices.join("dm-0"), devices.join("sdc/sdc1/holders/dm-0")).unwrap();
        let mountinfo = root.path().join("mountinfo");
        fs::write(
            &mountinfo,
            "22 1 8:1 / /boot\\040files rw,relatime shared:1 - ext4 /dev/sda1 rw\n\
             23 1 253:0 / /home rw - ext4 /dev/mapper/home rw\n\
             24 1 0:22 / /proc rw - proc proc rw\n",
        )
        .unwrap();
        let kernel = Kernel {
            mountinfo,
            sys: root.path().join("sys"),
        };
        (root, kernel)
    }

    #[test]
    fn a_mounted_device_partition_or_holder_is_found_and_a_free_disk_is_free() {
        let (_root, kernel) = machine();
        let use_of = |major, minor| kernel.use_of(DeviceNumber { major, minor }).unwrap();
        assert_eq!(use_of(8, 1).unwrap(), "it is mounted at /boot files");
        assert_eq!(
            use_of(8, 0).unwrap(),
            "sda1 on it is mounted at /boot files"
        );
        assert_eq!(use_of(8, 32).unwrap(), "dm-0 on it is mounted at /home");
        assert_eq!(use_of(8, 16), None);
    }

    #[test]
    fn the_root_of_this_machine_is_in_use() {
        let mountinfo = fs::read_to_string("/proc/self/mountinfo").unwrap();
        let line = mountinfo.lines().next().unwrap();
        let device = parse_number(line.split(' ').nth(2).unwrap()).unwrap();
        assert!(Kernel::default().use_of(device).unwrap().is_some());
    }
}
