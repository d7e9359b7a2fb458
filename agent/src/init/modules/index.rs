//! `modules.dep`, `modules.alias`, `modules.softdep` and the lists of built-in modules
//! (kmod: depmod.d(5), modules.dep(5)).

use std::collections::{BTreeMap, HashMap, HashSet};

use super::glob;

/// The name the kernel knows a module by: `kernel/x/snd-hda.ko.xz` is `snd_hda`.
pub(super) fn name_of(path: &str) -> String {
    let file = path.rsplit('/').next().unwrap_or(path);
    normalise(file.split(".ko").next().unwrap_or(file))
}

/// `-` and `_` mean the same in names of modules, outside of `[...]`.
pub(super) fn normalise(name: &str) -> String {
    let mut in_class = false;
    name.chars()
        .map(|c| {
            in_class = c == '[' || in_class && c != ']';
            if c == '-' && !in_class { '_' } else { c }
        })
        .collect()
}

/// What depmod knows about the modules of one kernel.
#[derive(Debug, Default)]
pub(crate) struct Index {
    /// Name to file.
    files: HashMap<String, String>,
    /// Name to the names it needs, in the order of modules.dep: load from the last to the first.
    needs: HashMap<String, Vec<String>>,
    /// Aliases without a pattern.
    exact: HashMap<String, Vec<String>>,
    /// Aliases by the literal beginning of their pattern: (pattern, module).
    patterns: HashMap<String, Vec<(String, String)>>,
    /// Lengths that occur among the keys of `patterns`.
    prefix_lengths: Vec<usize>,
    before: HashMap<String, Vec<String>>,
    after: HashMap<String, Vec<String>>,
    built_in: HashSet<String>,
}

impl Index {
    /// Reads modules.dep.
    pub(super) fn add_dep(&mut self, text: &str) {
        for line in text.lines() {
            let Some((file, needs)) = line.split_once(':') else {
                continue;
            };
            let name = name_of(file);
            let needs = needs.split_ascii_whitespace().map(name_of).collect();
            self.files.insert(name.clone(), file.to_owned());
            self.needs.insert(name, needs);
        }
    }

    /// Reads modules.alias.
    pub(super) fn add_alias(&mut self, text: &str) {
        for line in text.lines() {
            let mut words = line.split_ascii_whitespace();
            if let (Some("alias"), Some(pattern), Some(module)) =
                (words.next(), words.next(), words.next())
            {
                self.insert_alias(&normalise(pattern), &normalise(module));
            }
        }
        self.finish_aliases();
    }

    fn insert_alias(&mut self, pattern: &str, module: &str) {
        let prefix = glob::literal_prefix(pattern);
        if prefix.len() == pattern.len() {
            let modules = self.exact.entry(pattern.to_owned()).or_default();
            modules.push(module.to_owned());
        } else {
            let aliases = self.patterns.entry(prefix.to_owned()).or_default();
            aliases.push((pattern.to_owned(), module.to_owned()));
        }
    }

    fn finish_aliases(&mut self) {
        let mut lengths: Vec<_> = self.patterns.keys().map(String::len).collect();
        lengths.sort_unstable();
        lengths.dedup();
        self.prefix_lengths = lengths;
    }

    /// Reads modules.softdep: `softdep NAME pre: A B post: C`.
    pub(super) fn add_softdep(&mut self, text: &str) {
        for line in text.lines() {
            let mut words = line.split_ascii_whitespace();
            let (Some("softdep"), Some(name)) = (words.next(), words.next()) else {
                continue;
            };
            let name = normalise(name);
            let mut place = None;
            for word in words {
                match (word, place) {
                    ("pre:", _) => place = Some(true),
                    ("post:", _) => place = Some(false),
                    (other, Some(before)) => {
                        let map = if before {
                            &mut self.before
                        } else {
                            &mut self.after
                        };
                        map.entry(name.clone()).or_default().push(normalise(other));
                    }
                    (_, None) => {}
                }
            }
        }
    }

    /// Reads modules.builtin: one path a line.
    pub(super) fn add_built_in(&mut self, text: &str) {
        self.built_in.extend(text.lines().map(name_of));
    }

