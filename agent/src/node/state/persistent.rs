//! What a disk and the stick have in common: mounted, told, and kept.

use std::path::Path;
use std::time::Duration;

use image_layout::paths;
use image_layout::status::StateStatus;

use super::disks::{self, Device};
use super::problem::StateError;
use super::size::size;
use super::wait::bounded;
use super::{Prepared, last_seen, layout, mounts};
use crate::node::Place;

/// The journal is replayed meanwhile.
const MOUNTING: Duration = Duration::from_secs(120);

/// The disk that the machine booted from: the one that HAUL lies on. `None` where HAUL is on none.
pub(super) fn stick(place: &Place) -> Result<Option<String>, StateError> {
    let mountinfo = place.proc.join("self/mountinfo");
    let mounts = mounts::mounted(&place.proc).map_err(StateError::system("reading", mountinfo))?;
    let haul = place.root.join(paths::node::HAUL.trim_start_matches('/'));
    let Some(haul) = mounts::at(&mounts, &haul) else {
        return Ok(None);
    };
    let devices = disks::list(&place.sys);
    let device = devices
        .into_iter()
        .find(|device| device.number == haul.device);
    Ok(device.map(|device| device.disk.unwrap_or(device.name)))
}

/// What is mounted already, by an earlier life of this process; the rest is made up for.
pub(super) fn again(place: &Place, kind: &str) -> Result<Option<Prepared>, StateError> {
    let mountinfo = place.proc.join("self/mountinfo");
    let mounts = mounts::mounted(&place.proc).map_err(StateError::system("reading", mountinfo))?;
    let state = layout::state(place);
    let Some(mounted) = mounts::at(&mounts, &state) else {
        return Ok(None);
    };
    let devices = disks::list(&place.sys);
    let Some(device) = devices
        .into_iter()
        .find(|device| device.number == mounted.device)
    else {
        return Err(StateError::Gone(mounted.source.clone()));
    };
    furnish(place, kind, &device, false, Vec::new()).map(Some)
}

/// Mounts the file system and makes it appear where k3s looks.
pub(super) fn mount(
    place: &Place,
    kind: &str,
    device: &Device,
    path: &Path,
    made: bool,
    notices: Vec<String>,
) -> Result<Prepared, StateError> {
    let state = layout::state(place);
    mounts::directory(&state, 0o755).map_err(StateError::system("making", &state))?;
    let mounted = bounded(format!("mounting {}", device.name), MOUNTING, {
        let (path, state) = (path.to_owned(), state);
        move || mounts::ext4(&path, &state)
    })?;
    mounted.map_err(StateError::system("mounting", path))?;
    furnish(place, kind, device, made, notices)
}

fn furnish(
    place: &Place,
    kind: &str,
    device: &Device,
    made: bool,
    mut notices: Vec<String>,
) -> Result<Prepared, StateError> {
    let state = layout::state(place);
    mounts::keep_apart(&state).map_err(StateError::system("setting apart", &state))?;
    layout::bind(place)?;
    notices.extend(last_seen::begin(&state));
    let room = rustix::fs::statvfs(&state)
        .map_err(|error| StateError::system("measuring", &state)(error.into()))?;
    let bytes = room.f_blocks.saturating_mul(room.f_frsize);
    let free = room.f_bavail.saturating_mul(room.f_frsize);
    let how = match made {
        true => "made just now",
        false => "found again",
    };
    let name = match kind {
        "stick" => format!("on the stick, {}", device.name),
        _ => format!("on {}", device.describe()),
    };
    Ok(Prepared {
        status: StateStatus {
            kind: kind.to_owned(),
            device: device.name.clone(),
            bytes,
            image_store_bytes: 0,
        },
        detail: format!("{name}: {how}, {} of {} free", size(free), size(bytes)),
        notices,
    })
}
