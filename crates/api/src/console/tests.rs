//! Who gets into the console, and who does not: over a real connection, with requests written out byte for byte.

use super::*;
use crate::server::tests::Fake;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

const RENTAL: &str = "0x00000000000000000000000000000000000000000000000000000000000000ab";

/// A console that is served, and how to get in.
struct Served {
    address: SocketAddr,
    links: Links,
    cancel: CancellationToken,
}

impl Drop for Served {
    fn drop(&mut self) {
        self.cancel.cancel();
    }
}

async fn served() -> Served {
    let console = Console::bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let (address, links, cancel) = (console.address(), console.links(), CancellationToken::new());
    tokio::spawn(console.serve(Arc::new(Fake::default()), cancel.clone()));
    Served { address, links, cancel }
}

/// An answer: its status, its head, its body.
struct Answer {
    status: u16,
    head: String,
    body: String,
}

impl Served {
    /// Sends exactly this, and reads until the other side closes.
    async fn raw(&self, request: String) -> Answer {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        Answer { status, head: head.to_owned(), body: body.to_owned() }
    }

    /// A request with these headers beside `Host`, and an empty JSON object.
    async fn ask(&self, method: &str, path: &str, headers: &[(&str, &str)]) -> Answer {
        self.ask_of(&self.address.to_string(), method, path, headers, "{}").await
    }

    async fn ask_of(&self, host: &str, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Answer {
        let headers: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        let length = body.len();
        let head = format!("{method} {path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n{headers}");
        self.raw(format!("{head}content-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}")).await
    }

    fn origin(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Uses a link's token.
    async fn enter(&self, token: &str) -> Answer {
        let body = serde_json::json!({ "token": token }).to_string();
        let (host, origin) = (self.address.to_string(), self.origin());
        self.ask_of(&host, "POST", "/session", &[("origin", &origin), (guard::OURS, "1")], &body).await
    }

    /// A browser that was let in.
    async fn browser(&self) -> Browser {
        let answer = self.enter(&token(&self.links.link(RENTAL))).await;
        assert_eq!(answer.status, 200, "{}", answer.body);
        let started: SessionStarted = serde_json::from_str(&answer.body).unwrap();
        let cookie = header_of(&answer, "set-cookie").split(';').next().unwrap().to_owned();
        Browser { base: started.base, cookie }
    }
}

struct Browser {
    base: String,
    cookie: String,
}

fn token(link: &str) -> String {
    link.split_once("#token=").unwrap().1.split('&').next().unwrap().to_owned()
}

fn header_of<'a>(answer: &'a Answer, wanted: &str) -> &'a str {
    let headers = answer.head.lines().filter_map(|line| line.split_once(": "));
    let mut values = headers.filter(|(name, _)| name.eq_ignore_ascii_case(wanted)).map(|(_, value)| value);
    values.next().unwrap_or_else(|| panic!("no {wanted} in {}", answer.head))
}

/// Everything that a browser that is in may ask for.
fn routes(base: &str) -> Vec<(&'static str, String)> {
    let of_rental = |path: &str| format!("{base}/rentals/{RENTAL}{path}");
    vec![
        ("GET", format!("{base}/node")),
        ("GET", format!("{base}/wallets")),
        ("GET", format!("{base}/rentals")),
        ("GET", of_rental("")),
        ("POST", of_rental("/stop")),
        ("GET", of_rental("/usage")),
        ("GET", of_rental("/terminals")),
        ("POST", of_rental("/terminals")),
        ("DELETE", of_rental("/terminals/1")),
        ("GET", of_rental("/terminals/1/stream")),
        ("GET", of_rental("/files?path=/")),
        ("POST", of_rental("/files/folder")),
        ("POST", of_rental("/files/rename")),
        ("POST", of_rental("/files/remove")),
        ("GET", of_rental("/files/content?path=/a")),
        ("GET", of_rental("/files/upload?path=/a&size=1&modified=1")),
        ("PUT", of_rental("/files/upload?path=/a&size=1&modified=1&offset=0")),
    ]
}

#[tokio::test]
async fn a_link_lets_a_browser_in_and_its_token_is_nowhere_but_behind_the_hash() {
    let served = served().await;
    let link = served.links.link(RENTAL);
    assert_eq!(link.split_once('#').unwrap().0, format!("http://{}/", served.address));
    let browser = served.browser().await;
    let answer = served.ask("GET", &format!("{}/rentals", browser.base), &[("cookie", &browser.cookie)]).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
}

#[tokio::test]
async fn the_cookie_is_the_sessions_own_paths_and_no_script_sees_it() {
    let served = served().await;
    let answer = served.enter(&token(&served.links.link(RENTAL))).await;
    let SessionStarted { base } = serde_json::from_str(&answer.body).unwrap();
    let cookie = header_of(&answer, "set-cookie");
    assert!(base.len() > "/s/".len() + 40, "{base}");
    for part in [&format!("; Path={base};"), "; HttpOnly", "; SameSite=Strict"] {
        assert!(cookie.contains(part), "{cookie}");
    }
    assert!(!cookie.to_lowercase().contains("domain"), "{cookie}");
}

