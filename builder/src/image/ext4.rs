//! The ext4 file system HAUL, made by e2fsprogs.
//!
//! This module is all that knows how. `mke2fs` makes an empty file system at an offset into the
//! image, then `debugfs` copies a directory into it. Not `mke2fs -d`: as of 1.47.0 that copies
//! owner, access and change times from the host and takes files in the host directory's order,
//! so that an ordinary user's image would belong to that user and no two images would be equal.
//! debugfs's `write` gives every file to root, stamps it with `E2FSPROGS_FAKE_TIME`, and
//! takes the files in the order in which they are named. Its directories are 0755; those that are
//! root's alone get their mode afterwards.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, BufRead as _, BufReader, BufWriter, Read as _};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use uuid::Uuid;

use super::plan::Extent;
use crate::progress::Progress;
use crate::staging::Subprocess;

const BLOCK: u64 = 4096;
const INODE: u64 = 256;
const BLOCKS_PER_GROUP: u64 = 32768;
/// Every feature is named, since a host's `mke2fs.conf` has its own ideas.
const FEATURES: &str = "none,extent,filetype,sparse_super,large_file,huge_file,dir_nlink,\
                        extra_isize,dir_index,metadata_csum,64bit,flex_bg";
/// Where e2fsprogs lies on systems whose users have no `sbin` in their PATH.
const SBIN: [&str; 3] = ["/usr/sbin", "/sbin", "/usr/local/sbin"];
/// debugfs reads its script in lines of BUFSIZ bytes (e2fsprogs: debugfs/debugfs.c).
const LINE_BYTES: usize = 8000;
/// How many lines of a tool's complaints are worth repeating.
const COMPLAINTS: usize = 4;

