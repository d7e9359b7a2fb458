//! The node: what went wrong, how its stages went, where k3s keeps its data.

use std::fmt::Write as _;

use image_layout::status::{ClusterPhase, Outcome, Status};

use super::html::{Escaped, Size};

/// Notices on the page; all are in `/status`.
const NOTICES: usize = 20;

/// What has to be mended, above everything else.
pub(super) fn problems(body: &mut String, status: &Status) {
    let failed: Vec<_> = status
        .stages
        .iter()
        .filter_map(|report| Some((report.stage, report.problem.as_ref()?)))
        .collect();
    if failed.is_empty() {
        return;
    }
    body.push_str("<section aria-label=\"Problems\">\n");
    for (stage, problem) in failed {
        let _ = writeln!(
            body,
            "<div class=\"box bad\"><p><strong>Stage {stage} failed.</strong> {}</p><p>{}</p></div>",
            Escaped(&problem.what),
            Escaped(&problem.mend)
        );
    }
    body.push_str("</section>\n");
}

/// k3s's phase in words.
pub(super) fn phase(phase: ClusterPhase) -> &'static str {
    match phase {
        ClusterPhase::Preparing => "its files are being laid down",
        ClusterPhase::WaitingForServer => "waits for its server",
        ClusterPhase::Starting => "starting",
        ClusterPhase::WaitingForNode => "started, node not Ready yet",
        ClusterPhase::Ready => "node Ready",
        ClusterPhase::NotReady => "node not Ready",
        ClusterPhase::Failed => "ended, starts again",
    }
}

/// The version of k3s on the stick, for this machine where that is known.
pub(super) fn carried_k3s(status: &Status) -> Option<&str> {
    let image = status.image.as_ref()?;
    let of_arch = |arch| image.arches.get(&arch)?.k3s.as_ref();
    let k3s = match status.arch {
        Some(arch) => of_arch(arch),
        None => image.arches.values().find_map(|arch| arch.k3s.as_ref()),
    };
    k3s?.version.as_deref()
}

/// `<section id="node">`. `said` is on the page already.
pub(super) fn section(body: &mut String, status: &Status, said: &[String]) {
    if status.stages.is_empty() {
        return;
    }
    body.push_str(
        "<section id=\"node\" aria-labelledby=\"h-node\">\n<h2 id=\"h-node\">Node</h2>\n",
    );
    facts(body, status);
    body.push_str(
        "<div class=\"scroll\" tabindex=\"0\" role=\"region\" aria-label=\"Stages\">\
         <table class=\"stack\">\n<thead><tr><th scope=\"col\">Stage</th><th scope=\"col\">Outcome</th>\
         <th scope=\"col\">What it did</th><th scope=\"col\" class=\"n\">After start</th></tr></thead>\n\
         <tbody>\n",
    );
    for report in &status.stages {
        let (class, word) = match report.outcome {
            Outcome::Done => ("w-good", "done"),
            Outcome::Failed => ("w-bad", "failed"),
            Outcome::Skipped => ("w-off", "skipped"),
        };
        let _ = writeln!(
            body,
            "<tr><th scope=\"row\">{}</th><td><strong class=\"{class}\">{word}</strong></td>\
             <td>{}</td><td class=\"n\" data-is=\"after start\">{:.1} s</td></tr>",
            report.stage,
            Escaped(&report.detail),
            report.at
        );
    }
    body.push_str("</tbody></table></div>\n");
    let new = |notice: &&String| !said.contains(notice);
    let notices: Vec<_> = status.notices.iter().filter(new).collect();
    if !notices.is_empty() {
        body.push_str("<h3>Notices</h3>\n<ul>\n");
        // the newest are last
        let from = notices.len().saturating_sub(NOTICES);
        for notice in notices.iter().skip(from) {
            let _ = writeln!(body, "<li>{}</li>", Escaped(notice));
        }
        body.push_str("</ul>\n");
    }
    body.push_str("</section>\n");
}

fn facts(body: &mut String, status: &Status) {
    let mut facts: Vec<(&str, String)> = Vec::new();
    let arch = status.arch.map(|arch| arch.to_string());
    let system = [status.kernel.clone(), arch.unwrap_or_default()];
    let system: Vec<_> = system.into_iter().filter(|it| !it.is_empty()).collect();
    if !system.is_empty() {
        facts.push(("Kernel", system.join(", ")));
    }
    if let Some(state) = &status.state {
        let place = match state.device.as_str() {
            "" => state.kind.clone(),
            device => format!("{} ({device})", state.kind),
        };
        facts.push(("State", format!("{place}, {}", Size(state.bytes))));
    }
    if let Some(cluster) = &status.cluster {
        facts.push(("k3s", format!("{} – {}", cluster.k3s, phase(cluster.phase))));
        if !cluster.server.is_empty() {
            facts.push(("Server", cluster.server.clone()));
        }
    }
    if let Some(image) = &status.image {
        let hauls: Vec<_> = image.hauls.iter().map(|haul| haul.name.as_str()).collect();
        facts.push(("Hauls", hauls.join(", ")));
    }
    if !status.missing_firmware.is_empty() {
        let files = status.missing_firmware.iter().map(|it| it.file.as_str());
        facts.push(("Missing firmware", files.collect::<Vec<_>>().join(", ")));
    }
    if facts.is_empty() {
        return;
    }
    body.push_str("<div class=\"box\"><dl class=\"facts\">\n");
    for (what, value) in facts {
        let _ = writeln!(body, "<dt>{what}</dt><dd>{}</dd>", Escaped(&value));
    }
    body.push_str("</dl></div>\n");
}
