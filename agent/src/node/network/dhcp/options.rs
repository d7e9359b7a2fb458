//! From the options of a packet only those that are used, each of a plausible shape.
//!
//! `dhcproto` stops at the first option that it can't read and asserts the lengths of some that
//! nobody here asked for. So the packet is walked first, bounded by its own length, and what
//! remains is put together again for `dhcproto` to decode.

use std::collections::BTreeMap;

/// Where the options begin: behind the fixed part and the magic cookie (RFC 2131, figure 1).
const OPTIONS: usize = 240;
/// The field `sname`, which may hold options too (RFC 2132, 9.3).
const SNAME: std::ops::Range<usize> = 44..108;
/// The field `file`, likewise.
const FILE: std::ops::Range<usize> = 108..236;
const COOKIE: [u8; 4] = [99, 130, 83, 99];
const PAD: u8 = 0;
const OVERLOAD: u8 = 52;
const END: u8 = 255;

/// The same packet with only the options that are used; `None` where it is no DHCP packet.
/// Names of options that were left out for their shape are added to `ignored`.
pub(super) fn clean(packet: &[u8], ignored: &mut Vec<String>) -> Option<Vec<u8>> {
    if packet.get(OPTIONS - 4..OPTIONS)? != COOKIE {
        return None;
    }
    let mut options = BTreeMap::new();
    walk(packet.get(OPTIONS..)?, &mut options);
    // RFC 3396, 5: options area, then file, then sname
    let overload = match options.get(&OVERLOAD).map(Vec::as_slice) {
        Some([overload]) => *overload,
        _ => 0,
    };
    if overload & 1 != 0 {
        walk(packet.get(FILE)?, &mut options);
    }
    if overload & 2 != 0 {
        walk(packet.get(SNAME)?, &mut options);
    }
    let mut cleaned = packet.get(..SNAME.start)?.to_vec();
    cleaned.resize(FILE.end, 0);
    cleaned.extend(COOKIE);
    for (code, value) in options {
        let Some((name, plausible)) = shape(code) else {
            continue;
        };
        if !plausible(&value) {
            ignored.push(format!("option {code} ({name}) makes no sense"));
            continue;
        }
        for part in value.chunks(255) {
            cleaned.extend([code, u8::try_from(part.len()).unwrap_or(u8::MAX)]);
            cleaned.extend(part);
        }
    }
    cleaned.push(END);
    Some(cleaned)
}

/// Collects options; the parts of one that comes in several are joined (RFC 3396).
fn walk(mut area: &[u8], options: &mut BTreeMap<u8, Vec<u8>>) {
    loop {
        area = match area {
            [PAD, rest @ ..] => rest,
            [] | [END, ..] | [_] => return,
            [code, length, rest @ ..] => {
                let Some((value, rest)) = rest.split_at_checked(usize::from(*length)) else {
                    return;
                };
                options.entry(*code).or_default().extend(value);
                rest
            }
        };
    }
}

type Shape = fn(&[u8]) -> bool;

/// Name and shape of the options that are used. `dhcproto` reads each of these shapes.
fn shape(code: u8) -> Option<(&'static str, Shape)> {
    let address: Shape = |value| value.len() == 4;
    let addresses: Shape = |value| !value.is_empty() && value.len().is_multiple_of(4);
    let seconds: Shape = |value| value.len() == 4;
    let text: Shape = |value| value.iter().all(u8::is_ascii);
    Some(match code {
        1 => ("netmask", address),
        3 => ("routers", addresses),
        6 => ("name servers", addresses),
        15 => ("domain", text),
        26 => ("MTU", |value| value.len() == 2),
        51 => ("lease time", seconds),
        53 => ("message type", |value| value.len() == 1),
        54 => ("server", address),
        56 => ("message", text),
        58 => ("renewal time", seconds),
        59 => ("rebinding time", seconds),
        121 => ("routes", are_routes),
        _ => return None,
    })
}

/// RFC 3442: prefix length, as many bytes of the network as it needs, gateway; repeated.
fn are_routes(mut value: &[u8]) -> bool {
    while let [prefix, rest @ ..] = value {
        let length = usize::from(*prefix).div_ceil(8) + 4;
        let Some(rest) = rest.get(length..).filter(|_| *prefix <= 32) else {
            return false;
        };
        value = rest;
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet(options: &[u8]) -> Vec<u8> {
        let mut packet = vec![0; OPTIONS - 4];
        packet.extend(COOKIE);
        packet.extend(options);
        packet
    }

    #[test]
    fn parts_of_an_option_are_joined_and_unknown_ones_left_out() {
        let mut ignored = vec![];
        let cleaned = clean(
            &packet(&[6, 2, 10, 0, 43, 1, 7, 6, 2, 0, 1, 0, 0, 255, 1, 4]),
            &mut ignored,
        )
        .unwrap();
        assert_eq!(cleaned[OPTIONS..], [6, 4, 10, 0, 0, 1, 255]);
        assert_eq!(ignored, [""; 0]);
    }

    #[test]
    fn options_in_the_name_fields_count_where_the_packet_says_so() {
        let mut bytes = packet(&[52, 1, 3, 255]);
        bytes[FILE.start..FILE.start + 7].copy_from_slice(&[3, 4, 10, 0, 0, 1, 255]);
        bytes[SNAME.start..SNAME.start + 7].copy_from_slice(&[6, 4, 10, 0, 0, 2, 255]);
        let cleaned = clean(&bytes, &mut vec![]).unwrap();
        assert_eq!(
            cleaned[OPTIONS..],
            [3, 4, 10, 0, 0, 1, 6, 4, 10, 0, 0, 2, 255]
        );
    }

    #[test]
    fn options_of_the_wrong_shape_are_named_and_left_out() {
        let mut ignored = vec![];
        let cleaned = clean(
            &packet(&[1, 3, 255, 255, 255, 26, 1, 5, 121, 2, 33, 1, 255]),
            &mut ignored,
        );
        assert_eq!(cleaned.unwrap()[OPTIONS..], [255]);
        assert_eq!(ignored.len(), 3);
    }

    #[test]
    fn an_option_that_runs_past_the_end_ends_the_walk() {
        let cleaned = clean(&packet(&[51, 4, 0, 0, 0, 60, 6, 200, 1]), &mut vec![]).unwrap();
        assert_eq!(cleaned[OPTIONS..], [51, 4, 0, 0, 0, 60, 255]);
        assert_eq!(clean(&[0; 239], &mut vec![]), None);
        assert_eq!(clean(&[0; 300], &mut vec![]), None, "no cookie");
    }
}