/// Why the file system could not be made.
#[derive(Debug, thiserror::Error)]
pub enum Ext4Error {
    /// A program of e2fsprogs is not there.
    #[error("{0} is not installed; it belongs to e2fsprogs")]
    NoTool(&'static str),
    /// A program could not be started or read.
    #[error("running {tool}")]
    Run {
        /// Which.
        tool: &'static str,
        /// Why.
        source: io::Error,
    },
    /// A program complained.
    #[error("{tool} failed: {said}")]
    Failed {
        /// Which.
        tool: &'static str,
        /// What it said.
        said: String,
    },
    /// The contents need more room than the partition has.
    #[error("the contents do not fit into {0} bytes")]
    TooSmall(u64),
    /// The disk that holds the image is full.
    #[error("no space left on the disk")]
    NoSpace,
    /// The directory to copy could not be read.
    #[error("reading {path}")]
    Read {
        /// What.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A name that debugfs's script can't carry, or something that is no file.
    #[error("{path:?} can't be put onto HAUL: {why}")]
    Entry {
        /// Its path.
        path: PathBuf,
        /// Why not.
        why: &'static str,
    },
}

/// A directory that is to become the file system.
#[derive(Debug)]
pub(super) struct Tree {
    root: PathBuf,
    /// Directories, files and links in the order of their paths, relative to the root.
    entries: Vec<Entry>,
}

#[derive(Debug)]
struct Entry {
    path: String,
    kind: Kind,
    /// Whether a directory is root's alone.
    private: bool,
}

#[derive(Debug, PartialEq, Eq)]
enum Kind {
    Directory,
    /// A file and its bytes.
    File(u64),
    /// A symbolic link and where it leads.
    Link(String),
}

impl Entry {
    /// Bytes of a file.
    fn size(&self) -> Option<u64> {
        match self.kind {
            Kind::File(size) => Some(size),
            Kind::Directory | Kind::Link(_) => None,
        }
    }
}

impl Tree {
    /// Looks through a directory. Anything but files, directories and relative links in it is an
    /// error.
    pub(super) fn of(root: &Path) -> Result<Tree, Ext4Error> {
        let mut tree = Tree {
            root: root.to_owned(),
            entries: Vec::new(),
        };
        tree.collect("")?;
        Ok(tree)
    }

    fn collect(&mut self, below: &str) -> Result<(), Ext4Error> {
        let directory = self.root.join(below);
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |source| Ext4Error::Read { path, source }
        };
        let mut names = Vec::new();
        for entry in fs::read_dir(&directory).map_err(failed(&directory))? {
            names.push(entry.map_err(failed(&directory))?.file_name());
        }
        names.sort();
        for name in names {
            let full = directory.join(&name);
            let refuse = |why| Ext4Error::Entry {
                path: full.clone(),
                why,
            };
            let name = name
                .into_string()
                .map_err(|_| refuse("its name is no UTF-8"))?;
            if name.chars().any(char::is_control) {
                return Err(refuse("its name has control characters"));
            }
            if name.len() > 255 {
                return Err(refuse("its name is longer than 255 bytes"));
            }
            let path = match below {
                "" => name,
                _ => format!("{below}/{name}"),
            };
            if quoted(&path).len() > LINE_BYTES / 2 {
                return Err(refuse("its path is too long"));
            }
            let metadata = fs::symlink_metadata(&full).map_err(failed(&full))?;
            let kind = if metadata.is_file() {
                Kind::File(metadata.len())
            } else if metadata.is_dir() {
                Kind::Directory
            } else if metadata.is_symlink() {
                let target = fs::read_link(&full).map_err(failed(&full))?;
                let target = target.into_os_string().into_string();
                let target = target
                    .ok()
                    .filter(|target| !target.starts_with('/'))
                    .filter(|target| !target.chars().any(char::is_control))
                    .filter(|target| quoted(target).len() <= LINE_BYTES / 2)
                    .ok_or_else(|| refuse("it is a link that leads who knows where"))?;
                Kind::Link(target)
            } else {
                return Err(refuse("it is neither file, directory nor link"));
            };
            let is_directory = kind == Kind::Directory;
            self.entries.push(Entry {
                path: path.clone(),
                kind,
                private: false,
            });
            if is_directory {
                self.collect(&path)?;
            }
        }
        Ok(())
    }

    /// Makes directories root's alone, 0700 instead of 0755. A file has its own mode.
    pub(super) fn keep_private(&mut self, is_private: impl Fn(&str) -> bool) {
        for entry in &mut self.entries {
            entry.private = is_private(&entry.path);
        }
    }

    /// Paths of all files, in order.
    pub(super) fn files(&self) -> impl Iterator<Item = &str> {
        let files = self.entries.iter().filter(|entry| entry.size().is_some());
        files.map(|entry| entry.path.as_str())
    }

    /// Bytes of all files.
    pub(super) fn content_bytes(&self) -> u64 {
        self.entries.iter().filter_map(Entry::size).sum()
    }

    /// How many inodes it takes: eleven are reserved or lost+found, a few are spare.
    fn inodes(&self) -> u64 {
        self.entries.len() as u64 + 11 + 16
    }

    /// Bytes of a file system that holds the tree.
    pub(super) fn file_system_bytes(&self) -> u64 {
        let mut data = 0;
        let mut directory_bytes = std::collections::BTreeMap::from([("", 0_u64)]);
        for entry in &self.entries {
            let (parent, name) = entry.path.rsplit_once('/').unwrap_or(("", &entry.path));
            // ext4 "Linear Directories": eight bytes and the name, in multiples of four
            let record = 8 + (name.len() as u64).div_ceil(4) * 4;
            *directory_bytes.entry(parent).or_default() += record;
            match &entry.kind {
                // four extents fit into the inode; one block holds 340 more of up to 128 MiB
                Kind::File(size) => {
                    data += size.div_ceil(BLOCK);
                    if *size > 3 * BLOCKS_PER_GROUP * BLOCK {
                        data += 1 + size / (340 * BLOCKS_PER_GROUP * BLOCK);
                    }
                }
                Kind::Directory => {
                    directory_bytes.entry(&entry.path).or_default();
                }
                // a target of less than 60 bytes lies in the inode
                Kind::Link(target) => data += u64::from(target.len() >= 60),
            }
        }
        // a block of a directory loses at most one record of 264 bytes, and 12 to its checksum
        let usable = BLOCK - 264 - 12;
        let directories: u64 = directory_bytes
            .values()
            .map(|bytes| (bytes + 24).div_ceil(usable))
            .sum();
        let lost_and_found = 4;
        let contents = data + directories + lost_and_found;

        let mut groups = 1;
        loop {
            let inode_table = (self.inodes() * INODE).div_ceil(BLOCK) + groups;
            let descriptors = (groups * 64).div_ceil(BLOCK);
            // group 0, 1 and powers of 3, 5 and 7 have a copy of superblock and descriptors
            let copies = (0..groups).filter(|group| has_superblock(*group)).count() as u64;
            let metadata = inode_table + groups * 2 + copies * (1 + descriptors);
            let blocks = contents + metadata + contents / 1000 + 64;
            let needed = blocks.div_ceil(BLOCKS_PER_GROUP);
            if needed <= groups {
                return blocks * BLOCK;
            }
            groups = needed;
        }
    }
}

fn has_superblock(group: u64) -> bool {
    let power_of = |base: u64| {
        let mut power = base;
        while power < group {
            power *= base;
        }
        power == group
    };
    group <= 1 || power_of(3) || power_of(5) || power_of(7)
}

/// A file system to make.
pub(super) struct FileSystem<'a> {
    /// What is in it.
    pub(super) tree: &'a Tree,
    /// Its UUID, and the seed of its directories' hashes.
    pub(super) guid: Uuid,
    /// The one time in it, seconds since 1970.
    pub(super) built: u64,
    /// A directory for the script.
    pub(super) scratch: &'a Path,
}