    /// Reads modules.builtin.modinfo: `NAME.KEY=VALUE` ended by zeros. Of the keys `alias` counts:
    /// what is asked for by such an alias is there.
    pub(super) fn add_built_in_info(&mut self, bytes: &[u8]) {
        for entry in bytes.split(|&byte| byte == 0).map(String::from_utf8_lossy) {
            let Some((key, alias)) = entry.split_once('=') else {
                continue;
            };
            if let Some(module) = key.strip_suffix(".alias") {
                self.insert_alias(&normalise(alias), &normalise(module));
                self.built_in.insert(normalise(module));
            }
        }
        self.finish_aliases();
    }

    /// The modules an alias or a name means, each once. Names go before aliases.
    pub(super) fn resolve(&self, asked: &str) -> Vec<String> {
        let asked = normalise(asked);
        if self.files.contains_key(&asked) || self.built_in.contains(&asked) {
            return vec![asked];
        }
        let mut found: Vec<String> = self.exact.get(&asked).cloned().unwrap_or_default();
        let fitting = self
            .candidates(&asked)
            .filter(|(pattern, _)| glob::matches(pattern, &asked));
        found.extend(fitting.map(|(_, module)| module.clone()));
        let mut seen = HashSet::new();
        found.retain(|module| seen.insert(module.clone()));
        found
    }

    /// The patterns whose literal beginning fits: few of many, so that a look-up is cheap.
    fn candidates(&self, asked: &str) -> impl Iterator<Item = &(String, String)> {
        let aliases = |&length: &usize| {
            let key = asked.get(..length)?;
            self.patterns.get(key)
        };
        self.prefix_lengths.iter().filter_map(aliases).flatten()
    }

    /// The file of a module, relative to the directory of the modules.
    pub(super) fn file(&self, name: &str) -> Option<&str> {
        self.files.get(name).map(String::as_str)
    }

    /// Whether the kernel has it without loading anything.
    pub(super) fn is_built_in(&self, name: &str) -> bool {
        self.built_in.contains(name)
    }

    /// The order in which to load a module with all it needs: (module, whether the module asked for
    /// can't do without it). What only helps (softdep) is tried and may fail. Loops end.
    pub(super) fn plan(&self, name: &str) -> Vec<(String, bool)> {
        let mut plan = Plan {
            index: self,
            required: BTreeMap::new(),
            order: Vec::new(),
        };
        plan.add(&normalise(name), true, 0);
        let Plan {
            required, order, ..
        } = plan;
        order
            .into_iter()
            .map(|name| {
                let needed = required.get(&name).copied().unwrap_or(false);
                (name, needed)
            })
            .collect()
    }
}

/// Deeper chains than this are a loop in softdep.
const DEPTH: usize = 32;

struct Plan<'a> {
    index: &'a Index,
    /// Whether a module is required; present as soon as it has been visited.
    required: BTreeMap<String, bool>,
    order: Vec<String>,
}

