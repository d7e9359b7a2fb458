//! Reading back what is on an image or a stick.

use std::fs::{self, File};
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::os::unix::fs::FileTypeExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc as Shared;

use ext4_view::Ext4;
use fatfs::{FileSystem, FsOptions};
use gpt::disk::LogicalBlockSize;
use gpt::header::Header;
use image_layout::catalog::{Artifact, Catalog};
use image_layout::cluster::{self, Match, MatchedBy};
use image_layout::image::{FORMAT, ImageInfo};
use image_layout::partitions::Partition;
use image_layout::paths::{config, esp, haul, secrets};
use image_layout::{Arch, limits};
use uuid::Uuid;

use super::contents::{
    ArtifactContents, ClusterContents, Contents, CredentialsContents, InspectError, NodeContents,
    PartitionContents,
};
use super::plan::{Extent, SECTOR};
use super::window::Window;

/// Bytes of a catalog: an index is bounded, and a catalog says about as much of each entry.
const CATALOG_BYTES: u64 = 4 * limits::INDEX_JSON_BYTES;
/// Partition entries that are read; every tool writes 128.
const TABLE_ENTRIES: u32 = 1024;
/// Bytes of a partition entry.
const ENTRY_BYTES: u32 = 128;

/// Reads what is on an image or a stick. Nothing is written, and nothing of it is trusted.
///
/// # Errors
/// If it can't be read, is no image, is cut off, or is damaged. A damaged copy of the partition
/// table and a wrong `cluster.yaml` are no errors but warnings.
pub fn inspect(path: &Path) -> Result<Contents, InspectError> {
    let source = Source::open(path)?;
    let mut warnings = Vec::new();
    let table = source.table(&mut warnings)?;
    let partition = |partition: Partition| {
        let found = table.partitions.iter().find(|entry| {
            entry.number == partition.number() && entry.kind == partition.type_guid()
        });
        found
            .map(|entry| entry.contents.extent)
            .ok_or_else(|| source.no_image(&format!("it has no partition {}", partition.name())))
    };
    let (config, esp, haul) = (
        partition(Partition::Config)?,
        partition(Partition::Esp)?,
        partition(Partition::Haul)?,
    );

    let haul = Haul::open(&source, haul)?;
    let image: ImageInfo = haul.json(haul::IMAGE_JSON, limits::IMAGE_JSON_BYTES)?;
    if image.format > FORMAT {
        return Err(InspectError::Newer {
            path: path.to_owned(),
            format: image.format,
        });
    }
    let catalog = format!("{}/{}", haul::LAYOUT, haul::CATALOG);
    let catalog: Catalog = haul.json(&catalog, CATALOG_BYTES)?;
    warnings.extend(catalog.warnings.iter().cloned());
    let boots = boots(&source.fat(esp, Partition::Esp)?);
    for arch in image.arches.keys().filter(|arch| !boots.contains(arch)) {
        warnings.push(format!("the boot files for {arch} are incomplete"));
    }
    Ok(Contents {
        path: path.to_owned(),
        bytes: table.bytes,
        disk: table.disk,
        partitions: table.partitions.into_iter().map(|p| p.contents).collect(),
        boots,
        image,
        credentials: haul.credentials(),
        cluster: read_cluster(&source.fat(config, Partition::Config)?)
            .map_err(|error| source.damaged(Partition::Config.name(), &error))?,
        artifacts: catalog.artifacts.iter().map(artifact).collect(),
        warnings,
    })
}

struct Source {
    path: PathBuf,
    file: Shared<File>,
    bytes: u64,
}

struct Table {
    disk: Uuid,
    /// Bytes of the image, its second table included.
    bytes: u64,
    partitions: Vec<Entry>,
}

struct Entry {
    number: u32,
    kind: Uuid,
    contents: PartitionContents,
}

impl Source {
    fn open(path: &Path) -> Result<Source, InspectError> {
        let failed = |source| InspectError::Read {
            path: path.to_owned(),
            source,
        };
        // before it is opened: opening a FIFO waits for somebody who writes into it
        let kind = fs::metadata(path).map_err(failed)?.file_type();
        if !kind.is_file() && !kind.is_block_device() {
            return Err(InspectError::NoImage {
                path: path.to_owned(),
                why: "it is neither a file nor a drive".to_owned(),
            });
        }
        let mut file = File::open(path).map_err(failed)?;
        // a device has no length of its own
        let bytes = file.seek(SeekFrom::End(0)).map_err(failed)?;
        Ok(Source {
            path: path.to_owned(),
            file: Shared::new(file),
            bytes,
        })
    }

