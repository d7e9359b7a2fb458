//! What the kernel's configuration has to say: `kernel.options` against `config-RELEASE`.
//!
//! One option a line without `CONFIG_`: `NAME` is met by `y` or `m`, `NAME=VALUE` by that value
//! only. `#` begins a comment.

/// The options of `required` that `config` does not meet, as they were required.
pub(crate) fn unmet<'a>(required: &'a str, config: &str) -> Vec<&'a str> {
    let met = |option: &str| {
        let (name, value) = option
            .split_once('=')
            .map_or((option, None), |(n, v)| (n, Some(v)));
        config.lines().any(|line| {
            let found = line
                .strip_prefix("CONFIG_")
                .and_then(|line| line.strip_prefix(name));
            match (found.and_then(|rest| rest.strip_prefix('=')), value) {
                (None, _) => false,
                (Some(found), Some(value)) => found == value,
                (Some(found), None) => matches!(found, "y" | "m"),
            }
        })
    };
    required
        .lines()
        .map(|line| line.split('#').next().unwrap_or_default().trim())
        .filter(|option| !option.is_empty() && !met(option))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_option_is_met_by_its_value_and_by_no_other_of_a_like_name() {
        let config = "CONFIG_RD_ZSTD=y\nCONFIG_VETH=m\n# CONFIG_TMPFS is not set\n\
                      CONFIG_TMPFS_XATTR=y\nCONFIG_HZ=250\n";
        let required = "# boot\nRD_ZSTD=y\nVETH # pods\nVETH=y\nTMPFS\nHZ\nHZ=250\nZSTD\n";
        assert_eq!(unmet(required, config), ["VETH=y", "TMPFS", "HZ", "ZSTD"]);
    }
}
