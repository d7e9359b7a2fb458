//! FAT32 file systems, by the `fatfs` crate.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, Write as _};
use std::sync::Arc;

use fatfs::{Date, DateTime, FatType, FileSystem, FormatVolumeOptions, FsOptions, Time};
use uuid::Uuid;

use super::fat_dots;
use super::plan::Extent;
use super::window::Window;

/// Up to here clusters have one sector: FAT32 needs 65,525 of them even on a small partition.
/// Microsoft's format uses the same bound.
const SMALL_CLUSTERS_BELOW: u64 = 260 << 20;

/// Files of one partition: path with `/` between its parts, and contents.
pub(super) type Files<'a> = BTreeMap<String, &'a [u8]>;

/// Makes a file system in `extent` and writes `files` into it. Times are `built`, seconds since
/// 1970; the volume's serial number comes from the partition's GUID.
pub(super) fn write(
    file: &Arc<File>,
    extent: Extent,
    label: &str,
    guid: Uuid,
    built: u64,
    files: &Files<'_>,
) -> io::Result<()> {
    let cluster = match extent.bytes < SMALL_CLUSTERS_BELOW {
        true => 512,
        false => 4096,
    };
    let options = FormatVolumeOptions::new()
        .fat_type(FatType::Fat32)
        .bytes_per_cluster(cluster)
        .volume_id(volume_id(guid))
        .volume_label(padded(label));
    fatfs::format_volume(Window::new(file.clone(), extent), options)?;

    // fatfs takes its clock by reference for ever: a few bytes a file system, twice a run
    let clock: &'static BuildTime = Box::leak(Box::new(BuildTime::new(built)?));
    let open = || {
        let window = Window::new(file.clone(), extent);
        FileSystem::new(window, FsOptions::new().time_provider(clock))
    };
    let directories: BTreeSet<&str> = files
        .keys()
        .flat_map(|path| path.match_indices('/').map(|(slash, _)| &path[..slash]))
        .collect();
    let fat = open()?;
    for directory in &directories {
        fat.root_dir().create_dir(directory)?;
    }
    fat.unmount()?;
    fat_dots::mend(&mut Window::new(file.clone(), extent), directories.len())?;

    let fat = open()?;
    for (path, contents) in files {
        let mut file = fat.root_dir().create_file(path)?;
        file.write_all(contents)?;
        file.flush()?;
    }
    // has the free clusters counted, so that unmounting records their number
    fat.stats()?;
    fat.unmount()
}

/// The volume's serial number: the first four bytes of the GUID.
pub(super) fn volume_id(guid: Uuid) -> u32 {
    guid.as_fields().0
}

fn padded(label: &str) -> [u8; 11] {
    let mut padded = [b' '; 11];
    for (to, from) in padded.iter_mut().zip(label.bytes()) {
        *to = from;
    }
    padded
}

/// The one time that every file carries. FAT keeps local time; UTC is as good as any and the same
/// everywhere.
#[derive(Debug)]
struct BuildTime(DateTime);

impl BuildTime {
    fn new(seconds: u64) -> io::Result<BuildTime> {
        let wrong = |_| io::Error::new(io::ErrorKind::InvalidInput, "the build time is no time");
        let seconds = i64::try_from(seconds).map_err(|_| wrong(()))?;
        let time = jiff::Timestamp::from_second(seconds)
            .map_err(|_| wrong(()))?
            .to_zoned(jiff::tz::TimeZone::UTC);
        let part = |value: i8| u16::try_from(value).unwrap_or(0);
        // what FAT can say begins in 1980 and ends in 2107
        let year = u16::try_from(time.year()).unwrap_or(0);
        let date = match (1980..=2107).contains(&year) {
            true => Date {
                year,
                month: part(time.month()),
                day: part(time.day()),
            },
            false => Date {
                year: year.clamp(1980, 2107),
                month: 1,
                day: 1,
            },
        };
        Ok(BuildTime(DateTime {
            date,
            time: Time {
                hour: part(time.hour()),
                min: part(time.minute()),
                sec: part(time.second()),
                millis: 0,
            },
        }))
    }
}