#[tokio::test]
async fn a_link_works_once_and_a_made_up_one_never() {
    let served = served().await;
    let token = token(&served.links.link(RENTAL));
    assert_eq!(served.enter(&token).await.status, 200);
    assert_eq!(served.enter(&token).await.status, 403);
    for made_up in ["", "a", &"A".repeat(43)] {
        assert_eq!(served.enter(made_up).await.status, 403);
    }
}

#[tokio::test]
async fn a_request_under_another_name_is_refused() {
    let served = served().await;
    let (browser, port) = (served.browser().await, served.address.port());
    let path = format!("{}/rentals", browser.base);
    let names = ["evil.example", &format!("evil.example:{port}"), &format!("localhost:{port}"), "127.0.0.1", ""];
    for name in names {
        for path in [path.as_str(), "/", "/console.js", "/session"] {
            let answer = served.ask_of(name, "GET", path, &[("cookie", &browser.cookie)], "").await;
            assert_eq!(answer.status, 403, "{name} {path}");
        }
    }
    let told = [("cookie", browser.cookie.as_str()), ("x-forwarded-host", &served.address.to_string())];
    assert_eq!(served.ask_of("evil.example", "GET", &path, &told, "").await.status, 403, "believed a proxy");
    let twice = format!("GET {path} HTTP/1.1\r\nhost: {0}\r\nhost: {0}\r\nconnection: close\r\n\r\n", served.address);
    assert!(matches!(served.raw(twice).await.status, 400 | 403));
}

#[tokio::test]
async fn a_change_from_another_origin_is_refused_and_so_is_one_that_does_not_say() {
    let served = served().await;
    let browser = served.browser().await;
    let (ours, port) = (served.origin(), served.address.port());
    let foreign =
        ["http://evil.example", "null", "http://127.0.0.1:1", "http://127.0.0.1", &format!("http://localhost:{port}")];
    for (method, path) in routes(&browser.base).into_iter().filter(|(method, _)| *method != "GET") {
        let kept = [("cookie", browser.cookie.as_str()), (guard::OURS, "1")];
        assert_eq!(served.ask(method, &path, &kept).await.status, 403, "{method} {path} without an origin");
        for origin in foreign {
            let headers = [kept[0], kept[1], ("origin", origin)];
            assert_eq!(served.ask(method, &path, &headers).await.status, 403, "{method} {path} from {origin}");
        }
        let headers = [kept[0], kept[1], ("origin", ours.as_str())];
        assert_ne!(served.ask(method, &path, &headers).await.status, 403, "{method} {path} from our own page");
    }
}

#[tokio::test]
async fn a_change_without_our_own_pages_header_is_refused() {
    let served = served().await;
    let (browser, ours) = (served.browser().await, served.origin());
    for (method, path) in routes(&browser.base).into_iter().filter(|(method, _)| *method != "GET") {
        let headers = [("cookie", browser.cookie.as_str()), ("origin", ours.as_str())];
        assert_eq!(served.ask(method, &path, &headers).await.status, 403, "{method} {path}");
    }
    let body = serde_json::json!({ "token": token(&served.links.link(RENTAL)) }).to_string();
    let host = served.address.to_string();
    assert_eq!(served.ask_of(&host, "POST", "/session", &[("origin", &ours)], &body).await.status, 403);
}

#[tokio::test]
async fn a_browser_without_the_cookie_gets_nothing_nor_does_one_with_anothers() {
    let served = served().await;
    let (browser, other, ours) = (served.browser().await, served.browser().await, served.origin());
    let cookies = ["", "gpulease-console=", "gpulease-console=AAAA", "another=1", &other.cookie];
    for (method, path) in routes(&browser.base) {
        for cookie in cookies {
            let headers = [("origin", ours.as_str()), (guard::OURS, "1"), ("cookie", cookie)];
            assert_eq!(served.ask(method, &path, &headers).await.status, 403, "{method} {path} with `{cookie}`");
        }
    }
    for path in ["/s/", "/s//rentals", "/s/AAAA/rentals", &format!("{}/../../s/x/rentals", browser.base)] {
        let answer = served.ask("GET", path, &[("cookie", &browser.cookie)]).await;
        assert!(matches!(answer.status, 403 | 404), "{path}: {}", answer.status);
        assert!(!answer.body.contains("phase"), "{path}");
    }
}

impl Served {
    /// Begins a websocket with these headers besides.
    async fn handshake(&self, path: &str, headers: &[(&str, &str)]) -> u16 {
        let headers: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        let head = format!("GET {path} HTTP/1.1\r\nhost: {}\r\nconnection: upgrade, close\r\n", self.address);
        let socket =
            "upgrade: websocket\r\nsec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
        self.raw(format!("{head}{socket}{headers}\r\n")).await.status
    }
}

