//! The modules of a kernel, as depmod's tables describe them (kmod: depmod(8), modules.dep(5)).

use std::collections::{BTreeMap, BTreeSet, HashMap};

use glob::Pattern;

/// The text of depmod's tables.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tables {
    /// `modules.dep`: `PATH: PATH PATH ...`, all a module needs, directly or not.
    pub dep: String,
    /// `modules.alias`: `alias PATTERN MODULE`.
    pub alias: String,
    /// `modules.softdep`: `softdep MODULE pre: NAME ... post: NAME ...`.
    pub softdep: String,
    /// `modules.builtin`: paths of what is in the kernel itself.
    pub builtin: String,
}

impl Tables {
    /// File names, in the order of the fields.
    pub const NAMES: [&'static str; 4] = [
        "modules.dep",
        "modules.alias",
        "modules.softdep",
        "modules.builtin",
    ];

    /// Names and texts.
    pub fn files(&self) -> [(&'static str, &str); 4] {
        let [dep, alias, softdep, builtin] = Tables::NAMES;
        [
            (dep, self.dep.as_str()),
            (alias, self.alias.as_str()),
            (softdep, self.softdep.as_str()),
            (builtin, self.builtin.as_str()),
        ]
    }

    /// The tables without the lines about modules that are not in `keep` (paths). What is built
    /// into the kernel stays.
    pub fn reduced(&self, keep: &BTreeSet<String>) -> Tables {
        let names: BTreeSet<String> = keep.iter().map(|path| module_name(path)).collect();
        let kept = |word: Option<&str>| word.is_some_and(|word| names.contains(&underscores(word)));
        let dep = |line: &&str| {
            line.split_once(':')
                .is_some_and(|(path, _)| keep.contains(path))
        };
        let alias = |line: &&str| {
            let mut words = line.split_ascii_whitespace();
            words.next() == Some("alias") && kept(words.nth(1))
        };
        let softdep = |line: &&str| {
            let mut words = line.split_ascii_whitespace();
            words.next() == Some("softdep") && kept(words.next())
        };
        Tables {
            dep: lines(self.dep.lines().filter(dep)),
            alias: lines(self.alias.lines().filter(alias)),
            softdep: lines(self.softdep.lines().filter(softdep)),
            builtin: self.builtin.clone(),
        }
    }
}

/// What depends on what, and what is called how.
#[derive(Debug, Default)]
pub struct KernelModules {
    /// Path to the paths it needs.
    needs: BTreeMap<String, Vec<String>>,
    path_of: HashMap<String, String>,
    /// Pattern and name of the module.
    aliases: Vec<(String, String)>,
    /// Name to the names and aliases it wants.
    wants: HashMap<String, Vec<String>>,
    /// Paths of what is built in.
    builtin: BTreeSet<String>,
}

impl KernelModules {
    /// Reads depmod's tables. Lines that say nothing are passed over, as modprobe does.
    pub fn parse(tables: &Tables) -> KernelModules {
        let mut modules = KernelModules::default();
        for line in tables.dep.lines() {
            if let Some((path, needs)) = line.split_once(':') {
                let needs = needs.split_ascii_whitespace().map(str::to_owned).collect();
                modules.needs.insert(path.to_owned(), needs);
                modules.path_of.insert(module_name(path), path.to_owned());
            }
        }
        for line in tables.alias.lines() {
            let mut words = line.split_ascii_whitespace();
            if let (Some("alias"), Some(pattern), Some(module)) =
                (words.next(), words.next(), words.next())
            {
                modules
                    .aliases
                    .push((underscores(pattern), underscores(module)));
            }
        }
        for line in tables.softdep.lines() {
            let mut words = line.split_ascii_whitespace();
            let (Some("softdep"), Some(module)) = (words.next(), words.next()) else {
                continue;
            };
            // Names before `pre:` or `post:` count for nothing (libkmod-config.c).
            let wants = words
                .skip_while(|word| !word.ends_with(':'))
                .filter(|word| !matches!(*word, "pre:" | "post:"))
                .map(underscores);
            modules
                .wants
                .entry(underscores(module))
                .or_default()
                .extend(wants);
        }
        modules.builtin = tables.builtin.lines().map(str::to_owned).collect();
        modules
    }

