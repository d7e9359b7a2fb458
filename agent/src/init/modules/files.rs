//! The directory `/lib/modules/RELEASE` of the running kernel.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use super::index::Index;

/// Bound for one of depmod's files; Debian's largest has 2 MiB.
const FILE_BYTES: u64 = 64 << 20;

/// The modules of the running kernel and what depmod knows about them.
#[derive(Debug)]
pub(crate) struct ModuleFiles {
    directory: PathBuf,
    pub(super) index: Index,
}

impl ModuleFiles {
    /// Where the running kernel's modules are.
    pub(crate) fn directory() -> PathBuf {
        let kernel = rustix::system::uname();
        Path::new("/lib/modules").join(kernel.release().to_string_lossy().as_ref())
    }

    /// Reads depmod's files of the running kernel. modules.dep must be there; what else is missing
    /// is empty.
    pub(crate) fn open() -> io::Result<ModuleFiles> {
        ModuleFiles::open_at(ModuleFiles::directory())
    }

    fn open_at(directory: PathBuf) -> io::Result<ModuleFiles> {
        let read = |name: &str| -> io::Result<Vec<u8>> {
            let mut bytes = Vec::new();
            let file = File::open(directory.join(name))?;
            file.take(FILE_BYTES).read_to_end(&mut bytes)?;
            Ok(bytes)
        };
        let text = |name: &str| {
            let bytes = read(name).unwrap_or_default();
            String::from_utf8_lossy(&bytes).into_owned()
        };
        let mut index = Index::default();
        index.add_dep(&String::from_utf8_lossy(&read("modules.dep")?));
        index.add_built_in(&text("modules.builtin"));
        index.add_built_in_info(&read("modules.builtin.modinfo").unwrap_or_default());
        index.add_softdep(&text("modules.softdep"));
        index.add_alias(&text("modules.alias"));
        Ok(ModuleFiles { directory, index })
    }

    /// The path of a module's file.
    pub(super) fn path(&self, name: &str) -> Option<PathBuf> {
        self.index.file(name).map(|file| self.directory.join(file))
    }
}
