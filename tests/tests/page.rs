//! The pages in a real browser: on a desk and on a phone, by day and by night. Pictures of all of them
//! are left in `target/test-results/pages/`.
#![allow(clippy::unwrap_used)] // a failed step is a failed test

use std::collections::BTreeSet;

use serde::Deserialize;
use tests::chromium::{Chromium, View};
use tests::results;
use tests::serve::Server;

/// Hauls with images of several registries, charts and files; with signatures; with nothing but
/// files.
const HAULS: [&str; 3] = [
    "hauler-2.0.3-mixed-v1",
    "hauler-2.0.3-signed",
    "hauler-2.0.3-files",
];

/// The contrast that text must have with what is behind it (WCAG 2.2, 1.4.3).
const CONTRAST: f64 = 4.5;

/// Every element with text of its own: its contrast with the nearest background that is not
/// transparent, and where it is too small, what it says.
const PALE: &str = r"(least => {
    const channels = colour => colour.match(/[\d.]+/g).map(Number);
    const light = ([r, g, b]) => [r, g, b]
        .map(c => c / 255)
        .map(c => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4)
        .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
    const behind = element => {
        for (; element; element = element.parentElement) {
            const c = channels(getComputedStyle(element).backgroundColor);
            if (c.length < 4 || c[3] === 1) return c;
        }
        return [255, 255, 255];
    };
    return [...document.body.querySelectorAll('*')]
        .filter(e => [...e.childNodes].some(n => n.nodeType === 3 && n.data.trim()))
        .map(e => {
            const [a, b] = [light(channels(getComputedStyle(e).color)), light(behind(e))];
            const contrast = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
            return { contrast, text: e.textContent.trim().slice(0, 60) };
        })
        .filter(e => e.contrast < least);
})";

#[derive(Debug, Deserialize, PartialEq)]
struct Pale {
    contrast: f64,
    text: String,
}

#[test]
fn every_page_is_whole_readable_and_without_script_on_a_desk_and_on_a_phone() {
    let pictures = results::directory("pages").unwrap();
    let mut chromium = Chromium::start().unwrap();
    for haul in HAULS {
        let server = Server::over(haul).unwrap();
        for path in ["/", "/images/", "/files/", "/mirrors/", "/mirrors/k3s"] {
            for view in View::ALL {
                let url = format!("{}{path}", server.url());
                let at = format!("{haul} {path} {}", view.name);
                chromium.view(view).unwrap();
                chromium.open(&url).unwrap();
                let complaints = chromium.complaints();
                assert!(complaints.is_empty(), "{at}: {complaints:#?}");
                assert_eq!(chromium.requests(), [url], "{at}");
                let scripts = "document.scripts.length";
                assert_eq!(chromium.evaluate(scripts).unwrap(), 0, "{at}");
                let wide = "document.documentElement.scrollWidth - innerWidth";
                let wide = chromium.evaluate(wide).unwrap().as_i64().unwrap();
                assert!(wide <= 0, "{at}: {wide} pixels too wide");
                // what is in a closed drawer is read as well
                let open = "document.querySelectorAll('details').forEach(it => it.open = true)";
                chromium.evaluate(open).unwrap();
                let pale = chromium.evaluate(&format!("{PALE}({CONTRAST})")).unwrap();
                let pale: Vec<Pale> = serde_json::from_value(pale).unwrap();
                assert_eq!(pale, [], "{at}");
                let outline = "[document.documentElement.lang, \
                     document.querySelectorAll('h1').length, \
                     document.querySelectorAll('main').length, \
                     document.title.length > 0]";
                let outline = chromium.evaluate(outline).unwrap();
                assert_eq!(outline, serde_json::json!(["en", 1, 1, true]), "{at}");
                let name = format!("{haul} {path} {}", view.name);
                let file = pictures.join(results::slug(&name)).with_extension("png");
                chromium.picture(&file).unwrap();
            }
        }
    }
}

#[test]
fn the_style_is_applied_in_both_colours() {
    let server = Server::over(HAULS[0]).unwrap();
    let mut chromium = Chromium::start().unwrap();
    // the measure of contrast measures: nothing has more than black on white
    chromium.open(&server.url()).unwrap();
    let all = chromium.evaluate(&format!("{PALE}(21.1).length")).unwrap();
    assert!(all.as_u64().unwrap() > 50, "{all}");
    let mut backgrounds = BTreeSet::new();
    for view in View::ALL {
        chromium.view(view).unwrap();
        chromium.open(&server.url()).unwrap();
        let background = "getComputedStyle(document.body).backgroundColor";
        let background = chromium.evaluate(background).unwrap();
        backgrounds.insert(background.as_str().unwrap().to_owned());
    }
    assert_eq!(backgrounds.len(), 2, "{backgrounds:?}");
}

#[test]
fn every_link_of_the_rendered_pages_answers_with_a_type_that_a_browser_takes() {
    for haul in HAULS {
        let server = Server::over(haul).unwrap();
        let mut chromium = Chromium::start().unwrap();
        let root = format!("{}/", server.url());
        let mut left = vec![root.clone()];
        let mut seen = BTreeSet::new();
        while let Some(url) = left.pop() {
            if !seen.insert(url.clone()) {
                continue;
            }
            let answer = ureq::get(&url)
                .header("accept", "text/html,*/*;q=0.8")
                .call();
            let answer = answer.unwrap();
            let media_type = answer.headers()["content-type"].to_str().unwrap();
            let plain = media_type.split(';').next().unwrap();
            match plain {
                "text/html" => {}
                "text/plain" | "application/json" | "application/x-tar" => continue,
                "application/octet-stream" => {
                    let disposition = answer.headers()["content-disposition"].to_str();
                    assert!(disposition.unwrap().starts_with("attachment"), "{url}");
                    continue;
                }
                manifest => {
                    let known =
                        manifest.starts_with("application/vnd.") && manifest.ends_with("+json");
                    assert!(known && url.contains("/manifests/"), "{url}: {media_type}");
                    continue;
                }
            }
            chromium.open(&url).unwrap();
            let links = "[...document.links].map(link => link.href)";
            let links = chromium.evaluate(links).unwrap();
            for link in serde_json::from_value::<Vec<String>>(links).unwrap() {
                assert!(link.starts_with(&root), "{url}: {link} leads away");
                match link.split_once('#') {
                    Some((_, id)) => {
                        let there = format!("!!document.getElementById({id:?})");
                        assert_eq!(chromium.evaluate(&there).unwrap(), true, "{url}: {link}");
                    }
                    None => left.push(link),
                }
            }
        }
        assert!(seen.len() > 20, "{seen:?}");
    }
}