impl Plan<'_> {
    fn add(&mut self, name: &str, required: bool, depth: usize) {
        let known = self.required.get(name).copied();
        if depth > DEPTH || known.is_some_and(|known| known || !required) {
            return;
        }
        let visited = known.is_some();
        self.required.insert(name.to_owned(), required);
        let index = self.index;
        let soft = |map: &HashMap<String, Vec<String>>| -> Vec<String> {
            let asked = map.get(name).cloned().unwrap_or_default();
            asked
                .iter()
                .flat_map(|asked| index.resolve(asked))
                .collect()
        };
        let needs = index.needs.get(name).cloned().unwrap_or_default();
        for needed in needs.iter().rev() {
            self.add(needed, required, depth + 1);
        }
        if !visited {
            for helper in soft(&index.before) {
                self.add(&helper, false, depth + 1);
            }
            self.order.push(name.to_owned());
            for helper in soft(&index.after) {
                self.add(&helper, false, depth + 1);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn index() -> Index {
        let mut index = Index::default();
        index.add_dep(
            "kernel/fs/ext4/ext4.ko.xz: kernel/fs/jbd2/jbd2.ko.xz kernel/lib/crc16.ko.xz\n\
             kernel/fs/jbd2/jbd2.ko.xz:\n\
             kernel/lib/crc16.ko.xz:\n\
             kernel/crypto/crc32c_generic.ko.xz:\n\
             kernel/arch/crc32c-intel.ko.xz:\n\
             kernel/drivers/usb/storage/usb-storage.ko.xz: kernel/drivers/usb/core/usbcore.ko.xz\n\
             kernel/drivers/usb/core/usbcore.ko.xz:\n",
        );
        index.add_softdep(
            "softdep ext4 pre: crypto-crc32c\nsoftdep jbd2 pre: crypto-crc32c\nsoftdep cifs gcm\n",
        );
        index.add_alias(
            "# comment\nalias crypto-crc32c crc32c_generic\nalias crypto-crc32c crc32c_intel\n\
             alias fs-ext4 ext4\nalias usb:v*p*d*dc*dsc*dp*ic08isc06ip50in* usb_storage\n",
        );
        index.add_built_in("kernel/drivers/char/virtio_console.ko\n");
        index.add_built_in_info(b"virtio_console.alias=virtio:d00000003v*\0nf_tables.alias=nft-expr-counter\0x.license=GPL\0");
        index
    }

    fn names(index: &Index, name: &str) -> Vec<String> {
        index.plan(name).into_iter().map(|(name, _)| name).collect()
    }

    #[test]
    fn dependencies_come_first_and_soft_ones_before_what_they_help() {
        let index = index();
        let order = names(&index, "ext4");
        let at = |name: &str| order.iter().position(|n| n == name).unwrap();
        assert!(at("jbd2") < at("ext4") && at("crc16") < at("ext4"));
        assert!(at("crc32c_generic") < at("jbd2") && at("crc32c_intel") < at("ext4"));
        assert_eq!(order.len(), 5);
        let required: Vec<_> = index.plan("ext4").into_iter().filter(|(_, r)| *r).collect();
        assert_eq!(
            required.len(),
            3,
            "crc32c is tried, not required: {required:?}"
        );
    }

    #[test]
    fn names_and_aliases_are_found_however_they_are_written() {
        let index = index();
        assert_eq!(index.resolve("usb-storage"), ["usb_storage"]);
        assert_eq!(index.resolve("fs-ext4"), ["ext4"]);
        assert_eq!(
            index.resolve("usb:v0781p5581d0100dc00dsc00dp00ic08isc06ip50in00"),
            ["usb_storage"]
        );
        assert_eq!(
            index.resolve("crypto-crc32c"),
            ["crc32c_generic", "crc32c_intel"]
        );
        assert_eq!(
            index.resolve("virtio:d00000003v00001AF4"),
            ["virtio_console"]
        );
        assert!(index.is_built_in("nf_tables"));
        assert!(index.resolve("no-such").is_empty());
    }

    #[test]
    fn loops_of_soft_dependencies_end() {
        let mut index = Index::default();
        index.add_dep("a.ko:\nb.ko:\n");
        index.add_softdep("softdep a pre: b\nsoftdep b pre: a post: a\n");
        assert_eq!(names(&index, "a"), ["b", "a"]);
    }

    #[test]
    fn of_thirty_thousand_aliases_a_look_up_tries_only_those_of_the_same_beginning() {
        let mut text = String::new();
        for i in 0..30_000 {
            let vendor = i % 97;
            text.push_str(&format!(
                "alias pci:v{vendor:08X}d{i:08X}sv*sd*bc*sc*i* module_{i}\n"
            ));
        }
        for i in 0..500 {
            text.push_str(&format!(
                "alias usb:v*p*d*dc*dsc*dp*ic{i:02X}isc*ip*in* class_{i}\n"
            ));
        }
        let mut index = Index::default();
        index.add_alias(&text);
        let pci = format!("pci:v{:08X}d{:08X}sv0sd0bc0sc0i0", 1234 % 97, 1234);
        assert_eq!(index.candidates(&pci).count(), 1);
        assert_eq!(index.resolve(&pci), ["module_1234"]);
        let usb = "usb:v1p2d3dc0dsc0dp0ic08isc6ip50in0";
        assert_eq!(index.candidates(usb).count(), 500);
        assert_eq!(index.resolve(usb), ["class_8"]);
    }
}
