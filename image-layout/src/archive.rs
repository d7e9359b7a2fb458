//! The entries of a tar archive, front to back, with a bound on everything kept in memory.
//!
//! The `tar` crate parses the headers. Its own iterator reads long names and extended headers of
//! any length into memory, which an archive from elsewhere must not be able to ask for; hence the
//! walk from header to header is here. ustar, GNU and pax (POSIX.1-2017, pax, "ustar Interchange
//! Format", "pax Extended Header").

use std::fmt;
use std::io::{self, Read, Seek};

use tar::{EntryType, Header};

/// Bytes of a block: headers are one, data is filled up to whole ones.
const BLOCK: usize = 512;
/// Bytes of a long name or an extended header. Linux allows paths of 4 KiB.
const EXTENSION_BYTES: u64 = 64 << 10;
/// Bytes that may follow the end of the archive: tar fills up to whole records.
const PADDING_BYTES: u64 = 64 << 20;

/// What an entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EntryKind {
    /// A file with data.
    File,
    /// A directory.
    Directory,
    /// Symbolic link.
    Symlink,
    /// Hard link.
    Link,
    /// A device, FIFO, or sparse file.
    Special,
    /// A vendor's own type, to be passed over.
    Unknown,
}

/// One entry; its data is read from the [`TarReader`].
#[derive(Debug)]
pub struct TarEntry {
    /// Its name; what is no UTF-8 is replaced.
    pub name: String,
    /// What it is.
    pub kind: EntryKind,
    /// Bytes of data.
    pub size: u64,
    /// Modification time, seconds since 1970.
    pub mtime: u64,
    /// Permissions.
    pub mode: u32,
    /// Where a link leads.
    pub link: Vec<u8>,
}

/// Why reading on is not possible.
#[derive(Debug)]
pub enum TarError {
    /// The source failed or ended early.
    Io(io::Error),
    /// The archive is malformed: what, and at which byte.
    Structure(&'static str, u64),
}

impl fmt::Display for TarError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TarError::Io(error) => error.fmt(f),
            TarError::Structure(what, at) => write!(f, "{what} at byte {at}"),
        }
    }
}

impl std::error::Error for TarError {}

impl From<io::Error> for TarError {
    fn from(error: io::Error) -> TarError {
        TarError::Io(error)
    }
}

/// Whether `block` is a tar header: its checksum is right.
pub fn is_header(block: &[u8]) -> bool {
    let Some(block) = block.first_chunk::<BLOCK>() else {
        return false;
    };
    if block.iter().all(|byte| *byte == 0) {
        return false;
    }
    // the checksum's own eight bytes count as spaces; some old tars summed signed bytes
    let counted = |(at, byte): (usize, &u8)| {
        if (148..156).contains(&at) {
            b' '
        } else {
            *byte
        }
    };
    let unsigned: u32 = block
        .iter()
        .enumerate()
        .map(|b| u32::from(counted(b)))
        .sum();
    let signed: i32 = block
        .iter()
        .enumerate()
        .map(|b| i32::from(counted(b).cast_signed()))
        .sum();
    Header::from_byte_slice(block)
        .cksum()
        .is_ok_and(|said| said == unsigned || i64::from(said) == i64::from(signed))
}

/// What extension headers said about the next entry.
#[derive(Default)]
struct Extension {
    name: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    size: Option<u64>,
    mtime: Option<u64>,
    sparse: bool,
}

/// Reads a tar archive.
#[derive(Debug)]
pub struct TarReader<R> {
    source: R,
    /// Passes over bytes of the source and says how many those were; fewer only at its end.
    skip: fn(&mut R, u64) -> io::Result<u64>,
    offset: u64,
    /// Data of the current entry that was not read yet, and its padding.
    left: u64,
    padding: u64,
    /// Whether the archive's own end was read.
    ended: bool,
}

impl<R: Read> TarReader<R> {
    /// Reads from the start of `source`, and every byte of it.
    pub fn new(source: R) -> Self {
        TarReader::with(source, |source, count| {
            io::copy(&mut source.take(count), &mut io::sink())
        })
    }

