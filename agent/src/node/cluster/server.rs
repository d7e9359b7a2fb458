//! An agent waits for its server: as long as it takes, and visibly.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use image_layout::paths::secrets;
use image_layout::status::Stage;
use tokio::time::{Instant, sleep};

use super::http::{Answer, Basic, Client, HttpError, Origin};
use super::machine::Machine;
use super::screens::{self, Failure};
use crate::node::clock::civil;
use crate::node::status::Reports;

/// Bytes of the two short answers.
const ANSWER_BYTES: usize = 16 << 10;
/// Bytes of a token's file, and of the authority's.
pub(super) const SECRET_BYTES: u64 = 64 << 10;
/// How far the clock may be behind the server's.
const BEHIND: Duration = Duration::from_secs(5);
/// A refusal is believed the second time: a server that just starts may not know its tokens yet.
const REFUSALS: u32 = 2;

/// How often what is done.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pace {
    /// Between two attempts.
    pub(super) retry: Duration,
    /// Between two lines of progress.
    pub(super) progress: Duration,
    /// Before the first notice that the server is not there; the next comes after twice the time.
    pub(super) notice: Duration,
}

impl Default for Pace {
    fn default() -> Pace {
        Pace {
            retry: Duration::from_secs(3),
            progress: Duration::from_secs(5),
            notice: Duration::from_secs(60),
        }
    }
}

/// The server that an agent joins, and how to speak with it.
pub(super) struct Server {
    origin: Origin,
    client: Client,
    token: Option<Basic>,
}

impl Server {
    /// From the first server's URL, the authority's certificate in PEM, and the agents' token where
    /// k3s will come with that one.
    pub(super) fn new(
        url: &str,
        authority: &[u8],
        token: Option<&[u8]>,
    ) -> Result<Server, Failure> {
        let origin = Origin::parse(url).map_err(|error| {
            Failure::new(
                error.to_string(),
                format!("The address of the first server is wrong: {error}."),
                "Correct its `address:` in cluster.yaml on the drive HAULCFG.",
            )
        })?;
        let client = Client::new(authority, None).map_err(|error| {
            let name = format!("{}/{}", secrets::TLS, secrets::SERVER_CA);
            screens::no_secret(&name, &error.to_string())
        })?;
        let damaged = || screens::no_secret(secrets::AGENT_TOKEN, "it is no token of k3s");
        let token = match token {
            Some(token) => Some(basic(token).ok_or_else(damaged)?),
            None => None,
        };
        Ok(Server {
            origin,
            client,
            token,
        })
    }

    /// Returns when the server answers as the one of this cluster and takes the token. On the way
    /// the clock is set by the server's, if it is behind.
    pub(super) async fn wait(&self, reports: &Reports, machine: &dyn Machine, pace: Pace) {
        let mut wait = Wait {
            server: self.origin.to_string(),
            reports,
            pace,
            began: Instant::now(),
            said: Instant::now(),
            notice_at: Instant::now() + pace.notice,
            notice_after: pace.notice,
            failed: None,
        };
        let mut refusals = 0;
        loop {
            match self.ask("/ping", None).await {
                Err(error) => wait.no_answer(&error),
                Ok(answer) if answer.status != 200 => wait.waits(&status(&answer)),
                Ok(answer) => {
                    take_time(&answer, reports, machine);
                    let Some(token) = &self.token else {
                        return;
                    };
                    // the token is for agents, by the user that k3s knows them as (k3s:
                    // pkg/server/handlers)
                    match self.ask("/v1-k3s/readyz", Some(token)).await {
                        Err(error) => wait.no_answer(&error),
                        Ok(answer) if matches!(answer.status, 401 | 403) => {
                            refusals += 1;
                            if refusals >= REFUSALS {
                                let server = &wait.server;
                                wait.fails(screens::refused_token(server, answer.status));
                            }
                            wait.waits(&status(&answer));
                        }
                        // a server that is not ready yet, or of a k3s that does not have it
                        Ok(_) => return,
                    }
                }
            }
            sleep(pace.retry).await;
        }
    }

