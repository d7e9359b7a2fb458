//! CRI-O: the files of [`containers`], and crio.conf(5) for log-ins.

use image_layout::Host;
use serde::Serialize;

use super::auth::{basic_note, logins};
use super::{Endpoint, MirrorFile, containers, file};

const CONF: &str = "/etc/crio/crio.conf.d/50-haulboot.conf";
const LOGINS: &str = "/etc/crio/haulboot-auth.json";

#[derive(Serialize)]
struct CrioConf {
    crio: Crio,
}

#[derive(Serialize)]
struct Crio {
    image: Image,
}

#[derive(Serialize)]
struct Image {
    global_auth_file: &'static str,
}

/// Files of the whole machine.
pub(super) fn write(endpoint: &Endpoint, hosts: &[Host]) -> (Vec<MirrorFile>, Vec<String>) {
    let (mut files, mut notes) = containers::write(endpoint, hosts);
    notes.insert(
        0,
        "CRI-O reads registries.conf.d anew with: systemctl reload crio.".to_owned(),
    );
    notes.push(
        "The image that crio.conf names by pause_image comes from there too, so the haul must have \
         it."
            .to_owned(),
    );
    if endpoint.users {
        let conf = CrioConf {
            crio: Crio {
                image: Image {
                    global_auth_file: LOGINS,
                },
            },
        };
        files.push(file(CONF, super::text::toml(&conf)));
        files.push(logins(LOGINS, [endpoint.authority.as_str()]));
        notes.push(basic_note());
        notes.push(format!(
            "{CONF} is read when CRI-O starts: systemctl restart crio."
        ));
    }
    (files, notes)
}