    /// Paths of all modules that are files.
    pub fn paths(&self) -> impl Iterator<Item = &str> {
        self.needs.keys().map(String::as_str)
    }

    /// Paths of what is in the kernel itself.
    pub fn builtin(&self) -> impl Iterator<Item = &str> {
        self.builtin.iter().map(String::as_str)
    }

    /// Alias patterns with the path of their module.
    pub fn aliases(&self) -> impl Iterator<Item = (&str, &str)> {
        self.aliases.iter().filter_map(|(pattern, module)| {
            Some((pattern.as_str(), self.path_of.get(module)?.as_str()))
        })
    }

    /// The modules at `paths` with all they need and want, at any depth.
    pub fn with_dependencies(&self, paths: impl IntoIterator<Item = String>) -> BTreeSet<String> {
        let mut all = BTreeSet::new();
        let mut todo: Vec<String> = paths.into_iter().collect();
        while let Some(path) = todo.pop() {
            let Some(needs) = self.needs.get(&path) else {
                continue;
            };
            if !all.insert(path.clone()) {
                continue;
            }
            todo.extend(needs.iter().cloned());
            for want in self.wants.get(&module_name(&path)).into_iter().flatten() {
                todo.extend(self.resolve(want).map(str::to_owned));
            }
        }
        all
    }

