//! Runs the demonstration and says at its end what was shown.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use image_layout::Arch;
use tests::demo::{Demo, Shown, Shows, tail};
use tests::demo_haul::program_argument;

/// Boots a demonstration haul in QEMU and pulls from it.
#[derive(Parser)]
#[command(name = "demo", max_term_width = 80)]
struct Arguments {
    /// Architecture of the machine that boots
    #[arg(long, default_value_t = Arch::current())]
    arch: Arch,
    /// Haul to boot instead of the demonstration's own
    #[arg(long = "haul", value_name = "FILE")]
    hauls: Vec<PathBuf>,
    /// k3s binary to boot; default: a stand-in that checks what k3s needs
    #[arg(long, value_name = "FILE")]
    k3s: Vec<PathBuf>,
    /// cluster.yaml to put on the image
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The program `hello` for one architecture; repeat for more
    #[arg(long = "program", value_name = "ARCH=FILE", value_parser = program_argument)]
    programs: Vec<(Arch, PathBuf)>,
    /// The builder
    #[arg(long, default_value = "target/release/builder", value_name = "FILE")]
    builder: PathBuf,
    /// Where image and logs are left; default: target/demo/ARCH
    #[arg(long, value_name = "DIR")]
    directory: Option<PathBuf>,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let directory = arguments
        .directory
        .unwrap_or_else(|| PathBuf::from("target/demo").join(arguments.arch.name()));
    let demo = Demo {
        arch: arguments.arch,
        hauls: arguments.hauls,
        k3s: arguments.k3s,
        config: arguments.config,
        programs: arguments.programs,
        builder: arguments.builder,
        directory,
    };
    // Of an earlier run; whoever reads it after a failure must not be misled.
    let _ = std::fs::remove_file(demo.console());
    match demo.show() {
        Ok(shown) => {
            summary(&demo, &shown);
            ExitCode::SUCCESS
        }
        Err(why) => {
            eprintln!("\nerror: {why:#}");
            let console = demo.console();
            if let Ok(lines) = tail(&console, 15)
                && !lines.is_empty()
            {
                eprintln!("  the console's last lines:");
                for line in lines {
                    eprintln!("    {line}");
                }
                eprintln!("  help: the whole console is in {}", console.display());
            }
            ExitCode::FAILURE
        }
    }
}

fn summary(demo: &Demo, shown: &Shown) {
    println!("\n==== Shown, on {}", demo.arch);
    println!(
        "     registry ready {:.1} s after the kernel's start, nothing written to the stick",
        shown.registry_after
    );
    match shown.cluster {
        Shows::K3s => println!("     k3s is up and its node is Ready"),
        Shows::StandIn => println!("     the stand-in for k3s is up and found what k3s needs"),
        Shows::Registry => {}
    }
    if let Some((name, digest)) = &shown.pulled {
        println!("     pulled  {name}\n             {digest}");
    }
    if let Some((name, digest)) = &shown.fetched {
        println!("     fetched {name}\n             {digest}");
    }
    let image = shown.image.display();
    println!("     image   {image}");
    println!("     console {}", demo.console().display());
    println!("\nNext:");
    println!("  target/release/builder inspect {image}");
    println!("  target/release/builder run {image}         boot it yourself");
    println!("  make image HAUL=haul.tar.zst OUT=my.img    an image of your own haul");
    println!("  docs/guide.md                              onto a stick, into a machine");
}
