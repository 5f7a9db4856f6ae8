use std::time::Duration;

use super::*;

fn now() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000)
}

fn url(text: &str) -> Url {
    text.parse().unwrap()
}

fn set(jar: &CookieJar, from: &str, cookies: &[&str]) {
    let mut answer = HeaderMap::new();
    for cookie in cookies {
        answer.append(header::SET_COOKIE, HeaderValue::from_str(cookie).unwrap());
    }
    jar.store(&url(from), &answer, now());
}

fn sent(jar: &CookieJar, to: &str) -> String {
    let header = jar.header(&url(to), now());
    header.map_or_else(String::new, |value| value.to_str().unwrap().to_owned())
}

#[test]
fn cookies_are_kept_for_the_hosts_of_the_rule_and_over_tls_alone() {
    for (host, is_kept) in [
        ("chatgpt.com", true),
        ("CHATGPT.com", true),
        ("chatgpt.com:8443", true),
        ("a.b.chatgpt.com", true),
        ("chatgpt-staging.com", true),
        ("x.chatgpt-staging.com", true),
        ("chat.openai.com", true),
        ("x.chat.openai.com", false),
        ("openai.com", false),
        ("api.openai.com", false),
        ("notchatgpt.com", false),
        ("chatgpt.com.example", false),
        ("chatgpt.com.", false),
        ("127.0.0.1", false),
    ] {
        let jar = CookieJar::default();
        let there = format!("https://{host}/p");
        set(&jar, &there, &["__cf_bm=v; Path=/"]);
        assert_eq!(sent(&jar, &there), if is_kept { "__cf_bm=v" } else { "" });
        assert_eq!(sent(&jar, &format!("http://{host}/p")), "", "{host}");
        let plain = CookieJar::default();
        set(&plain, &format!("http://{host}/p"), &["__cf_bm=v; Path=/"]);
        assert_eq!(sent(&plain, &there), "", "{host}");
    }
}

#[test]
fn names_of_the_list_are_kept_and_sessions_are_not() {
    let jar = CookieJar::default();
    let names = [
        "__cf_bm",
        "_cfuvid",
        "cf_clearance",
        "__cflb",
        "__cfruid",
        "__cfseq",
        "__cfwaitingroom",
        "cf_ob_info",
        "cf_use_ob",
        "cf_chl_rc_m",
        "cf_chl_",
    ];
    for name in names {
        set(&jar, "https://chatgpt.com/", &[&format!("{name}=1")]);
    }
    let others = [
        "__Secure-next-auth.session-token",
        "oai-did",
        "CF_CLEARANCE",
        "__cfduid",
        "cf_x",
        "__cf_logged_in",
        "x__cf_bm",
    ];
    for name in others {
        set(&jar, "https://chatgpt.com/", &[&format!("{name}=1")]);
    }
    let expected = names.map(|name| format!("{name}=1")).join("; ");
    assert_eq!(sent(&jar, "https://chatgpt.com/"), expected);
}

#[test]
fn cookies_go_to_their_domain_and_never_to_a_wider_one() {
    let jar = CookieJar::default();
    let cookies = [
        "__cf_bm=own",
        "_cfuvid=all; Domain=.ChatGPT.com",
        "__cflb=tld; Domain=com",
        "cf_clearance=other; Domain=example.com",
        "__cfruid=below; Domain=x.chatgpt.com",
        "__cfseq=dot; Domain=chatgpt.com.",
    ];
    set(&jar, "https://chatgpt.com/", &cookies);
    assert_eq!(
        sent(&jar, "https://chatgpt.com/"),
        "__cf_bm=own; _cfuvid=all"
    );
    assert_eq!(sent(&jar, "https://a.x.chatgpt.com/"), "_cfuvid=all");
    assert_eq!(sent(&jar, "https://chatgpt-staging.com/"), "");
    assert_eq!(sent(&jar, "https://chat.openai.com/"), "");
    set(
        &jar,
        "https://chat.openai.com/",
        &["__cf_bm=1; Domain=openai.com"],
    );
    assert_eq!(sent(&jar, "https://chat.openai.com/"), "");
}

#[test]
fn longer_paths_come_first_and_other_paths_not_at_all() {
    let jar = CookieJar::default();
    let cookies = [
        "__cf_bm=root; Path=/",
        "_cfuvid=default",
        "cf_clearance=deep; Path=/a/b/",
        "__cflb=other; Path=/x",
    ];
    set(&jar, "https://chatgpt.com/a/file", &cookies);
    for (path, expected) in [
        ("/", "__cf_bm=root"),
        ("/ab", "__cf_bm=root"),
        ("/a", "_cfuvid=default; __cf_bm=root"),
        ("/a/b/c", "cf_clearance=deep; _cfuvid=default; __cf_bm=root"),
        ("/a/b", "_cfuvid=default; __cf_bm=root"),
    ] {
        assert_eq!(sent(&jar, &format!("https://chatgpt.com{path}")), expected);
    }
}

#[test]
fn cookies_are_replaced_end_and_are_taken_back() {
    let jar = CookieJar::default();
    let there = "https://chatgpt.com/";
    set(&jar, there, &["__cf_bm=1; Max-Age=60", "_cfuvid=1"]);
    set(&jar, there, &["__cf_bm=2; Max-Age=60"]);
    assert_eq!(sent(&jar, there), "__cf_bm=2; _cfuvid=1");
    let later = |seconds| {
        let header = jar.header(&url(there), now() + Duration::from_secs(seconds));
        header.unwrap().to_str().unwrap().to_owned()
    };
    assert_eq!(later(59), "__cf_bm=2; _cfuvid=1");
    assert_eq!(later(60), "_cfuvid=1");
    set(
        &jar,
        there,
        &["_cfuvid=; Expires=Thu, 01-Jan-70 00:00:01 GMT"],
    );
    assert_eq!(sent(&jar, there), "__cf_bm=2");
}

#[test]
fn number_and_size_are_bounded() {
    let jar = CookieJar::default();
    let there = "https://chatgpt.com/";
    for i in 0..=MAX_COOKIES {
        set(&jar, there, &[&format!("cf_chl_{i}=v")]);
    }
    let all = sent(&jar, there);
    assert_eq!(all.split("; ").count(), MAX_COOKIES);
    assert!(!all.contains("cf_chl_0="), "the oldest goes");
    let fits = "x".repeat(MAX_COOKIE_BYTES - "__cf_bm".len());
    set(&jar, there, &[&format!("__cf_bm={fits}")]);
    set(&jar, there, &[&format!("_cfuvid={fits}x")]);
    assert!(sent(&jar, there).contains("__cf_bm=") && !sent(&jar, there).contains("_cfuvid="));
}

#[test]
fn headers_with_cookies_are_not_shown() {
    let jar = CookieJar::default();
    set(&jar, "https://chatgpt.com/", &["__cf_bm=secret"]);
    let header = jar.header(&url("https://chatgpt.com/"), now());
    assert!(!format!("{jar:?} {header:?}").contains("secret"));
}
