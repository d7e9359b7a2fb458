//! How long a zstd frame is, without unpacking it (RFC 8878, 3.1).

use std::io;

/// Where frames are read from: any place of a file, by offset.
pub(super) trait Source {
    /// Fills `buffer` with the bytes at `offset`; an early end is an error of kind
    /// [`io::ErrorKind::UnexpectedEof`].
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()>;
}

impl Source for std::fs::File {
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        std::os::unix::fs::FileExt::read_exact_at(self, buffer, offset)
    }
}

impl Source for [u8] {
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let bytes = usize::try_from(offset)
            .ok()
            .and_then(|start| self.get(start..start.checked_add(buffer.len())?))
            .ok_or(io::ErrorKind::UnexpectedEof)?;
        buffer.copy_from_slice(bytes);
        Ok(())
    }
}

/// The first bytes of every frame.
pub(super) const MAGIC: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];
/// The largest block (RFC 8878, 3.1.1.2.4).
const BLOCK_BYTES: u32 = 128 << 10;

/// Why no frame's end is known.
#[derive(Debug)]
pub(super) enum NoFrame {
    /// There is no whole frame.
    Malformed,
    /// Looking further would take too long.
    Budget,
    /// Reading failed.
    Read(io::Error),
}

impl From<io::Error> for NoFrame {
    fn from(error: io::Error) -> NoFrame {
        match error.kind() {
            io::ErrorKind::UnexpectedEof => NoFrame::Malformed,
            _ => NoFrame::Read(error),
        }
    }
}

/// The offset behind the frame that begins at `start`. Every block that is passed takes one of
/// `blocks`, so that a file of nothing but beginnings of frames can't ask for endless time.
pub(super) fn end<S: Source + ?Sized>(
    source: &S,
    start: u64,
    blocks: &mut u64,
) -> Result<u64, NoFrame> {
    let mut head = [0; 5];
    source.read_exact_at(&mut head, start)?;
    let (magic, descriptor) = head.split_at(4);
    let descriptor = descriptor.first().copied().unwrap_or(0);
    // the reserved bit must be zero
    if magic != MAGIC || descriptor & 0x08 != 0 {
        return Err(NoFrame::Malformed);
    }
    let single_segment = descriptor & 0x20 != 0;
    let checksum = descriptor & 0x04 != 0;
    let window = u64::from(!single_segment);
    let dictionary = match descriptor & 0x03 {
        0 => 0,
        1 => 1,
        2 => 2,
        _ => 4,
    };
    let content_size = match descriptor >> 6 {
        0 => u64::from(single_segment),
        1 => 2,
        2 => 4,
        _ => 8,
    };
    let mut at = start + 5 + window + dictionary + content_size;
    loop {
        *blocks = blocks.checked_sub(1).ok_or(NoFrame::Budget)?;
        let mut header = [0; 3];
        source.read_exact_at(&mut header, at)?;
        let [low, middle, high] = header;
        let header = u32::from_le_bytes([low, middle, high, 0]);
        let size = header >> 3;
        let stored = match header >> 1 & 0x03 {
            // raw, compressed
            0 | 2 if size <= BLOCK_BYTES => u64::from(size),
            // one byte, repeated
            1 => 1,
            _ => return Err(NoFrame::Malformed),
        };
        at += 3 + stored;
        if header & 1 != 0 {
            break;
        }
    }
    if checksum {
        at += 4;
    }
    // the last byte must be there
    source.read_exact_at(&mut [0], at - 1)?;
    Ok(at)
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use proptest::prelude::*;

    use super::*;

    fn frame(contents: &[u8], level: i32, set: impl Fn(&mut zstd::Encoder<Vec<u8>>)) -> Vec<u8> {
        let mut encoder = zstd::Encoder::new(Vec::new(), level).unwrap();
        set(&mut encoder);
        encoder.write_all(contents).unwrap();
        encoder.finish().unwrap()
    }

    fn end_of(bytes: &[u8], start: u64) -> Result<u64, NoFrame> {
        end(bytes, start, &mut 1000)
    }

    #[test]
    fn frames_of_every_shape_end_where_zstd_ended_them() {
        let noise: Vec<u8> = (0..400_000_u32)
            .map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8)
            .collect();
        let zeros = vec![0; 400_000];
        for contents in [&b""[..], b"x", &noise, &zeros] {
            for checksum in [false, true] {
                for size in [false, true] {
                    let mut bytes = frame(contents, 3, |encoder| {
                        encoder.include_checksum(checksum).unwrap();
                        encoder.include_contentsize(size).unwrap();
                        if size {
                            encoder
                                .set_pledged_src_size(Some(contents.len() as u64))
                                .unwrap();
                        }
                    });
                    let length = bytes.len() as u64;
                    bytes.extend_from_slice(b"what follows");
                    assert_eq!(end_of(&bytes, 0).unwrap(), length);
                    bytes.truncate(length as usize - 1);
                    assert!(matches!(end_of(&bytes, 0), Err(NoFrame::Malformed)));
                }
            }
        }
    }

    #[test]
    fn a_frame_of_more_blocks_than_the_budget_is_given_up() {
        let bytes = frame(&vec![0; 1 << 20], 1, |_| {});
        let mut blocks = 7;
        assert!(matches!(
            end(bytes.as_slice(), 0, &mut blocks),
            Err(NoFrame::Budget)
        ));
        assert_eq!(blocks, 0);
    }

    proptest! {
        #[test]
        fn no_bytes_behind_a_magic_number_panic(rest in proptest::collection::vec(any::<u8>(), 0..64)) {
            let bytes = [&MAGIC[..], &rest].concat();
            if let Ok(end) = end_of(&bytes, 0) {
                prop_assert!(end <= bytes.len() as u64);
            }
        }
    }
}
