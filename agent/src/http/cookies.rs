//! The cookies that keep a client with one server of a content network.
//!
//! `http/request` has no cookies of its own: what a server sets goes to the caller, who decides.
//! The exception is the affinity rule of the reference. The hosts of ChatGPT are behind a content
//! network that tells clients apart by cookies which are nobody's session, and a client that never
//! returns them is challenged again and again. So these are kept, for the process, and returned:
//!
//! | what | rule |
//! |---|---|
//! | scheme | `https` alone, for setting and for returning |
//! | hosts | `chatgpt.com`, `chatgpt-staging.com` and all below them; `chat.openai.com` itself |
//! | names | those of the list below and those that begin with `cf_chl_`, by exact case |
//! | request with a `cookie` header | is sent as it was given |
//!
//! Domain, path and time apply as in RFC 6265. A cookie for a domain that is wider than the hosts
//! above is refused, where the reference returns one for `com` to all of them.
//!
//! Not here: what a redirect does to a `cookie` that the caller gave, which is for
//! [`redirect`](super::redirect).

mod set_cookie;

use std::fmt;
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

use http::{HeaderMap, HeaderValue, header};
use url::Url;

use set_cookie::SetCookie;

/// The kept cookies of the process. Bounded by [`MAX_COOKIES`] of [`MAX_COOKIE_BYTES`].
#[derive(Default)]
pub(super) struct CookieJar {
    /// In the order in which they were first set.
    cookies: Mutex<Vec<Cookie>>,
}

struct Cookie {
    name: String,
    value: String,
    domain: Domain,
    path: String,
    /// Until the end of the process, if none.
    expires: Option<SystemTime>,
}

/// Where a cookie goes.
#[derive(PartialEq, Eq)]
enum Domain {
    /// To this host.
    Host(String),
    /// To this host and all below it.
    Below(String),
}

impl CookieJar {
    /// The `cookie` header for a request to `url`, if there is any cookie for it.
    pub(super) fn header(&self, url: &Url, now: SystemTime) -> Option<HeaderValue> {
        let host = kept_host(url)?;
        let cookies = self.cookies.lock().unwrap_or_else(PoisonError::into_inner);
        let mut fitting: Vec<&Cookie> = cookies
            .iter()
            .filter(|cookie| !cookie.is_over(now) && cookie.fits(host, url.path()))
            .collect();
        fitting.sort_by_key(|cookie| std::cmp::Reverse(cookie.path.len()));
        let pairs: Vec<String> = fitting
            .iter()
            .map(|cookie| format!("{}={}", cookie.name, cookie.value))
            .collect();
        if pairs.is_empty() {
            return None;
        }
        let mut value = HeaderValue::try_from(pairs.join("; ")).ok()?;
        value.set_sensitive(true);
        Some(value)
    }

    /// Keeps what the answer to a request to `url` sets, as far as the rule says so.
    pub(super) fn store(&self, url: &Url, answer: &HeaderMap, now: SystemTime) {
        let Some(host) = kept_host(url) else { return };
        for value in answer.get_all(header::SET_COOKIE) {
            let set = value.to_str().ok().and_then(set_cookie::parse);
            let Some(cookie) = set.and_then(|set| cookie(set, host, url.path(), now)) else {
                continue;
            };
            let mut cookies = self.cookies.lock().unwrap_or_else(PoisonError::into_inner);
            cookies.retain(|other| !other.is_over(now));
            match cookies.iter_mut().find(|other| other.is_same(&cookie)) {
                Some(other) => *other = cookie,
                None => {
                    if cookies.len() >= MAX_COOKIES {
                        cookies.remove(0);
                    }
                    cookies.push(cookie);
                }
            }
        }
    }
}

impl fmt::Debug for CookieJar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CookieJar").finish_non_exhaustive()
    }
}

impl Cookie {
    fn is_over(&self, now: SystemTime) -> bool {
        self.expires.is_some_and(|expires| expires <= now)
    }

    /// Whether one takes the place of the other.
    fn is_same(&self, other: &Self) -> bool {
        (&self.name, &self.domain, &self.path) == (&other.name, &other.domain, &other.path)
    }

    fn fits(&self, host: &str, path: &str) -> bool {
        let is_below = path.strip_prefix(self.path.as_str()).is_some_and(|rest| {
            rest.is_empty() || rest.starts_with('/') || self.path.ends_with('/')
        });
        is_below
            && match &self.domain {
                Domain::Host(domain) => host == domain,
                Domain::Below(domain) => is_in(host, domain),
            }
    }
}

/// The cookie that the answer of `host` to a request for `path` makes.
fn cookie(set: SetCookie, host: &str, path: &str, now: SystemTime) -> Option<Cookie> {
    if !is_kept_name(&set.name) || set.name.len() + set.value.len() > MAX_COOKIE_BYTES {
        return None;
    }
    let domain = match set.domain {
        None => Domain::Host(host.to_owned()),
        Some(domain) if is_in(host, &domain) && is_kept_host(&domain) => Domain::Below(domain),
        Some(_) => return None,
    };
    Some(Cookie {
        name: set.name,
        value: set.value,
        domain,
        path: set.path.unwrap_or_else(|| directory(path).to_owned()),
        expires: set.life.end(now),
    })
}

/// The default path of a cookie: that of the request up to its last slash.
fn directory(path: &str) -> &str {
    match path.rsplit_once('/') {
        Some((directory, _)) if !directory.is_empty() => directory,
        _ => "/",
    }
}

fn kept_host(url: &Url) -> Option<&str> {
    let host = url.host_str()?;
    (url.scheme() == "https" && is_kept_host(host)).then_some(host)
}

fn is_kept_host(host: &str) -> bool {
    HOSTS.contains(&host) || FAMILIES.iter().any(|family| is_in(host, family))
}

fn is_kept_name(name: &str) -> bool {
    NAMES.contains(&name) || name.starts_with(CHALLENGE_PREFIX)
}

/// Whether `host` is `domain` or below it.
fn is_in(host: &str, domain: &str) -> bool {
    host.strip_suffix(domain)
        .is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
}

/// Hosts whose cookies are kept.
const HOSTS: [&str; 1] = ["chat.openai.com"];
/// Hosts whose cookies are kept, and everything below them.
const FAMILIES: [&str; 2] = ["chatgpt.com", "chatgpt-staging.com"];
/// Observed on the reference, which keeps none but these.
const NAMES: [&str; 9] = [
    "__cf_bm",
    "__cflb",
    "__cfruid",
    "__cfseq",
    "__cfwaitingroom",
    "_cfuvid",
    "cf_clearance",
    "cf_ob_info",
    "cf_use_ob",
];
/// Names of challenges, which there may be more of.
const CHALLENGE_PREFIX: &str = "cf_chl_";
/// The network sets a dozen; the oldest goes.
const MAX_COOKIES: usize = 64;
/// RFC 6265, section 6.1.
const MAX_COOKIE_BYTES: usize = 4096;

#[cfg(test)]
mod tests;