    /// The modules a name stands for: the one so named, else all with a fitting alias. None
    /// where it is built in.
    fn resolve(&self, name: &str) -> impl Iterator<Item = &str> {
        let named = self.path_of.get(name).map(String::as_str);
        let wanted = if named.is_none() {
            Some(name.to_owned())
        } else {
            None
        };
        let by_alias = self.aliases().filter_map(move |(pattern, path)| {
            let name = wanted.as_deref()?;
            alias_matches(pattern, name).then_some(path)
        });
        named.into_iter().chain(by_alias)
    }
}

/// Whether an alias of a module stands for `name`; patterns are fnmatch's.
fn alias_matches(pattern: &str, name: &str) -> bool {
    pattern == name
        || (pattern.contains(['*', '?', '['])
            && Pattern::new(pattern).is_ok_and(|pattern| pattern.matches(name)))
}

/// `snd_hda` for `kernel/sound/snd-hda.ko.xz`: the kernel takes `-` for `_` in names.
pub(crate) fn module_name(path: &str) -> String {
    let file = path.rsplit('/').next().unwrap_or(path);
    underscores(file.split_once(".ko").map_or(file, |(stem, _)| stem))
}

/// The path without `.ko`, `.ko.xz` and the like.
pub(crate) fn without_suffix(path: &str) -> &str {
    path.rfind(".ko")
        .map_or(path, |dot| path.get(..dot).unwrap_or(path))
}

/// Dashes as underscores, but not within brackets, where they are ranges.
pub(crate) fn underscores(name: &str) -> String {
    let mut depth = 0_u32;
    name.chars()
        .map(|c| {
            match c {
                '[' => depth += 1,
                ']' => depth = depth.saturating_sub(1),
                '-' if depth == 0 => return '_',
                _ => {}
            }
            c
        })
        .collect()
}

fn lines<'a>(lines: impl Iterator<Item = &'a str>) -> String {
    lines.flat_map(|line| [line, "\n"]).collect()
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A kernel with one module of each kind of dependency.
    pub(crate) fn tables() -> Tables {
        Tables {
            dep: "kernel/fs/ext4/ext4.ko.xz: kernel/fs/jbd2/jbd2.ko.xz kernel/fs/mbcache.ko.xz\n\
                  kernel/fs/jbd2/jbd2.ko.xz:\n\
                  kernel/fs/mbcache.ko.xz:\n\
                  kernel/crypto/crc32c_generic.ko.xz:\n\
                  kernel/arch/x86/crypto/crc32c-intel.ko.xz:\n\
                  kernel/drivers/net/phy/realtek.ko.xz: kernel/drivers/net/phy/libphy.ko.xz\n\
                  kernel/drivers/net/phy/libphy.ko.xz:\n\
                  kernel/drivers/net/ethernet/realtek/r8169.ko.xz: kernel/drivers/net/phy/libphy.ko.xz\n\
                  kernel/drivers/usb/storage/usb-storage.ko.xz:\n\
                  kernel/drivers/net/wireless/wifi.ko.xz:\n"
                .to_owned(),
            alias: "# Aliases\n\
                    alias fs-ext4 ext4\n\
                    alias crypto-crc32c crc32c_generic\n\
                    alias crypto-crc32c crc32c_intel\n\
                    alias pci:v000010ECd00008168sv*sd*bc*sc*i* r8169\n\
                    alias usb:v*p*d*dc*dsc*dp*ic08isc06ip50in* usb_storage\n"
                .to_owned(),
            softdep: "# Soft dependencies\n\
                      softdep ext4 pre: crypto-crc32c\n\
                      softdep r8169 pre: realtek post: nowhere\n\
                      softdep wifi usb-storage\n"
                .to_owned(),
            builtin: "kernel/drivers/virtio/virtio.ko\nkernel/drivers/virtio/virtio_pci.ko\n"
                .to_owned(),
        }
    }

    fn names(paths: &BTreeSet<String>) -> Vec<String> {
        let mut names: Vec<String> = paths.iter().map(|path| module_name(path)).collect();
        names.sort();
        names
    }

    #[test]
    fn a_module_brings_what_it_needs_and_every_module_its_soft_dependency_stands_for() {
        let modules = KernelModules::parse(&tables());
        let all = modules.with_dependencies(["kernel/fs/ext4/ext4.ko.xz".to_owned()]);
        assert_eq!(
            names(&all),
            ["crc32c_generic", "crc32c_intel", "ext4", "jbd2", "mbcache"]
        );
    }

    #[test]
    fn a_soft_dependency_brings_its_own_dependencies_and_a_missing_one_is_no_matter() {
        let modules = KernelModules::parse(&tables());
        let r8169 = "kernel/drivers/net/ethernet/realtek/r8169.ko.xz".to_owned();
        assert_eq!(
            names(&modules.with_dependencies([r8169])),
            ["libphy", "r8169", "realtek"]
        );
    }

    #[test]
    fn a_soft_dependency_without_pre_or_post_counts_for_nothing() {
        let modules = KernelModules::parse(&tables());
        let wifi = "kernel/drivers/net/wireless/wifi.ko.xz".to_owned();
        assert_eq!(names(&modules.with_dependencies([wifi])), ["wifi"]);
    }

    #[test]
    fn reduced_tables_speak_of_the_kept_modules_only() {
        let keep = [
            "kernel/drivers/usb/storage/usb-storage.ko.xz",
            "kernel/fs/mbcache.ko.xz",
        ];
        let reduced = tables().reduced(&keep.iter().map(|path| (*path).to_owned()).collect());
        assert_eq!(
            reduced.dep,
            "kernel/fs/mbcache.ko.xz:\nkernel/drivers/usb/storage/usb-storage.ko.xz:\n"
        );
        assert_eq!(
            reduced.alias,
            "alias usb:v*p*d*dc*dsc*dp*ic08isc06ip50in* usb_storage\n"
        );
        assert_eq!(reduced.softdep, "");
        assert_eq!(reduced.builtin, tables().builtin);
    }

    #[test]
    fn dashes_are_underscores_except_in_ranges() {
        assert_eq!(module_name("kernel/a/snd-hda-intel.ko.xz"), "snd_hda_intel");
        assert_eq!(underscores("a-b[0-9]*-c"), "a_b[0-9]*_c");
        assert!(alias_matches("usb:v04[0-9]*", "usb:v041"));
    }
}
