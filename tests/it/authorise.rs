//! Connections that the owner of an account authorises, from consent to withdrawal.

use std::io::{BufReader, Write};

use catalog::Fault;
use fixtures::calendars;
use fixtures::ownerrez::{Options, Simulator};
use fixtures::stays::{Shape, Shared, Stays};
use kit::house::House;
use kit::rig;
use pipelines::app::Asked;
use pipelines::authorise::{self, authorise};
use tokio::sync::mpsc;

/// Hands every line on as it is printed.
struct Lines(mpsc::UnboundedSender<String>);

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let _ = self.0.send(String::from_utf8_lossy(bytes).into_owned());
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// The address among what is printed.
async fn address(lines: &mut mpsc::UnboundedReceiver<String>) -> String {
    let mut text = String::new();
    loop {
        text.push_str(&lines.recv().await.unwrap());
        let words = text.split_inclusive(char::is_whitespace);
        let found = words.map(str::trim_end).find(|word| word.starts_with("http"));
        if let Some(found) = found.filter(|found| text.contains(&format!("{found}\n"))) {
            return found.to_owned();
        }
    }
}

/// The owner agrees, and the address they are sent back to is pasted, or another line instead.
async fn paste(house: &House, connection: &str, code: &str, line: Option<&str>) -> Result<(), Fault> {
    let (sender, mut lines) = mpsc::unbounded_channel();
    let (reader, mut writer) = std::io::pipe().unwrap();
    let options = authorise::Options { connection: connection.to_owned(), listen: None };
    let mut out = Lines(sender);
    let working = authorise(&house.app, &house.database, &options, BufReader::new(reader), &mut out, &house.stop);
    let owner = async {
        let consent = address(&mut lines).await;
        let policy = reqwest::redirect::Policy::none();
        let browser = reqwest::Client::builder().no_proxy().redirect(policy).build().unwrap();
        let answer = browser.get(consent).send().await.unwrap();
        let back = answer.headers()["location"].to_str().unwrap().to_owned();
        assert!(back.starts_with(&format!("https://office.example/back?code={code}")), "{back}");
        writeln!(writer, "{}", line.map_or(back, str::to_owned)).unwrap();
    };
    tokio::join!(working, owner).0
}

/// Whether a call of a pipeline gets in, made by a process of its own.
async fn check(house: &House, pipeline: &str) -> Result<(), Fault> {
    let plan = house.app.plan(pipeline).await.unwrap();
    let asked = Asked { trigger: "manual".to_owned(), read: None, only: Vec::new(), fresh: false };
    house.app.job(&plan, &house.database, asked).await?.source.check().await
}

struct Bench {
    house: House,
    simulator: Simulator,
}

impl Bench {
    async fn start(options: Options) -> Self {
        let house = House::new().await;
        let stays = Stays::new(Shape { seed: 3, listings: 4, stays: 4, now: rig::now() });
        let simulator = Simulator::start(Shared::new(stays), options).await.unwrap();
        let (base, c) = (simulator.base_url(), simulator.credentials());
        std::fs::write(house.dir.path().join("app"), &c.client_secret).unwrap();
        let spec = format!(
            "name = \"ownerrez_bookings\"\nabout = \"bookings\"\n[source]\nconnector = \"ownerrez\"\nconnection = \"harbor\"\n\
             stream = \"bookings\"\nread = \"changes\"\n[source.settings]\nbase_url = \"{base}\"\nclient_id = \"{}\"\n\
             limits = {{ calls_per_sec = 1000, burst = 100, backoff_ms = 1 }}\n[source.settings.oauth]\n\
             client_secret = \"file:{}\"\nredirect_uri = \"https://office.example/back\"\nauthorize_url = \"{base}/oauth/authorize\"\n\
             token_url = \"{base}/oauth/access_token\"\n[[sinks]]\nsink = \"postgres\"\n",
            c.client_id,
            house.dir.path().join("app").display()
        );
        std::fs::write(house.dir.path().join("specs").join("ownerrez.toml"), spec).unwrap();
        Self { house, simulator }
    }

    async fn check(&self) -> Result<(), Fault> {
        check(&self.house, "ownerrez_bookings").await
    }

    async fn paste(&self, line: Option<&str>) -> Result<(), Fault> {
        paste(&self.house, "harbor", "tc_", line).await
    }

