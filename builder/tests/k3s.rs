//! What the builder makes of k3s: data in place, and images that it needs.

#![allow(clippy::unwrap_used, clippy::panic)]

mod common;
mod workshop;

use std::fs;

use common::Haul;
use image_layout::{Arch, paths};
use serde_json::Value;
use workshop::Workshop;
use workshop::launcher::{LINKS, MAIN, archive, launcher, launcher_of};

const LIST: &str = "docker.io/rancher/klipper-helm:v0.13.3\n\
                    docker.io/rancher/klipper-lb:v0.4.17\n\
                    docker.io/rancher/mirrored-coredns-coredns:1.14.7\n\
                    docker.io/rancher/mirrored-library-traefik:3.7.13\n\
                    docker.io/rancher/mirrored-pause:3.6\n";
const PAUSE: &str = "docker.io/rancher/mirrored-pause:3.6";

/// A workshop with launchers for both architectures, `k3s` and `k3s-arm64`, and their hashes.
fn workshop() -> (Workshop, [String; 2]) {
    let workshop = Workshop::new();
    let hashes = [("k3s", Arch::X86_64), ("k3s-arm64", Arch::Arm64)].map(|(name, arch)| {
        let (bytes, hash) = launcher(arch);
        workshop.write(name, &bytes);
        hash
    });
    (workshop, hashes)
}

/// Writes a haul with images of these names for amd64.
fn haul(workshop: &Workshop, names: &[&str]) {
    let mut haul = Haul::default();
    for name in names {
        haul.image(name, name.as_bytes());
    }
    haul.write(&workshop.path(""), "haul.tar");
}

/// The file system HAUL of an image.
fn ext4(workshop: &Workshop, image: &str) -> ext4_view::Ext4 {
    let inspected: Value =
        serde_json::from_str(&workshop.done(&["inspect", image, "--json"])).unwrap();
    let number = |key: &str| inspected["partitions"][2][key].as_u64().unwrap() as usize;
    let bytes = fs::read(workshop.path(image)).unwrap();
    let haul = bytes[number("start")..][..number("bytes")].to_vec();
    fs::write(workshop.path("part3"), &haul).unwrap();
    let path = format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap());
    let checked = std::process::Command::new("e2fsck")
        .args(["-fn", workshop.path("part3").to_str().unwrap()])
        .env("PATH", path)
        .output()
        .unwrap();
    assert!(checked.status.success(), "{checked:?}");
    ext4_view::Ext4::load(Box::new(haul)).unwrap()
}

#[test]
fn k3s_lies_unpacked_on_haul_for_every_architecture() {
    let (workshop, hashes) = workshop();
    let arguments = [
        "--k3s",
        "k3s",
        "--k3s",
        "k3s-arm64",
        "--arch",
        "x86_64",
        "--arch",
        "arm64",
        "--allow-missing-images",
        "--credentials",
        "credentials",
        "-o",
    ];
    let summary = workshop.done(&[&arguments[..], &["a.img"]].concat());
    assert!(
        summary.contains("k3s v1.36.3+k3s1, runs in place"),
        "{summary}"
    );
    let text = workshop.done(&["inspect", "a.img"]);
    assert!(
        text.contains(&format!("k3s runs in place, data {}", hashes[0])),
        "{text}"
    );

    let ext4 = ext4(&workshop, "a.img");
    for (arch, hash) in [(Arch::X86_64, &hashes[0]), (Arch::Arm64, &hashes[1])] {
        let root = format!("/{}", paths::haul::k3s_data(arch, hash));
        let read = |name: &str| ext4.read(&format!("{root}/{name}")).unwrap();
        assert_eq!(read("bin/k3s"), MAIN);
        assert!(read("bin/.sha256sums").ends_with(b"  aux/iptables-detect.sh\n"));
        assert!(read("bin/.links").ends_with(b"[ coreutils\n"));
        for (name, target) in LINKS {
            let link = ext4.read_link(&format!("{root}/bin/{name}")).unwrap();
            assert_eq!(link.to_str().unwrap(), target);
        }
        for (name, mode) in [
            ("bin", 0o755),
            ("bin/k3s", 0o755),
            ("bin/aux/iptables-detect.sh", 0o755),
            ("bin/.links", 0o644),
            ("etc/conf", 0o644),
        ] {
            let metadata = ext4.symlink_metadata(&format!("{root}/{name}")).unwrap();
            assert_eq!(metadata.mode() & 0o7777, mode, "{name}");
            assert_eq!((metadata.uid(), metadata.gid()), (0, 0), "{name}");
        }
        let json: Value = serde_json::from_slice(&ext4.read("/haulboot.json").unwrap()).unwrap();
        assert_eq!(json["arches"][arch.name()]["k3s"]["data"], **hash);
    }
    workshop.done(&[&arguments[..], &["b.img"]].concat());
    assert!(fs::read(workshop.path("a.img")).unwrap() == fs::read(workshop.path("b.img")).unwrap());
}

