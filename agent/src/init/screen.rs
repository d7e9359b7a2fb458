//! The failure screen: what went wrong and how to mend it, readable on a serial line.

use image_layout::status::{Problem, Stage};

/// Width of the screen. One column less than 80 and a margin: terminals that wrap at 80 show it.
pub(super) const COLUMNS: usize = 78;
/// How many of the kernel's lines are shown below.
const KERNEL_LINES: usize = 5;

/// Renders the problems of all stages that stand failed. ASCII only, no line longer than
/// [`COLUMNS`], no control characters. `kernel` are the last lines of the kernel's log that
/// complain; none are shown if there are none.
pub(super) fn render(problems: &[(Stage, Problem)], kernel: &[String]) -> String {
    let rule = "=".repeat(COLUMNS);
    let mut lines = vec![String::new()];
    let mut rest = problems;
    while let Some((stage, problem)) = rest.first() {
        // stages that failed for one reason share its text
        let same = rest.iter().take_while(|(_, other)| other == problem);
        let stages: Vec<&str> = same.map(|(stage, _)| stage.name()).collect();
        rest = rest.get(stages.len()..).unwrap_or_default();
        lines.push(rule.clone());
        lines.push(match stages.as_slice() {
            [_] => format!("  HAULBOOT: stage {stage} failed"),
            several => format!("  HAULBOOT: stages {} failed", several.join(" and ")),
        });
        lines.push(rule.clone());
        lines.push("  WHAT WENT WRONG".to_owned());
        lines.extend(wrap(&problem.what, "    "));
        lines.push(String::new());
        lines.push("  HOW TO MEND IT".to_owned());
        lines.extend(wrap(&problem.mend, "    "));
    }
    if !kernel.is_empty() {
        lines.push(String::new());
        lines.push("  THE KERNEL'S LAST COMPLAINTS".to_owned());
        let first = kernel.len().saturating_sub(KERNEL_LINES);
        for line in kernel.iter().skip(first) {
            let line: String = ascii(line).chars().take(COLUMNS - 4).collect();
            lines.push(format!("    {line}"));
        }
    }
    lines.push(rule);
    lines.push(String::new());
    lines.join("\n")
}

/// Breaks text at white space; line breaks in it stay, words longer than a line are cut.
fn wrap(text: &str, indent: &str) -> Vec<String> {
    let width = COLUMNS.saturating_sub(indent.len()).max(1);
    let mut lines = Vec::new();
    for paragraph in text.lines() {
        let mut line = String::new();
        for word in ascii(paragraph).split_whitespace() {
            let mut word = word;
            loop {
                let room = width.saturating_sub(line.len() + usize::from(!line.is_empty()));
                if word.len() <= room {
                    if !line.is_empty() {
                        line.push(' ');
                    }
                    line.push_str(word);
                    break;
                }
                if line.is_empty() {
                    let (head, tail) = word.split_at_checked(width).unwrap_or((word, ""));
                    lines.push(format!("{indent}{head}"));
                    word = tail;
                } else {
                    lines.push(format!("{indent}{}", std::mem::take(&mut line)));
                }
            }
        }
        if !line.is_empty() {
            lines.push(format!("{indent}{line}"));
        }
    }
    lines
}

/// Printable ASCII; everything else becomes `?`, control characters a space.
fn ascii(text: &str) -> String {
    text.chars()
        .map(|c| match c {
            c if c.is_control() => ' ',
            c if c.is_ascii() => c,
            _ => '?',
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn problem(what: &str, mend: &str) -> Problem {
        Problem {
            what: what.to_owned(),
            mend: mend.to_owned(),
        }
    }

    #[test]
    fn a_screen_says_what_and_how_and_what_the_kernel_said() {
        let problem = problem(
            "The stick was not found within 60 seconds. Disks seen: nvme0n1 (a disk that is not Haulboot's).",
            "Plug the stick in. The boot goes on by itself as soon as it appears.",
        );
        let shown = render(
            &[(Stage::Media, problem)],
            &["usb 1-1: device descriptor read/64, error -71".to_owned()],
        );
        let expected = "
==============================================================================
  HAULBOOT: stage media failed
==============================================================================
  WHAT WENT WRONG
    The stick was not found within 60 seconds. Disks seen: nvme0n1 (a disk
    that is not Haulboot's).

  HOW TO MEND IT
    Plug the stick in. The boot goes on by itself as soon as it appears.

  THE KERNEL'S LAST COMPLAINTS
    usb 1-1: device descriptor read/64, error -71
==============================================================================
";
        assert_eq!(shown, expected);
    }

    #[test]
    fn stages_that_failed_for_one_reason_share_its_text() {
        let both = [
            (Stage::Identity, problem("a", "b")),
            (Stage::Network, problem("a", "b")),
            (Stage::Registry, problem("c", "d")),
        ];
        let shown = render(&both, &[]);
        assert!(
            shown.contains("stages identity and network failed"),
            "{shown}"
        );
        assert!(shown.contains("stage registry failed"), "{shown}");
        assert_eq!(shown.matches("WHAT WENT WRONG").count(), 2);
    }

    #[test]
    fn only_the_last_complaints_are_shown() {
        let kernel: Vec<String> = (0..20).map(|i| format!("line {i}")).collect();
        let shown = render(&[(Stage::Root, problem("a", "b"))], &kernel);
        assert!(!shown.contains("line 14") && shown.contains("line 15"));
    }

    proptest! {
        #[test]
        fn no_text_leaves_the_screen(what in "\\PC{0,300}", mend in "(?s).{0,300}", line in ".{0,200}") {
            let shown = render(&[(Stage::Root, problem(&what, &mend))], &[line]);
            for line in shown.lines() {
                prop_assert!(line.len() <= COLUMNS, "{line:?}");
                prop_assert!(line.bytes().all(|b| (0x20..0x7f).contains(&b)), "{line:?}");
            }
        }
    }
}
