//! The demonstration haul: two images of one tiny program, the image that every pod of k3s has, a
//! chart and a file.

use std::io;
use std::path::PathBuf;

use anyhow::Context as _;
use image_layout::{Arch, Digest, Reference};
use serde_json::json;

use crate::cluster_haul::PAUSES;
use crate::haul_writer::{FileEntry, HaulWriter, PlatformImage};

/// Prints "Hello from Docker!"; carries the name that everybody tries first.
pub const HELLO: &str = "docker.io/library/hello-world:latest";
/// Serves the same words on port 8080; what the chart runs.
pub const WEB: &str = "docker.io/haulboot/web:1";
/// Name and version of the chart.
pub const CHART: (&str, &str) = ("hello-world", "0.1.0");
/// Name of the file.
pub const FILE: &str = "Welcome.txt";
/// Contents of the file.
pub const FILE_CONTENTS: &[u8] = include_bytes!("../demo/Welcome.txt");

/// Where the program lies in both images.
const PROGRAM: &str = "/hello";

const CHART_FILES: [FileEntry<'static>; 5] = [
    (
        "Chart.yaml",
        0o644,
        include_bytes!("../demo/chart/Chart.yaml"),
    ),
    (
        "values.yaml",
        0o644,
        include_bytes!("../demo/chart/values.yaml"),
    ),
    (
        "templates/deployment.yaml",
        0o644,
        include_bytes!("../demo/chart/templates/deployment.yaml"),
    ),
    (
        "templates/service.yaml",
        0o644,
        include_bytes!("../demo/chart/templates/service.yaml"),
    ),
    (
        "templates/serviceaccount.yaml",
        0o644,
        include_bytes!("../demo/chart/templates/serviceaccount.yaml"),
    ),
];

/// What the images run on one architecture.
#[derive(Clone, Debug)]
pub struct Program {
    /// The architecture it was built for.
    pub arch: Arch,
    /// The static executable, `tests/hello`.
    pub executable: Vec<u8>,
}

/// Digests of what the haul serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Digests {
    /// Index of [`HELLO`].
    pub hello: Digest,
    /// Index of [`WEB`].
    pub web: Digest,
    /// Manifest of the chart.
    pub chart: Digest,
    /// Manifest of the file.
    pub file: Digest,
}

/// Writes the haul to `output`. The same programs give the same bytes.
pub fn write(programs: &[Program], output: impl io::Write) -> anyhow::Result<Digests> {
    let mut haul = HaulWriter::new();
    let mut image = |name: &str, command: Vec<&str>| -> anyhow::Result<Digest> {
        let platforms: Vec<PlatformImage<'_>> = programs
            .iter()
            .map(|program| PlatformImage {
                arch: program.arch,
                files: vec![(
                    PROGRAM.trim_start_matches('/'),
                    0o755,
                    program.executable.as_slice(),
                )],
                command: command.clone(),
            })
            .collect();
        haul.image(&name.parse::<Reference>()?, &platforms)
            .with_context(|| format!("packing the image {name}"))
    };
    let hello = image(HELLO, vec![PROGRAM])?;
    let web = image(WEB, vec![PROGRAM, "serve"])?;
    for (name, command) in PAUSES {
        image(name, command.to_vec())?;
    }
    let chart = add_chart(&mut haul)?;
    let file = haul.file(FILE, FILE_CONTENTS);
    haul.write(output).context("writing the haul")?;
    Ok(Digests {
        hello,
        web,
        chart,
        file,
    })
}

/// Adds the chart; returns the digest of its manifest.
///
/// # Errors
/// When its metadata are not what this module says.
pub fn add_chart(haul: &mut HaulWriter) -> anyhow::Result<Digest> {
    let (name, version) = CHART;
    let metadata: serde_json::Value =
        serde_yaml::from_slice(include_bytes!("../demo/chart/Chart.yaml"))
            .context("reading tests/demo/chart/Chart.yaml")?;
    anyhow::ensure!(
        metadata["name"] == json!(name) && metadata["version"] == json!(version),
        "tests/demo/chart/Chart.yaml is not the chart {name} {version}"
    );
    haul.chart(name, version, &metadata, &CHART_FILES)
        .context("packing the chart")
}

