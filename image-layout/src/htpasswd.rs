//! Lines of an htpasswd file, as `htpasswd -nB NAME` prints them: a name, a colon, a bcrypt hash.
//!
//! Only bcrypt is taken: the other forms of that file (MD5, SHA-1, crypt, plain text) fall to
//! whoever reads the file. Everything is checked here, so that a line that was taken can be
//! verified.

use std::fmt;
use std::str::FromStr;

use crate::secrets::REGISTRY_USER;

/// The bounds of a hash's cost, which is the binary logarithm of its rounds. Below the first bcrypt
/// knows none; beyond the last one password takes a small node many seconds.
pub const COST: std::ops::RangeInclusive<u32> = 4..=14;
/// Characters of a name.
pub const NAME_LENGTH: usize = 64;
/// Lines in one list.
pub const LINES: usize = 1000;

/// bcrypt's own alphabet for base 64.
const ALPHABET: &[u8; 64] = b"./ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
/// Characters of a salt, and of salt and hash together.
const SALT: usize = 22;
const SALT_AND_HASH: usize = 53;

/// One user and the hash of the password.
#[derive(Clone, PartialEq, Eq)]
pub struct HtpasswdLine {
    name: String,
    hash: String,
}

/// Why a line is none of a user. Says nothing of the hash.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HtpasswdError {
    /// No colon.
    #[error("is no line of an htpasswd file, NAME:HASH; `htpasswd -nB NAME` prints one")]
    Form,
    /// A name of another form.
    #[error(
        "the name must be 1 to {NAME_LENGTH} characters, and none of them a space or a control"
    )]
    Name,
    /// The name of the nodes' own user.
    #[error("the name {REGISTRY_USER} is the nodes' own; take another")]
    Reserved,
    /// Another kind of hash.
    #[error(
        "the password of {0} is not hashed with bcrypt ($2y$, $2b$ or $2a$); `htpasswd -nB {0}` \
         prints a line that is"
    )]
    NotBcrypt(String),
    /// A hash that was cut off or mistyped.
    #[error(
        "the hash of {0} is not whole; copy the line again, all 60 characters behind the colon"
    )]
    Damaged(String),
    /// A cost that is too low or too high.
    #[error("the hash of {name} has cost {cost}; {} to {} are taken (`htpasswd -nBC 10 {name}`)", COST.start(), COST.end())]
    Cost {
        /// Whose.
        name: String,
        /// The cost.
        cost: u32,
    },
    /// A second line for a name.
    #[error("{0} has a line already")]
    Twice(String),
    /// Too many lines.
    #[error("there are more than {LINES} users")]
    TooMany,
}

impl HtpasswdLine {
    /// The user.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The hash, `$2y$10$...`, 60 characters.
    pub fn hash(&self) -> &str {
        &self.hash
    }

    /// Reads all lines of a list; an error comes with the number of its line, from 0.
    pub fn all<'a>(
        lines: impl IntoIterator<Item = &'a str>,
    ) -> Result<Vec<HtpasswdLine>, (usize, HtpasswdError)> {
        let mut found = Vec::<HtpasswdLine>::new();
        let mut names = std::collections::BTreeSet::new();
        for (number, line) in lines.into_iter().enumerate() {
            let line: HtpasswdLine = line.parse().map_err(|error| (number, error))?;
            if found.len() == LINES {
                return Err((number, HtpasswdError::TooMany));
            }
            if !names.insert(line.name.clone()) {
                return Err((number, HtpasswdError::Twice(line.name)));
            }
            found.push(line);
        }
        Ok(found)
    }
}

impl FromStr for HtpasswdLine {
    type Err = HtpasswdError;

    fn from_str(line: &str) -> Result<HtpasswdLine, HtpasswdError> {
        let (name, hash) = line.trim().split_once(':').ok_or(HtpasswdError::Form)?;
        let odd = |c: char| c.is_control() || c.is_whitespace();
        if name.is_empty() || name.chars().count() > NAME_LENGTH || name.chars().any(odd) {
            return Err(HtpasswdError::Name);
        }
        if name == REGISTRY_USER {
            return Err(HtpasswdError::Reserved);
        }
        let name = name.to_owned();
        let rest = ["$2y$", "$2b$", "$2a$"]
            .iter()
            .find_map(|kind| hash.strip_prefix(kind));
        let Some(rest) = rest else {
            return Err(HtpasswdError::NotBcrypt(name));
        };
        let damaged = || HtpasswdError::Damaged(name.clone());
        let (cost, rest) = rest.split_once('$').ok_or_else(damaged)?;
        let digits = cost.len() == 2 && cost.bytes().all(|byte| byte.is_ascii_digit());
        if !digits || !is_salt_and_hash(rest.as_bytes()) {
            return Err(damaged());
        }
        let cost: u32 = cost.parse().map_err(|_| damaged())?;
        if !COST.contains(&cost) {
            return Err(HtpasswdError::Cost { name, cost });
        }
        let hash = hash.to_owned();
        Ok(HtpasswdLine { name, hash })
    }
}

