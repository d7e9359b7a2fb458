//! The `cluster.yaml` that goes onto a stick when the user gives none.

use super::Role;

/// A commented file. With `k3s` on the image it describes a working cluster of one machine;
/// without, a registry.
pub fn template(k3s: bool) -> String {
    let role = if k3s { Role::Server } else { Role::Registry };
    format!(
        r#"# Haulboot: one file for the whole fleet, the same on every stick.
# Change it here with any editor, save, and boot. Unknown keys are errors, shown on
# the node's console with line and column.

apiVersion: haulboot.dev/v1
kind: Cluster
name: haulboot

# The machines. `match` says which machine a node is: `any` once, or one or more of
# mac:, serial:, uuid:. Roles: server (one at most), agent, registry.
nodes:
  - name: node-1
    match: any
    role: {role}
    # address: 192.168.0.2/24        # without it: DHCP
    # interface: eth0                # name, MAC or driver; default: the one with a cable

  # - name: worker-1
  #   match: {{mac: "52:54:00:12:34:56"}}
  #   role: agent
  #   address: 192.168.0.4/24

# What a machine does that matches none of them.
unmatched: {{role: registry}}

# Defaults of the network for every node.
# network:
#   gateway: 192.168.0.1
#   dns: [192.168.0.1]

# HTTPS for the registry. Who may read it: lines of `htpasswd -nB NAME` under users:
# registry: {{tls: true}}

# Keys of k3s's own config.yaml, as its documentation names them.
# k3s:
#   disable: [traefik]

# Where k3s keeps its data: none = RAM, lost at power-off; stick = the rest of this drive.
# state: {{disk: none}}
"#
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::{Match, parse};

    #[test]
    fn the_template_is_a_valid_file_with_the_role_that_fits() {
        for (k3s, role) in [(true, Role::Server), (false, Role::Registry)] {
            let cluster = parse(template(k3s).as_bytes()).unwrap();
            assert_eq!(cluster.nodes.len(), 1);
            assert_eq!(cluster.nodes[0].role, role);
            assert_eq!(cluster.nodes[0].matches, Match::Any);
        }
    }

    #[test]
    fn what_the_template_offers_in_comments_is_valid_too() {
        let text = template(true)
            .lines()
            .map(|line| match line.trim_start().strip_prefix("# ") {
                Some(rest) if line.contains(": ") || rest.ends_with(':') => {
                    let indent = line.len() - line.trim_start().len();
                    let prose = rest.contains(". ")
                        || rest.contains("mac:, serial:")
                        || rest.starts_with("Where")
                        || rest.starts_with("Haulboot");
                    if prose {
                        String::new()
                    } else {
                        format!("{}{rest}", " ".repeat(indent))
                    }
                }
                _ => line.to_owned(),
            })
            .collect::<Vec<_>>()
            .join("\n");
        let cluster = parse(text.as_bytes()).unwrap_or_else(|error| panic!("{error}\n{text}"));
        assert_eq!(cluster.nodes.len(), 2, "{text}");
        assert!(cluster.k3s.contains_key("disable"));
        assert!(cluster.network.gateway.is_some());
    }
}
