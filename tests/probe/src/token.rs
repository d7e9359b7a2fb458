//! Tokens by k3s's rules (k3s: pkg/clientaccess/token.go).

use sha2::{Digest as _, Sha256};

/// What a token says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Token {
    /// sha256 of the cluster's CA file, 64 hexadecimal digits; empty in a short token.
    pub ca_hash: String,
    /// `server` or `node`; empty in a short token.
    pub user: String,
    /// The secret.
    pub secret: String,
}

impl Token {
    /// Reads a token, with k3s's sentences for what is wrong.
    pub fn parse(text: &str) -> Result<Token, String> {
        let text = text.trim();
        if text.is_empty() {
            return Err("token must not be empty".to_owned());
        }
        let Some(secure) = text.strip_prefix("K10") else {
            return Ok(Token {
                ca_hash: String::new(),
                user: String::new(),
                secret: text.to_owned(),
            });
        };
        let (ca_hash, credentials) = secure.split_once("::").unwrap_or(("", secure));
        if !ca_hash.is_empty() && ca_hash.len() != 64 {
            return Err("invalid token CA hash length".to_owned());
        }
        match credentials.split_once(':') {
            Some((user, secret)) if !secret.is_empty() => Ok(Token {
                ca_hash: ca_hash.to_owned(),
                user: user.to_owned(),
                secret: secret.to_owned(),
            }),
            _ => Err("invalid token format".to_owned()),
        }
    }

    /// Checks that the CA a server handed out is the one that the token names.
    pub fn check_ca(&self, ca: &[u8]) -> Result<(), String> {
        let hash = ca_hash(ca);
        if self.ca_hash.is_empty() || self.ca_hash == hash {
            return Ok(());
        }
        Err(format!(
            "token CA hash does not match the Cluster CA certificate hash: {} != {hash}",
            self.ca_hash
        ))
    }
}

/// The hash of a CA file with one certificate: of the file's bytes, not of the certificate's.
pub fn ca_hash(ca: &[u8]) -> String {
    hex::encode(Sha256::digest(ca))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secure_token_has_hash_user_and_secret() {
        let hash = ca_hash(b"ca");
        let token = Token::parse(&format!("K10{hash}::server:a:b\n")).unwrap();
        assert_eq!(
            (token.user.as_str(), token.secret.as_str()),
            ("server", "a:b")
        );
        assert_eq!(token.check_ca(b"ca"), Ok(()));
        let why = token.check_ca(b"another").unwrap_err();
        assert!(
            why.starts_with("token CA hash does not match the Cluster CA certificate hash: "),
            "{why}"
        );
    }

    #[test]
    fn a_short_token_trusts_any_ca() {
        let token = Token::parse("secret").unwrap();
        assert_eq!(token.secret, "secret");
        assert_eq!(token.check_ca(b"whichever"), Ok(()));
    }

    #[test]
    fn what_k3s_refuses_is_refused_in_its_words() {
        for (text, why) in [
            ("", "token must not be empty"),
            ("K10abc::server:x", "invalid token CA hash length"),
            ("K10::server", "invalid token format"),
            ("K10::server:", "invalid token format"),
        ] {
            assert_eq!(Token::parse(text), Err(why.to_owned()), "{text:?}");
        }
    }
}