/// Reads `ARCH=FILE`, where the program for one architecture is.
///
/// # Errors
/// A sentence that says what was expected.
pub fn program_argument(text: &str) -> Result<(Arch, PathBuf), String> {
    let (arch, file) = text
        .split_once('=')
        .ok_or("expected ARCH=FILE, as in arm64=target/hello")?;
    let arch = arch
        .parse()
        .map_err(|why: image_layout::arch::UnknownArch| why.to_string())?;
    Ok((arch, file.into()))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::io::Read as _;

    use super::*;

    fn programs() -> Vec<Program> {
        Arch::ALL
            .into_iter()
            .map(|arch| Program {
                arch,
                executable: format!("the program for {arch}").into_bytes(),
            })
            .collect()
    }

    #[test]
    fn the_same_programs_give_the_same_haul() {
        let (mut one, mut two) = (Vec::new(), Vec::new());
        let digests = write(&programs(), &mut one).unwrap();
        assert_eq!(digests, write(&programs(), &mut two).unwrap());
        assert_eq!(one, two);
    }

    #[test]
    fn every_descriptor_leads_to_a_blob_of_its_digest_and_size() {
        let mut packed = Vec::new();
        let digests = write(&programs(), &mut packed).unwrap();
        let unpacked = zstd::Decoder::new(packed.as_slice()).unwrap();
        let mut archive = tar::Archive::new(unpacked);
        let mut files = BTreeMap::new();
        for entry in archive.entries().unwrap() {
            let mut entry = entry.unwrap();
            let path = entry.path().unwrap().to_str().unwrap().to_owned();
            let mut contents = Vec::new();
            entry.read_to_end(&mut contents).unwrap();
            files.insert(path, contents);
        }
        let mut open: Vec<serde_json::Value> =
            serde_json::from_slice::<serde_json::Value>(&files["index.json"]).unwrap()["manifests"]
                .as_array()
                .unwrap()
                .clone();
        let named: Vec<Digest> = open
            .iter()
            .map(|entry| entry["digest"].as_str().unwrap().parse().unwrap())
            .collect();
        for digest in [digests.hello, digests.web, digests.chart, digests.file] {
            assert!(named.contains(&digest));
        }
        assert_eq!(named.len(), 4 + PAUSES.len());
        let mut seen = 0;
        while let Some(descriptor) = open.pop() {
            let digest: Digest = descriptor["digest"].as_str().unwrap().parse().unwrap();
            let blob = &files[&digest.blob_path()];
            assert_eq!(Digest::sha256_of(blob), digest);
            assert_eq!(descriptor["size"], json!(blob.len()));
            seen += 1;
            let media_type = descriptor["mediaType"].as_str().unwrap();
            if media_type.contains("manifest.v1") || media_type.contains("image.index") {
                let manifest: serde_json::Value = serde_json::from_slice(blob).unwrap();
                for list in ["manifests", "layers"] {
                    open.extend(manifest[list].as_array().cloned().unwrap_or_default());
                }
                open.extend(manifest.get("config").cloned());
            }
        }
        // Images of an index and, per architecture, manifest, configuration and layer; chart and
        // file of manifest, configuration and layer.
        assert_eq!(seen, (2 + PAUSES.len()) * (1 + 2 * 3) + 2 * 3);
    }

    #[test]
    fn the_haul_catalogues_as_its_images_a_chart_and_a_file() {
        use builder::progress::Silent;

        let scratch = tempfile::tempdir().unwrap();
        let haul = scratch.path().join("demo.tar.zst");
        let digests = write(&programs(), std::fs::File::create(&haul).unwrap()).unwrap();
        let loaded = builder::haul::load(&[haul], &scratch.path().join("layout"), &Silent).unwrap();
        let names: BTreeMap<String, Digest> = loaded
            .catalog
            .artifacts
            .iter()
            .map(|artifact| (artifact.name(), artifact.digest))
            .collect();
        let expected = BTreeMap::from([
            (HELLO.to_owned(), digests.hello),
            (WEB.to_owned(), digests.web),
            (PAUSES[0].0.to_owned(), names[PAUSES[0].0]),
            (PAUSES[1].0.to_owned(), names[PAUSES[1].0]),
            ("hauler/hello-world:0.1.0".to_owned(), digests.chart),
            ("hauler/welcome.txt:latest".to_owned(), digests.file),
        ]);
        assert_eq!(names, expected);
        assert!(loaded.catalog.warnings.is_empty());
    }
}