#[test]
fn a_k3s_of_another_shape_is_carried_and_left_to_unpack_itself() {
    let (workshop, _) = workshop();
    let (whole, hash) = launcher(Arch::X86_64);
    let named = |text: &str| {
        String::from_utf8_lossy(text.as_bytes())
            .into_owned()
            .into_bytes()
    };
    let mut wrong_hash = whole.clone();
    let at = whole
        .windows(64)
        .position(|window| window == named(&hash))
        .unwrap();
    wrong_hash[at] = if wrong_hash[at] == b'0' { b'1' } else { b'0' };
    let mut spoilt = archive();
    let sum = spoilt
        .windows(4)
        .position(|window| window == b"  k3")
        .unwrap();
    spoilt[sum - 1] = if spoilt[sum - 1] == b'0' { b'1' } else { b'0' };
    let mut cut = archive();
    cut.truncate(2000);
    for (bytes, said) in [
        (wrong_hash, "not there or is damaged"),
        (
            launcher_of(Arch::X86_64, &spoilt).0,
            "is not what bin/.sha256sums says",
        ),
        (launcher_of(Arch::X86_64, &cut).0, "its archive is damaged"),
        (workshop::elf(62, MAIN), "no archive is named in it"),
    ] {
        workshop.write("other", &bytes);
        let run = workshop.run(&[
            "--k3s",
            "other",
            "--arch",
            "x86_64",
            "--allow-missing-images",
            "-o",
            "image",
        ]);
        assert_eq!(run.code, Some(0), "{}", run.stderr);
        let summary = String::from_utf8(run.stdout).unwrap();
        assert!(
            summary.contains("unpacks itself at every boot"),
            "{summary}"
        );
        assert!(run.stderr.contains(said), "{said}: {}", run.stderr);
        assert!(
            run.stderr.contains("unpacks itself at every boot"),
            "{}",
            run.stderr
        );
        let text = workshop.done(&["inspect", "image"]);
        assert!(text.contains("k3s unpacks itself at every boot"), "{text}");
        let ext4 = ext4(&workshop, "image");
        assert!(
            !ext4.exists("/arch/x86_64/k3s-data").unwrap() || {
                ext4.read_dir("/arch/x86_64/k3s-data").unwrap().count() == 2
            }
        );
        assert_eq!(ext4.read("/arch/x86_64/k3s").unwrap(), bytes);
    }
}

/// The standard error of a build that is refused for missing images.
fn refused(workshop: &Workshop, more: &[&str]) -> String {
    let arguments = [&["--haul", "haul.tar", "--k3s", "k3s", "-o", "image"], more].concat();
    let run = workshop.run(&arguments);
    assert_eq!(run.code, Some(1), "{}", run.stderr);
    assert!(
        run.stderr.contains("no haul has images that k3s needs"),
        "{}",
        run.stderr
    );
    assert!(!workshop.path("image").exists());
    run.stderr
}

fn done(workshop: &Workshop, more: &[&str]) -> String {
    let arguments = [&["--haul", "haul.tar", "--k3s", "k3s", "-o", "image"], more].concat();
    let run = workshop.run(&arguments);
    assert_eq!(run.code, Some(0), "{}", run.stderr);
    fs::remove_file(workshop.path("image")).unwrap();
    run.stderr
}

const X86: [&str; 2] = ["--arch", "x86_64"];

#[test]
fn without_a_list_the_pause_image_that_k3s_was_built_with_must_be_there() {
    let (workshop, _) = workshop();
    haul(&workshop, &["docker.io/library/a:1"]);
    let said = refused(&workshop, &X86);
    assert!(said.contains(&format!("for x86_64 {PAUSE}")), "{said}");
    assert!(said.contains(&format!("- name: {PAUSE}\n")), "{said}");
    let command = format!("hauler store add image {PAUSE} --platform linux/amd64");
    assert!(said.contains(&command), "{said}");
    assert!(said.contains("--allow-missing-images"), "{said}");

    let said = done(&workshop, &[&X86[..], &["--allow-missing-images"]].concat());
    assert!(
        said.contains(&format!("k3s on x86_64 needs {PAUSE}, and no haul has it")),
        "{said}"
    );
    // a registry starts no pods
    workshop.write(
        "registry.yaml",
        b"apiVersion: haulboot.dev/v1\nkind: Cluster\nname: a\nunmatched: {role: registry}\n",
    );
    done(
        &workshop,
        &[&X86[..], &["--config", "registry.yaml"]].concat(),
    );
    haul(&workshop, &["index.docker.io/rancher/mirrored-pause:3.6"]);
    done(&workshop, &X86);
}