/// 22 characters of salt and 31 of hash. The last one of each has bits that stand for nothing and
/// must be 0: 4 of the 132 for 16 bytes, 2 of the 186 for 23.
fn is_salt_and_hash(text: &[u8]) -> bool {
    let value = |byte: Option<&u8>| {
        let byte = byte?;
        ALPHABET.iter().position(|letter| letter == byte)
    };
    text.len() == SALT_AND_HASH
        && text.iter().all(|byte| ALPHABET.contains(byte))
        && value(text.get(SALT - 1)).is_some_and(|value| value % 16 == 0)
        && value(text.last()).is_some_and(|value| value % 4 == 0)
}

impl fmt::Display for HtpasswdLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.name, self.hash)
    }
}

impl fmt::Debug for HtpasswdLine {
    /// A hash in a log is one that can be guessed at.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("HtpasswdLine").field(&self.name).finish()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const HASH: &str = "$2y$05$bvIG6Nmid91Mu9RcmmWZfO5HJIMCT8riNW0hEp8f6/FuA2/mHZFpe";

    #[test]
    fn a_line_of_htpasswd_is_taken_and_given_back_as_it_was() {
        for kind in ["$2y$", "$2b$", "$2a$"] {
            let text = format!("alice:{}", HASH.replace("$2y$", kind));
            let line: HtpasswdLine = format!("{text}\r\n").parse().unwrap();
            assert_eq!(line.name(), "alice");
            assert_eq!(line.to_string(), text);
            assert!(!format!("{line:?}").contains(line.hash()), "{line:?}");
        }
    }

    #[test]
    fn what_can_not_be_verified_is_refused_with_the_reason() {
        for (line, part) in [
            ("alice".to_owned(), "is no line"),
            (String::new(), "is no line"),
            (format!(":{HASH}"), "1 to 64 characters"),
            (format!("a b:{HASH}"), "1 to 64 characters"),
            (format!("{}:{HASH}", "a".repeat(65)), "1 to 64 characters"),
            (format!("haulboot-node:{HASH}"), "the nodes' own"),
            ("alice:secret".to_owned(), "not hashed with bcrypt"),
            ("alice:$apr1$x$y".to_owned(), "not hashed with bcrypt"),
            ("alice:{SHA}x".to_owned(), "not hashed with bcrypt"),
            (format!("alice:{}", HASH.replace("2y", "2x")), "not hashed"),
            (format!("alice:{}", &HASH[..59]), "not whole"),
            (format!("alice:{HASH}x"), "not whole"),
            (
                format!("alice:{}", HASH.replace("$05$", "$5$")),
                "not whole",
            ),
            // the last characters of salt and hash with bits that no bcrypt sets
            (
                format!("alice:{}", HASH.replace("ZfO5", "ZfP5")),
                "not whole",
            ),
            (format!("alice:{}f", &HASH[..59]), "not whole"),
            (
                format!("alice:{}", HASH.replace("$05$", "$03$")),
                "cost 3; 4 to 14",
            ),
            (
                format!("alice:{}", HASH.replace("$05$", "$31$")),
                "cost 31; 4 to 14",
            ),
        ] {
            let error = line.parse::<HtpasswdLine>().unwrap_err().to_string();
            assert!(error.contains(part), "{line}: {error}");
            assert!(!error.contains("bvIG6"), "{error}");
        }
    }

    #[test]
    fn a_second_line_for_a_name_and_too_many_are_refused_with_their_place() {
        let line = |name: &str| format!("{name}:{HASH}");
        let twice = [line("a"), line("b"), line("a")];
        assert_eq!(
            HtpasswdLine::all(twice.iter().map(String::as_str)),
            Err((2, HtpasswdError::Twice("a".to_owned())))
        );
        let many: Vec<String> = (0..=LINES).map(|n| line(&format!("u{n}"))).collect();
        assert_eq!(
            HtpasswdLine::all(many.iter().map(String::as_str)),
            Err((LINES, HtpasswdError::TooMany))
        );
        let some = many.iter().skip(1).map(String::as_str);
        assert_eq!(HtpasswdLine::all(some).unwrap().len(), LINES);
    }

    proptest! {
        #[test]
        fn no_line_panics(line in "(alice|haulboot-node|\\PC{0,4})(:)?(\\$2[abxy]\\$)?[0-9]{0,3}(\\$)?\\PC{0,60}") {
            let _ = line.parse::<HtpasswdLine>();
        }
    }
}
