//! Loading modules.

use std::collections::{HashMap, HashSet};
use std::ffi::CString;
use std::fs::File;
use std::path::Path;

use rustix::io::Errno;

use super::ModuleFiles;
use super::index::normalise;

/// `MODULE_INIT_COMPRESSED_FILE` (Linux: include/uapi/linux/module.h): the kernel unpacks it.
const COMPRESSED: i32 = 4;

/// A module that could not be loaded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    /// Its name.
    pub(crate) module: String,
    /// Why, in words.
    pub(crate) why: String,
}

/// What the kernel command line says about modules.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Arguments {
    /// `modprobe.blacklist=A,B`: not loaded on behalf of a device.
    blacklist: HashSet<String>,
    /// `MODULE.PARAMETER=VALUE`: handed to the module.
    parameters: HashMap<String, String>,
}

impl Arguments {
    /// Reads a kernel command line.
    pub(crate) fn parse(command_line: &str) -> Arguments {
        let mut arguments = Arguments::default();
        for word in command_line.split_ascii_whitespace() {
            let word = word.trim_matches('"');
            if let Some(names) = word.strip_prefix("modprobe.blacklist=") {
                arguments.blacklist.extend(names.split(',').map(normalise));
                continue;
            }
            let (key, _) = word.split_once('=').unwrap_or((word, ""));
            if let Some((module, _)) = key.split_once('.')
                && let Some(parameter) = word.get(module.len() + 1..)
            {
                let line = arguments.parameters.entry(normalise(module)).or_default();
                if !line.is_empty() {
                    line.push(' ');
                }
                line.push_str(parameter);
            }
        }
        arguments
    }
}

/// Loads modules and remembers what was tried.
#[derive(Debug)]
pub(crate) struct Loading {
    files: ModuleFiles,
    arguments: Arguments,
    loaded: HashSet<String>,
    failed: HashMap<String, Failure>,
    asked: HashSet<String>,
    /// How many modules this loaded into the kernel.
    pub(crate) count: usize,
}

impl Loading {
    /// Begins.
    pub(crate) fn new(files: ModuleFiles, arguments: Arguments) -> Loading {
        Loading {
            files,
            arguments,
            loaded: HashSet::new(),
            failed: HashMap::new(),
            asked: HashSet::new(),
            count: 0,
        }
    }

    /// Loads what a device asks for by its modalias, unless it is blacklisted. A device nobody
    /// knows is no failure. The same modalias is looked up once.
    pub(crate) fn device(&mut self, modalias: &str) -> Vec<Failure> {
        if !self.asked.insert(modalias.to_owned()) {
            return Vec::new();
        }
        let modules = self.files.index.resolve(modalias);
        let allowed = modules
            .into_iter()
            .filter(|module| !self.arguments.blacklist.contains(module));
        let allowed: Vec<_> = allowed.collect();
        allowed
            .iter()
            .filter_map(|module| self.module(module).err())
            .collect()
    }

    /// Loads what a name or alias means. Done if one of the modules meant is in the kernel then;
    /// an alias of several (crypto-crc32c) is served by any.
    pub(crate) fn ask(&mut self, asked: &str) -> Result<(), Failure> {
        let modules = self.files.index.resolve(asked);
        let mut outcome = Err(Failure {
            module: asked.to_owned(),
            why: "no module has this name or alias".to_owned(),
        });
        for module in modules {
            let tried = self.module(&module);
            if outcome.is_err() {
                outcome = tried;
            }
        }
        outcome
    }

    /// Loads one module with all it needs. Whatever failed once is not tried again.
    fn module(&mut self, name: &str) -> Result<(), Failure> {
        for (module, required) in self.files.index.plan(name) {
            let tried = self.one(&module);
            match tried {
                Err(failure) if required => return Err(failure),
                _ => {}
            }
        }
        Ok(())
    }

    fn one(&mut self, name: &str) -> Result<(), Failure> {
        if self.loaded.contains(name) || self.files.index.is_built_in(name) {
            return Ok(());
        }
        if let Some(failure) = self.failed.get(name) {
            return Err(failure.clone());
        }
        let outcome = self.insert(name);
        match &outcome {
            Ok(()) => drop(self.loaded.insert(name.to_owned())),
            Err(failure) => drop(self.failed.insert(name.to_owned(), failure.clone())),
        }
        outcome
    }

    fn insert(&mut self, name: &str) -> Result<(), Failure> {
        let failure = |why: String| Failure {
            module: name.to_owned(),
            why,
        };
        if Path::new("/sys/module")
            .join(name)
            .join("initstate")
            .exists()
        {
            return Ok(());
        }
        let path = self
            .files
            .path(name)
            .ok_or_else(|| failure("no such module".to_owned()))?;
        let file = File::open(&path)
            .map_err(|error| failure(format!("opening {}: {error}", path.display())))?;
        let parameters = self
            .arguments
            .parameters
            .get(name)
            .cloned()
            .unwrap_or_default();
        let parameters = CString::new(parameters).unwrap_or_default();
        let plain = path.extension().is_some_and(|extension| extension == "ko");
        let flags = if plain { 0 } else { COMPRESSED };
        match rustix::system::finit_module(&file, &parameters, flags) {
            Ok(()) => {
                self.count += 1;
                Ok(())
            }
            Err(Errno::EXIST) => Ok(()),
            Err(Errno::OPNOTSUPP) if !plain => Err(failure(format!(
                "this kernel can't unpack {}",
                path.display()
            ))),
            // a driver whose device is not there, or that another driver took
            Err(Errno::NODEV) => Err(failure("its device is not there".to_owned())),
            Err(error) => Err(failure(error.to_string())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_forbids_modules_and_gives_them_parameters() {
        let arguments = Arguments::parse(
            "quiet modprobe.blacklist=nouveau,i2c-piix4 usb-storage.delay_use=0 \
             usb_storage.quirks=1:2:u haulboot.built=5 loglevel=7",
        );
        assert!(
            arguments.blacklist.contains("nouveau") && arguments.blacklist.contains("i2c_piix4")
        );
        assert_eq!(
            arguments.parameters.get("usb_storage").map(String::as_str),
            Some("delay_use=0 quirks=1:2:u")
        );
    }
}