impl fatfs::TimeProvider for BuildTime {
    fn get_current_date(&self) -> Date {
        self.0.date
    }

    fn get_current_date_time(&self) -> DateTime {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::FileExt;

    use super::*;
    use crate::image::testing::run;

    #[test]
    fn fsck_finds_nothing_wrong_and_files_come_back() {
        let directory = tempfile::tempdir().unwrap();
        // a small partition and one with larger clusters
        for megabytes in [34_u64, 64, 300] {
            let path = directory.path().join("fat");
            let file = Arc::new(
                File::options()
                    .read(true)
                    .write(true)
                    .create(true)
                    .truncate(true)
                    .open(&path)
                    .unwrap(),
            );
            let extent = Extent {
                start: 0,
                bytes: megabytes << 20,
            };
            file.set_len(extent.bytes).unwrap();
            let large = vec![7; 3_000_000];
            let files: Files<'_> = [
                ("EFI/BOOT/BOOTX64.EFI".to_owned(), large.as_slice()),
                (
                    "loader/entries/haulboot-x86_64-configured.conf".to_owned(),
                    b"title",
                ),
                ("cluster.yaml".to_owned(), b"name: edge\n"),
            ]
            .into();
            let guid = Uuid::from_u128(0x1234_5678_0000_0000_0000_0000_0000_0001);
            write(&file, extent, "HAULCFG", guid, 1_700_000_000, &files).unwrap();

            let said = run("fsck.fat", ["-nv".as_ref(), path.as_os_str()], "dosfstools");
            assert!(said.contains("32 bit entries"), "{said}");
            let fat = FileSystem::new(Window::new(file.clone(), extent), FsOptions::new()).unwrap();
            assert_eq!(fat.fat_type(), FatType::Fat32);
            assert_eq!(fat.volume_id(), 0x1234_5678);
            let mut back = Vec::new();
            let mut boot = fat.root_dir().open_file("EFI/BOOT/BOOTX64.EFI").unwrap();
            io::Read::read_to_end(&mut boot, &mut back).unwrap();
            assert_eq!(back, large);
            for entry in fat.root_dir().iter().map(Result::unwrap) {
                assert_eq!(entry.modified().date.year, 2023, "{}", entry.file_name());
            }
        }
    }

    #[test]
    fn a_file_that_does_not_fit_is_an_error() {
        let file = Arc::new(tempfile::tempfile().unwrap());
        let extent = Extent {
            start: 0,
            bytes: 34 << 20,
        };
        file.set_len(extent.bytes).unwrap();
        let large = vec![7; 35 << 20];
        let files: Files<'_> = [("large".to_owned(), large.as_slice())].into();
        assert!(write(&file, extent, "ESP", Uuid::nil(), 0, &files).is_err());
    }

    #[test]
    fn times_outside_of_what_fat_can_say_are_kept_in_bounds() {
        assert_eq!(BuildTime::new(0).unwrap().0.date.year, 1980);
        assert_eq!(BuildTime::new(5_000_000_000).unwrap().0.date.year, 2107);
        assert!(BuildTime::new(u64::MAX).is_err());
    }

    #[test]
    fn the_partition_before_and_after_stay_as_they_were() {
        let file = Arc::new(tempfile::tempfile().unwrap());
        let extent = Extent {
            start: 1 << 20,
            bytes: 34 << 20,
        };
        file.set_len(36 << 20).unwrap();
        write(&file, extent, "ESP", Uuid::nil(), 0, &Files::new()).unwrap();
        let mut edge = [0; 512];
        file.read_exact_at(&mut edge, (1 << 20) - 512).unwrap();
        assert_eq!(edge, [0; 512]);
        file.read_exact_at(&mut edge, extent.end()).unwrap();
        assert_eq!(edge, [0; 512]);
    }
}
