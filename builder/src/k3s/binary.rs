//! A k3s binary: what it is for and which version it says it is.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use image_layout::digest::Hasher;
use image_layout::{Arch, Digest};
use object::endian::LittleEndian;
use object::read::elf::{FileHeader as _, ProgramHeader as _};
use object::{elf, pod};

/// How many bytes are read at once.
const CHUNK: usize = 1 << 20;
/// The longest version that is looked for.
const VERSION_BYTES: usize = 64;

/// A k3s binary that was looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct K3sBinary {
    /// Where it is.
    pub path: PathBuf,
    /// The architecture it runs on.
    pub arch: Arch,
    /// Its version, `v1.34.1+k3s1`, if one is found in it.
    pub version: Option<String>,
    /// Its size in bytes.
    pub size: u64,
    /// Its digest.
    pub digest: Digest,
}

/// Why a file is no k3s binary.
#[derive(Debug, thiserror::Error)]
pub enum K3sError {
    /// It can't be read.
    #[error("reading {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It is no ELF file: a script, an archive, a web page.
    #[error("{} is no k3s binary: {why}", path.display())]
    NoElf {
        /// The file.
        path: PathBuf,
        /// What it is instead.
        why: &'static str,
    },
    /// The download or copy stopped early.
    #[error("{} is truncated: it has {size} bytes, and its headers name {named}", path.display())]
    Truncated {
        /// The file.
        path: PathBuf,
        /// Its bytes.
        size: u64,
        /// The bytes that it has at least if it is whole.
        named: u64,
    },
    /// It is for a processor that Haulboot does not boot.
    #[error("{} is for another processor (ELF machine {machine}); Haulboot boots x86_64 and arm64", path.display())]
    OtherMachine {
        /// The file.
        path: PathBuf,
        /// `e_machine` of its header.
        machine: u16,
    },
}

impl K3sError {
    /// What a person can do about it.
    pub fn help(&self) -> Option<String> {
        let help = match self {
            K3sError::Read { .. } => "name the file with --k3s FILE",
            K3sError::Truncated { .. } => {
                "get it anew, and compare it with the sha256sum file of its k3s release"
            }
            K3sError::NoElf { .. } | K3sError::OtherMachine { .. } => {
                "take the file `k3s` (x86_64) or `k3s-arm64` of a k3s release"
            }
        };
        Some(help.to_owned())
    }
}

impl K3sBinary {
    /// Reads a file once: header, digest, and its version if one is in it.
    ///
    /// # Errors
    /// If it can't be read, is no static 64-bit little-endian ELF program, is truncated, or is for
    /// another processor.
    pub fn inspect(path: &Path) -> Result<K3sBinary, K3sError> {
        let failed = |source| K3sError::Read {
            path: path.to_owned(),
            source,
        };
        // before it is opened: opening a FIFO waits for somebody who writes into it
        if !fs::metadata(path).map_err(failed)?.is_file() {
            return Err(failed(io::Error::new(
                io::ErrorKind::InvalidInput,
                "it is no file",
            )));
        }
        let mut file = File::open(path).map_err(failed)?;
        let mut hasher = Hasher::sha256();
        let mut size = 0;
        let mut program = None;
        let mut version = None;
        // the end of the previous chunk stays in front, for what lies across
        let mut window = Vec::with_capacity(CHUNK + VERSION_BYTES);
        loop {
            let kept = window.len().min(VERSION_BYTES);
            window.drain(..window.len() - kept);
            let read = (&mut file)
                .take(CHUNK as u64)
                .read_to_end(&mut window)
                .map_err(failed)?;
            if program.is_none() {
                program = Some(Program::of(path, &window)?);
            }
            if read == 0 {
                break;
            }
            let new = window.get(kept..).unwrap_or_default();
            hasher.update(new);
            size += read as u64;
            version = version.or_else(|| find_version(&window));
        }
        let Program { arch, bytes: named } = match program {
            Some(program) => program,
            None => Program::of(path, &[])?,
        };
        if size < named {
            return Err(K3sError::Truncated {
                path: path.to_owned(),
                size,
                named,
            });
        }
        Ok(K3sBinary {
            path: path.to_owned(),
            arch,
            version,
            size,
            digest: hasher.finish(),
        })
    }
}

/// What the headers at the start of a program say.
struct Program {
    arch: Arch,
    /// The bytes that the file has at least: the end of its last segment or section table.
    bytes: u64,
}

