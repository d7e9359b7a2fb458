//! YAML that every reader understands the same way.
//!
//! k3s, kubectl and Helm read YAML 1.1, in which `on`, `y` and `0o17` are no strings; the crates
//! of this field write YAML 1.2 and leave such words bare. Here every string is quoted, as JSON
//! does it, which both versions read alike.

use serde_yaml::Value;

/// A document in block style, ending with a line break. Tags are left out: none of the formats
/// written with it has any.
pub fn render(value: &Value) -> String {
    let mut text = String::new();
    match value {
        Value::Mapping(map) if !map.is_empty() => mapping(&mut text, map, 0),
        Value::Sequence(list) if !list.is_empty() => sequence(&mut text, list, 0),
        other => {
            text.push_str(&scalar(other));
            text.push('\n');
        }
    }
    text
}

fn mapping(text: &mut String, map: &serde_yaml::Mapping, indent: usize) {
    for (place, (key, value)) in map.iter().enumerate() {
        // the first key of a mapping in a list stands behind the dash
        if place > 0 || !text.ends_with("- ") {
            text.push_str(&" ".repeat(indent));
        }
        text.push_str(&self::key(key));
        text.push(':');
        below(text, value, indent);
    }
}

fn below(text: &mut String, value: &Value, indent: usize) {
    match value {
        Value::Tagged(tagged) => below(text, &tagged.value, indent),
        Value::Mapping(map) if !map.is_empty() => {
            text.push('\n');
            mapping(text, map, indent + 2);
        }
        Value::Sequence(list) if !list.is_empty() => {
            text.push('\n');
            sequence(text, list, indent + 2);
        }
        other => {
            text.push(' ');
            text.push_str(&scalar(other));
            text.push('\n');
        }
    }
}

fn sequence(text: &mut String, list: &[Value], indent: usize) {
    for (place, value) in list.iter().enumerate() {
        if place > 0 || !text.ends_with("- ") {
            text.push_str(&" ".repeat(indent));
        }
        text.push_str("- ");
        match untagged(value) {
            Value::Mapping(map) if !map.is_empty() => mapping(text, map, indent + 2),
            Value::Sequence(inner) if !inner.is_empty() => sequence(text, inner, indent + 2),
            other => {
                text.push_str(&scalar(other));
                text.push('\n');
            }
        }
    }
}

fn untagged(value: &Value) -> &Value {
    match value {
        Value::Tagged(tagged) => untagged(&tagged.value),
        other => other,
    }
}

fn scalar(value: &Value) -> String {
    match value {
        Value::Null => "null".to_owned(),
        Value::Bool(value) => value.to_string(),
        Value::Number(number) => number.to_string(),
        Value::String(text) => quoted(text),
        Value::Sequence(_) => "[]".to_owned(),
        Value::Mapping(_) => "{}".to_owned(),
        Value::Tagged(tagged) => scalar(&tagged.value),
    }
}

/// Words that begin like names and are something else in YAML 1.1.
const WORDS: [&str; 9] = ["y", "yes", "n", "no", "true", "false", "on", "off", "null"];

fn key(key: &Value) -> String {
    let Value::String(text) = key else {
        return scalar(key);
    };
    let plain = text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"-_./".contains(&b))
        && !WORDS.contains(&text.to_ascii_lowercase().as_str());
    match plain {
        true => text.clone(),
        false => quoted(text),
    }
}

/// A string in double quotes. JSON's escapes are YAML's too; YAML wants a few more characters
/// escaped (YAML 1.1, section 5.1).
fn quoted(text: &str) -> String {
    let json = serde_json::Value::from(text).to_string();
    let mut quoted = String::with_capacity(json.len());
    for c in json.chars() {
        match c {
            '\u{7f}'..='\u{9f}'
            | '\u{2028}'
            | '\u{2029}'
            | '\u{feff}'
            | '\u{fffe}'
            | '\u{ffff}' => {
                quoted.push_str(&format!("\\u{:04x}", u32::from(c)));
            }
            c => quoted.push(c),
        }
    }
    quoted
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn round(text: &str) -> String {
        render(&serde_yaml::from_str(text).unwrap())
    }

    #[test]
    fn what_yaml_1_1_takes_for_something_else_is_quoted() {
        assert_eq!(
            round("{name: on, 'y': 1, list: [no, 1, true, {a: b, c: [d]}], none: [], nil: ~}"),
            "name: \"on\"\n\"y\": 1\nlist:\n  - \"no\"\n  - 1\n  - true\n  - a: \"b\"\n    c:\n      \
             - \"d\"\nnone: []\nnil: null\n"
        );
    }

    fn values() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            ".*".prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 24, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::Sequence),
                prop::collection::btree_map(".*", inner, 0..4).prop_map(|map| {
                    Value::Mapping(map.into_iter().map(|(k, v)| (k.into(), v)).collect())
                }),
            ]
        })
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(value in values()) {
            let text = render(&value);
            prop_assert_eq!(serde_yaml::from_str::<Value>(&text).unwrap(), value, "{}", text);
        }
    }
}
