//! Names and passwords.
//!
//! bcrypt is slow on purpose, and clients send the password with every request. So a password that
//! was right is remembered, as a hash with a key that only this process knows and that is gone with
//! it; at most one a user. A wrong one always costs a run of bcrypt, also for a name that nobody
//! has, so that time tells nothing where all hashes have one cost; a bounded number runs at a time,
//! off the threads that serve, and an address has a bounded number of failures ([`Failures`]).
//!
//! The nodes' own user is checked first and without any of this: its password has 256 bits, and no
//! number of others' failures may keep k3s from its registry.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use hmac::{Hmac, KeyInit as _, Mac as _};
use image_layout::htpasswd::HtpasswdLine;
use image_layout::secrets::REGISTRY_USER;
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;
use tokio::sync::Semaphore;

use super::super::limits;
use super::basic::Credentials;
use super::failures::Failures;

/// Who may read.
pub(super) struct Users {
    /// bcrypt hashes by name.
    hashes: BTreeMap<String, String>,
    /// SHA-256 of the password of [`REGISTRY_USER`].
    node: Option<[u8; 32]>,
}

impl Users {
    pub(super) fn new(lines: Vec<HtpasswdLine>, node: Option<[u8; 32]>) -> Users {
        let hashes = lines
            .into_iter()
            .map(|line| (line.name().to_owned(), line.hash().to_owned()))
            .collect();
        Users { hashes, node }
    }

    /// The hash that a name which nobody has is compared with: time must not tell it from others.
    fn slowest(&self) -> Option<&String> {
        self.hashes.values().max_by_key(|hash| cost(hash))
    }

    /// Whether there is a user of that name.
    #[cfg(test)]
    pub(super) fn has(&self, name: &str) -> bool {
        self.hashes.contains_key(name)
    }

    fn is_node(&self, credentials: &Credentials) -> bool {
        let digest: [u8; 32] = Sha256::digest(&credentials.password).into();
        credentials.name == REGISTRY_USER
            && self.node.is_some_and(|node| digest.ct_eq(&node).into())
    }
}

/// The binary logarithm of a hash's rounds.
fn cost(hash: &str) -> u32 {
    hash.parse::<bcrypt::HashParts>()
        .map_or(0, |parts| parts.get_cost())
}

/// What becomes of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It is answered.
    Known,
    /// It needs a name and password that are right.
    Unknown,
    /// Its address was wrong too often.
    Limited(Duration),
    /// Too many are being checked.
    Busy,
}

/// Checks passwords, and remembers.
pub(super) struct Verifier {
    /// Of the remembered hashes; without one, which should not happen, nothing is remembered.
    key: Option<[u8; 32]>,
    remembered: Mutex<HashMap<String, [u8; 32]>>,
    failures: Failures,
    permits: Arc<Semaphore>,
}

impl Default for Verifier {
    fn default() -> Verifier {
        let mut key = [0; 32];
        let random = rustls::crypto::ring::default_provider().secure_random;
        let key = random.fill(&mut key).ok().map(|()| key);
        Verifier {
            key,
            remembered: Mutex::default(),
            failures: Failures::default(),
            permits: Arc::new(Semaphore::new(limits::PASSWORDS_AT_ONCE)),
        }
    }
}

impl Verifier {
    /// Forgets all but those that may still read.
    pub(super) fn forget_others(&self, users: Option<&Users>) {
        let mut remembered = self
            .remembered
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        remembered.retain(|name, _| users.is_some_and(|users| users.hashes.contains_key(name)));
    }

