//! `/sbin/modprobe`, as the kernel and k3s call it.

use std::process::ExitCode;

use super::kmsg::{KmsgWriter, Level};
use super::modules::{Arguments, Loading, ModuleFiles};
use super::text::read_bounded;

/// What was asked for.
#[derive(Debug, Default, PartialEq, Eq)]
struct Request {
    /// Names or aliases.
    modules: Vec<String>,
    /// `-q`: say nothing about what is not known.
    quiet: bool,
}

impl Request {
    /// Reads arguments as modprobe(8) has them: `-q -- ALIAS`, `-a NAME NAME`, `NAME PARAMETER=1`.
    /// Of the options only `-q` matters; without `-a` what follows the first name are parameters,
    /// which are taken from the kernel command line only.
    fn parse(arguments: impl Iterator<Item = String>) -> Request {
        let mut request = Request::default();
        let mut options = true;
        for argument in arguments {
            match argument.as_str() {
                "--" if options => options = false,
                "-q" | "--quiet" if options => request.quiet = true,
                option if options && option.starts_with('-') => {
                    // several letters in one: -qa
                    request.quiet |= !option.starts_with("--") && option.contains('q');
                }
                parameter if parameter.contains('=') => {}
                name => request.modules.push(name.to_owned()),
            }
        }
        request
    }
}

/// Loads what was asked for. Exit code 0 if everything is in the kernel then, else 1.
pub(crate) fn main() -> ExitCode {
    let arguments = std::env::args_os().skip(1);
    let request = Request::parse(arguments.map(|word| word.to_string_lossy().into_owned()));
    let files = match ModuleFiles::open() {
        Ok(files) => files,
        Err(error) => {
            let directory = ModuleFiles::directory();
            eprintln!("error: reading {}: {error}", directory.display());
            return ExitCode::FAILURE;
        }
    };
    let command_line = read_bounded("/proc/cmdline", 64 << 10).unwrap_or_default();
    let mut loading = Loading::new(files, Arguments::parse(&command_line));
    let mut code = ExitCode::SUCCESS;
    for module in &request.modules {
        if let Err(failure) = loading.ask(module) {
            code = ExitCode::FAILURE;
            if !request.quiet {
                let text = format!("loading module {}: {}", failure.module, failure.why);
                eprintln!("error: {text}");
                KmsgWriter::open().line(Level::Info, &format!("modprobe: {text}"));
            }
        }
    }
    code
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Request {
        Request::parse(line.split_whitespace().map(str::to_owned))
    }

    #[test]
    fn it_understands_how_the_kernel_and_k3s_call_it() {
        let request = parse("-q -- rtnl-link-vxlan");
        assert_eq!(request.modules, ["rtnl-link-vxlan"]);
        assert!(request.quiet);
        assert_eq!(parse("-- nft-chain-2-nat").modules, ["nft-chain-2-nat"]);
        assert_eq!(
            parse("-a --first-time br_netfilter overlay").modules,
            ["br_netfilter", "overlay"]
        );
        assert_eq!(parse("dummy numdummies=2").modules, ["dummy"]);
        assert!(parse("-qa overlay").quiet && !parse("--sequential overlay").quiet);
    }
}
