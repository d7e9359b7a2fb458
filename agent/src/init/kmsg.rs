//! The kernel's log: writing PID 1's lines into it, and reading it for what a person should know.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::OpenOptionsExt;

use image_layout::status::MissingFirmware;

use super::text::one_line;

/// The log device (Linux: Documentation/ABI/testing/dev-kmsg).
const KMSG: &str = "/dev/kmsg";
/// What every line of PID 1 begins with.
const PREFIX: &str = "haulboot: ";
/// The kernel cuts records at about 1000 bytes; with prefix and level this stays below.
const RECORD_CHARACTERS: usize = 900;
/// The kernel's largest record, with its dictionary.
const RECORD_BYTES: usize = 8 << 10;
/// Records taken in one turn of the loop, so that a chatty driver does not stop it.
const RECORDS_A_TURN: usize = 200;

/// How grave a line is, by syslog's numbers.
#[derive(Clone, Copy, Debug)]
pub(super) enum Level {
    /// PID 1 itself is in trouble. The kernel puts it on the console.
    Error = 3,
    /// Something failed, and the console says so in our own words.
    Warning = 4,
    /// Something a person should know.
    Notice = 5,
    /// What happened.
    Info = 6,
}

/// Writes to the kernel's log; silently nowhere where there is none.
#[derive(Debug)]
pub(super) struct KmsgWriter(Option<File>);

impl KmsgWriter {
    /// Opens the log. `/dev` must be mounted.
    pub(super) fn open() -> KmsgWriter {
        // without this the kernel drops lines of user space beyond ten in five seconds
        let _ = std::fs::write("/proc/sys/kernel/printk_devkmsg", "on\n");
        KmsgWriter(OpenOptions::new().write(true).open(KMSG).ok())
    }

    /// Writes one line.
    pub(super) fn line(&mut self, level: Level, text: &str) {
        if let Some(file) = &mut self.0 {
            let text = one_line(text, RECORD_CHARACTERS);
            // one write(2) is one record, so no buffered writer
            let record = format!("<{}>{PREFIX}{text}\n", level as u8);
            let _ = file.write_all(record.as_bytes());
        }
    }
}

/// One record of the kernel's log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Record {
    /// Syslog's level, 0 to 7.
    pub(super) level: u8,
    /// Microseconds since the kernel started.
    pub(super) micros: u64,
    /// The text.
    pub(super) text: String,
}

impl Record {
    /// Reads `level,sequence,microseconds,flags;text` and drops the dictionary behind it.
    fn parse(bytes: &[u8]) -> Option<Record> {
        let record = String::from_utf8_lossy(bytes);
        let (head, rest) = record.split_once(';')?;
        let mut fields = head.split(',');
        let priority: u32 = fields.next()?.parse().ok()?;
        let micros = fields.nth(1)?.parse().ok()?;
        Some(Record {
            level: u8::try_from(priority & 7).ok()?,
            micros,
            text: one_line(rest.lines().next().unwrap_or_default(), RECORD_CHARACTERS),
        })
    }

    /// Whether PID 1 itself wrote it.
    pub(super) fn is_ours(&self) -> bool {
        self.text.starts_with(PREFIX)
    }
}

/// Reads the kernel's log from its beginning.
#[derive(Debug)]
pub(super) struct KmsgReader {
    file: File,
}

impl KmsgReader {
    /// Opens the log, or `None` where there is none.
    pub(super) fn open() -> Option<KmsgReader> {
        let nonblock = i32::try_from(rustix::fs::OFlags::NONBLOCK.bits()).ok()?;
        let file = OpenOptions::new()
            .read(true)
            .custom_flags(nonblock)
            .open(KMSG)
            .ok()?;
        Some(KmsgReader { file })
    }

    /// The descriptor to poll.
    pub(super) fn file(&self) -> &File {
        &self.file
    }