impl Program {
    fn of(path: &Path, start: &[u8]) -> Result<Program, K3sError> {
        let no_elf = |why| K3sError::NoElf {
            path: path.to_owned(),
            why,
        };
        let why = match start {
            [] => Some("it is empty"),
            [b'#', b'!', ..] => Some("it is a script"),
            [b'<', ..] => Some("it is a web page"),
            [0x1f, 0x8b, ..] | [0x28, 0xb5, 0x2f, 0xfd, ..] | [b'P', b'K', ..] => {
                Some("it is an archive")
            }
            [0x7f, b'E', b'L', b'F', 1, ..] => Some("it is a program for 32-bit processors"),
            [0x7f, b'E', b'L', b'F', ..] => None,
            _ => Some("it is no ELF program"),
        };
        if let Some(why) = why {
            return Err(no_elf(why));
        }
        // k3s's file is padded enough for an aligned header; pod wants no alignment here
        let (header, _) = pod::from_bytes::<elf::FileHeader64<LittleEndian>>(start)
            .map_err(|()| no_elf("its header is cut off"))?;
        if !header.is_supported() {
            return Err(no_elf("its header is malformed"));
        }
        let endian = header
            .endian()
            .map_err(|_| no_elf("it is a program for big-endian processors"))?;
        let kind = header.e_type(endian);
        if kind != elf::ET_EXEC && kind != elf::ET_DYN {
            return Err(no_elf("it is an ELF file, but no program"));
        }
        let machine = header.e_machine(endian).0;
        let arch = Arch::ALL
            .into_iter()
            .find(|arch| arch.elf_machine() == machine)
            .ok_or_else(|| K3sError::OtherMachine {
                path: path.to_owned(),
                machine,
            })?;
        // linkers put the program headers right behind the header
        let segments = header
            .program_headers(endian, start)
            .map_err(|_| no_elf("its program headers are cut off"))?;
        if segments
            .iter()
            .any(|segment| segment.p_type(endian) == elf::PT_INTERP)
        {
            return Err(no_elf("it needs shared libraries, and k3s is static"));
        }
        let sections = u64::from(header.e_shnum(endian)) * u64::from(header.e_shentsize(endian));
        let bytes = segments
            .iter()
            .map(|segment| {
                segment
                    .p_offset(endian)
                    .saturating_add(segment.p_filesz(endian))
            })
            .fold(header.e_shoff(endian).saturating_add(sections), u64::max);
        Ok(Program { arch, bytes })
    }
}

