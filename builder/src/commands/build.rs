//! Writing an image.

use std::env;
use std::io::{self, Write};
use std::path::Path;

use anyhow::Context as _;
use image_layout::Arch;
use image_layout::paths::config;
use rustix::fs::FileType;

use crate::cli::build::{BuildArgs, ImageRole};
use crate::credentials::{Kept, Origin};
use crate::image::{self, Output, Request, Written};
use crate::progress;
use crate::size::Size;

/// Writes the image and says what came of it.
///
/// # Errors
/// See [`image::write()`].
pub fn run(args: &BuildArgs) -> anyhow::Result<()> {
    let output = Output::at(&args.output)?;
    let request = Request {
        hauls: args.hauls.clone(),
        k3s: args.k3s.clone(),
        k3s_images: args.k3s_images.clone(),
        allow_missing_images: args.allow_missing_images,
        config: args.config.clone(),
        credentials: args.credentials.clone(),
        agents_only: args.role == ImageRole::Agent,
        arches: match args.arches.is_empty() {
            true => vec![Arch::current()],
            false => args.arches.clone(),
        },
        boot_packs: args.boot_packs.clone(),
        firmware: args.firmware.clone(),
        random_guids: args.random_guids,
        append: args.append.clone(),
        source_date_epoch: source_date_epoch()?,
    };
    let place = Place::of(&output, &args.output);
    let progress = progress::to_stderr(args.quiet);
    let written = image::write(&request, output, progress.as_ref())?;
    for warning in &written.warnings {
        progress.warn(warning);
    }
    if args.output == Path::new("-") && written.credentials.is_some() && others_read_stdout() {
        progress.warn("others may read the image: chmod 600");
    }
    if args.quiet {
        return Ok(());
    }
    let text = summary(&written, &place, request.config.as_deref());
    match place {
        // standard output carries the image
        Place::Stream => io::stderr().write_all(text.as_bytes()),
        _ => io::stdout().write_all(text.as_bytes()),
    }
    .context("writing the summary")
}

/// Whether standard output is a file that the shell made readable for others.
fn others_read_stdout() -> bool {
    rustix::fs::fstat(io::stdout()).is_ok_and(|found| {
        FileType::from_raw_mode(found.st_mode) == FileType::RegularFile
            && found.st_mode & 0o077 != 0
    })
}

fn source_date_epoch() -> anyhow::Result<Option<u64>> {
    let Some(value) = env::var_os("SOURCE_DATE_EPOCH").filter(|value| !value.is_empty()) else {
        return Ok(None);
    };
    let seconds = value.to_str().and_then(|value| value.parse().ok());
    let seconds = seconds
        .with_context(|| format!("SOURCE_DATE_EPOCH is {value:?}, not a number of seconds"))?;
    Ok(Some(seconds))
}

/// Where the image went, as far as the next step depends on it.
enum Place {
    File(String),
    Device(String),
    Stream,
}

impl Place {
    fn of(output: &Output, path: &Path) -> Place {
        match output {
            Output::File(_) => Place::File(shell_word(path)),
            Output::Device(_) => Place::Device(shell_word(path)),
            Output::Stream { .. } => Place::Stream,
        }
    }
}

/// A path as it can be typed into a shell.
fn shell_word(path: &Path) -> String {
    let text = path.to_string_lossy();
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+=:@,".contains(c);
    match text.chars().all(plain) && !text.starts_with('-') {
        true => text.into_owned(),
        false => format!("'{}'", text.replace('\'', "'\\''")),
    }
}

