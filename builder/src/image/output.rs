//! Where an image goes: a file, a drive, or a stream.

use std::fmt;
use std::fs::{self, File};
use std::io::{self, IsTerminal as _, Read as _, Seek as _, SeekFrom, Write};
use std::os::unix::fs::{FileExt as _, FileTypeExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;

use super::error::ImageError;
use super::mounts::{DeviceNumber, Kernel};
use crate::progress::Progress;

/// Bytes copied at once.
const CHUNK: usize = 1 << 20;

/// Where an image goes.
pub enum Output {
    /// A file, replaced when the image is complete.
    File(PathBuf),
    /// A block device, free when it was looked at.
    Device(PathBuf),
    /// Anything that takes bytes one after the other.
    Stream {
        /// What it is called in messages.
        name: PathBuf,
        /// Where they go.
        writer: Box<dyn Write>,
    },
}

impl fmt::Debug for Output {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Output::File(path) => f.debug_tuple("File").field(path).finish(),
            Output::Device(path) => f.debug_tuple("Device").field(path).finish(),
            Output::Stream { name, .. } => f.debug_tuple("Stream").field(name).finish(),
        }
    }
}

impl Output {
    /// What a path given by a person means; `-` is standard output.
    ///
    /// # Errors
    /// If the image could not be written there, or must not: a terminal, a directory, a device
    /// in use.
    pub fn at(path: &Path) -> Result<Output, ImageError> {
        if path == Path::new("-") {
            let stdout = io::stdout();
            if stdout.is_terminal() {
                return Err(ImageError::Terminal);
            }
            return Ok(Output::Stream {
                name: "standard output".into(),
                writer: Box::new(stdout),
            });
        }
        let wrong = |why: &str| ImageError::Output {
            path: path.to_owned(),
            why: why.to_owned(),
        };
        let metadata = match fs::metadata(path) {
            Ok(metadata) => metadata,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let bytes = path.as_os_str().as_encoded_bytes();
                if path.file_name().is_none() || bytes.ends_with(b"/") {
                    return Err(wrong("it is no name of a file"));
                }
                if !parent(path).is_dir() {
                    return Err(wrong("there is no such directory"));
                }
                return Ok(Output::File(path.to_owned()));
            }
            Err(error) => return Err(wrong(&error.to_string())),
        };
        let kind = metadata.file_type();
        if kind.is_dir() {
            return Err(wrong("it is a directory"));
        }
        if kind.is_file() {
            // through a link, so that not the link is replaced
            let path = path
                .canonicalize()
                .map_err(|error| wrong(&error.to_string()))?;
            return Ok(Output::File(path));
        }
        if kind.is_block_device() {
            check_device(path, metadata.rdev())?;
            return Ok(Output::Device(path.to_owned()));
        }
        // a pipe or a character device: never replaced, only written to
        let writer = File::options()
            .write(true)
            .open(path)
            .map_err(ImageError::io("opening", path))?;
        Ok(Output::Stream {
            name: path.to_owned(),
            writer: Box::new(writer),
        })
    }

    /// The directory in which the image is put together, and the name of what becomes of it.
    pub(super) fn staging_place(&self) -> (PathBuf, String) {
        match self {
            Output::File(path) => {
                let name = path.file_name().unwrap_or_default().to_string_lossy();
                (parent(path).to_owned(), name.into_owned())
            }
            // a drive has no room beside it, and /tmp is often in memory
            Output::Device(_) | Output::Stream { .. } => {
                let place =
                    std::env::var_os("TMPDIR").map_or_else(|| "/var/tmp".into(), PathBuf::from);
                (place, "haulboot".to_owned())
            }
        }
    }

    /// Puts the finished image `image` in place.
    pub(super) fn deliver(self, image: &Path, progress: &dyn Progress) -> Result<(), ImageError> {
        let mut file = File::open(image).map_err(ImageError::io("opening", image))?;
        let bytes = file
            .metadata()
            .map_err(ImageError::io("reading", image))?
            .len();
        match self {
            Output::File(path) => {
                fs::rename(image, &path).map_err(ImageError::io("writing", &path))?;
                // the name itself is on disk only after this
                File::open(parent(&path))
                    .and_then(|directory| directory.sync_all())
                    .map_err(ImageError::io("writing", parent(&path)))
            }
            Output::Device(path) => {
                let numbers = fs::metadata(&path)
                    .map_err(ImageError::io("reading", &path))?
                    .rdev();
                check_device(&path, numbers)?;
                let device = File::options()
                    .write(true)
                    .custom_flags(OFlags::EXCL.bits() as i32)
                    .open(&path)
                    .map_err(ImageError::io("opening", &path))?;
                let has = (&device)
                    .seek(SeekFrom::End(0))
                    .map_err(ImageError::io("reading the size of", &path))?;
                if has < bytes {
                    return Err(ImageError::DeviceTooSmall {
                        path,
                        has,
                        needs: bytes,
                    });
                }
                progress.begin(&format!("writing {}", path.display()), Some(bytes));
                copy_to_device(&file, &device, bytes, progress).map_err(deliver(&path))?;
                progress.end(&format!("wrote {}", path.display()));
                Ok(())
            }
            Output::Stream { name, mut writer } => {
                progress.begin(&format!("writing to {}", name.display()), Some(bytes));
                copy(&mut file, &mut writer, progress).map_err(deliver(&name))?;
                progress.end(&format!("wrote to {}", name.display()));
                Ok(())
            }
        }
    }
}

