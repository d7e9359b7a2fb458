//! What k3s's launcher would unpack at every boot, unpacked onto HAUL.

use std::path::Path;

use image_layout::paths::haul;

use super::error::ImageError;
use super::inputs::Inputs;
use crate::k3s::Data;

/// Unpacks the archives of all k3s binaries into `root`. A binary of another shape gets a warning,
/// and unpacks itself on the node.
pub(super) fn lay_out(root: &Path, inputs: &mut Inputs) -> Result<(), ImageError> {
    for (arch, k3s) in &inputs.k3s {
        let directory = root.join(haul::k3s_data(*arch, ""));
        match k3s.unpack_into(&directory)? {
            Data::InPlace(data) => {
                inputs.k3s_data.insert(*arch, data);
            }
            Data::LeftAlone(why) => inputs.warnings.push(format!(
                "{} unpacks itself at every boot, which takes time and some 260 MB of memory: {why}",
                k3s.path.display()
            )),
        }
    }
    Ok(())
}
