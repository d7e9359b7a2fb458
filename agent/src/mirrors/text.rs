//! Files as text: in TOML, and one after the other for a person.

use serde::Serialize;

use super::Mirror;

/// `value` as TOML. The types of this module have string keys and no values that TOML lacks:
/// writing them can't fail.
pub(super) fn toml(value: &impl Serialize) -> String {
    toml::to_string(value).unwrap_or_default()
}

/// All files, each below its path, and the notes.
pub(crate) fn render(mirror: &Mirror) -> String {
    let mut text = String::new();
    for file in &mirror.files {
        text.push_str(&format!("==> {} <==\n{}", file.path, file.contents));
        if !file.contents.ends_with('\n') {
            text.push('\n');
        }
        text.push('\n');
    }
    text.push_str(&notes(mirror));
    text
}

/// The notes, one a line.
pub(super) fn notes(mirror: &Mirror) -> String {
    let lines = mirror.notes.iter().map(|note| format!("- {note}\n"));
    lines.collect()
}