    /// Reads headers and what is asked for; of everything else it only steps over. Where an entry
    /// ends behind the end of `source` is the caller's to see: [`TarReader::offset`] and
    /// [`TarEntry::size`] say it.
    pub fn seeking(source: R) -> Self
    where
        R: Seek,
    {
        TarReader::with(source, |source, count| {
            let step = i64::try_from(count).map_err(io::Error::other)?;
            source.seek_relative(step)?;
            Ok(count)
        })
    }

    fn with(source: R, skip: fn(&mut R, u64) -> io::Result<u64>) -> Self {
        TarReader {
            source,
            skip,
            offset: 0,
            left: 0,
            padding: 0,
            ended: false,
        }
    }

    /// Offset in the source of the next byte: after [`TarReader::next`], of the entry's data.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// Whether the archive's own end was read: what fails after it belongs to no entry.
    pub fn ended(&self) -> bool {
        self.ended
    }

    /// The next entry; `None` at the end. What was not read of the one before is passed over.
    ///
    /// Not an iterator's: the entry's data is read from the reader itself.
    #[allow(clippy::should_implement_trait)]
    pub fn next(&mut self) -> Result<Option<TarEntry>, TarError> {
        let mut extension = Extension::default();
        loop {
            self.pass(self.left.saturating_add(self.padding))?;
            (self.left, self.padding) = (0, 0);
            let at = self.offset;
            let mut block = [0; BLOCK];
            self.source.read_exact(&mut block)?;
            self.offset += BLOCK as u64;
            if block.iter().all(|byte| *byte == 0) {
                self.ended = true;
                self.finish()?;
                return Ok(None);
            }
            if !is_header(&block) {
                return Err(TarError::Structure("no valid tar header", at));
            }
            let header = Header::from_byte_slice(&block);
            let malformed = |_| TarError::Structure("a tar header with a malformed number", at);
            let size = header.entry_size().map_err(malformed)?;
            match header.entry_type() {
                EntryType::GNULongName => {
                    extension.name = Some(to_zero(self.extension(size, at)?));
                }
                EntryType::GNULongLink => {
                    extension.link = Some(to_zero(self.extension(size, at)?));
                }
                EntryType::XGlobalHeader => {
                    self.extension(size, at)?;
                }
                EntryType::XHeader => {
                    let records = self.extension(size, at)?;
                    pax(&records, &mut extension)
                        .ok_or(TarError::Structure("a malformed pax header", at))?;
                }
                kind => return self.entry(header, kind, size, extension, at).map(Some),
            }
        }
    }

    fn entry(
        &mut self,
        header: &Header,
        kind: EntryType,
        size: u64,
        extension: Extension,
        at: u64,
    ) -> Result<TarEntry, TarError> {
        let name = extension.name.as_deref();
        let name = name.map_or_else(|| header.path_bytes(), Into::into);
        let name = String::from_utf8_lossy(&name).into_owned();
        let kind = match kind {
            _ if extension.sparse => EntryKind::Special,
            // before POSIX a slash at the end made a directory
            EntryType::Regular | EntryType::Continuous if name.ends_with('/') => {
                EntryKind::Directory
            }
            EntryType::Regular | EntryType::Continuous => EntryKind::File,
            EntryType::Directory => EntryKind::Directory,
            EntryType::Symlink => EntryKind::Symlink,
            EntryType::Link => EntryKind::Link,
            EntryType::Char | EntryType::Block | EntryType::Fifo | EntryType::GNUSparse => {
                EntryKind::Special
            }
            _ => EntryKind::Unknown,
        };
        let size = match kind {
            EntryKind::File | EntryKind::Unknown => extension.size.unwrap_or(size),
            // these have no data, whatever their headers say
            EntryKind::Directory | EntryKind::Symlink | EntryKind::Link | EntryKind::Special => 0,
        };
        let link = match kind {
            EntryKind::Symlink | EntryKind::Link => extension.link.unwrap_or_else(|| {
                header
                    .link_name_bytes()
                    .map_or_else(Vec::new, |link| link.into_owned())
            }),
            _ => Vec::new(),
        };
        self.expect(size, at)?;
        Ok(TarEntry {
            name,
            kind,
            size,
            mtime: extension.mtime.or_else(|| header.mtime().ok()).unwrap_or(0),
            mode: header.mode().unwrap_or(0),
            link,
        })
    }

