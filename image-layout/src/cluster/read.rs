//! From bytes to a checked [`Cluster`].

use std::borrow::Cow;

use super::{Cluster, ClusterError, Place, validate};
use crate::limits;

/// Reads a `cluster.yaml`. A byte order mark, UTF-16 and CRLF are tolerated, since editors on
/// other systems write them.
pub fn parse(bytes: &[u8]) -> Result<Cluster, ClusterError> {
    if bytes.len() as u64 > limits::CLUSTER_YAML_BYTES {
        return Err(ClusterError::TooLarge(bytes.len() as u64));
    }
    let text = decode(bytes)?;
    let blank = |line: &str| line.trim().is_empty() || line.trim_start().starts_with('#');
    if text.lines().all(blank) {
        return Err(ClusterError::Empty);
    }
    let cluster: Cluster = serde_yaml::from_str(&text).map_err(|error| {
        let place = error.location().map(|location| Place {
            line: location.line(),
            column: location.column(),
        });
        ClusterError::Syntax {
            place,
            message: message(&error),
        }
    })?;
    validate::validate(&cluster, &text)?;
    Ok(cluster)
}

/// The error's sentence without the place, which serde_yaml puts behind it.
fn message(error: &serde_yaml::Error) -> String {
    let text = error.to_string();
    match text.rfind(" at line ") {
        Some(at) if error.location().is_some() => text[..at].to_owned(),
        _ => text,
    }
}

fn decode(bytes: &[u8]) -> Result<Cow<'_, str>, ClusterError> {
    let utf16 = |read: fn([u8; 2]) -> u16| {
        let units = bytes[2..]
            .chunks_exact(2)
            .map(|pair| read([pair[0], pair[1]]));
        let text: Result<String, _> = char::decode_utf16(units).collect();
        text.map(Cow::Owned).map_err(|_| ClusterError::NotText(2))
    };
    match bytes {
        [0xff, 0xfe, ..] => utf16(u16::from_le_bytes),
        [0xfe, 0xff, ..] => utf16(u16::from_be_bytes),
        _ => {
            let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
            let text = std::str::from_utf8(bytes)
                .map_err(|error| ClusterError::NotText(error.valid_up_to()))?;
            Ok(Cow::Borrowed(text))
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::cluster::{Match, Role};

    const GOOD: &str = "apiVersion: haulboot.dev/v1\nkind: Cluster\nname: edge\nnodes:\n\
        - {name: cp-1, match: {mac: \"52:54:00:12:34:56\"}, role: server, address: 192.168.0.2/24}\n\
        - {name: w-1, match: any, role: agent}\n";

    #[test]
    fn a_file_as_people_write_it_is_read() {
        let cluster = parse(GOOD.as_bytes()).unwrap();
        assert_eq!(cluster.nodes[0].role, Role::Server);
        assert_eq!(cluster.nodes[1].matches, Match::Any);
    }

    #[test]
    fn what_editors_do_to_a_file_changes_nothing() {
        let plain = parse(GOOD.as_bytes()).unwrap();
        let crlf = GOOD.replace('\n', "\r\n");
        let bom = format!("\u{feff}{crlf}");
        let utf16: Vec<u8> = std::iter::once(0xfeff)
            .chain(crlf.encode_utf16())
            .flat_map(u16::to_le_bytes)
            .collect();
        for bytes in [crlf.as_bytes(), bom.as_bytes(), &utf16] {
            assert_eq!(parse(bytes).unwrap(), plain);
        }
    }

    #[test]
    fn an_unknown_key_is_an_error_with_its_place() {
        for (text, line, key) in [
            (GOOD.replace("name: edge", "nmae: edge"), 3, "nmae"),
            (GOOD.replace("role: agent", "rôle: agent"), 6, "rôle"),
            (GOOD.replace("{mac:", "{mca:"), 5, "mca"),
        ] {
            let Err(ClusterError::Syntax {
                place: Some(place),
                message,
            }) = parse(text.as_bytes())
            else {
                panic!("{key} was not refused with a place");
            };
            assert_eq!(place.line, line, "{message}");
            assert!(message.contains(key), "{message}");
        }
    }

    #[test]
    fn values_of_the_wrong_kind_say_what_is_expected() {
        for (old, new, part) in [
            ("match: any", "match: all", "`any`, or one or more of mac:"),
            ("192.168.0.2/24", "192.168.0.2", "prefix length"),
            ("role: agent", "role: worker", "unknown variant `worker`"),
            ("52:54:00:12:34:56", "52:54", "no MAC address"),
        ] {
            let error = parse(GOOD.replace(old, new).as_bytes())
                .unwrap_err()
                .to_string();
            assert!(error.contains(part), "{error}");
            assert!(error.starts_with("line "), "{error}");
        }
    }

    #[test]
    fn nothing_and_binary_are_told_apart_from_yaml() {
        assert_eq!(parse(b""), Err(ClusterError::Empty));
        assert_eq!(parse(b"# only\n\n  # comments\n"), Err(ClusterError::Empty));
        assert_eq!(parse(b"name: \xff\xfe"), Err(ClusterError::NotText(6)));
        assert!(matches!(
            parse(&vec![b' '; 2 << 20]),
            Err(ClusterError::TooLarge(_))
        ));
    }

    proptest! {
        #[test]
        fn no_input_panics(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = parse(&bytes);
        }
    }
}
