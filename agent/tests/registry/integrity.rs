//! Blobs that are not what their names say.

use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::path::Path;
use std::time::{Duration, Instant};

use image_layout::status::{IntegrityState, RegistryStatus, Status};

use crate::client::{get, head};
use crate::layout;
use crate::server::Server;

/// The comparison begins when no client has read for 5 s, and the machine may be busy.
const BOUND: Duration = Duration::from_secs(120);

/// The registry's own state when all blobs have been compared.
pub(crate) fn compared(server: &Server) -> RegistryStatus {
    let deadline = Instant::now() + BOUND;
    loop {
        let status: Status = serde_json::from_slice(&get(server.address, "/status").body).unwrap();
        let registry = status.registry.unwrap();
        match registry.integrity.state {
            IntegrityState::Done => return registry,
            IntegrityState::Failed => panic!("{registry:?}"),
            _ => assert!(Instant::now() < deadline, "{registry:?}"),
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

pub(crate) fn flip_a_byte(path: &Path, at: u64) {
    let options = std::fs::File::options().read(true).write(true).open(path);
    let mut file = options.unwrap();
    let mut byte = [0];
    file.seek(SeekFrom::Start(at)).unwrap();
    file.read_exact(&mut byte).unwrap();
    file.seek(SeekFrom::Start(at)).unwrap();
    file.write_all(&[byte[0] ^ 1]).unwrap();
}

#[test]
fn one_flipped_byte_is_found_and_the_blob_refused_and_all_else_is_served() {
    let dir = tempfile::tempdir().unwrap();
    let written = layout::write(dir.path());
    let [one, two] = written.same;
    flip_a_byte(&dir.path().join(written.large.blob_path()), 1_000_000);
    flip_a_byte(&dir.path().join(one.blob_path()), 0);
    let server = Server::over(dir.path());
    let registry = compared(&server);
    let mut bad = vec![written.large, one];
    bad.sort();
    assert_eq!(registry.integrity.bad, bad);
    assert_eq!(registry.integrity.blobs_bad, 2);
    assert_eq!(registry.integrity.blobs_checked, registry.integrity.blobs);
    assert_eq!(registry.medium_errors, 0);

    // 404, so that clients go on to their next mirror instead of asking again
    let path = format!("/v2/a.test/big/image/blobs/{}", written.large);
    let refused = get(server.address, &path);
    assert_eq!(
        (refused.status, refused.code().as_str()),
        (404, "BLOB_UNKNOWN")
    );
    let message = refused.json()["errors"][0]["message"].to_string();
    assert!(message.contains("damaged"), "{message}");
    assert_eq!(head(server.address, &path).status, 404);
    let file = |digest| format!("/files/{digest}/Same.TXT");
    assert_eq!(get(server.address, &file(one)).status, 404);
    // of the same name, and whole
    assert_ne!(get(server.address, &file(two)).status, 404);
    let path = format!("/v2/a.test/big/image/blobs/{}", written.empty);
    assert_eq!(get(server.address, &path).status, 200);
}

#[test]
fn a_damaged_manifest_that_memory_had_no_room_for_is_an_unknown_manifest() {
    let dir = tempfile::tempdir().unwrap();
    let mut writer = layout::Writer::new(dir.path());
    // twelve of them are kept
    let manifests: Vec<_> = (0..13)
        .map(|nth| {
            let filler = format!("{nth:02}").repeat(2_050_000);
            let more = serde_json::json!({"annotations": {"filler": filler}});
            writer.named(&format!("a.test/large:{nth}"), "large", more)
        })
        .collect();
    writer.finish();
    let server = Server::over(dir.path());
    // the last of them by digest is the one that was not kept
    let last = manifests.iter().max().unwrap();
    flip_a_byte(&dir.path().join(last.blob_path()), 2_000_000);
    assert_eq!(compared(&server).integrity.bad, [*last]);
    let refused = get(
        server.address,
        &format!("/v2/a.test/large/manifests/{last}"),
    );
    assert_eq!(
        (refused.status, refused.code().as_str()),
        (404, "MANIFEST_UNKNOWN")
    );
    let first = manifests.iter().min().unwrap();
    let kept = get(
        server.address,
        &format!("/v2/a.test/large/manifests/{first}"),
    );
    assert_eq!(kept.status, 200);
}

#[test]
fn a_haul_without_fault_is_said_to_be_so() {
    let dir = tempfile::tempdir().unwrap();
    let written = layout::write(dir.path());
    let server = Server::over(dir.path());
    let integrity = compared(&server).integrity;
    let status = get(server.address, "/status").json();
    assert_eq!(status["registry"]["mediumErrors"], 0);
    assert_eq!(status["registry"]["integrity"]["state"], "done");
    assert!(integrity.blobs > 10);
    assert_eq!(integrity.blobs_checked, integrity.blobs);
    assert_eq!((integrity.blobs_bad, integrity.blobs_unreadable), (0, 0));
    let path = format!("/v2/a.test/big/image/blobs/{}", written.large);
    assert_eq!(get(server.address, &path).body, layout::large());
}