    fn no_image(&self, why: &str) -> InspectError {
        InspectError::NoImage {
            path: self.path.clone(),
            why: why.to_owned(),
        }
    }

    fn damaged(&self, what: &str, why: &dyn std::fmt::Display) -> InspectError {
        InspectError::Damaged {
            path: self.path.clone(),
            what: what.to_owned(),
            why: why.to_string(),
        }
    }

    fn window(&self, bytes: u64) -> Window {
        Window::new(self.file.clone(), Extent { start: 0, bytes })
    }

    /// Reads the partition table. On a stick the copy is where the image ended.
    fn table(&self, warnings: &mut Vec<String>) -> Result<Table, InspectError> {
        let lb = LogicalBlockSize::Lb512;
        let primary =
            gpt::header::read_header_from_arbitrary_device(&mut self.window(self.bytes), lb);
        let bytes = match &primary {
            Ok(header) => header
                .backup_lba
                .checked_add(1)
                .and_then(|sectors| sectors.checked_mul(SECTOR))
                .ok_or_else(|| self.damaged("the partition table", &"its copy lies nowhere"))?,
            // without the first copy only the end of a file can hold the other
            Err(_) => self.bytes,
        };
        if bytes > self.bytes {
            return Err(InspectError::Truncated {
                path: self.path.clone(),
                has: self.bytes,
                expected: bytes,
            });
        }
        let disk = gpt::GptConfig::new()
            .logical_block_size(lb)
            .open_from_device(self.window(bytes))
            .map_err(|error| match primary {
                Ok(_) => self.damaged("the partition table", &error),
                Err(_) => self.no_image("it has no partition table (GPT)"),
            })?;
        let header = disk.header();
        if header.num_parts > TABLE_ENTRIES || header.part_size != ENTRY_BYTES {
            return Err(self.no_image("its partition table is not one of ours"));
        }
        let intact = |header: Result<&Header, _>| header.is_ok_and(|header| self.sums_up(header));
        let (first, second) = (intact(disk.primary_header()), intact(disk.backup_header()));
        match (first, second) {
            (true, true) => {}
            (true, false) => warnings.push(
                "the copy of the partition table at the end is damaged; the first one is intact"
                    .to_owned(),
            ),
            (false, true) if primary.is_err() => warnings.push(
                "the partition table is damaged; its copy at the end is intact: \
                 `sgdisk -e` or `gdisk` can mend it"
                    .to_owned(),
            ),
            _ => return Err(self.damaged("the partition table", &"its checksum is wrong")),
        }
        let mut partitions = Vec::new();
        for (number, entry) in disk.partitions() {
            let start = entry.first_lba.checked_mul(SECTOR);
            let end = entry
                .last_lba
                .checked_add(1)
                .and_then(|lba| lba.checked_mul(SECTOR));
            let (Some(start), Some(end)) = (start, end) else {
                return Err(self.damaged("the partition table", &"an entry lies nowhere"));
            };
            if end <= start {
                return Err(self.damaged("the partition table", &"an entry ends before it begins"));
            }
            if end > self.bytes {
                return Err(InspectError::Truncated {
                    path: self.path.clone(),
                    has: self.bytes,
                    expected: end,
                });
            }
            partitions.push(Entry {
                number: *number,
                kind: entry.part_type_guid.guid,
                contents: PartitionContents {
                    number: *number,
                    name: entry.name.clone(),
                    guid: entry.part_guid,
                    extent: Extent {
                        start,
                        bytes: end - start,
                    },
                },
            });
        }
        Ok(Table {
            disk: *disk.guid(),
            bytes,
            partitions,
        })
    }

    /// Whether the entries have the checksum that a header says; `gpt` checks the header's alone.
    fn sums_up(&self, header: &Header) -> bool {
        let Some(start) = header.part_start.checked_mul(SECTOR) else {
            return false;
        };
        let mut entries = Vec::new();
        let mut window = self.window(self.bytes);
        let length = u64::from(header.num_parts.min(TABLE_ENTRIES) * ENTRY_BYTES);
        window.seek(SeekFrom::Start(start)).is_ok()
            && window.take(length).read_to_end(&mut entries).is_ok()
            && crc32fast::hash(&entries) == header.crc32_parts
    }