#[test]
fn the_list_is_taken_from_where_it_is_named_then_beside_k3s_then_from_the_haul() {
    let (workshop, _) = workshop();
    let mut given = Haul::default();
    given.image(PAUSE, b"pause");
    let list = given.blob(b"rancher/from-haul:1\n");
    let config = given.blob(b"{}");
    let manifest = serde_json::to_vec(&serde_json::json!({
        "schemaVersion": 2,
        "config": {"mediaType": "application/vnd.content.hauler.file.local.config.v1+json",
            "digest": config.to_string(), "size": 2},
        "layers": [{"mediaType": "application/octet-stream", "digest": list.to_string(),
            "size": 20, "annotations": {"org.opencontainers.image.title": "k3s-images.txt"}}],
    }))
    .unwrap();
    given.blob(&manifest);
    given.entry(
        &manifest,
        &[
            ("kind", "dev.hauler/image"),
            (
                "org.opencontainers.image.ref.name",
                "hauler/k3s-images.txt:latest",
            ),
        ],
    );
    given.write(&workshop.path(""), "haul.tar");
    let lacks = |said: &str, name: &str| assert!(said.contains(name), "{name}: {said}");
    lacks(&refused(&workshop, &X86), "rancher/from-haul:1");
    workshop.write("k3s-images.txt", b"rancher/beside:1\n");
    let said = refused(&workshop, &X86);
    lacks(&said, "docker.io/rancher/beside:1");
    assert!(!said.contains("from-haul"), "{said}");
    workshop.write("mine", b"# mine\nrancher/mine:1\n");
    let said = refused(&workshop, &[&X86[..], &["--k3s-images", "mine"]].concat());
    lacks(&said, "docker.io/rancher/mine:1");
    assert!(!said.contains("beside"), "{said}");

    for (name, contents, what) in [
        ("bad", Some(&b"no name\n"[..]), "bad, line 1"),
        ("none", None, "reading none"),
    ] {
        if let Some(contents) = contents {
            workshop.write(name, contents);
        }
        let run = workshop.run(&[
            "--haul",
            "haul.tar",
            "--k3s",
            "k3s",
            "--arch",
            "x86_64",
            "--k3s-images",
            name,
        ]);
        assert_eq!(run.code, Some(1));
        assert!(run.stderr.contains(what), "{}", run.stderr);
        assert!(run.stderr.contains("help: "), "{}", run.stderr);
    }
}

#[test]
fn components_that_are_disabled_need_no_images() {
    let (workshop, _) = workshop();
    workshop.write("k3s-images.txt", LIST.as_bytes());
    haul(
        &workshop,
        &[PAUSE, "docker.io/rancher/mirrored-coredns-coredns:1.14.7"],
    );
    let said = refused(&workshop, &X86);
    for name in [
        "klipper-helm:v0.13.3",
        "klipper-lb:v0.4.17",
        "mirrored-library-traefik:3.7.13",
    ] {
        assert!(said.contains(name), "{said}");
    }
    assert!(!said.contains("coredns"), "{said}");
    let yaml = |k3s: &str| {
        let yaml = format!(
            "apiVersion: haulboot.dev/v1\nkind: Cluster\nname: a\n\
             nodes: [{{name: a, match: any, role: server}}]\nk3s: {k3s}\n"
        );
        workshop.write("cluster.yaml", yaml.as_bytes());
    };
    let with = [&X86[..], &["--config", "cluster.yaml"]].concat();
    yaml("{disable: [traefik, servicelb]}");
    done(&workshop, &with);
    yaml("{disable: 'servicelb', disable-helm-controller: true}");
    done(&workshop, &with);
    // a manifest with a chart needs what installs charts
    let chart = b"apiVersion: helm.cattle.io/v1\nkind: HelmChart\nmetadata: {name: a}\n";
    workshop.write("chart.yaml", chart);
    yaml("{disable: [traefik, servicelb]}\nmanifests: [chart.yaml]");
    assert!(refused(&workshop, &with).contains("klipper-helm:v0.13.3"));
    yaml("{disable: traefik}");
    assert!(!refused(&workshop, &with).contains("klipper-helm"));
}

#[test]
fn every_architecture_is_looked_at_by_itself() {
    let (workshop, _) = workshop();
    haul(&workshop, &[PAUSE]);
    let both = ["--k3s", "k3s-arm64", "--arch", "x86_64", "--arch", "arm64"];
    let said = refused(&workshop, &both);
    assert!(
        said.contains(&format!(
            "for arm64 {PAUSE} (there for other platforms only)"
        )),
        "{said}"
    );
    assert!(!said.contains("for x86_64"), "{said}");
    // boots arm64 too, but runs k3s on x86_64 only
    done(&workshop, &["--arch", "x86_64", "--arch", "arm64"]);
}