    fn exchanges(&self) -> usize {
        self.simulator.count("/v2/oauth/access_token") + self.simulator.count("/oauth/access_token")
    }

    async fn tokens(&self) -> i64 {
        sqlx::query_scalar("select count(*) from ops.tokens").fetch_one(self.house.pool()).await.unwrap()
    }
}

#[tokio::test]
async fn an_authorisation_is_given_renewed_once_for_all_and_withdrawn() {
    let bench = Bench::start(Options::default()).await;
    let fault = bench.check().await.unwrap_err();
    assert!(fault.message.contains("`harbor` is not authorised"), "{fault}");
    assert!(fault.hint.unwrap().contains("propflow authorise harbor"));

    bench.paste(None).await.unwrap();
    bench.check().await.unwrap();
    assert_eq!((bench.exchanges(), bench.tokens().await), (1, 2));

    // It ends early: whoever finds out first renews it, and the others take what that one got. The vendor replaces the
    // grant each time, so renewing it twice at once would lock everybody out.
    for round in 2..4 {
        bench.simulator.end_access();
        let (a, b, c) = tokio::join!(bench.check(), bench.check(), bench.check());
        assert!(a.is_ok() && b.is_ok() && c.is_ok(), "{a:?} {b:?} {c:?}");
        assert_eq!(bench.exchanges(), round);
    }

    bench.simulator.revoke();
    let fault = bench.check().await.unwrap_err();
    assert!(fault.message.contains("`harbor` is stopped: OwnerRez does not take its authorisation"), "{fault}");
    assert_eq!(bench.tokens().await, 0, "tokens of a withdrawn authorisation are dropped");
    let calls = bench.simulator.requests().len();
    let fault = bench.check().await.unwrap_err();
    assert!(fault.message.contains("its authorisation was withdrawn"), "{fault}");
    assert_eq!(bench.simulator.requests().len(), calls, "a connection that is stopped asks for nothing");

    // Authorised again, it is in use again.
    bench.paste(None).await.unwrap();
    bench.check().await.unwrap();
}

#[tokio::test]
async fn tokens_without_an_end_are_used_until_they_are_refused() {
    let bench = Bench::start(Options { token_secs: None, ..Options::default() }).await;
    bench.paste(None).await.unwrap();
    bench.check().await.unwrap();
    assert_eq!((bench.exchanges(), bench.tokens().await), (1, 1), "there is no grant");
    bench.simulator.end_access();
    assert!(bench.check().await.unwrap_err().message.contains("is stopped"));
}

#[tokio::test]
async fn what_is_no_answer_to_this_attempt_is_not_taken() {
    let bench = Bench::start(Options::default()).await;
    for (line, says) in [
        ("https://office.example/back?code=tc_1&state=other", "another attempt"),
        ("tc_wrong", "does not take the code"),
        ("", "not completed"),
    ] {
        let fault = bench.paste(Some(line)).await.unwrap_err();
        assert!(fault.message.contains(says), "{line}: {fault}");
        assert!(!format!("{fault:?}").contains("tc_"), "{fault:?}");
    }
    assert_eq!(bench.tokens().await, 0);
}

#[tokio::test]
async fn the_owners_browser_may_come_back_by_itself() {
    let bench = Bench::start(Options::default()).await;
    let path = bench.house.dir.path().join("specs").join("ownerrez.toml");
    let spec = std::fs::read_to_string(&path).unwrap().replace("redirect_uri = \"https://office.example/back\"\n", "");
    std::fs::write(path, spec).unwrap();
    let (sender, mut lines) = mpsc::unbounded_channel();
    let options = authorise::Options { connection: "harbor".to_owned(), listen: Some("127.0.0.1:0".parse().unwrap()) };
    let (mut out, house, stop) = (Lines(sender), &bench.house, bench.house.stop.clone());
    let working = authorise(&house.app, &house.database, &options, std::io::empty(), &mut out, &stop);
    let owner = async {
        let consent = address(&mut lines).await;
        let browser = reqwest::Client::builder().no_proxy().build().unwrap();
        let back = reqwest::Url::parse(&consent).unwrap();
        let back = back.query_pairs().find(|(name, _)| name == "redirect_uri").unwrap().1.into_owned();
        let stranger = browser.get(format!("{back}?code=tc_evil&state=guess")).send().await.unwrap();
        assert_eq!(stranger.status(), 400, "{}", stranger.text().await.unwrap());
        let page = browser.get(consent).send().await.unwrap();
        assert!(page.text().await.unwrap().contains("You can close this page"));
    };
    let (done, ()) = tokio::join!(working, owner);
    done.unwrap();
    bench.check().await.unwrap();
}

