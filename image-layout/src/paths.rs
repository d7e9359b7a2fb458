//! Which file is where: in each partition, and on a running node.

/// The partition that people edit.
pub mod config {
    /// The configuration of the whole fleet.
    pub const CLUSTER_YAML: &str = "cluster.yaml";
    /// Names under which the configuration is found too, in this order: editors append `.txt`.
    pub const CLUSTER_YAML_NAMES: [&str; 3] = ["cluster.yaml", "cluster.yaml.txt", "cluster.yml"];
    /// What a person finds who opens the drive.
    pub const README: &str = "README.txt";
}

/// The EFI system partition.
pub mod esp {
    use crate::Arch;

    /// `systemd-boot`'s configuration (systemd: loader.conf(5)).
    pub const LOADER_CONF: &str = "loader/loader.conf";

    /// The boot loader where firmware looks for it on removable media.
    pub fn boot_loader(arch: Arch) -> String {
        format!("EFI/BOOT/{}", arch.efi_boot_file())
    }

    /// The kernel.
    pub fn kernel(arch: Arch) -> String {
        format!("haulboot/{arch}/vmlinuz")
    }

    /// The initramfs: agent, modules needed to reach the stick.
    pub fn initramfs(arch: Arch) -> String {
        format!("haulboot/{arch}/initramfs")
    }

    /// One entry of the boot menu (Boot Loader Specification, type 1).
    pub fn menu_entry(arch: Arch, id: &str) -> String {
        format!("loader/entries/haulboot-{arch}-{id}.conf")
    }
}

/// The read-only partition with everything a node runs and serves.
pub mod haul {
    use crate::Arch;

    /// What is on this image: [`crate::image::ImageInfo`] as JSON.
    pub const IMAGE_JSON: &str = "haulboot.json";
    /// The OCI layout (`oci-layout`, `index.json`, `blobs/`), and [`CATALOG`] beside it.
    pub const LAYOUT: &str = "haul";
    /// File name of the catalog inside [`LAYOUT`].
    pub const CATALOG: &str = "catalog.json";
    /// Secrets of the cluster; 0700, root. Never in the registry's view.
    pub const SECRETS: &str = "secrets";
    /// Manifests for k3s: each file and directory of `manifests:` in `cluster.yaml`, under the path
    /// given there.
    pub const MANIFESTS: &str = "manifests";

    /// Everything that belongs to one architecture.
    pub fn arch_dir(arch: Arch) -> String {
        format!("arch/{arch}")
    }

    /// The k3s binary.
    pub fn k3s(arch: Arch) -> String {
        format!("arch/{arch}/k3s")
    }

    /// What k3s's launcher would unpack, unpacked: `bin/`, with `.sha256sums` and `.links` in it, and
    /// `etc/`. `hash` is the name that the launcher gives the directory (k3s: cmd/k3s/main.go).
    pub fn k3s_data(arch: Arch, hash: &str) -> String {
        format!("arch/{arch}/k3s-data/{hash}")
    }

    /// Programs that make and check file systems, with the libraries they need: see
    /// [`super::tools`].
    pub fn tools(arch: Arch) -> String {
        format!("arch/{arch}/tools")
    }

    /// Kernel modules: `modules.dep`, `modules.alias` ... and `kernel/` lie directly in it.
    pub fn modules(arch: Arch, kernel_release: &str) -> String {
        format!("arch/{arch}/modules/{kernel_release}")
    }

    /// Device firmware, as the kernel's `firmware_class.path` expects it.
    pub fn firmware(arch: Arch) -> String {
        format!("arch/{arch}/firmware")
    }
}