    /// Decides about a request of `client` that brings `credentials`.
    pub(super) async fn check(
        self: &Arc<Verifier>,
        users: &Arc<Users>,
        client: IpAddr,
        credentials: Option<Credentials>,
    ) -> Verdict {
        // asking without is how clients find out that they must; it is no failure
        let Some(credentials) = credentials else {
            return Verdict::Unknown;
        };
        if users.is_node(&credentials) {
            return Verdict::Known;
        }
        if let Some(verdict) = self.at_once(users, client, &credentials) {
            return verdict;
        }
        let permit = Arc::clone(&self.permits).acquire_owned();
        let permit = match tokio::time::timeout(limits::PASSWORD_WAIT, permit).await {
            Ok(Ok(permit)) => permit,
            Ok(Err(_)) | Err(_) => return Verdict::Busy,
        };
        // another request may have brought the same meanwhile, or been wrong too often
        if let Some(verdict) = self.at_once(users, client, &credentials) {
            return verdict;
        }
        let (verifier, users) = (Arc::clone(self), Arc::clone(users));
        // the permit goes along: a client that leaves does not make room for another run
        let (tell, verdict) = tokio::sync::oneshot::channel();
        // not among the threads that open files: a stick that hangs may have them all
        let thread = std::thread::Builder::new().name("password".to_owned());
        let thread = thread.spawn(move || {
            let _permit = permit;
            // whoever asked may have left
            let _ = tell.send(verifier.run(&users, client, &credentials));
        });
        if let Err(error) = thread {
            tracing::error!(%error, "no thread to check a password with");
        }
        verdict.await.unwrap_or(Verdict::Busy)
    }

    /// What can be said without bcrypt.
    fn at_once(&self, users: &Users, client: IpAddr, credentials: &Credentials) -> Option<Verdict> {
        // first: what is remembered must not serve for guessing either
        if let Some(wait) = self.failures.wait(client, Instant::now()) {
            return Some(Verdict::Limited(wait));
        }
        let hash = users.hashes.get(&credentials.name)?;
        let keyed = self.keyed(hash, credentials)?;
        let remembered = self
            .remembered
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let known = remembered.get(&credentials.name)?;
        bool::from(known.ct_eq(&keyed)).then_some(Verdict::Known)
    }

    /// Runs bcrypt, on a thread where that may take its time.
    fn run(&self, users: &Users, client: IpAddr, credentials: &Credentials) -> Verdict {
        let own = users.hashes.get(&credentials.name);
        let hash = own.or_else(|| users.slowest());
        let right = hash
            .is_some_and(|hash| bcrypt::verify(&credentials.password, hash).unwrap_or_default());
        match own.filter(|_| right) {
            Some(hash) => {
                if let Some(keyed) = self.keyed(hash, credentials) {
                    let mut remembered = self
                        .remembered
                        .lock()
                        .unwrap_or_else(PoisonError::into_inner);
                    remembered.insert(credentials.name.clone(), keyed);
                }
                Verdict::Known
            }
            None => {
                let name: String = credentials.name.escape_default().take(80).collect();
                tracing::warn!(%client, name, "a wrong name or password");
                if self.failures.count(client, Instant::now()) {
                    let seconds = limits::FAILURE_WINDOW.as_secs();
                    tracing::warn!(%client, seconds, "too many wrong passwords; it has to wait");
                }
                Verdict::Unknown
            }
        }
    }