/// Airbnb's partner API takes a code once and replaces its grant whenever it is used: whoever renews alone with a grant that
/// another process has used already would lock everybody out.
#[tokio::test]
async fn a_host_lets_the_partner_in_and_all_processes_renew_as_one() {
    let house = House::new().await;
    let stays = Shared::new(Stays::new(Shape { seed: 5, listings: 4, stays: 4, now: rig::now() }));
    let listing = stays.lock().listings[3].airbnb_id.clone();
    let options = calendars::Options { rotate_grants: true, ..calendars::Options::default() };
    let site = calendars::Simulator::start(stays, options).await.unwrap();
    let (base, c) = (site.base_url(), site.credentials());
    let dir = house.dir.path();
    for (name, value) in [("app-key", &c.api_key), ("app-secret", &c.api_secret)] {
        std::fs::write(dir.join(name), value).unwrap();
    }
    let spec = format!(
        "name = \"airbnb_bookings\"\nabout = \"bookings\"\n[source]\nconnector = \"airbnb\"\nconnection = \"coast\"\n\
         stream = \"bookings\"\nread = \"changes\"\n[source.settings]\n\
         limits = {{ calls_per_sec = 1000, burst = 100, backoff_ms = 1 }}\n[source.settings.partner]\nunverified = true\n\
         base_url = \"{base}\"\napi_key = \"file:{0}/app-key\"\napi_secret = \"file:{0}/app-secret\"\n\
         authorize_url = \"{base}/oauth2/auth\"\nredirect_uri = \"https://office.example/back\"\n\
         listings = [{{ listing = \"{listing}\" }}]\n[[sinks]]\nsink = \"postgres\"\n",
        dir.display()
    );
    std::fs::write(dir.join("specs").join("airbnb.toml"), spec).unwrap();
    let exchanges = |status: u16| {
        let of = |r: &&calendars::Request| r.path.ends_with("/oauth2/authorizations") && r.status == status;
        site.requests().iter().filter(of).count()
    };
    let kept = async || -> i64 {
        let count = "select count(*) from ops.tokens where token is not null";
        sqlx::query_scalar(count).fetch_one(house.pool()).await.unwrap()
    };
    let check = || check(&house, "airbnb_bookings");

    let fault = check().await.unwrap_err();
    assert!(fault.message.contains("`coast` is not authorised"), "{fault}");
    assert!(fault.hint.unwrap().contains("propflow authorise coast"));
    let fault = paste(&house, "coast", "code-", Some("code-of-nobody")).await.unwrap_err();
    assert!(fault.message.contains("Airbnb does not take the code"), "{fault}");
    assert!(!format!("{fault:?}").contains("code-of-nobody"), "{fault:?}");
    assert_eq!(kept().await, 0);

    paste(&house, "coast", "code-", None).await.unwrap();
    check().await.unwrap();
    assert_eq!((exchanges(200), kept().await), (1, 2), "the code, once; access token and grant are kept");
    // A code works once.
    assert!(paste(&house, "coast", "code-", Some("code-002")).await.is_err());
    check().await.unwrap();

    for round in 2..5 {
        site.revoke_tokens();
        let (a, b, c, d) = tokio::join!(check(), check(), check(), check());
        assert!([&a, &b, &c, &d].iter().all(|r| r.is_ok()), "{a:?} {b:?} {c:?} {d:?}");
        assert_eq!(exchanges(200), round, "renewed once for all of them");
    }

    site.revoke_consent();
    let fault = check().await.unwrap_err();
    assert!(fault.message.contains("`coast` is stopped: Airbnb does not take its authorisation"), "{fault}");
    assert_eq!(kept().await, 0, "what let it in is dropped");
    let calls = site.requests().len();
    assert!(check().await.is_err());
    assert_eq!(site.requests().len(), calls, "a connection that is stopped asks for nothing");
    paste(&house, "coast", "code-", None).await.unwrap();
    check().await.unwrap();
}