#[tokio::test]
async fn a_websocket_needs_the_cookie_and_our_own_origin_before_it_begins() {
    let served = served().await;
    let (browser, ours) = (served.browser().await, served.origin());
    let path = format!("{}/rentals/{RENTAL}/terminals/1/stream", browser.base);
    let (cookie, origin) = (("cookie", browser.cookie.as_str()), ("origin", ours.as_str()));
    let foreign = ("origin", "http://evil.example");
    for headers in [vec![], vec![cookie], vec![origin], vec![cookie, foreign], vec![cookie, ("origin", "null")]] {
        assert_eq!(served.handshake(&path, &headers).await, 403, "{headers:?}");
    }
    assert_eq!(served.handshake(&path, &[cookie, origin]).await, 404, "let in, and told that there is no such shell");
}

#[tokio::test]
async fn another_sites_page_does_not_read_even_with_the_cookie() {
    let served = served().await;
    let browser = served.browser().await;
    let path = format!("{}/rentals", browser.base);
    for site in ["cross-site", "same-site", "none"] {
        let headers = [("cookie", browser.cookie.as_str()), ("sec-fetch-site", site)];
        assert_eq!(served.ask("GET", &path, &headers).await.status, 403, "{site}");
    }
    let headers = [("cookie", browser.cookie.as_str()), ("origin", "http://evil.example")];
    let answer = served.ask("GET", &path, &headers).await;
    assert_eq!(answer.status, 403);
    assert!(!answer.head.to_lowercase().contains("access-control"), "{}", answer.head);
}

#[tokio::test]
async fn every_answer_forbids_the_page_what_it_does_not_need() {
    let served = served().await;
    let browser = served.browser().await;
    let rentals = format!("{}/rentals", browser.base);
    for (path, status) in
        [("/", 200), ("/console.js", 200), ("/none", 404), (rentals.as_str(), 200), ("/s/x/rentals", 403)]
    {
        let answer = served.ask("GET", path, &[("cookie", &browser.cookie)]).await;
        assert_eq!(answer.status, status, "{path}");
        let policy = header_of(&answer, "content-security-policy");
        assert!(policy.starts_with("default-src 'none'") && !policy.contains("unsafe"), "{policy}");
        assert!(!policy.contains("http"), "everything comes from here: {policy}");
        assert_eq!(header_of(&answer, "x-content-type-options"), "nosniff");
        assert_eq!(header_of(&answer, "referrer-policy"), "no-referrer");
        assert_eq!(header_of(&answer, "cross-origin-resource-policy"), "same-origin");
    }
    assert_eq!(
        header_of(&served.ask("GET", &rentals, &[("cookie", &browser.cookie)]).await, "cache-control"),
        "no-store"
    );
}

#[tokio::test]
async fn a_file_of_the_page_is_sent_again_only_when_it_has_changed() {
    let served = served().await;
    let first = served.ask("GET", "/console.css", &[]).await;
    let tag = header_of(&first, "etag");
    assert_eq!(served.ask("GET", "/console.css", &[("if-none-match", tag)]).await.status, 304);
    assert_eq!(served.ask("GET", "/console.css", &[("if-none-match", "\"other\"")]).await.status, 200);
}

#[tokio::test]
async fn the_page_has_nothing_in_its_text_that_the_policy_forbids() {
    let page = served().await.ask("GET", "/", &[]).await.body;
    assert!(!page.contains("<style") && !page.contains(" style=") && !page.contains("://"), "{page}");
    let scripts: Vec<_> = page.match_indices("<script").collect();
    assert!(scripts.iter().all(|(at, _)| page[*at..].split('>').next().unwrap().contains("src=\"/")), "{page}");
}

#[tokio::test]
async fn what_is_asked_is_bounded() {
    let served = served().await;
    let (browser, ours, host) = (served.browser().await, served.origin(), served.address.to_string());
    let headers = [("origin", ours.as_str()), (guard::OURS, "1"), ("cookie", browser.cookie.as_str())];
    let path = format!("{}/rentals/{RENTAL}/files/folder", browser.base);
    let body = serde_json::json!({ "path": "a".repeat(MAX_ASKED_BYTES) }).to_string();
    let answer = served.ask_of(&host, "POST", &path, &headers, &body).await;
    assert!(matches!(answer.status, 400 | 413), "{}", answer.status);
}

#[tokio::test]
async fn an_address_that_others_can_reach_is_not_bound() {
    for address in ["0.0.0.0:0", "[::]:0", "192.0.2.1:0"] {
        let refused = Console::bind(address.parse().unwrap()).await.unwrap_err();
        assert!(matches!(refused, ConsoleError::NotLoopback(_)), "{refused}");
    }
}