/// What a person wants to know when it is done: what is in, how large, what to type next.
fn summary(written: &Written, place: &Place, given: Option<&Path>) -> String {
    let info = &written.info;
    let program = env::args_os().next().unwrap_or_else(|| "builder".into());
    let program = shell_word(Path::new(&program));
    let mut lines = Vec::new();
    let size = Size(written.plan.total());
    lines.push(match place {
        Place::File(path) => format!("Image     {path}, {size}"),
        Place::Device(path) => format!("Drive     {path}, {size}"),
        Place::Stream => format!("Image     {size}, to standard output"),
    });
    lines.push(format!(
        "Haul      {}, {}, {} ({})",
        counted(written.images, "image"),
        counted(written.charts, "chart"),
        counted(written.files, "file"),
        Size(info.blobs.bytes),
    ));
    for (arch, what) in &info.arches {
        let k3s = match &what.k3s {
            Some(k3s) => format!(
                "k3s {}, {}",
                k3s.version.as_deref().unwrap_or("of unknown version"),
                match k3s.data {
                    Some(_) => "runs in place",
                    None => "unpacks itself at every boot",
                }
            ),
            None => "no k3s".to_owned(),
        };
        let firmware = match what.firmware.len() {
            0 => "no device firmware".to_owned(),
            count => counted(count, "file") + " of device firmware",
        };
        lines.push(format!(
            "{:<9} kernel {}, {k3s}, {firmware}",
            arch.name(),
            what.kernel
        ));
    }
    let source = match given {
        Some(path) => path.display().to_string(),
        None => "a template".to_owned(),
    };
    lines.push(format!(
        "Cluster   {}, {}, from {source}",
        info.cluster,
        counted(written.cluster.nodes.len(), "node")
    ));
    if let Some(kept) = &written.credentials {
        lines.push(String::new());
        let k3s = info.arches.values().any(|what| what.k3s.is_some());
        lines.extend(access(kept, info.agents_only, k3s, &program));
        lines.extend(registry_access(written, kept));
    }
    lines.push(String::new());
    lines.push(format!(
        "To change the configuration, edit {} on the drive's first partition",
        config::CLUSTER_YAML
    ));
    lines.push("(HAULCFG, any desktop mounts it). It is read at every boot.".to_owned());
    lines.push("Firmware settings: UEFI boot on, Secure Boot off.".to_owned());
    match place {
        Place::File(path) => {
            lines.push(String::new());
            lines.push(
                "Next, write it to a flash drive (erases the drive), or try it here:".to_owned(),
            );
            lines.push(format!(
                "  sudo dd if={path} of=/dev/sdX bs=4M oflag=direct conv=fsync status=progress"
            ));
            lines.push(format!("  {program} run {path}"));
        }
        Place::Device(path) => {
            lines.push(String::new());
            lines.push(format!(
                "Next: sudo eject {path}, and boot a machine from it."
            ));
        }
        Place::Stream => {}
    }
    lines.join("\n") + "\n"
}

/// Where the cluster's credentials are, what they are worth, and how to use them.
fn access(kept: &Kept, agents_only: bool, k3s: bool, program: &str) -> Vec<String> {
    let origin = match kept.origin {
        Origin::Made => "made",
        Origin::Reused => "reused",
    };
    let kubeconfig = shell_word(&kept.kubeconfig);
    let directory = shell_word(&kept.directory);
    let image = kubeconfig.strip_suffix(".kubeconfig").unwrap_or(&directory);
    let mut lines = vec![
        format!("Access    {directory} ({origin})"),
        match agents_only {
            _ if !k3s => "Whoever holds it, or a drive with this image, can pass for its registry.",
            true => "Whoever holds it owns the cluster; this image is for agents, without CA keys.",
            false => "Whoever holds it, or a drive with this image, owns the cluster.",
        }
        .to_owned(),
    ];
    if !k3s {
        return lines;
    }
    lines.push(match kept.server.guessed {
        // a name may be no address where kubectl runs
        true => format!("  {program} kubeconfig {image} --server ADDRESS > admin.yaml"),
        false => format!("  kubectl --kubeconfig {kubeconfig} get nodes"),
    });
    lines
}

/// What the registry asks of its clients.
fn registry_access(written: &Written, kept: &Kept) -> Vec<String> {
    let mut lines = Vec::new();
    if let (true, Some(authority)) = (written.info.access.tls, &kept.registry_ca) {
        let authority = shell_word(authority);
        lines.push(format!(
            "HTTPS     clients check the registry by {authority}"
        ));
        lines.push(
            "It is public: give it to them. The key beside it is not, and is on every drive."
                .to_owned(),
        );
    }
    match written.cluster.registry.users.len() {
        0 => {}
        count => lines.push(format!(
            "Users     {} of the registry, and its nodes",
            counted(count, "user")
        )),
    }
    lines
}

fn counted(count: usize, what: &str) -> String {
    match count {
        1 => format!("1 {what}"),
        _ => format!("{count} {what}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_can_be_typed_as_they_are_shown() {
        for (path, shown) in [
            ("haulboot.img", "haulboot.img"),
            ("/tmp/a-b/c.img", "/tmp/a-b/c.img"),
            ("my image", "'my image'"),
            ("it's", "'it'\\''s'"),
        ] {
            assert_eq!(shell_word(Path::new(path)), shown);
        }
    }

    #[test]
    fn counts_read_as_english() {
        assert_eq!(counted(0, "image"), "0 images");
        assert_eq!(counted(1, "chart"), "1 chart");
        assert_eq!(counted(2, "file"), "2 files");
    }
}
