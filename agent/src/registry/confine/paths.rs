//! Files and network, by Landlock (Linux: `Documentation/userspace-api/landlock.rst`).

use landlock::{
    ABI, Access as _, AccessFs, AccessNet, NetPort, Ruleset, RulesetAttr as _,
    RulesetCreatedAttr as _, RulesetError, RulesetStatus, Scope, path_beneath_rules,
};

use super::Reach;

/// The newest interface whose rights were looked at here (Linux 6.15). The crate leaves out what
/// an older kernel does not know: files since 5.13, truncating since 6.2, TCP since 6.7, device
/// controls since 6.10, signals and abstract sockets since 6.12.
const KNOWN: ABI = ABI::V7;

/// Restricts the calling thread; says how far the kernel could, or why not at all.
pub(super) fn restrict(reach: &Reach) -> Result<&'static str, String> {
    let status = apply(reach).map_err(|error| error.to_string())?;
    match status {
        RulesetStatus::FullyEnforced => Ok("on"),
        RulesetStatus::PartiallyEnforced => Ok("in part: this kernel knows less of it"),
        RulesetStatus::NotEnforced => Err("it has no Landlock, or it is switched off".to_owned()),
    }
}

fn apply(reach: &Reach) -> Result<RulesetStatus, RulesetError> {
    // from_read() would allow executing, too
    let read = AccessFs::ReadFile | AccessFs::ReadDir;
    let restricted = Ruleset::default()
        .handle_access(AccessFs::from_all(KNOWN))?
        .handle_access(AccessNet::from_all(KNOWN))?
        .scope(Scope::from_all(KNOWN))?
        .create()?
        // what is not there can't be opened either
        .add_rules(path_beneath_rules(&reach.read, read))?
        .add_rule(NetPort::new(reach.port, AccessNet::BindTcp))?
        .restrict_self()?;
    Ok(restricted.ruleset)
}
