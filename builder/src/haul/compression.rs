//! Telling by its first bytes how a haul is packed, and unpacking it.

use std::io::{self, BufReader, Read};
use std::path::Path;

use super::error::{HaulError, Place};

/// Bytes that are looked at: a tar header.
pub(super) const SNIFFED: usize = 512;
/// Windows up to 2^27 bytes, 128 MiB, are given memory: what `zstd --long=27` writes and what
/// `zstd -d` takes without being asked.
const WINDOW_LOG_MAX: u32 = 27;
/// Bytes read from a file at once.
const READ: usize = 256 << 10;

/// What a file is by its first bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Packing {
    Zstd,
    Gzip,
    Tar,
    /// Read by nobody here; the program that unpacks it.
    Other(&'static str),
    /// No archive; what it looks like.
    Nothing(&'static str),
}

impl Packing {
    fn of(start: &[u8]) -> Packing {
        match start {
            [0x28, 0xb5, 0x2f, 0xfd, ..] => Packing::Zstd,
            // a skippable frame, which pzstd puts first
            [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Packing::Zstd,
            [0x1f, 0x8b, ..] => Packing::Gzip,
            [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Packing::Other("xz"),
            [b'B', b'Z', b'h', b'1'..=b'9', ..] => Packing::Other("bzip2"),
            [0x04, 0x22, 0x4d, 0x18, ..] | [0x02, 0x21, 0x4c, 0x18, ..] => Packing::Other("lz4"),
            [b'P', b'K', 3, 4, ..] => Packing::Nothing("a zip archive"),
            [0x7f, b'E', b'L', b'F', ..] => Packing::Nothing("a program"),
            [b'{', ..] => Packing::Nothing("JSON"),
            _ if image_layout::archive::is_header(start) => Packing::Tar,
            [0, ..] if start.iter().all(|byte| *byte == 0) => Packing::Nothing("nothing but zeros"),
            _ => Packing::Nothing("no tar archive, nor one packed by zstd or gzip"),
        }
    }
}

/// Whether a file that begins so is compressed by a program that Hauler uses.
pub(super) fn is_compressed(start: &[u8]) -> bool {
    matches!(
        Packing::of(start),
        Packing::Zstd | Packing::Gzip | Packing::Other(_)
    )
}

/// The tar archive in `source`, whatever it is packed in. `path` is for messages.
pub(super) fn open(
    mut source: impl Read + Send + 'static,
    path: &Path,
) -> Result<Box<dyn Read + Send>, HaulError> {
    let place = Place::of(path);
    let mut start = Vec::with_capacity(SNIFFED);
    source
        .by_ref()
        .take(SNIFFED as u64)
        .read_to_end(&mut start)
        .map_err(|error| place.read_error(error))?;
    let path = path.to_owned();
    if start.is_empty() {
        return Err(HaulError::Empty { path });
    }
    let packing = Packing::of(&start);
    let whole = BufReader::with_capacity(READ, io::Cursor::new(start).chain(source));
    match packing {
        Packing::Zstd => {
            let mut decoder =
                zstd::Decoder::with_buffer(whole).map_err(|error| place.read_error(error))?;
            decoder
                .window_log_max(WINDOW_LOG_MAX)
                .map_err(|error| place.read_error(error))?;
            Ok(Box::new(decoder))
        }
        Packing::Gzip => Ok(Box::new(flate2::bufread::MultiGzDecoder::new(whole))),
        Packing::Tar => Ok(Box::new(whole)),
        Packing::Other(program) => Err(HaulError::Compression { path, program }),
        // brotli has no mark of its own
        Packing::Nothing(_) if path.extension().is_some_and(|e| e == "br") => {
            Err(HaulError::Compression {
                path,
                program: "brotli",
            })
        }
        Packing::Nothing(what) => Err(HaulError::NotAnArchive { path, what }),
    }
}
