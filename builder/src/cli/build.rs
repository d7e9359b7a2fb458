//! Writing an image: what it is told.

use std::path::PathBuf;

use clap::{ArgGroup, Args, ValueEnum};
use image_layout::Arch;

/// For which nodes an image is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ImageRole {
    /// For every node, servers too (default)
    Any,
    /// For agents: without CA keys, so that a lost drive is no lost cluster
    Agent,
}

/// What is to be on the image, and where it goes.
#[derive(Args, Clone, Debug)]
#[command(group = ArgGroup::new("content").required(true).multiple(true))]
pub struct BuildArgs {
    /// Haul to put on the image: archive, chunk or OCI layout
    ///
    /// What `hauler store save` writes (.tar.zst), also as .tar or .tar.gz; any one chunk of a
    /// haul that was saved in chunks; a directory with an OCI layout; what `docker save` writes;
    /// k3s-airgap-images-ARCH.tar of a k3s release. May be repeated: the contents of several hauls
    /// are served together.
    #[arg(long = "haul", value_name = "FILE|DIR", group = "content")]
    pub hauls: Vec<PathBuf>,

    /// k3s binary to carry, one for each architecture
    ///
    /// The file `k3s` or `k3s-arm64` of a k3s release. Its architecture is read from the file.
    /// Without k3s the nodes serve their haul to other machines and nothing else.
    #[arg(long = "k3s", value_name = "FILE", group = "content")]
    pub k3s: Vec<PathBuf>,

    /// Images that k3s needs, one a line [default: see below]
    ///
    /// The file `k3s-images.txt` of the k3s release. By default it is looked for beside the k3s
    /// binary, then among the files of the hauls; without one only the pause image is known to be
    /// needed. Components that cluster.yaml disables need no images.
    #[arg(long, value_name = "FILE", requires = "k3s")]
    pub k3s_images: Option<PathBuf>,

    /// Write the image even if no haul has what k3s needs
    ///
    /// Pods whose images are missing do not start. Without the pause image none does.
    #[arg(long, requires = "k3s")]
    pub allow_missing_images: bool,

    /// Configuration of the cluster [default: a commented template]
    ///
    /// It is checked, and goes unchanged onto the drive's first partition, where it can be
    /// edited on any desktop. Without one that partition gets a template: with k3s it makes a
    /// cluster of one machine, without it a registry.
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,

    /// Directory of the cluster's credentials [default: IMAGE.credentials]
    ///
    /// With k3s every image carries what makes it a part of its cluster; with registry.tls or
    /// registry.users, also without k3s, what its registry is known by. That is made once and kept
    /// in this directory, which is made if it is missing; further images with the same directory
    /// are of the same cluster. Keep it safe: whoever reads it owns the cluster. An image that
    /// needs none of this leaves it alone.
    #[arg(long, value_name = "DIR")]
    pub credentials: Option<PathBuf>,

    /// For which nodes the image is
    #[arg(
        long,
        value_name = "ROLE",
        default_value = "any",
        hide_default_value = true
    )]
    pub role: ImageRole,

    /// Architecture to boot: x86_64 or arm64 [default: this machine's]
    ///
    /// May be repeated for a drive that boots both. amd64 and aarch64 are understood too.
    #[arg(long = "arch", value_name = "ARCH")]
    pub arches: Vec<Arch>,

    /// Image to write; - for standard output
    ///
    /// A file is replaced when the new image is complete, and kept if that fails. A drive
    /// (/dev/sdX) is refused while anything on it is mounted, and loses everything on it.
    #[arg(short, long, value_name = "IMAGE", default_value = "haulboot.img")]
    pub output: PathBuf,

    /// Boot pack to use before those found in the usual places
    ///
    /// Kernel, boot loader and agent of one architecture in one file. Looked for in the files
    /// named here, in the directories of $HAULBOOT_BOOT_PACKS, beside the builder, in boot-packs
    /// there or up to three directories above, and in target/boot-packs. May be repeated.
    #[arg(long = "boot-pack", value_name = "FILE")]
    pub boot_packs: Vec<PathBuf>,

    /// Device firmware to add: directory or .deb package
    ///
    /// For network cards and controllers whose drivers load a file into the device. A node's
    /// screen names the files that were asked for and not found. May be repeated.
    #[arg(long, value_name = "DIR|DEB")]
    pub firmware: Vec<PathBuf>,

    /// Kernel argument to add to every entry of the boot menu
    ///
    /// May be repeated, one argument each time: --append nomodeset --append quiet
    #[arg(long, value_name = "ARGUMENT", allow_hyphen_values = true)]
    pub append: Vec<String>,

    /// Give the image GUIDs that no other image has
    ///
    /// Without this the same inputs give the same image, byte for byte. Two drives with the same
    /// GUIDs in one machine are told apart by nothing.
    #[arg(long)]
    pub random_guids: bool,

    /// Say nothing but warnings and errors
    #[arg(short, long)]
    pub quiet: bool,
}