    /// What has been written since, at most a turn's worth.
    pub(super) fn read(&mut self) -> Vec<Record> {
        let mut records = Vec::new();
        let mut buffer = vec![0; RECORD_BYTES];
        for _ in 0..RECORDS_A_TURN {
            match self.file.read(&mut buffer) {
                Ok(0) => break,
                Ok(length) => records.extend(buffer.get(..length).and_then(Record::parse)),
                // EPIPE: records were overwritten before we read them; the next read goes on
                Err(error) if error.kind() == ErrorKind::BrokenPipe => {}
                Err(_) => break,
            }
        }
        records
    }
}

/// Reads "this driver did not get its firmware" out of a line of the kernel's log.
///
/// Two wordings are known: the kernel's own (`drivers/base/firmware_loader/main.c`),
/// `r8169 0000:03:00.0: Direct firmware load for rtl_nic/x.fw failed with error -2`, and Debian's,
/// `r8169 0000:03:00.0: firmware: failed to load rtl_nic/x.fw (-2)`. Before the colon stand driver
/// and device, as `dev_printk` puts them; a bus may stand in for a missing driver.
pub(super) fn missing_firmware(text: &str) -> Option<MissingFirmware> {
    let (who, file) = if let Some((who, rest)) = text.split_once(": Direct firmware load for ") {
        (who, rest.split_once(" failed with error ")?.0)
    } else {
        let (who, rest) = text.split_once(": firmware: failed to load ")?;
        (who, rest.rsplit_once(" (")?.0)
    };
    let (driver, device) = who.split_once(' ')?;
    // behind the device may stand the name of its interface: `e100 0000:02:08.0 eth1`
    Some(MissingFirmware {
        driver: driver.to_owned(),
        device: device.trim().to_owned(),
        file: file.to_owned(),
    })
}

/// The network interface of a device named as in the log (`0000:03:00.0`), if it has one by now.
pub(super) fn interface_of(device: &str) -> Option<String> {
    if device.contains('/') || device.starts_with('.') {
        return None;
    }
    for bus in ["pci", "usb", "platform", "sdio", "mdio_bus", "virtio"] {
        let path = format!("/sys/bus/{bus}/devices/{device}/net");
        if let Ok(mut entries) = std::fs::read_dir(path)
            && let Some(Ok(entry)) = entries.next()
        {
            return entry.file_name().into_string().ok();
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_read_without_its_dictionary() {
        let record = Record::parse(b"4,512,1234567,-;usb 1-1: hello\n SUBSYSTEM=usb\n").unwrap();
        assert_eq!(record.level, 4);
        assert_eq!(record.micros, 1_234_567);
        assert_eq!(record.text, "usb 1-1: hello");
        assert!(Record::parse(b"garbage").is_none());
    }

    #[test]
    fn facility_bits_do_not_change_the_level() {
        assert_eq!(Record::parse(b"30,1,2,-;haulboot: x").unwrap().level, 6);
        assert!(Record::parse(b"30,1,2,-;haulboot: x").unwrap().is_ours());
    }

    #[test]
    fn both_wordings_of_missing_firmware_are_understood() {
        let wanted = MissingFirmware {
            driver: "r8169".into(),
            device: "0000:03:00.0".into(),
            file: "rtl_nic/rtl8168h-2.fw".into(),
        };
        for text in [
            "r8169 0000:03:00.0: Direct firmware load for rtl_nic/rtl8168h-2.fw failed with error -2",
            "r8169 0000:03:00.0: firmware: failed to load rtl_nic/rtl8168h-2.fw (-2)",
        ] {
            assert_eq!(missing_firmware(text), Some(wanted.clone()), "{text}");
        }
        let named = missing_firmware(
            "e100 0000:02:08.0 eth1: Direct firmware load for e100/d101m_ucode.bin failed with error -2",
        )
        .unwrap();
        assert_eq!(
            (named.driver.as_str(), named.device.as_str()),
            ("e100", "0000:02:08.0 eth1")
        );
        assert_eq!(
            missing_firmware("r8169 0000:03:00.0: firmware: direct-loading firmware x"),
            None
        );
        assert_eq!(missing_firmware("usb 1-1: new device"), None);
    }
}
