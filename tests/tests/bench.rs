//! The benchmark runs and says what it measured. Its figures are for `make bench`.
#![allow(clippy::unwrap_used, clippy::panic)] // a failed step is a failed test

use std::path::Path;
use std::process::Command;

use serde_json::Value;

#[test]
fn the_smallest_part_runs_and_its_figures_can_be_read() {
    let directory = tempfile::tempdir().unwrap();
    let json = directory.path().join("figures.json");
    let out = Command::new(Path::new(env!("CARGO_BIN_EXE_bench")))
        .args(["--smoke", "--rounds", "1", "--only", "start", "--json"])
        .arg(&json)
        .output()
        .unwrap();
    let errors = String::from_utf8_lossy(&out.stderr);
    assert!(out.status.success(), "{errors}");
    let tables = String::from_utf8(out.stdout).unwrap();
    assert!(tables.contains("\n## start\n"), "{tables}");
    let report: Value = serde_json::from_slice(&std::fs::read(&json).unwrap()).unwrap();
    assert_eq!(report["smoke"], true);
    let figures = report["figures"].as_array().unwrap();
    assert_eq!(figures.len(), 4);
    for figure in figures {
        let value = &figure["series"][0]["values"][0];
        let value = value.as_f64().unwrap();
        // the kernel counts CPU in hundredths of a second, which so few images do not take
        let least = match figure["what"].as_str().unwrap().contains("CPU") {
            true => 0.0,
            false => f64::MIN_POSITIVE,
        };
        assert!(value >= least, "{figure}");
    }
    let held = |figure: &&Value| figure["targets"][0]["met"].is_boolean();
    assert_eq!(figures.iter().filter(held).count(), 3);
}