    /// Makes the next `size` bytes the data that [`Read`] gives out.
    fn expect(&mut self, size: u64, at: u64) -> Result<(), TarError> {
        let filled = size
            .checked_next_multiple_of(BLOCK as u64)
            .filter(|filled| i64::try_from(*filled).is_ok())
            .ok_or(TarError::Structure("an entry of an impossible size", at))?;
        self.left = size;
        self.padding = filled - size;
        Ok(())
    }

    /// The data of an extension header.
    fn extension(&mut self, size: u64, at: u64) -> Result<Vec<u8>, TarError> {
        if size > EXTENSION_BYTES {
            return Err(TarError::Structure(
                "a name or extended header that is too long",
                at,
            ));
        }
        self.expect(size, at)?;
        let mut data = vec![0; usize::try_from(size).unwrap_or(0)];
        self.read_exact(&mut data)?;
        Ok(data)
    }

    /// Reads `count` bytes and forgets them.
    fn pass(&mut self, count: u64) -> Result<(), TarError> {
        let passed = (self.skip)(&mut self.source, count)?;
        self.offset = self.offset.saturating_add(passed);
        if passed < count {
            return Err(TarError::Io(io::ErrorKind::UnexpectedEof.into()));
        }
        Ok(())
    }

    /// Reads the source to its end: the decoder checks its sum only there.
    fn finish(&mut self) -> Result<(), TarError> {
        let start = self.offset;
        let mut buffer = [0; 8192];
        loop {
            let read = match self.source.read(&mut buffer) {
                Ok(0) => return Ok(()),
                Ok(read) => read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error.into()),
            };
            if buffer.iter().take(read).any(|byte| *byte != 0) {
                return Err(TarError::Structure(
                    "more data after the archive's end",
                    self.offset,
                ));
            }
            self.offset += read as u64;
            if self.offset - start > PADDING_BYTES {
                return Err(TarError::Structure(
                    "endless padding after the archive's end",
                    start,
                ));
            }
        }
    }
}

impl<R: Read> Read for TarReader<R> {
    /// Reads the data of the current entry.
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = usize::try_from(self.left)
            .unwrap_or(usize::MAX)
            .min(buffer.len());
        if most == 0 {
            return Ok(0);
        }
        let Some(buffer) = buffer.get_mut(..most) else {
            return Ok(0);
        };
        let read = self.source.read(buffer)?;
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.left -= read as u64;
        self.offset += read as u64;
        Ok(read)
    }
}

/// A string as GNU's extensions have it, without the zero at its end.
fn to_zero(mut bytes: Vec<u8>) -> Vec<u8> {
    let end = bytes.iter().position(|b| *b == 0).unwrap_or(bytes.len());
    bytes.truncate(end);
    bytes
}