impl FileSystem<'_> {
    /// Makes it in `extent` of `image`.
    pub(super) fn write(
        &self,
        image: &Path,
        extent: Extent,
        progress: &dyn Progress,
    ) -> Result<(), Ext4Error> {
        let FileSystem {
            tree,
            guid,
            built,
            scratch,
        } = *self;
        let run = |source| Ext4Error::Run {
            tool: "debugfs",
            source,
        };
        // e2fsprogs splits a file's name at `?`: it gets names of ours, relative to `scratch`
        let (image_link, root_link) = (scratch.join("image"), scratch.join("root"));
        for (link, target) in [(&image_link, image), (&root_link, &tree.root)] {
            match fs::remove_file(link) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(run(error)),
                _ => symlink(target, link).map_err(run)?,
            }
        }

        let mut mke2fs = tool("mke2fs", scratch, built)?;
        mke2fs
            .args([
                "-q", "-F", "-t", "ext4", "-m", "0", "-L", "HAUL", "-O", FEATURES,
            ])
            .args(["-b", &BLOCK.to_string(), "-I", &INODE.to_string()])
            .args(["-N", &tree.inodes().to_string(), "-U", &guid.to_string()])
            .arg("-E")
            .arg(format!(
                "offset={},hash_seed={guid},root_owner=0:0,lazy_itable_init=1,nodiscard",
                extent.start
            ))
            .args(["-e", "remount-ro", "image"])
            .arg((extent.bytes / BLOCK).to_string());
        let started = |source| Ext4Error::Run {
            tool: "mke2fs",
            source,
        };
        mke2fs.stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = Subprocess::spawn(&mut mke2fs).map_err(started)?;
        let mut said = Vec::new();
        if let Some(mut stderr) = child.stderr() {
            stderr.read_to_end(&mut said).map_err(started)?;
        }
        if !child.wait().map_err(started)?.success() {
            let said = String::from_utf8_lossy(&said);
            return Err(complaint("mke2fs", &said, extent));
        }

        let script = scratch.join("script");
        let file = File::create(&script).map_err(run)?;
        write_script(BufWriter::new(file), tree).map_err(run)?;
        copy(extent, tree, built, scratch, progress)
    }
}

/// The commands that copy a tree: directories before what is in them, each file by its path on
/// the host and its name in the current directory.
fn write_script(mut script: impl io::Write, tree: &Tree) -> io::Result<()> {
    let mut current = "";
    for entry in &tree.entries {
        let (parent, name) = entry.path.rsplit_once('/').unwrap_or(("", &entry.path));
        if parent != current {
            writeln!(script, "cd {}", quoted(&format!("/{parent}")))?;
            current = parent;
        }
        let name = quoted(name);
        match &entry.kind {
            Kind::File(_) => {
                let source = quoted(&format!("root/{}", entry.path));
                writeln!(script, "write {source} {name}")?;
            }
            Kind::Directory => writeln!(script, "mkdir {name}")?,
            Kind::Link(target) => writeln!(script, "symlink {name} {}", quoted(target))?,
        }
        if entry.private && entry.kind == Kind::Directory {
            writeln!(script, "set_inode_field {name} mode 040700")?;
        }
    }
    script.flush()
}

