//! A range of a file as a file of its own.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use super::plan::Extent;

/// Reads and writes `extent` of a file and nothing outside of it. Has a position of its own, so
/// that several windows of one file don't disturb each other.
#[derive(Clone, Debug)]
pub struct Window {
    file: Arc<File>,
    extent: Extent,
    position: u64,
}

impl Window {
    /// The bytes `extent` of `file`, from the first one on.
    pub fn new(file: Arc<File>, extent: Extent) -> Window {
        Window {
            file,
            extent,
            position: 0,
        }
    }

    /// How many of `wanted` bytes lie between the position and the end.
    fn room(&self, wanted: usize) -> usize {
        let left = self.extent.bytes.saturating_sub(self.position);
        usize::try_from(left).unwrap_or(usize::MAX).min(wanted)
    }
}

impl Read for Window {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let room = self.room(buffer.len());
        let read = self
            .file
            .read_at(&mut buffer[..room], self.extent.start + self.position)?;
        self.position += read as u64;
        Ok(read)
    }
}

impl Write for Window {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let room = self.room(bytes.len());
        let written = self
            .file
            .write_at(&bytes[..room], self.extent.start + self.position)?;
        self.position += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Seek for Window {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let target = match to {
            SeekFrom::Start(offset) => Some(offset),
            SeekFrom::End(offset) => self.extent.bytes.checked_add_signed(offset),
            SeekFrom::Current(offset) => self.position.checked_add_signed(offset),
        };
        self.position = target.ok_or_else(|| {
            io::Error::new(io::ErrorKind::InvalidInput, "a position before the start")
        })?;
        Ok(self.position)
    }
}

impl ext4_view::Ext4Read for Window {
    fn read(
        &mut self,
        start: u64,
        bytes: &mut [u8],
    ) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        self.position = start;
        Ok(self.read_exact(bytes)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_outside_of_the_window_is_read_or_written() {
        let file = tempfile::tempfile().unwrap();
        file.write_all_at(b"aaaaaaaaaa", 0).unwrap();
        let file = Arc::new(file);
        let mut window = Window::new(file.clone(), Extent { start: 2, bytes: 4 });

        window.write_all(b"bbbb").unwrap();
        assert!(window.write_all(b"c").is_err());
        assert_eq!(window.seek(SeekFrom::End(-2)).unwrap(), 2);
        let mut rest = Vec::new();
        window.read_to_end(&mut rest).unwrap();
        assert_eq!(rest, b"bb");
        assert!(window.seek(SeekFrom::Current(-5)).is_err());

        let mut all = [0; 10];
        file.read_exact_at(&mut all, 0).unwrap();
        assert_eq!(&all, b"aabbbbaaaa");
    }
}
