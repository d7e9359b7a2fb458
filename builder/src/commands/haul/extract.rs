//! `builder haul extract HAUL DIR`.

use image_layout::text::printable;

use crate::cli::haul::Extract;
use crate::progress;

pub(super) fn run(arguments: &Extract) -> anyhow::Result<()> {
    let loaded = crate::haul::extract(
        &arguments.hauls,
        &arguments.dir,
        progress::to_stderr(false).as_ref(),
    )?;
    let totals = loaded.catalog.totals();
    let dir = printable(&arguments.dir.to_string_lossy());
    super::table::print(&format!(
        "{dir}: {} artifacts, {} blobs, {}\nserve it with: agent serve {dir}\n",
        loaded.catalog.artifacts.len(),
        totals.count,
        indicatif::HumanBytes(totals.bytes)
    ))
}