/// Inside [`haul::SECRETS`], and with the same names in the builder's directory of credentials.
/// Every file is 0600, every directory 0700.
pub mod secrets {
    /// The servers' token in k3s's secure form, `K10<sha256 of server-ca.crt>::server:<secret>`,
    /// one line. Not on sticks for agents.
    pub const SERVER_TOKEN: &str = "server-token";
    /// The agents' token, `K10<sha256 of server-ca.crt>::node:<secret>`, one line.
    pub const AGENT_TOKEN: &str = "agent-token";
    /// 64 hexadecimal digits, one line: node passwords are made from it, [`crate::secrets`].
    pub const CLUSTER_SECRET: &str = "cluster-secret";
    /// Directory with the files of k3s's `server/tls` (k3s:
    /// contrib/util/generate-custom-ca-certs.sh), see [`TLS_FILES`]. On sticks for agents it
    /// holds [`SERVER_CA`] alone.
    pub const TLS: &str = "tls";
    /// Inside [`TLS`], the certificate that agents check their server by.
    pub const SERVER_CA: &str = "server-ca.crt";
    /// Inside [`TLS`]: everything that a server has before its first start.
    pub const TLS_FILES: [&str; 11] = [
        "server-ca.crt",
        "server-ca.key",
        "client-ca.crt",
        "client-ca.key",
        "request-header-ca.crt",
        "request-header-ca.key",
        "service.key",
        "etcd/peer-ca.crt",
        "etcd/peer-ca.key",
        "etcd/server-ca.crt",
        "etcd/server-ca.key",
    ];
    /// Inside [`TLS`], the certificate that clients of the registries check these by, and its key.
    /// Only where the image's `cluster.yaml` says `registry: {tls: true}`, and then on every stick:
    /// each node issues its own certificate.
    pub const REGISTRY_CA: &str = "registry-ca.crt";
    /// The key of [`REGISTRY_CA`].
    pub const REGISTRY_CA_KEY: &str = "registry-ca.key";
    /// The administrator's kubeconfig. Only in the directory of credentials, never on a stick.
    pub const KUBECONFIG: &str = "kubeconfig";
}

/// Inside [`haul::tools`].
pub mod tools {
    /// The dynamic linker; the programs are started through it: `ld.so --library-path lib PROGRAM`.
    pub const LINKER: &str = "ld.so";
    /// Directory with the libraries.
    pub const LIBRARIES: &str = "lib";
    /// Makes an ext4 file system.
    pub const MKE2FS: &str = "mke2fs";
    /// Checks and mends one.
    pub const E2FSCK: &str = "e2fsck";
}

/// Inside the initramfs.
pub mod initramfs {
    /// The agent, started by the kernel as PID 1.
    pub const INIT: &str = "init";

    /// Kernel modules, with the same files as [`super::haul::modules`].
    pub fn modules(kernel_release: &str) -> String {
        format!("lib/modules/{kernel_release}")
    }
}

/// On a running node.
pub mod node {
    /// Everything below is kept here.
    pub const RUN: &str = "/run/haulboot";
    /// The node's state, written by PID 1, read by everybody: [`crate::status::Status`].
    pub const STATUS: &str = "/run/haulboot/status.json";
    /// Bounded logs, one file a source.
    pub const LOGS: &str = "/run/haulboot/logs";
    /// HAUL, mounted read-only.
    pub const HAUL: &str = "/run/haulboot/haul";
    /// HAULCFG, mounted read-only while it is read.
    pub const CONFIG: &str = "/run/haulboot/config";
    /// Where k3s keeps its data: a tmpfs, or the file system STATE. Parts of it are bound to their
    /// usual places.
    pub const STATE: &str = "/run/haulboot/state";
    /// The copy of `cluster.yaml` that this boot uses.
    pub const CLUSTER_YAML: &str = "/run/haulboot/cluster.yaml";
    /// Directory with what the registry needs for HTTPS and users, one file, [`ACCESS_FILE`]. The
    /// registry's user and root alone may read it.
    pub const ACCESS: &str = "/run/haulboot/access";
    /// Inside [`ACCESS`]. The node process replaces it as a whole, PID 1's registry reads it.
    pub const ACCESS_FILE: &str = "access.json";
    /// k3s says here that it is ready (sd_notify(3)); PID 1 listens.
    pub const NOTIFY: &str = "/run/haulboot/notify.sock";
    /// The k3s launcher, a link to the file on HAUL.
    pub const K3S: &str = "/usr/local/bin/k3s";
    /// Where k3s keeps its data unless `cluster.yaml` says otherwise.
    pub const K3S_DATA: &str = "/var/lib/rancher/k3s";
    /// The agent's binary.
    pub const AGENT: &str = "/usr/sbin/haulboot";
    /// Name of the virtio-serial port that carries the status lines.
    pub const STATUS_PORT: &str = "org.haulboot.status";
}
