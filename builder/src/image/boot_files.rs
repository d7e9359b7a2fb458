//! What goes onto the ESP.

use std::collections::BTreeMap;

use image_layout::bootargs::BootArgs;
use image_layout::partitions::Guids;
use image_layout::paths::esp;

use super::boot_menu::{self, Boot};
use super::error::ImageError;
use super::fat;
use super::inputs::Inputs;
use super::request::Request;

/// What goes onto the ESP, by its path there.
pub(super) struct BootFiles<'a> {
    large: BTreeMap<String, &'a [u8]>,
    made: BTreeMap<String, Vec<u8>>,
}

impl<'a> BootFiles<'a> {
    /// Boot loaders, kernels and initramfs.
    pub(super) fn of(inputs: &'a Inputs) -> Result<BootFiles<'a>, ImageError> {
        let mut files = BootFiles {
            large: BTreeMap::new(),
            made: BTreeMap::new(),
        };
        let firmware = inputs.initramfs_firmware();
        for pack in &inputs.packs {
            let arch = pack.arch();
            files
                .large
                .insert(esp::boot_loader(arch), pack.boot_loader());
            files.large.insert(esp::kernel(arch), pack.kernel());
            files
                .made
                .insert(esp::initramfs(arch), pack.initramfs(&firmware)?);
        }
        Ok(files)
    }

    /// The same with the boot menu, which names the partitions.
    pub(super) fn with_menu(
        mut self,
        request: &Request,
        inputs: &Inputs,
        guids: &Guids,
        built: u64,
    ) -> BootFiles<'a> {
        let args = BootArgs {
            disk: Some(guids.disk),
            haul: Some(guids.haul),
            config: Some(guids.config),
            built: Some(built),
            ..BootArgs::default()
        };
        self.made.insert(
            esp::LOADER_CONF.to_owned(),
            boot_menu::loader_conf().into_bytes(),
        );
        for pack in &inputs.packs {
            let entries = boot_menu::entries(&Boot {
                arch: pack.arch(),
                kernel_release: &pack.manifest().kernel_release,
                args: &args,
                append: &request.append,
                k3s: inputs.k3s.contains_key(&pack.arch()),
                agents_only: inputs.agents_only,
            });
            let entries = entries.into_iter();
            self.made
                .extend(entries.map(|(path, text)| (path, text.into_bytes())));
        }
        self
    }

    /// Every file by its path.
    pub(super) fn files(&self) -> fat::Files<'_> {
        let made = self.made.iter().map(|(k, v)| (k.clone(), v.as_slice()));
        let large = self.large.iter().map(|(k, v)| (k.clone(), *v));
        large.chain(made).collect()
    }

    /// Bytes of all files.
    pub(super) fn bytes(&self) -> u64 {
        let files = self.files();
        files.values().map(|contents| contents.len() as u64).sum()
    }
}
