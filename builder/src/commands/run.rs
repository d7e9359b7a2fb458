//! `builder run`: boots an image in QEMU, console on the terminal.

use std::path::Path;
use std::process::Command;

use image_layout::Arch;

use crate::cli::run::Run;
use crate::image::inspect;
use crate::qemu::{
    Accelerator, Boot, Cable, Disk, Firmware, Forward, Identity, Machine, Network, QemuError,
    Serial, UserNetwork, architectures, free_port,
};

/// Boots the image and returns when the machine is off or the user ended it.
///
/// # Errors
/// When the image can't be read or doesn't boot the architecture, QEMU or firmware isn't
/// installed, or QEMU fails.
pub fn run(arguments: &Run) -> Result<(), QemuError> {
    let arch = choose(arguments)?;
    let program = Machine::program(arch);
    let run_error = |source: std::io::Error| match source.kind() {
        std::io::ErrorKind::NotFound => QemuError::NoProgram {
            program,
            package: Machine::package(arch),
        },
        _ => QemuError::Run {
            program: program.to_owned(),
            source,
        },
    };
    // Before the trial boot, so that a missing emulator or firmware is said at once.
    Command::new(program)
        .arg("--version")
        .output()
        .map_err(run_error)?;
    let firmware = Firmware::find(arch)?;
    let accelerator = Accelerator::detect(&arguments.image, arch)?;
    let registry_port = free_port(arguments.port).map_err(run_error)?;

    println!("booting {} on an {arch} machine", arguments.image.display());
    if accelerator == Accelerator::Tcg {
        println!("emulated, since KVM does not work here for {arch}: about ten times slower");
    }
    if registry_port != arguments.port {
        println!("port {} is taken", arguments.port);
    }
    let scheme = scheme(&arguments.image);
    println!("registry: {scheme}://127.0.0.1:{registry_port}/    end: Ctrl-A X");

    let machine = Machine {
        arch,
        accelerator,
        memory_mib: arguments.memory,
        cpus: arguments.cpus,
        boot: Boot::Firmware(firmware),
        disks: vec![Disk::new(
            "stick",
            &arguments.image,
            crate::qemu::Bus::UsbStorage,
        )],
        network: Some(Network {
            cable: Cable::Own(UserNetwork {
                forwards: vec![Forward {
                    local: registry_port,
                    address: None,
                    port: 5000,
                }],
            }),
            mac: None,
        }),
        serial: Serial::Terminal,
        status_port: None,
        ports: Vec::new(),
        qmp: None,
        identity: Identity::default(),
        clock: None,
        end_at_reboot: false,
        paused: false,
    };
    let status = machine.command().status().map_err(run_error)?;
    if status.success() {
        Ok(())
    } else {
        Err(QemuError::Ended {
            program: program.to_owned(),
            status,
        })
    }
}

fn choose(arguments: &Run) -> Result<Arch, QemuError> {
    let has = architectures(&arguments.image)?;
    let wrong = |wanted, has| QemuError::WrongArch {
        path: arguments.image.clone(),
        wanted,
        has,
    };
    let own = Arch::current();
    match arguments.arch {
        Some(arch) if has.contains(&arch) => Ok(arch),
        Some(arch) => Err(wrong(arch, has)),
        None if has.contains(&own) => Ok(own),
        None => has.first().copied().ok_or_else(|| wrong(own, Vec::new())),
    }
}

/// By which a node of this image answers this computer. An image that can't be read is refused
/// elsewhere.
fn scheme(image: &Path) -> &'static str {
    match inspect(image) {
        Ok(contents) if contents.image.access.tls => "https",
        _ => "http",
    }
}
