//! What a machine with several hauls must serve: the facts of the fixtures put together.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::BufWriter;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use anyhow::{Context, Result};
use image_layout::Digest;

use crate::cluster_haul;
use crate::fixtures::{self, ExpectedChart};
use crate::haul_writer::HaulWriter;
use crate::results;

/// A haul that is made for the tests, with one file of [`FILLER_BYTES`]: a node that copied it
/// anywhere would be noticed.
pub const FILLER: &str = "filler";
/// Bytes of the file in [`FILLER`]. They can't be compressed.
pub const FILLER_BYTES: usize = 48 << 20;
const FILLER_FILE: &str = "filler.bin";

/// What is served of several hauls.
#[derive(Clone, Debug, Default)]
pub struct Served {
    /// Tags: repository, tag, digest. Charts and files of Hauler's paths are among them.
    pub tags: Vec<(String, String, Digest)>,
    /// Charts.
    pub charts: Vec<ExpectedChart>,
    /// Files and charts' archives under `/files/`: name and digest.
    pub files: Vec<(String, Digest)>,
}

/// The archives of a haul, of the fixtures, [`FILLER`] or [`cluster_haul`], as the builder takes
/// them.
///
/// # Errors
/// When there is none of that name.
pub fn archives(haul: &str) -> Result<Vec<PathBuf>> {
    match haul {
        FILLER => filler(),
        cluster_haul::NAME => cluster_haul::archives(),
        name => Ok(fixtures::load(name)?.archives),
    }
}

/// Makes the filler, once a test run.
fn filler() -> Result<Vec<PathBuf>> {
    static MADE: Mutex<bool> = Mutex::new(false);
    let path = results::target().join("test-images/filler.tar.zst");
    let mut made = MADE.lock().unwrap_or_else(PoisonError::into_inner);
    if !*made {
        fs::create_dir_all(path.with_file_name(""))?;
        let mut haul = HaulWriter::new();
        haul.file(FILLER_FILE, &filler_contents());
        let file = File::create(&path).with_context(|| format!("making {}", path.display()))?;
        haul.write(BufWriter::new(file))?;
        *made = true;
    }
    Ok(vec![path])
}

/// The same bytes on every machine: xorshift64 (Marsaglia 2003).
fn filler_contents() -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut contents = Vec::with_capacity(FILLER_BYTES);
    while contents.len() < FILLER_BYTES {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        contents.extend_from_slice(&state.to_le_bytes());
    }
    contents
}

impl Served {
    /// What is served of several hauls together; of equal names the last counts.
    ///
    /// # Errors
    /// When the facts of a haul can't be read.
    pub fn of(hauls: &[String]) -> Result<Served> {
        let mut tags = BTreeMap::new();
        let mut charts = BTreeMap::new();
        let mut files = BTreeMap::new();
        for haul in hauls {
            if haul == cluster_haul::NAME {
                continue;
            }
            if haul == FILLER {
                let digest = Digest::sha256_of(&filler_contents());
                files.insert(FILLER_FILE.to_owned(), digest);
                continue;
            }
            let fixture = fixtures::load(haul)?;
            for tag in fixture.tags {
                tags.insert((tag.repository, tag.tag), tag.digest);
            }
            for file in fixture.files {
                files.insert(file.name, file.digest);
            }
            for chart in fixture.charts {
                files.insert(chart.archive.clone(), chart.digest);
                charts.insert((chart.repository.clone(), chart.tag.clone()), chart);
            }
        }
        Ok(Served {
            tags: tags.into_iter().map(|((r, t), d)| (r, t, d)).collect(),
            charts: charts.into_values().collect(),
            files: files.into_iter().collect(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_facts_of_several_hauls_are_put_together() {
        let hauls = ["hauler-1.3.0-signed", "hauler-2.0.3-mixed-v1", FILLER].map(str::to_owned);
        let served = Served::of(&hauls).unwrap();
        let has = |repository: &str| served.tags.iter().any(|(r, _, _)| r == repository);
        assert!(has("signed/app") && has("library/hello"), "{served:?}");
        let file = |name: &str| served.files.iter().any(|(n, _)| n == name);
        assert!(file("local.conf") && file(FILLER_FILE), "{served:?}");
        assert_eq!(served.charts.len(), 2);
    }
}
