//! Tokens in k3s's secure form: `K10<sha256 of the authority>::<user>:<secret>`.
//!
//! The hash is that of the bytes of `server-ca.crt` as they are, line break at the end included,
//! as long as it holds a single certificate: k3s hands out the file itself under `/cacerts`
//! (k3s: pkg/clientaccess/token.go `hashCA`, pkg/server/handlers). A bundle would be hashed
//! otherwise, so that there is none here.

use image_layout::Digest;
use rustix::io::Errno;
use rustix::rand::{GetRandomFlags, getrandom};

use super::error::CredentialsError;

/// The user of servers.
pub(super) const SERVER: &str = "server";
/// The user of agents.
pub(super) const AGENT: &str = "node";

/// A token for `user`.
pub(super) fn render(server_ca: &[u8], user: &str, secret: &str) -> String {
    format!("K10{}::{user}:{secret}", Digest::sha256_of(server_ca).hex())
}

/// Why a line is not the token that it should be; none if it is.
pub(super) fn defect(line: &str, server_ca: &[u8], user: &str) -> Option<String> {
    let parts = line
        .strip_prefix("K10")
        .and_then(|rest| rest.split_once("::"))
        .and_then(|(hash, rest)| Some((hash, rest.split_once(':')?)));
    let Some((hash, (found, secret))) = parts else {
        return Some(format!(
            "it is no token of the form K10<hash>::{user}:<secret>"
        ));
    };
    if found != user {
        return Some(format!("it is a token for {found:?}, not for {user:?}"));
    }
    let harmless = |c: char| c.is_ascii_graphic();
    if secret.len() < 16 || !secret.chars().all(harmless) {
        return Some("its secret is shorter than 16 characters, or has odd ones".to_owned());
    }
    (hash != Digest::sha256_of(server_ca).hex().as_str())
        .then(|| "its hash is not that of tls/server-ca.crt: they are of two clusters".to_owned())
}

/// A new secret from the kernel's generator: 256 bits as 64 hexadecimal digits.
pub(super) fn random() -> Result<String, CredentialsError> {
    let mut bytes = [0; 32];
    let mut filled = 0;
    // a signal may cut a read short
    while let Some(rest) = bytes.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match getrandom(rest, GetRandomFlags::empty()) {
            Ok(count) => filled += count,
            Err(Errno::INTR) => {}
            Err(error) => return Err(CredentialsError::Random(error.into())),
        }
    }
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// Whether a line is such a secret.
pub(super) fn is_secret(line: &str) -> bool {
    line.len() == 64 && line.bytes().all(|b| b.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_carries_the_hash_of_the_file_with_its_last_line_break() {
        // sha256sum of "authority\n"
        let token = render(b"authority\n", SERVER, "secret");
        assert_eq!(
            token,
            "K1017d31c37a2fd6589d7f6807e6e0743b6ab777440f416ab49880c0de1456d97e3::server:secret"
        );
    }

    #[test]
    fn secrets_are_never_the_same_twice() {
        let (first, second) = (random().unwrap(), random().unwrap());
        assert!(is_secret(&first) && is_secret(&second));
        assert_ne!(first, second);
        assert!(!is_secret("short"));
    }

    #[test]
    fn each_way_in_which_a_token_can_be_wrong_is_told() {
        let ca = b"authority";
        let secret = random().unwrap();
        let good = render(ca, AGENT, &secret);
        assert_eq!(defect(&good, ca, AGENT), None);
        for (line, ca, part) in [
            (good.clone(), &b"another"[..], "two clusters"),
            (render(ca, SERVER, &secret), ca, "a token for \"server\""),
            (secret.clone(), ca, "no token of the form"),
            (render(ca, AGENT, "short"), ca, "shorter than 16"),
            (format!("{good} "), ca, "odd ones"),
            (String::new(), ca, "no token of the form"),
        ] {
            let said = defect(&line, ca, AGENT).unwrap();
            assert!(said.contains(part), "{line}: {said}");
        }
    }
}