/// Reads pax records, `LENGTH KEY=VALUE\n`. A value may have line breaks, so the length decides.
fn pax(mut records: &[u8], extension: &mut Extension) -> Option<()> {
    while !records.is_empty() {
        let space = records.iter().position(|byte| *byte == b' ')?;
        let length: usize = std::str::from_utf8(records.get(..space)?)
            .ok()?
            .parse()
            .ok()?;
        let record = records.get(space + 1..length)?.strip_suffix(b"\n")?;
        let equals = record.iter().position(|byte| *byte == b'=')?;
        let value = record.get(equals + 1..)?;
        let number = || {
            let whole = value.split(|byte| *byte == b'.').next()?;
            std::str::from_utf8(whole).ok()?.parse::<u64>().ok()
        };
        match record.get(..equals)? {
            b"path" => extension.name = Some(value.to_vec()),
            b"linkpath" => extension.link = Some(value.to_vec()),
            b"size" => extension.size = Some(number()?),
            // times before 1970 are of no interest
            b"mtime" => extension.mtime = number(),
            key if key.starts_with(b"GNU.sparse.") => extension.sparse = true,
            _ => {}
        }
        records = records.get(length..)?;
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block(name: &str, kind: EntryType, size: u64) -> Vec<u8> {
        let mut header = Header::new_ustar();
        header.set_entry_type(kind);
        header.set_size(size);
        header.set_mtime(7);
        let field = &mut header.as_mut_bytes()[..name.len()];
        field.copy_from_slice(name.as_bytes());
        header.set_cksum();
        header.as_bytes().to_vec()
    }

    fn with_data(name: &str, kind: EntryType, data: &[u8]) -> Vec<u8> {
        let mut bytes = block(name, kind, data.len() as u64);
        bytes.extend_from_slice(data);
        bytes.resize(bytes.len().next_multiple_of(BLOCK), 0);
        bytes
    }

    /// Name, kind, modification time, data.
    type Seen = (String, EntryKind, u64, Vec<u8>);

    fn read(bytes: &[u8]) -> Result<Vec<Seen>, TarError> {
        let mut reader = TarReader::new(bytes);
        let mut entries = Vec::new();
        while let Some(entry) = reader.next()? {
            let mut data = Vec::new();
            reader.read_to_end(&mut data)?;
            entries.push((entry.name, entry.kind, entry.mtime, data));
        }
        Ok(entries)
    }

    const END: [u8; 1024] = [0; 1024];

    #[test]
    fn long_names_of_gnu_and_pax_are_put_together() {
        let long = "d/".repeat(200) + "file";
        let pax = format!(
            "{} path={long}\n19 mtime=1700000.5\n14 size=00003\n",
            long.len() + 10
        );
        let gnu_name = with_data(
            "././@LongLink",
            EntryType::GNULongName,
            format!("{long}\0").as_bytes(),
        );
        let archive = [
            gnu_name,
            with_data("short", EntryType::Regular, b"abc"),
            with_data("PaxHeaders/0", EntryType::XHeader, pax.as_bytes()),
            with_data("short", EntryType::Regular, b"def"),
            END.to_vec(),
        ]
        .concat();
        let entries = read(&archive).unwrap();
        assert_eq!(
            entries[0],
            (long.clone(), EntryKind::File, 7, b"abc".to_vec())
        );
        assert_eq!(
            entries[1],
            (long, EntryKind::File, 1_700_000, b"def".to_vec())
        );
    }

    #[test]
    fn links_devices_and_directories_are_told_apart() {
        for (kind, seen) in [
            (EntryType::Symlink, EntryKind::Symlink),
            (EntryType::Link, EntryKind::Link),
            (EntryType::Char, EntryKind::Special),
            (EntryType::Fifo, EntryKind::Special),
            (EntryType::Directory, EntryKind::Directory),
            (EntryType::new(b'V'), EntryKind::Unknown),
        ] {
            let entries = read(&[block("x", kind, 0), END.to_vec()].concat()).unwrap();
            assert_eq!(entries[0].1, seen, "{kind:?}");
        }
    }

    #[test]
    fn what_is_cut_off_is_an_early_end_wherever_it_is_cut() {
        let archive = [with_data("a", EntryType::Regular, &[1; 700]), END.to_vec()].concat();
        for length in 0..BLOCK + 1024 {
            let error = read(&archive[..length]).unwrap_err();
            assert!(
                matches!(&error, TarError::Io(error) if error.kind() == io::ErrorKind::UnexpectedEof),
                "{length}: {error:?}"
            );
        }
        // one block of zeros is an end, the second is a custom
        assert!(read(&archive[..archive.len() - BLOCK]).is_ok());
    }

    #[test]
    fn sizes_that_lie_cost_no_memory() {
        for kind in [
            EntryType::GNULongName,
            EntryType::XHeader,
            EntryType::GNULongLink,
        ] {
            let mut header = Header::new_gnu();
            header.set_entry_type(kind);
            header.set_size(1 << 40);
            header.set_cksum();
            assert!(
                matches!(read(header.as_bytes()), Err(TarError::Structure(..))),
                "{kind:?}"
            );
        }
        let mut header = Header::new_gnu();
        header.set_size(u64::MAX - 5);
        header.set_cksum();
        assert!(matches!(
            read(header.as_bytes()),
            Err(TarError::Structure(..))
        ));
    }

    #[test]
    fn nothing_may_follow_the_end() {
        let mut archive = [with_data("a", EntryType::Regular, b"1"), END.to_vec()].concat();
        archive.extend_from_slice(&with_data("b", EntryType::Regular, b"2"));
        assert!(matches!(read(&archive), Err(TarError::Structure(..))));
    }
}
