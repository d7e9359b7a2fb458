//! `README.txt` on HAULCFG, for the person who opens the drive on a desktop.

use image_layout::image::ImageInfo;
use image_layout::paths::config;

/// The text with CRLF line ends, since that desktop is often Windows.
pub(super) fn text(info: &ImageInfo) -> String {
    let built = i64::try_from(info.built)
        .ok()
        .and_then(|seconds| jiff::Timestamp::from_second(seconds).ok())
        .map_or_else(|| info.built.to_string(), |time| time.to_string());
    let mut contents = String::new();
    for (arch, what) in &info.arches {
        contents.push_str(&format!("  {arch}: kernel {}", what.kernel));
        if let Some(k3s) = &what.k3s {
            let version = k3s.version.as_deref().unwrap_or("of unknown version");
            contents.push_str(&format!(", k3s {version}"));
        }
        contents.push('\n');
    }
    if info.agents_only {
        contents.push_str("  for agents: it can start no server\n");
    }
    for haul in &info.hauls {
        contents.push_str(&format!("  haul {}\n", haul.name));
    }
    let text = format!(
        "Haulboot drive\n\
         ==============\n\
         \n\
         A computer that boots from this drive becomes a node of the cluster that\n\
         {yaml} describes, and serves the container images, charts and files\n\
         on the drive as a registry on port 5000. Nothing is installed on its disks\n\
         unless {yaml} says so.\n\
         \n\
         To boot\n\
         -------\n\
         1. Change {yaml} if you need to (see below), and eject the drive.\n\
         2. Put it into the computer. In the firmware's settings switch UEFI boot on\n\
            and Secure Boot off, and choose the drive in the boot menu (often F12,\n\
            F11, F8 or Esc at power-on).\n\
         3. The screen shows each stage of the boot. In the end it shows the\n\
            addresses under which the node is reached; open {scheme}://ADDRESS:5000/\n\
            in a browser.\n\
         \n\
         To change the configuration\n\
         ---------------------------\n\
         Open {yaml} with any text editor, change it, save it under the same\n\
         name. It is read at every boot. If something is wrong in it, the node's\n\
         screen says in which line, and serves the registry all the same.\n\
         \n\
         Other partitions\n\
         ----------------\n\
         Windows may offer to format a partition of this drive that it can't read.\n\
         Say no: that is where the images are.\n\
         \n\
         On this drive\n\
         -------------\n\
         {contents}  built by Haulboot {version}, {built}\n",
        yaml = config::CLUSTER_YAML,
        scheme = if info.access.tls { "https" } else { "http" },
        version = info.builder,
    );
    text.replace('\n', "\r\n")
}

#[cfg(test)]
mod tests {
    use image_layout::image::{BlobTotals, FORMAT, HaulInfo};

    use super::*;

    #[test]
    fn every_line_ends_as_windows_expects_and_fits_a_narrow_window() {
        let text = text(&ImageInfo {
            format: FORMAT,
            agents_only: false,
            builder: "0.1.0".into(),
            built: 1_700_000_000,
            cluster: "edge".into(),
            access: Default::default(),
            arches: Default::default(),
            hauls: vec![HaulInfo {
                name: "haul.tar.zst".into(),
            }],
            blobs: BlobTotals::default(),
        });
        assert!(text.contains("  haul haul.tar.zst\r\n"));
        assert!(text.contains("2023-11-14T22:13:20Z"));
        assert_eq!(text.matches('\n').count(), text.matches("\r\n").count());
        assert!(text.lines().all(|line| line.len() <= 78), "{text}");
        assert!(text.is_ascii());
    }
}
