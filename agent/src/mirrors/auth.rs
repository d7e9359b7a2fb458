//! What a person puts in where the registry wants users. No secret of the node is ever written.

use serde_json::{Value, json};

use super::MirrorFile;

/// Stands for the user's name.
pub(super) const USER: &str = "REPLACE-WITH-USER";
/// Stands for the password.
pub(super) const PASSWORD: &str = "REPLACE-WITH-PASSWORD";
/// Stands for both, as HTTP's Basic sends them (RFC 7617).
pub(super) const BASIC: &str = "REPLACE-WITH-BASE64";

/// How to make [`BASIC`].
pub(super) fn basic_note() -> String {
    format!(
        "This registry wants a user. Put what this prints in the place of {BASIC}: \
         printf %s 'USER:PASSWORD' | base64 -w0. It can be turned back into the password: keep the \
         file from others."
    )
}

/// How to fill in [`USER`] and [`PASSWORD`].
pub(super) fn plain_note() -> String {
    format!(
        "This registry wants a user: put name and password in the places of {USER} and {PASSWORD}, \
         and keep the file from others."
    )
}

/// A file of log-ins in the form that Docker began (moby: cli/config/configfile) and
/// containers/image reads too (containers-auth.json(5)).
pub(super) fn logins<'a>(
    path: impl Into<String>,
    servers: impl IntoIterator<Item = &'a str>,
) -> MirrorFile {
    let auths: serde_json::Map<String, Value> = servers
        .into_iter()
        .map(|server| (server.to_owned(), json!({ "auth": BASIC })))
        .collect();
    MirrorFile {
        path: path.into(),
        contents: json(&json!({ "auths": auths })),
        private: true,
    }
}

/// JSON as people read it.
pub(super) fn json(value: &Value) -> String {
    format!("{value:#}\n")
}