/// Finds `v1.34.1+k3s1`, also with a suffix such as `-rc2` before the plus.
fn find_version(bytes: &[u8]) -> Option<String> {
    let marker = b"+k3s";
    bytes
        .windows(marker.len())
        .enumerate()
        .filter(|(_, window)| window == marker)
        .find_map(|(plus, _)| {
            let word = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-');
            let before = &bytes[..plus];
            let length = before.iter().rev().take(32).take_while(|b| word(b)).count();
            let start = before.get(plus - length..)?;
            // strings of Go lie side by side without an end: take the last `v` and a digit
            let v = (0..start.len())
                .rev()
                .find(|i| start[*i] == b'v' && start.get(i + 1).is_some_and(u8::is_ascii_digit))?;
            let after = bytes.get(plus + marker.len()..)?;
            let digits = after
                .iter()
                .take(3)
                .take_while(|b| b.is_ascii_digit())
                .count();
            let number = start.get(v + 1..)?;
            let three_numbers = number
                .split(|b| *b == b'-')
                .next()?
                .split(|b| *b == b'.')
                .filter(|part| !part.is_empty() && part.iter().all(u8::is_ascii_digit))
                .count()
                == 3;
            if digits == 0 || !three_numbers {
                return None;
            }
            let text = bytes.get(plus - start.len() + v..plus + marker.len() + digits)?;
            String::from_utf8(text.to_vec()).ok()
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn elf(machine: u16, class: u8, rest: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0; 64];
        bytes[..7].copy_from_slice(&[0x7f, b'E', b'L', b'F', class, 1, 1]);
        bytes[16] = 2;
        bytes[18..20].copy_from_slice(&machine.to_le_bytes());
        bytes[20] = 1;
        bytes.extend_from_slice(rest);
        bytes
    }

    fn inspect(contents: &[u8]) -> Result<K3sBinary, K3sError> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("k3s");
        fs::write(&path, contents).unwrap();
        K3sBinary::inspect(&path)
    }

    #[test]
    fn architecture_size_digest_and_version_are_read() {
        let contents = elf(183, 2, b"\0garbagev2.0v1.34.1+k3s1go1.24\0");
        let k3s = inspect(&contents).unwrap();
        assert_eq!(k3s.arch, Arch::Arm64);
        assert_eq!(k3s.version.as_deref(), Some("v1.34.1+k3s1"));
        assert_eq!(k3s.size, contents.len() as u64);
        assert_eq!(k3s.digest, Digest::sha256_of(&contents));
        assert_eq!(inspect(&elf(62, 2, b"no version")).unwrap().version, None);
    }

    #[test]
    fn a_version_across_the_border_of_two_reads_is_found_and_the_digest_is_right() {
        for offset in 0..20 {
            let mut rest = vec![b'.'; CHUNK - 64 - offset];
            rest.extend_from_slice(b"\0v1.30.12-rc2+k3s2\0");
            rest.extend(vec![1; CHUNK]);
            let contents = elf(62, 2, &rest);
            let k3s = inspect(&contents).unwrap();
            assert_eq!(
                k3s.version.as_deref(),
                Some("v1.30.12-rc2+k3s2"),
                "{offset}"
            );
            assert_eq!(k3s.digest, Digest::sha256_of(&contents));
        }
    }

    /// A program with one segment of `kind` that ends at byte `end`.
    fn with_segment(kind: u8, end: u64) -> Vec<u8> {
        let mut bytes = elf(62, 2, &[0; 56]);
        // e_phoff, e_phentsize, e_phnum; p_type, p_filesz
        bytes[32] = 64;
        bytes[54] = 56;
        bytes[56] = 1;
        bytes[64] = kind;
        bytes[64 + 32..64 + 40].copy_from_slice(&end.to_le_bytes());
        bytes
    }

    #[test]
    fn a_program_that_is_cut_off_or_not_static_is_refused() {
        assert!(inspect(&with_segment(1, 120)).is_ok());
        let error = inspect(&with_segment(1, 121)).unwrap_err();
        assert!(
            matches!(
                error,
                K3sError::Truncated {
                    size: 120,
                    named: 121,
                    ..
                }
            ),
            "{error}"
        );
        let mut sections = elf(62, 2, b"");
        // e_shoff, e_shentsize, e_shnum
        sections[40] = 64;
        sections[58] = 64;
        sections[60] = 2;
        let error = inspect(&sections).unwrap_err();
        assert!(
            matches!(error, K3sError::Truncated { named: 192, .. }),
            "{error}"
        );
        let error = inspect(&with_segment(3, 0)).unwrap_err();
        assert!(error.to_string().contains("static"), "{error}");
    }

    #[test]
    fn a_fifo_is_refused_without_waiting_for_a_writer() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("fifo");
        let made = std::process::Command::new("mkfifo").arg(&path).status();
        assert!(made.unwrap().success());
        assert!(matches!(
            K3sBinary::inspect(&path),
            Err(K3sError::Read { .. })
        ));
        assert!(crate::bootpack::BootPack::open(&path).is_err());
        assert!(crate::image::inspect(&path).is_err());
    }

    #[test]
    fn what_only_looks_like_a_version_is_none() {
        for text in [
            &b"+k3s1"[..],
            b"v1.2+k3s1",
            b"v1.2.3+k3s",
            b"vx.y.z+k3s1",
            b"+k3s",
        ] {
            assert_eq!(
                find_version(text),
                None,
                "{:?}",
                String::from_utf8_lossy(text)
            );
        }
    }

    #[test]
    fn what_is_no_k3s_is_refused_with_the_reason() {
        let cases: [(&[u8], &str); 8] = [
            (b"", "empty"),
            (b"#!/bin/sh\n", "script"),
            (b"<!doctype html>", "web page"),
            (b"\x1f\x8b\x08", "archive"),
            (b"hello", "no ELF"),
            (&elf(3, 1, b""), "32-bit"),
            (&elf(62, 2, b"")[..40], "cut off"),
            (&elf(22, 2, b""), "machine 22"),
        ];
        for (contents, reason) in cases {
            let error = inspect(contents).unwrap_err();
            assert!(error.to_string().contains(reason), "{error}");
            assert!(error.help().is_some());
        }
        assert!(matches!(
            K3sBinary::inspect(Path::new("/")),
            Err(K3sError::Read { .. })
        ));
    }
}