    /// What is remembered of a password: nothing that can be turned back without the key. The hash
    /// goes in, so that a user whose line changed is checked anew.
    fn keyed(&self, hash: &str, credentials: &Credentials) -> Option<[u8; 32]> {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.key?).ok()?;
        for part in [
            credentials.name.as_bytes(),
            hash.as_bytes(),
            &credentials.password,
        ] {
            mac.update(&(part.len() as u64).to_be_bytes());
            mac.update(part);
        }
        Some(mac.finalize().into_bytes().into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `htpasswd -nbBC 4 alice secret`, and the same for bob.
    fn users() -> Arc<Users> {
        let line = |name: &str, password: &str| {
            let hash = bcrypt::hash(password, 4).unwrap();
            format!("{name}:{hash}").parse().unwrap()
        };
        let lines = vec![line("alice", "secret"), line("bob", "hunter2")];
        Arc::new(Users::new(lines, Some(Sha256::digest("node").into())))
    }

    fn with(name: &str, password: &str) -> Option<Credentials> {
        Some(Credentials {
            name: name.to_owned(),
            password: password.as_bytes().to_vec(),
        })
    }

    fn client(last: u8) -> IpAddr {
        IpAddr::from([192, 0, 2, last])
    }

    #[tokio::test]
    async fn the_right_password_of_a_user_is_let_in_and_no_other() {
        let (verifier, users) = (Arc::new(Verifier::default()), users());
        for (credentials, verdict) in [
            (with("alice", "secret"), Verdict::Known),
            (with("bob", "hunter2"), Verdict::Known),
            (with(REGISTRY_USER, "node"), Verdict::Known),
            (with("alice", "hunter2"), Verdict::Unknown),
            (with("alice", ""), Verdict::Unknown),
            (with("carol", "secret"), Verdict::Unknown),
            (with("", ""), Verdict::Unknown),
            (with(REGISTRY_USER, "secret"), Verdict::Unknown),
            (None, Verdict::Unknown),
        ] {
            let name = credentials.as_ref().map(|found| found.name.clone());
            assert_eq!(
                verifier.check(&users, client(1), credentials).await,
                verdict,
                "{name:?}"
            );
        }
    }

    #[tokio::test]
    async fn without_a_node_password_nobody_is_the_node() {
        let verifier = Arc::new(Verifier::default());
        let users = Arc::new(Users::new(Vec::new(), None));
        let verdict = verifier
            .check(&users, client(1), with(REGISTRY_USER, ""))
            .await;
        assert_eq!(verdict, Verdict::Unknown);
    }

    #[tokio::test]
    async fn a_right_password_is_remembered_and_a_changed_line_is_not() {
        let (verifier, users) = (Arc::new(Verifier::default()), users());
        let check = |password| verifier.check(&users, client(1), with("alice", password));
        assert_eq!(check("secret").await, Verdict::Known);
        let known = with("alice", "secret").unwrap();
        let at_once = |users: &Users| verifier.at_once(users, client(1), &known);
        assert_eq!(at_once(&users), Some(Verdict::Known));
        let wrong = with("alice", "Secret").unwrap();
        assert_eq!(verifier.at_once(&users, client(1), &wrong), None);
        // the same password under another salt
        let hash = bcrypt::hash("secret", 4).unwrap();
        let renewed = Users::new(vec![format!("alice:{hash}").parse().unwrap()], None);
        assert_eq!(at_once(&renewed), None);
        verifier.forget_others(Some(&renewed));
        assert_eq!(at_once(&users), Some(Verdict::Known), "she is still there");
        verifier.forget_others(None);
        assert_eq!(at_once(&users), None);
    }

    #[tokio::test]
    async fn wrong_passwords_shut_one_address_out_and_never_the_node() {
        let (verifier, users) = (Arc::new(Verifier::default()), users());
        let check =
            |from, name, password| verifier.check(&users, client(from), with(name, password));
        assert_eq!(check(1, "alice", "secret").await, Verdict::Known);
        for _ in 0..limits::FAILURES {
            assert_eq!(check(1, "alice", "guess").await, Verdict::Unknown);
        }
        // the right one too, or a remembered one could be guessed at
        for password in ["guess", "secret"] {
            let verdict = check(1, "alice", password).await;
            assert!(matches!(verdict, Verdict::Limited(_)), "{verdict:?}");
        }
        assert_eq!(check(1, REGISTRY_USER, "node").await, Verdict::Known);
        assert_eq!(check(2, "alice", "secret").await, Verdict::Known);
    }

    #[tokio::test]
    async fn many_at_once_cost_one_run_and_wrong_ones_no_more_than_their_share() {
        let (verifier, users) = (Arc::new(Verifier::default()), users());
        let many = |password: &'static str| {
            let checks = (0..64).map(|_| {
                let (verifier, users) = (Arc::clone(&verifier), Arc::clone(&users));
                tokio::spawn(async move {
                    verifier
                        .check(&users, client(3), with("alice", password))
                        .await
                })
            });
            checks.collect::<Vec<_>>()
        };
        for check in many("secret") {
            assert_eq!(check.await.unwrap(), Verdict::Known);
        }
        let mut unknown = 0;
        for check in many("guess") {
            match check.await.unwrap() {
                Verdict::Unknown => unknown += 1,
                Verdict::Limited(_) => {}
                other => panic!("{other:?}"),
            }
        }
        let most = limits::FAILURES as usize + limits::PASSWORDS_AT_ONCE - 1;
        assert!(
            (limits::FAILURES as usize..=most).contains(&unknown),
            "{unknown}"
        );
    }
}
