//! A real browser, driven by the DevTools protocol over pipes
//! (<https://chromedevtools.github.io/devtools-protocol/>).

use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::clients::run;
use crate::qemu_process::Running;

/// How long the browser may take for one answer.
const BOUND: Duration = Duration::from_secs(60);
const PACKAGE: &str = "the package chromium";

/// How a page is looked at.
#[derive(Clone, Copy, Debug)]
pub struct View {
    /// For file names.
    pub name: &'static str,
    /// CSS pixels.
    pub width: u32,
    /// CSS pixels.
    pub height: u32,
    /// Whether the person prefers dark pages.
    pub dark: bool,
}

impl View {
    /// A desk and a phone, by day and by night.
    pub const ALL: [View; 4] = [
        View {
            name: "desktop-light",
            width: 1280,
            height: 900,
            dark: false,
        },
        View {
            name: "desktop-dark",
            width: 1280,
            height: 900,
            dark: true,
        },
        View {
            name: "phone-light",
            width: 390,
            height: 844,
            dark: false,
        },
        View {
            name: "phone-dark",
            width: 390,
            height: 844,
            dark: true,
        },
    ];
}

/// A browser with one page; it ends when dropped.
#[derive(Debug)]
pub struct Chromium {
    to: File,
    from: Receiver<Value>,
    last: u64,
    session: Option<String>,
    /// What the browser said without being asked: loads, requests, complaints.
    events: Vec<Value>,
    _process: Running,
    _directory: tempfile::TempDir,
}

