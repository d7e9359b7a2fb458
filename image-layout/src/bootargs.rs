//! The kernel command line: what the builder writes into the boot menu and the agent reads.

use std::fmt;

use uuid::Uuid;

use crate::cluster::Role;

/// What the `haulboot.*` arguments say. Anything else on the command line is the kernel's.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BootArgs {
    /// `haulboot.disk=GUID`: the disk whose partitions are meant.
    pub disk: Option<Uuid>,
    /// `haulboot.haul=GUID`: the partition HAUL.
    pub haul: Option<Uuid>,
    /// `haulboot.config=GUID`: the partition HAULCFG.
    pub config: Option<Uuid>,
    /// `haulboot.built=SECONDS`: build time since 1970, below which the clock never stays.
    pub built: Option<u64>,
    /// `haulboot.role=ROLE`: overrides the role in `cluster.yaml`.
    pub role: Option<Role>,
    /// `haulboot.media-timeout=SECONDS`: how long to wait for the stick before saying so.
    pub media_timeout: Option<u32>,
    /// `haulboot.check=poweroff`: power off as soon as PID 1 runs; tells whether KVM works.
    pub check: bool,
}

/// A boot from the command line as it was understood.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Parsed {
    /// What was understood.
    pub args: BootArgs,
    /// `haulboot.*` arguments that were not, each with the reason, for the console.
    pub problems: Vec<String>,
}

impl BootArgs {
    /// Reads a kernel command line. Of repeated arguments the last counts, as for the kernel.
    /// Never fails: what can't be understood is left out and named in [`Parsed::problems`].
    pub fn parse(command_line: &str) -> Parsed {
        let mut parsed = Parsed::default();
        for word in command_line.split_ascii_whitespace() {
            let word = word.trim_matches('"');
            let Some(argument) = word.strip_prefix("haulboot.") else {
                continue;
            };
            let (key, value) = argument.split_once('=').unwrap_or((argument, ""));
            let value = value.trim_matches('"');
            let args = &mut parsed.args;
            let understood = match key {
                "disk" => set(&mut args.disk, value.parse().ok()),
                "haul" => set(&mut args.haul, value.parse().ok()),
                "config" => set(&mut args.config, value.parse().ok()),
                "built" => set(&mut args.built, value.parse().ok()),
                "role" => set(&mut args.role, value.parse().ok()),
                "media-timeout" => set(&mut args.media_timeout, value.parse().ok()),
                "check" if value == "poweroff" => {
                    args.check = true;
                    true
                }
                "check" => false,
                _ => {
                    parsed
                        .problems
                        .push(format!("haulboot.{key} is no argument of Haulboot's"));
                    continue;
                }
            };
            if !understood {
                parsed
                    .problems
                    .push(format!("haulboot.{key}={value} can't be understood"));
            }
        }
        parsed
    }
}

fn set<T>(slot: &mut Option<T>, value: Option<T>) -> bool {
    let understood = value.is_some();
    if understood {
        *slot = value;
    }
    understood
}

impl fmt::Display for BootArgs {
    /// The arguments as the boot menu carries them, one space between.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut words = Vec::new();
        let mut word = |key: &str, value: Option<String>| {
            if let Some(value) = value {
                words.push(format!("haulboot.{key}={value}"));
            }
        };
        word("disk", self.disk.map(|guid| guid.to_string()));
        word("haul", self.haul.map(|guid| guid.to_string()));
        word("config", self.config.map(|guid| guid.to_string()));
        word("built", self.built.map(|seconds| seconds.to_string()));
        word("role", self.role.map(|role| role.to_string()));
        word(
            "media-timeout",
            self.media_timeout.map(|seconds| seconds.to_string()),
        );
        word("check", self.check.then(|| "poweroff".to_owned()));
        f.write_str(&words.join(" "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_rendered_is_read_back() {
        let args = BootArgs {
            disk: Some(Uuid::from_u128(1)),
            haul: Some(Uuid::from_u128(2)),
            config: Some(Uuid::from_u128(3)),
            built: Some(1_700_000_000),
            role: Some(Role::Registry),
            media_timeout: Some(90),
            check: true,
        };
        let line = format!("console=tty0 quiet {args} console=ttyS0");
        assert_eq!(
            BootArgs::parse(&line),
            Parsed {
                args,
                problems: vec![]
            }
        );
    }

    #[test]
    fn what_is_not_understood_is_named_and_the_rest_counts() {
        let parsed = BootArgs::parse("haulboot.disk=xyz haulboot.colour=red haulboot.built=5");
        assert_eq!(parsed.args.built, Some(5));
        assert_eq!(parsed.problems.len(), 2);
        assert!(parsed.problems[0].contains("haulboot.disk=xyz"));
    }

    #[test]
    fn the_last_of_repeated_arguments_counts() {
        assert_eq!(
            BootArgs::parse("haulboot.built=1 haulboot.built=2")
                .args
                .built,
            Some(2)
        );
    }
}