/// A word of libss, which debugfs parses its commands with: a quote is doubled within quotes.
fn quoted(word: &str) -> String {
    format!("\"{}\"", word.replace('"', "\"\""))
}

/// Runs the script. debugfs ends with 0 whatever happens, so every line it says is looked at.
fn copy(
    extent: Extent,
    tree: &Tree,
    built: u64,
    scratch: &Path,
    progress: &dyn Progress,
) -> Result<(), Ext4Error> {
    let run = |source| Ext4Error::Run {
        tool: "debugfs",
        source,
    };
    let (reader, writer) = io::pipe().map_err(run)?;
    let mut debugfs = tool("debugfs", scratch, built)?;
    debugfs
        .args(["-w", "-f", "script"])
        .arg(format!("image?offset={}", extent.start))
        .stdout(writer.try_clone().map_err(run)?)
        .stderr(writer);
    let child = Subprocess::spawn(&mut debugfs).map_err(run)?;
    // it holds the other ends of the pipe
    drop(debugfs);

    let mut sizes = tree.entries.iter().filter_map(Entry::size);
    let mut complaints = Vec::new();
    for line in BufReader::new(reader).split(b'\n') {
        let line = String::from_utf8_lossy(&line.map_err(run)?).into_owned();
        if line.starts_with("Allocated inode:") {
            match sizes.next() {
                Some(size) => progress.advance(size),
                None => complaints.push("it wrote more files than it was told to".to_owned()),
            }
        } else if !line.starts_with("debugfs") && !line.is_empty() && complaints.len() < COMPLAINTS
        {
            complaints.push(line);
        }
    }
    let status = child.wait().map_err(run)?;
    if !complaints.is_empty() {
        return Err(complaint("debugfs", &complaints.join("; "), extent));
    }
    if !status.success() || sizes.next().is_some() {
        return Err(Ext4Error::Failed {
            tool: "debugfs",
            said: format!("it stopped before the end ({status})"),
        });
    }
    Ok(())
}

fn complaint(tool: &'static str, said: &str, extent: Extent) -> Ext4Error {
    // the first is the host's disk (ENOSPC), the others libext2fs's words for a full file system
    if said.contains("No space left on device") {
        return Ext4Error::NoSpace;
    }
    let full = [
        "Could not allocate block",
        "Could not allocate inode",
        "too small",
        "No free space",
    ];
    if full.iter().any(|words| said.contains(words)) {
        return Ext4Error::TooSmall(extent.bytes);
    }
    Ext4Error::Failed {
        tool,
        said: said.trim().to_owned(),
    }
}