    fn fat(
        &self,
        extent: Extent,
        partition: Partition,
    ) -> Result<FileSystem<Window>, InspectError> {
        FileSystem::new(Window::new(self.file.clone(), extent), FsOptions::new())
            .map_err(|error| self.damaged(partition.name(), &error))
    }
}

/// HAUL, open for reading.
struct Haul<'a> {
    source: &'a Source,
    ext4: Ext4,
}

impl<'a> Haul<'a> {
    fn open(source: &'a Source, extent: Extent) -> Result<Haul<'a>, InspectError> {
        let window = Window::new(source.file.clone(), extent);
        let ext4 = Ext4::load(Box::new(window))
            .map_err(|error| source.damaged(Partition::Haul.name(), &error))?;
        Ok(Haul { source, ext4 })
    }

    /// What is there of the cluster's secrets. Nothing of them is read.
    fn credentials(&self) -> CredentialsContents {
        let has = |name: &str| {
            let path = format!("/{}/{name}", haul::SECRETS);
            self.ext4.exists(path.as_str()).unwrap_or(false)
        };
        let keys = secrets::TLS_FILES
            .iter()
            .filter(|name| name.ends_with(".key"));
        let mut keys = keys.map(|name| format!("{}/{name}", secrets::TLS));
        if keys.any(|name| has(&name)) || has(secrets::SERVER_TOKEN) {
            CredentialsContents::CaKeys
        } else if has(secrets::AGENT_TOKEN) {
            CredentialsContents::Agent
        } else if has(secrets::CLUSTER_SECRET) {
            CredentialsContents::Registry
        } else {
            CredentialsContents::None
        }
    }

    fn json<T: serde::de::DeserializeOwned>(
        &self,
        name: &str,
        limit: u64,
    ) -> Result<T, InspectError> {
        let damaged = |why: &dyn std::fmt::Display| {
            self.source
                .damaged(&format!("{name} on {}", Partition::Haul.name()), why)
        };
        let path = format!("/{name}");
        let metadata = self.ext4.metadata(path.as_str()).map_err(|e| damaged(&e))?;
        if metadata.len() > limit {
            return Err(damaged(&"it is too large"));
        }
        let bytes = self.ext4.read(path.as_str()).map_err(|e| damaged(&e))?;
        serde_json::from_slice(&bytes).map_err(|e| damaged(&e))
    }
}

/// The architectures whose boot files are all there.
fn boots(fat: &FileSystem<Window>) -> Vec<Arch> {
    let root = fat.root_dir();
    let complete = |arch: &Arch| {
        [
            esp::boot_loader(*arch),
            esp::kernel(*arch),
            esp::initramfs(*arch),
            esp::menu_entry(*arch, "configured"),
        ]
        .iter()
        .all(|path| root.open_file(path).is_ok())
    };
    Arch::ALL.into_iter().filter(complete).collect()
}

fn read_cluster(fat: &FileSystem<Window>) -> io::Result<ClusterContents> {
    let mut contents = ClusterContents {
        file: None,
        name: None,
        nodes: Vec::new(),
        error: None,
    };
    for name in config::CLUSTER_YAML_NAMES {
        let file = match fat.root_dir().open_file(name) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error),
        };
        let mut yaml = Vec::new();
        file.take(limits::CLUSTER_YAML_BYTES + 1)
            .read_to_end(&mut yaml)?;
        contents.file = Some(name.to_owned());
        match cluster::parse(&yaml) {
            Ok(cluster) => {
                contents.nodes = cluster.nodes.iter().map(node).collect();
                contents.name = Some(cluster.name);
            }
            Err(error) => contents.error = Some(error.to_string()),
        }
        return Ok(contents);
    }
    contents.error = Some("there is no cluster.yaml".to_owned());
    Ok(contents)
}

fn node(node: &cluster::Node) -> NodeContents {
    NodeContents {
        name: node.name.clone(),
        role: node.role.to_string(),
        matches: match &node.matches {
            Match::Any => "any".to_owned(),
            Match::Properties(properties) => MatchedBy::Properties(properties.clone()).to_string(),
        },
        address: node.address.map(|address| address.to_string()),
    }
}

fn artifact(artifact: &Artifact) -> ArtifactContents {
    let platform = |platform: &image_layout::oci::Platform| platform.to_string();
    ArtifactContents {
        kind: artifact.kind,
        name: artifact.name(),
        digest: artifact.digest,
        size: artifact.size,
        platforms: artifact.platforms.iter().map(platform).collect(),
    }
}