/// The directory of a path; `.` for a bare name.
pub(super) fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    }
}

fn deliver(path: &Path) -> impl FnOnce(io::Error) -> ImageError {
    let path = path.to_owned();
    move |source| ImageError::Deliver { path, source }
}

fn check_device(path: &Path, rdev: u64) -> Result<(), ImageError> {
    let device = DeviceNumber {
        major: rustix::fs::major(rdev),
        minor: rustix::fs::minor(rdev),
    };
    match Kernel::default().use_of(device) {
        Ok(None) => Ok(()),
        Ok(Some(why)) => Err(ImageError::InUse {
            path: path.to_owned(),
            why,
        }),
        Err(source) => Err(ImageError::Io {
            doing: "finding out what uses",
            path: path.to_owned(),
            source,
        }),
    }
}

fn copy(from: &mut File, to: &mut dyn Write, progress: &dyn Progress) -> io::Result<()> {
    let mut chunk = vec![0; CHUNK];
    loop {
        let read = from.read(&mut chunk)?;
        if read == 0 {
            return to.flush();
        }
        to.write_all(&chunk[..read])?;
        progress.advance(read as u64);
    }
}

/// Copies all but the first MiB, and that last: a drive whose writing was interrupted has no
/// partition table, neither an old one nor ours, and does not boot.
fn copy_to_device(
    image: &File,
    device: &File,
    bytes: u64,
    progress: &dyn Progress,
) -> io::Result<()> {
    let mut chunk = vec![0; CHUNK];
    device.write_all_at(&chunk, 0)?;
    device.sync_data()?;
    let mut position = CHUNK as u64;
    while position < bytes {
        let length = CHUNK.min(usize::try_from(bytes - position).unwrap_or(CHUNK));
        image.read_exact_at(&mut chunk[..length], position)?;
        device.write_all_at(&chunk[..length], position)?;
        position += length as u64;
        progress.advance(length as u64);
    }
    device.sync_data()?;
    image.read_exact_at(&mut chunk, 0)?;
    device.write_all_at(&chunk, 0)?;
    progress.advance(CHUNK as u64);
    device.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::progress::Silent;

    #[test]
    fn what_a_path_means_follows_from_what_is_there() {
        let directory = tempfile::tempdir().unwrap();
        let new = directory.path().join("new.img");
        assert!(matches!(Output::at(&new), Ok(Output::File(_))));
        assert!(matches!(
            Output::at(directory.path()),
            Err(ImageError::Output { .. })
        ));
        assert!(Output::at(&directory.path().join("none/new.img")).is_err());
        assert!(matches!(
            Output::at(Path::new("/dev/null")),
            Ok(Output::Stream { .. })
        ));

        let link = directory.path().join("link.img");
        fs::write(&new, "").unwrap();
        std::os::unix::fs::symlink(&new, &link).unwrap();
        match Output::at(&link) {
            Ok(Output::File(path)) => assert_eq!(path, new.canonicalize().unwrap()),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_drive_gets_the_whole_image_and_its_first_mib_last() {
        let image = tempfile::tempfile().unwrap();
        let contents: Vec<u8> = (0..5 * CHUNK / 2).map(|i| (i / 1000) as u8 | 1).collect();
        image.write_all_at(&contents, 0).unwrap();
        let device = tempfile::tempfile().unwrap();
        device.write_all_at(&vec![0xee; 4 * CHUNK], 0).unwrap();
        let bytes = contents.len() as u64;
        copy_to_device(&image, &device, bytes, &Silent).unwrap();
        let mut back = vec![0; contents.len()];
        device.read_exact_at(&mut back, 0).unwrap();
        assert!(back == contents);

        // an image that ends too early: the drive must not look like one that boots
        device.write_all_at(&vec![0xee; 4 * CHUNK], 0).unwrap();
        assert!(copy_to_device(&image, &device, bytes + 1, &Silent).is_err());
        let mut first = vec![1; CHUNK];
        device.read_exact_at(&mut first, 0).unwrap();
        assert!(first.iter().all(|byte| *byte == 0));
    }
}