/// A program of e2fsprogs, in English, with a fixed clock and no configuration of the host's.
fn tool(name: &'static str, directory: &Path, built: u64) -> Result<Command, Ext4Error> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let program = std::env::split_paths(&path)
        .chain(SBIN.into_iter().map(PathBuf::from))
        .map(|directory| directory.join(name))
        .find(|program| program.is_file())
        .ok_or(Ext4Error::NoTool(name))?;
    let mut command = Command::new(program);
    command
        .current_dir(directory)
        .stdin(Stdio::null())
        .env("LC_ALL", "C")
        .env("MKE2FS_CONFIG", "/dev/null")
        .env("DEBUGFS_PAGER", "__none__")
        .env("E2FSPROGS_FAKE_TIME", built.max(1).to_string())
        .env("SOURCE_DATE_EPOCH", OsString::from(built.to_string()));
    Ok(command)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, chown};
    use std::sync::Arc;

    use image_layout::Digest;

    use super::super::window::Window;
    use super::*;
    use crate::image::testing::run;
    use crate::progress::Silent;

    const GUID: Uuid = Uuid::from_u128(0x1111_2222_3333_4444_8555_6666_7777_8888);

    fn make(tree: &Tree, directory: &Path, bytes: u64) -> Result<(PathBuf, Extent), Ext4Error> {
        let image = directory.join("what? an image");
        let extent = Extent {
            start: 3 << 20,
            bytes,
        };
        let file = File::create(&image).unwrap();
        file.set_len(extent.end() + (1 << 20)).unwrap();
        let scratch = directory.join("scratch");
        fs::create_dir_all(&scratch).unwrap();
        FileSystem {
            tree,
            guid: GUID,
            built: 1_700_000_000,
            scratch: &scratch,
        }
        .write(&image, extent, &Silent)?;
        Ok((image, extent))
    }

    fn fsck(image: &Path, extent: Extent) -> String {
        // e2fsck splits the name at `?`, so it gets another one
        let link = image.with_file_name("link");
        let _ = fs::remove_file(&link);
        symlink(image, &link).unwrap();
        let place = format!("{}?offset={}", link.display(), extent.start);
        run("e2fsck", ["-fn", &place].map(AsRef::as_ref), "e2fsprogs")
    }

    /// Files of many sizes and names, deep and wide directories, owned by an ordinary user.
    fn fixture(root: &Path) {
        for (path, size) in [
            ("haulboot.json", 10),
            ("empty", 0),
            ("haul/blobs/sha256/one", 4096),
            ("haul/blobs/sha256/two", 4097),
            ("haul/blobs/sha256/big", 30_000_000),
            ("arch/arm64/firmware/brcm/a b,\"c\" ä?.bin", 77),
            ("arch/arm64/firmware/-w", 78),
        ] {
            let path = root.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            let contents: Vec<u8> = (0..size).map(|i: u32| (i / 7) as u8).collect();
            fs::write(&path, contents).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
            // as root the test stands for an ordinary user's files
            let _ = chown(&path, Some(1000), Some(1000));
        }
        let wide = root.join("wide");
        fs::create_dir(&wide).unwrap();
        for i in 0..1500 {
            fs::write(wide.join(format!("{i}{}", "x".repeat(i % 200))), [i as u8]).unwrap();
        }
        let k3s = root.join("arch/arm64/k3s");
        fs::write(&k3s, "#!").unwrap();
        fs::set_permissions(&k3s, fs::Permissions::from_mode(0o755)).unwrap();
        for (name, target) in [
            ("arch/arm64/[", "k3s"),
            ("arch/arm64/up", "../../haul/blobs"),
            ("a \"link\"", "no where"),
            ("long", &"../".repeat(100)),
        ] {
            symlink(target, root.join(name)).unwrap();
        }
    }

    #[test]
    fn every_file_comes_back_belongs_to_root_and_e2fsck_is_content() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().join("root");
        fs::create_dir(&root).unwrap();
        fixture(&root);
        let tree = Tree::of(&root).unwrap();
        let bytes = super::super::plan::align(tree.file_system_bytes());
        let (image, extent) = make(&tree, directory.path(), bytes).unwrap();
        fsck(&image, extent);

        let window = Window::new(Arc::new(File::open(&image).unwrap()), extent);
        let ext4 = ext4_view::Ext4::load(Box::new(window)).unwrap();
        assert_eq!(ext4.uuid().as_bytes(), GUID.as_bytes());
        assert_eq!(ext4.label().to_str().unwrap(), "HAUL");
        for entry in &tree.entries {
            let path = format!("/{}", entry.path);
            let metadata = ext4.symlink_metadata(path.as_str()).unwrap();
            assert_eq!((metadata.uid(), metadata.gid()), (0, 0), "{path}");
            assert_eq!(metadata.modified().seconds(), 1_700_000_000, "{path}");
            let host = fs::symlink_metadata(root.join(&entry.path)).unwrap();
            if let Kind::Link(target) = &entry.kind {
                let link = ext4.read_link(path.as_str()).unwrap();
                assert_eq!(link.to_str().unwrap(), target, "{path}");
            } else if entry.size().is_some() {
                assert_eq!(
                    metadata.mode() & 0o7777,
                    (host.permissions().mode() & 0o7777) as u16
                );
                let back = Digest::sha256_of(&ext4.read(path.as_str()).unwrap());
                let there = Digest::sha256_of(&fs::read(root.join(&entry.path)).unwrap());
                assert_eq!(back, there, "{path}");
            } else {
                assert_eq!(metadata.mode() & 0o7777, 0o755, "{path}");
            }
        }
    }

    #[test]
    fn the_same_files_in_another_order_give_the_same_bytes() {
        let directory = tempfile::tempdir().unwrap();
        let mut digests = Vec::new();
        for (round, order) in [[0, 1, 2, 3], [3, 1, 0, 2]].iter().enumerate() {
            let root = directory.path().join(format!("root{round}"));
            fs::create_dir(&root).unwrap();
            for i in order {
                fs::write(root.join(format!("file{i}")), vec![*i as u8; 100_000]).unwrap();
            }
            let tree = Tree::of(&root).unwrap();
            let (image, _) = make(&tree, directory.path(), 4 << 20).unwrap();
            digests.push(Digest::sha256_of(&fs::read(image).unwrap()));
        }
        assert_eq!(digests[0], digests[1]);
    }

    #[test]
    fn the_computed_size_is_enough_and_not_much_too_large() {
        let directory = tempfile::tempdir().unwrap();
        for (files, size) in [(0, 0), (1, 1), (3, 60 << 20), (4000, 100), (200, 700_000)] {
            let root = directory.path().join("root");
            let _ = fs::remove_dir_all(&root);
            fs::create_dir(&root).unwrap();
            for i in 0..files {
                // sparse on the host: the test is about sizes
                let file = File::create(root.join(format!("{i:064}"))).unwrap();
                file.set_len(size).unwrap();
                if size > 0 {
                    std::os::unix::fs::FileExt::write_all_at(&file, b"x", size - 1).unwrap();
                }
            }
            let tree = Tree::of(&root).unwrap();
            let bytes = super::super::plan::align(tree.file_system_bytes());
            let (image, extent) = make(&tree, directory.path(), bytes).unwrap();
            fsck(&image, extent);
            let content: u64 = files * size.div_ceil(BLOCK) * BLOCK;
            let inodes = files * INODE;
            assert!(
                bytes < (content + inodes) * 102 / 100 + (3 << 20),
                "{files} files of {size} bytes took {bytes}"
            );
        }
    }

    #[test]
    fn contents_that_do_not_fit_are_told_from_other_failures() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().join("root");
        fs::create_dir(&root).unwrap();
        fs::write(root.join("large"), vec![1; 9 << 20]).unwrap();
        let tree = Tree::of(&root).unwrap();
        let error = make(&tree, directory.path(), 8 << 20).unwrap_err();
        assert!(matches!(error, Ext4Error::TooSmall(_)), "{error:?}");

        fs::write(root.join("small"), "x").unwrap();
        let tree = Tree::of(&root).unwrap();
        fs::remove_file(root.join("small")).unwrap();
        let error = make(&tree, directory.path(), 32 << 20).unwrap_err();
        assert!(
            matches!(&error, Ext4Error::Failed { said, .. } if said.contains("small")),
            "{error:?}"
        );
    }

    #[test]
    fn absolute_links_and_names_with_line_breaks_are_refused() {
        let directory = tempfile::tempdir().unwrap();
        let link = directory.path().join("link");
        symlink("/etc/passwd", &link).unwrap();
        assert!(matches!(
            Tree::of(directory.path()),
            Err(Ext4Error::Entry { .. })
        ));
        fs::remove_file(&link).unwrap();
        symlink("a\nrm b", &link).unwrap();
        assert!(matches!(
            Tree::of(directory.path()),
            Err(Ext4Error::Entry { .. })
        ));
        fs::remove_file(&link).unwrap();
        fs::write(directory.path().join("a\nrm b"), "").unwrap();
        assert!(matches!(
            Tree::of(directory.path()),
            Err(Ext4Error::Entry { .. })
        ));
    }

    #[test]
    fn copies_of_the_superblock_are_where_ext4_has_them() {
        let groups: Vec<u64> = (0..130).filter(|group| has_superblock(*group)).collect();
        assert_eq!(groups, [0, 1, 3, 5, 7, 9, 25, 27, 49, 81, 125]);
    }
}
