//! `disk: none`: data in memory, lost at power-off.

use image_layout::status::StateStatus;

use super::memory::{self, Sizes};
use super::problem::StateError;
use super::size::size;
use super::{Prepared, layout, mounts};
use crate::node::Place;

/// Mounts what is not mounted yet.
pub(super) fn prepare(place: &Place) -> Result<Prepared, StateError> {
    let total = memory::total(&place.proc).ok_or(StateError::Memory)?;
    let sizes = memory::sizes(total);
    let state = layout::state(place);
    mount(place, &state, sizes.state, 0o755)?;
    mounts::keep_apart(&state).map_err(StateError::system("setting apart", &state))?;
    layout::bind(place)?;
    layout::discard_layers(place)?;
    let (images, mode) = layout::images(place);
    mount(place, &images, sizes.images, mode)?;
    Ok(describe(total, sizes))
}

fn mount(place: &Place, target: &std::path::Path, bytes: u64, mode: u32) -> Result<(), StateError> {
    mounts::directory(target, mode).map_err(StateError::system("making", target))?;
    if layout::is_mounted(place, target)? {
        return Ok(());
    }
    mounts::tmpfs(target, bytes, mode).map_err(StateError::system("mounting a tmpfs on", target))
}

fn describe(total: u64, sizes: Sizes) -> Prepared {
    let mut notices = Vec::new();
    if sizes.is_tight {
        notices.push(format!(
            "this machine has {} of memory, which is little for k3s with its data in memory: \
             2 GiB are needed, 4 GiB are comfortable; a disk for `state:` helps too",
            size(total)
        ));
    }
    Prepared {
        status: StateStatus {
            kind: "memory".to_owned(),
            device: String::new(),
            bytes: sizes.state,
            image_store_bytes: sizes.images,
        },
        detail: format!(
            "in memory: {} for k3s and pods, {} for images; lost at power-off",
            size(sizes.state),
            size(sizes.images)
        ),
        notices,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_says_the_bounds_and_what_becomes_of_the_data() {
        let told = describe(8 << 30, memory::sizes(8 << 30));
        assert_eq!(
            told.detail,
            "in memory: 2.0 GiB for k3s and pods, 3.2 GiB for images; lost at power-off"
        );
        assert_eq!(told.status.kind, "memory");
        assert!(told.notices.is_empty());
        let told = describe(1 << 30, memory::sizes(1 << 30));
        assert!(told.notices[0].starts_with("this machine has 1.0 GiB of memory"));
    }

    #[test]
    fn a_machine_that_does_not_tell_its_memory_fails_with_words() {
        let dir = tempfile::tempdir().unwrap();
        let error = prepare(&Place::below(dir.path())).unwrap_err();
        assert!(matches!(error, StateError::Memory));
        assert!(error.problem().mend.contains("off and on again"));
    }
}
