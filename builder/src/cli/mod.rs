//! The command line.

pub mod bootpack;
pub mod build;
pub mod haul;
pub mod inspect;
pub mod kubeconfig;
pub mod run;

use clap::{Parser, Subcommand};

/// Write one bootable image out of hauls, a k3s binary and a cluster.yaml
///
/// Copy the image to a flash drive, boot machines from it, and they are nodes of an air-gapped
/// Kubernetes cluster that pull everything from their own drive. Nothing is installed and nothing
/// is downloaded on the way.
#[derive(Debug, Parser)]
#[command(
    name = "builder",
    version,
    args_conflicts_with_subcommands = true,
    subcommand_negates_reqs = true,
    arg_required_else_help = true,
    max_term_width = 80,
    after_help = "Try: builder --haul haul.tar.zst && builder run haulboot.img",
    after_long_help = "\
Examples:
  builder --haul haul.tar.zst
      An image for machines like this one, as haulboot.img
  builder --haul haul.tar.zst --k3s k3s --config cluster.yaml -o edge.img
      A cluster as described in cluster.yaml
  builder --haul haul.tar.zst --arch x86_64 --arch arm64
      One drive that boots both
  builder --haul haul.tar.zst -o - | ssh host 'sudo dd of=/dev/sdX bs=4M'
      Written to a drive of another machine
"
)]
pub struct Cli {
    /// What to do instead of writing an image.
    #[command(subcommand)]
    pub command: Option<Command>,
    /// What to write.
    #[command(flatten)]
    pub build: build::BuildArgs,
}

/// Everything but writing an image.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Show what is in a haul, check it, unpack it
    #[command(subcommand)]
    Haul(haul::HaulCommand),
    /// Show what is on an image or a drive
    Inspect(inspect::InspectArgs),
    /// Print the administrator's kubeconfig of an image's cluster
    Kubeconfig(kubeconfig::KubeconfigArgs),
    /// Boot an image in QEMU on this machine
    Run(run::Run),
    /// Make the boot pack of one architecture
    Bootpack(bootpack::BootPackArgs),
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    /// A command and everything below it.
    fn all(mut command: clap::Command, name: &str) -> Vec<(String, clap::Command)> {
        command.build();
        let mut found = Vec::new();
        for sub in command.get_subcommands() {
            if sub.get_name() != "help" {
                found.extend(all(sub.clone(), &format!("{name} {}", sub.get_name())));
            }
        }
        found.push((name.to_owned(), command));
        found
    }

    #[test]
    fn every_help_fits_eighty_columns_and_begins_with_one_short_line() {
        for (name, command) in all(Cli::command(), "builder") {
            let mut command = command.term_width(80);
            for text in [
                command.render_help().to_string(),
                command.render_long_help().to_string(),
            ] {
                for line in text.lines() {
                    assert!(line.chars().count() <= 80, "{name}: {line:?}");
                }
            }
            let about = command.get_about().map(ToString::to_string);
            let about = about.unwrap_or_else(|| panic!("{name} has no help"));
            assert!(
                about.len() <= 78 && !about.ends_with('.'),
                "{name}: {about:?}"
            );
            for argument in command.get_arguments() {
                assert!(
                    argument.get_help().is_some(),
                    "{name}: {}",
                    argument.get_id()
                );
            }
        }
    }

    #[test]
    fn an_image_is_written_without_a_sub_command_and_other_commands_take_no_hauls() {
        let cli = Cli::try_parse_from(["builder", "--haul", "a", "--haul", "b", "--arch", "amd64"]);
        let cli = cli.unwrap();
        assert!(cli.command.is_none());
        assert_eq!(cli.build.hauls.len(), 2);
        assert_eq!(cli.build.arches, [image_layout::Arch::X86_64]);
        assert_eq!(cli.build.output.to_str(), Some("haulboot.img"));

        assert!(Cli::try_parse_from(["builder", "inspect", "image"]).is_ok());
        for wrong in [
            &["builder"][..],
            &["builder", "--config", "cluster.yaml"],
            &["builder", "--haul", "a", "inspect", "image"],
            &["builder", "--haul", "a", "--arch", "riscv64"],
            &["builder", "haul.tar.zst"],
        ] {
            let error = Cli::try_parse_from(wrong).unwrap_err();
            assert_eq!(error.exit_code(), 2, "{wrong:?}");
        }
    }
}