impl Chromium {
    /// Starts a browser that shares nothing with the user's.
    ///
    /// # Errors
    /// When it isn't installed or doesn't answer.
    pub fn start() -> Result<Chromium> {
        let directory = tempfile::tempdir()?;
        let [to, from] = ["to", "from"].map(|name| directory.path().join(name));
        run(Command::new("mkfifo").args([&to, &from]), "coreutils")?;
        let log = File::create(directory.path().join("log"))?;
        // root has no sandbox; what is shown here is our own
        let child = Command::new("sh")
            .args([
                "-c",
                "to=$1 from=$2; shift 2; exec chromium \"$@\" 3<\"$to\" 4>\"$from\"",
            ])
            .arg("sh")
            .args([&to, &from])
            .args([
                "--headless",
                "--no-sandbox",
                "--disable-gpu",
                "--no-first-run",
            ])
            .args(["--disable-dev-shm-usage", "--hide-scrollbars"])
            .arg("--remote-debugging-pipe")
            .arg(format!(
                "--user-data-dir={}",
                directory.path().join("data").display()
            ))
            .env("HOME", directory.path())
            // it leaves things there when it is killed
            .env("TMPDIR", directory.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .context("starting a shell")?;
        let process = Running(child);
        let to = File::options().write(true).open(to)?;
        let from = BufReader::new(File::open(from)?);
        let (sender, receiver) = mpsc::channel();
        std::thread::spawn(move || {
            for message in from.split(0) {
                let message = serde_json::from_slice(&message.ok()?).ok()?;
                sender.send(message).ok()?;
            }
            Some(())
        });
        let mut chromium = Chromium {
            to,
            from: receiver,
            last: 0,
            session: None,
            events: Vec::new(),
            _process: process,
            _directory: directory,
        };
        let target = chromium.call("Target.createTarget", json!({"url": "about:blank"}))?;
        let attach = json!({"targetId": target["targetId"], "flatten": true});
        let attached = chromium.call("Target.attachToTarget", attach)?;
        chromium.session = attached["sessionId"].as_str().map(str::to_owned);
        for domain in ["Page", "Log", "Runtime", "Network"] {
            chromium.call(&format!("{domain}.enable"), json!({}))?;
        }
        Ok(chromium)
    }

    /// Calls a method and waits for its answer.
    fn call(&mut self, method: &str, params: Value) -> Result<Value> {
        self.last += 1;
        let mut message = json!({"id": self.last, "method": method, "params": params});
        if let (Some(session), Some(message)) = (&self.session, message.as_object_mut()) {
            message.insert("sessionId".to_owned(), session.as_str().into());
        }
        let mut bytes = serde_json::to_vec(&message)?;
        bytes.push(0);
        self.to
            .write_all(&bytes)
            .with_context(|| format!("telling Chromium, of {PACKAGE}"))?;
        loop {
            let mut message = self.next().with_context(|| method.to_owned())?;
            if message["id"] == self.last {
                ensure!(message["error"].is_null(), "{method}: {}", message["error"]);
                return Ok(message["result"].take());
            }
            self.events.push(message);
        }
    }

    fn next(&self) -> Result<Value> {
        self.from
            .recv_timeout(BOUND)
            .with_context(|| format!("waiting for Chromium, of {PACKAGE}"))
    }

    /// Sets how pages are looked at.
    ///
    /// # Errors
    /// When the browser doesn't answer.
    pub fn view(&mut self, view: View) -> Result<()> {
        let View {
            width,
            height,
            dark,
            ..
        } = view;
        let mobile = width < 600;
        let metrics =
            json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": mobile});
        self.call("Emulation.setDeviceMetricsOverride", metrics)?;
        let scheme = if dark { "dark" } else { "light" };
        let media = json!({"features": [{"name": "prefers-color-scheme", "value": scheme}]});
        self.call("Emulation.setEmulatedMedia", media).map(drop)
    }

    /// Loads a page to its end. What the browser says about it is kept for [`Chromium::complaints`]
    /// and [`Chromium::requests`].
    ///
    /// # Errors
    /// When it can't be loaded.
    pub fn open(&mut self, url: &str) -> Result<()> {
        self.events.clear();
        let answer = self.call("Page.navigate", json!({"url": url}))?;
        if let Some(error) = answer["errorText"].as_str() {
            bail!("{url}: {error}");
        }
        while !self.said("Page.loadEventFired").any(|_| true) {
            let event = self.next()?;
            self.events.push(event);
        }
        Ok(())
    }

    fn said<'a>(&'a self, method: &'a str) -> impl Iterator<Item = &'a Value> {
        let events = self.events.iter();
        events.filter(move |event| event["method"] == method)
    }

    /// What the browser found wrong with the page: refused styles, failed requests, exceptions.
    pub fn complaints(&self) -> Vec<String> {
        let logged = self
            .said("Log.entryAdded")
            .map(|event| event["params"]["entry"]["text"].to_string());
        let thrown = ["Runtime.consoleAPICalled", "Runtime.exceptionThrown"];
        let thrown = thrown.into_iter().flat_map(|method| self.said(method));
        logged.chain(thrown.map(Value::to_string)).collect()
    }

    /// The addresses that the page made the browser ask.
    pub fn requests(&self) -> Vec<String> {
        self.said("Network.requestWillBeSent")
            .filter_map(|event| event["params"]["request"]["url"].as_str())
            .map(str::to_owned)
            .collect()
    }

    /// The value of an expression in the page.
    ///
    /// # Errors
    /// When it throws.
    pub fn evaluate(&mut self, expression: &str) -> Result<Value> {
        let params = json!({"expression": expression, "returnByValue": true});
        let mut answer = self.call("Runtime.evaluate", params)?;
        ensure!(
            answer["exceptionDetails"].is_null(),
            "{}",
            answer["exceptionDetails"]
        );
        Ok(answer["result"]["value"].take())
    }

    /// Writes a picture of the whole page, as PNG.
    ///
    /// # Errors
    /// When it can't be made or written.
    pub fn picture(&mut self, file: &Path) -> Result<()> {
        let params = json!({"format": "png", "captureBeyondViewport": true});
        let answer = self.call("Page.captureScreenshot", params)?;
        let data = answer["data"].as_str();
        let data = data.ok_or_else(|| anyhow!("a picture without data"))?;
        fs::write(file, STANDARD.decode(data)?).context("writing a picture")
    }
}