    async fn ask(&self, path: &str, basic: Option<&Basic>) -> Result<Answer, HttpError> {
        let get = self.client.get(&self.origin, path, basic, ANSWER_BYTES);
        get.await
    }
}

fn status(answer: &Answer) -> String {
    format!("HTTP status {}", answer.status)
}

/// User and password of a token in k3s's secure form, `K10<hash>::node:<secret>`.
fn basic(token: &[u8]) -> Option<Basic> {
    let text = std::str::from_utf8(token).ok()?.trim();
    let (_, pair) = text.strip_prefix("K10")?.split_once("::")?;
    let (user, password) = pair.split_once(':')?;
    let whole = !user.is_empty() && !password.is_empty();
    whole.then(|| Basic {
        user: user.to_owned(),
        password: password.to_owned(),
    })
}

/// Certificates are good from some moment on, and a clock that is behind calls them bad.
fn take_time(answer: &Answer, reports: &Reports, machine: &dyn Machine) {
    let now = SystemTime::now();
    let Some(theirs) = answer.date.filter(|date| *date > now + BEHIND) else {
        return;
    };
    let seconds = |time: SystemTime| {
        let since = time.duration_since(UNIX_EPOCH);
        since.unwrap_or(Duration::ZERO).as_secs()
    };
    let (theirs, ours) = (seconds(theirs), seconds(now));
    let was = format!("it was {} UTC", civil(ours));
    match machine.set_clock(theirs) {
        Ok(()) => reports.notice(format!(
            "clock set to {} UTC, the server's time; {was}",
            civil(theirs)
        )),
        Err(error) => reports.notice(format!(
            "the clock is behind the server's, {} UTC; setting it failed: {error}",
            civil(theirs)
        )),
    }
}

/// How the wait is going.
struct Wait<'a> {
    server: String,
    reports: &'a Reports,
    pace: Pace,
    began: Instant,
    said: Instant,
    notice_at: Instant,
    notice_after: Duration,
    failed: Option<Failure>,
}

impl Wait<'_> {
    fn no_answer(&mut self, error: &HttpError) {
        if error.is_foreign() {
            self.fails(screens::foreign_server(&self.server, &error.to_string()));
        } else if let HttpError::Certificate(error) = error {
            self.fails(screens::odd_certificate(&self.server, &error.to_string()));
        }
        self.waits(&error.to_string());
    }

    fn waits(&mut self, why: &str) {
        let now = Instant::now();
        let text = format!(
            "waiting for the server {} ({why}), {} s",
            self.server,
            self.began.elapsed().as_secs()
        );
        if now >= self.notice_at {
            self.notice_after = self.notice_after.saturating_mul(2);
            self.notice_at = now + self.notice_after;
            self.said = now;
            self.reports.notice(text);
        } else if now.saturating_duration_since(self.said) >= self.pace.progress {
            self.said = now;
            self.reports.progress(Stage::Cluster, &text);
        }
    }

    /// Ends the stage badly, once for each reason. The wait goes on.
    fn fails(&mut self, failure: Failure) {
        if self.failed.as_ref() != Some(&failure) {
            let Failure { detail, problem } = failure.clone();
            self.reports.failed(Stage::Cluster, detail, problem);
            self.failed = Some(failure);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn user_and_password_come_from_the_secure_form_alone() {
        let read = |text: &str| {
            let basic = basic(text.as_bytes())?;
            Some((basic.user, basic.password))
        };
        let pair = Some(("node".to_owned(), "a:b".to_owned()));
        assert_eq!(read("K10abc::node:a:b\n"), pair);
        for wrong in [
            "",
            "secret",
            "node:secret",
            "K10abc::node:",
            "K10abc:node:x",
        ] {
            assert_eq!(read(wrong), None, "{wrong}");
        }
    }
}
