//! `rest`: any JSON API that can be described in settings.

mod auth;
mod decode;
mod infer;
mod json;
mod pages;
mod settings;
mod values;

use std::collections::{HashSet, VecDeque};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use catalog::{Blame, Component, Cursor, Env, Fault, Result, Retry, SafeUrl, SecretRef, WriteMode};
use chrono::{DateTime, SecondsFormat, Utc};
use futures::stream::BoxStream;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use reqwest::{Method, RequestBuilder};
use secrecy::ExposeSecret;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio_util::task::AbortOnDropHandle;
use url::Url;

use self::auth::Pass;
use self::decode::{Field, Mark, Page, Shape, Trouble};
use self::pages::{Ask, Place};
pub use self::settings::{Auth, ColumnSpec, Columns, Config, Incremental, Paginator, StreamSpec, Type, Verb, Write};
use crate::emit::{self, Emit};
use crate::http::{Answer, Cause, Client, address};
use crate::source::{Event, Read, Request, Source, Stream};

/// Pages of one reading; more is taken for a list that has no end.
const MOST_PAGES: usize = 1_000_000;

/// The connector.
#[derive(Debug)]
pub struct Rest {
    caller: Arc<Caller>,
    streams: Vec<Arc<StreamSpec>>,
    /// Shapes of streams whose columns were inferred, and the page that showed them.
    inferred: Mutex<Vec<Inferred>>,
}

#[derive(Debug)]
struct Inferred {
    stream: String,
    columns: Vec<ColumnSpec>,
    shape: Arc<Shape>,
}

/// What a call needs.
#[derive(Debug)]
struct Caller {
    client: Client,
    base: Url,
    pass: Pass,
    headers: HeaderMap,
    connection: String,
}

/// How far a reading is. What this connector stores as a cursor.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Bookmark {
    /// The next page; `None` when the list has been read to its end.
    #[serde(default)]
    next: Option<Place>,
    /// The value that the reading began with.
    #[serde(default)]
    since: Option<i64>,
    /// The greatest value so far.
    #[serde(default)]
    high: Option<i64>,
    /// The columns, when the first page decided on them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    columns: Option<Vec<ColumnSpec>>,
}

/// From which value on, and up to which one, records are asked for.
#[derive(Debug, Clone, Copy, Default)]
struct Range {
    since: Option<i64>,
    until: Option<i64>,
}

#[async_trait]
impl Component for Rest {
    type Live = dyn Source;
    type Config = Config;
    const NAME: &'static str = "rest";
    const ABOUT: &'static str = "any JSON API, described in settings: pages, credentials, columns, changes";

    async fn open(config: Config, env: Env) -> Result<Box<dyn Source>> {
        let config = resolve(config)?;
        let problems = config.problems();
        if !problems.is_empty() {
            return Err(Fault::user(problems.join("; ")).hint("`docs/rest.md` shows every setting at work."));
        }
        let mut base = address("base_url", config.base_url.as_deref().unwrap_or_default())?;
        if !base.path().ends_with('/') {
            base.set_path(&format!("{}/", base.path()));
        }
        let mut headers = HeaderMap::new();
        headers.insert(http::header::ACCEPT, HeaderValue::from_static("application/json"));
        for (name, text) in &config.headers {
            let setting = format!("headers.{name}");
            let name = HeaderName::try_from(name)
                .map_err(|_| Fault::user(format!("`{setting}`: it is not a header's name")))?;
            let value = match text.split_once(':') {
                Some(("env" | "file", _)) => {
                    let secret = SecretRef::parse(text)?.resolve().map_err(|f| f.at(format!("`{setting}`")))?;
                    auth::hidden(&setting, secret.expose_secret())?
                }
                _ => auth::hidden(&setting, text)?,
            };
            headers.insert(name, value);
        }
        // One budget for an account of a vendor: the host says which vendor, the connection which account.
        let account = format!("rest/{}/{}", base.host_str().unwrap_or_default(), env.connection);
        let caller = Caller {
            client: Client::new(&account, &env, config.limits.clone())?,
            pass: Pass::of(&config.auth, env.clock)?,
            base,
            headers,
            connection: env.connection,
        };
        let wanted = config.stream;
        let streams = config.streams.into_iter().filter(|s| wanted.as_ref().is_none_or(|w| *w == s.name)).map(Arc::new);
        Ok(Box::new(Self { caller: Arc::new(caller), streams: streams.collect(), inferred: Mutex::default() }))
    }

    /// `FILE.toml`, or `FILE.toml#STREAM`.
    fn address(rest: &str) -> Option<Value> {
        let (file, stream) = rest.split_once('#').map_or((rest, None), |(file, stream)| (file, Some(stream)));
        (!file.is_empty()).then(|| json!({ "file": file, "stream": stream }))
    }
}

/// Reads the file that holds the settings, if they are in one.
fn resolve(config: Config) -> Result<Config> {
    let Some(file) = &config.file else { return Ok(config) };
    if config.base_url.is_some() || !config.streams.is_empty() || !config.headers.is_empty() {
        return Err(
            Fault::user("`file` stands beside other settings").hint("Put everything into the file, or nothing.")
        );
    }
    let mut read = parse(file)?;
    if read.file.is_some() {
        return Err(Fault::user(format!("`{}`: a file of settings cannot name another one", file.display())));
    }
    read.stream = config.stream.or(read.stream);
    Ok(read)
}

fn parse(file: &Path) -> Result<Config> {
    let text = std::fs::read_to_string(file).map_err(|e| {
        Fault::user(format!("the settings in `{}` cannot be read", file.display()))
            .hint("Name a TOML file, such as `rest:bookings.toml`; `docs/rest.md` shows one.")
            .because(e)
    })?;
    toml::from_str(&text).map_err(|error| {
        let line = error.span().map_or(1, |s| 1 + text[..s.start.min(text.len())].matches('\n').count());
        // The first line of the message says what; the text of the file, which may hold a secret, is not repeated.
        let what = error.message().lines().next().unwrap_or_default().trim().to_owned();
        Fault::user(format!("`{}`, line {line}: {what}", file.display()))
            .hint("`docs/rest.md` shows every setting at work.")
    })
}

#[async_trait]
impl Source for Rest {
    fn streams(&self) -> Vec<Stream> {
        self.streams.iter().map(|spec| self.stream_of(spec)).collect()
    }

    async fn check(&self) -> Result<()> {
        let Some(spec) = self.streams.first() else { return Ok(()) };
        let range = Range { since: start(spec), until: None };
        self.caller.fetch(spec, &spec.paginator.first(), range).await.map(|_| ())
    }

    async fn discover(&self, stream: &str, known: Option<&Cursor>) -> Result<Option<Stream>> {
        let Some(spec) = self.streams.iter().find(|s| s.name == stream) else { return Ok(None) };
        if matches!(spec.columns, Columns::List(_)) {
            return Ok(None);
        }
        let known = known.and_then(|cursor| cursor.read::<Bookmark>().ok()).and_then(|b| b.columns);
        let columns = match known {
            Some(columns) => columns,
            None => {
                let range = Range { since: start(spec), until: None };
                let (answer, here) = self.caller.fetch(spec, &spec.paginator.first(), range).await?;
                let text = utf8(&answer.body).map_err(|f| f.at(SafeUrl(here.clone())))?;
                infer::columns(text, &settings::path(&spec.records)).map_err(|_| {
                    Fault::remote(format!("the answer of `{}` is not JSON", SafeUrl(here)))
                        .hint("Check `base_url` and `path`.")
                })?
            }
        };
        if columns.is_empty() {
            return Err(Fault::user(format!("the first page of `{stream}` has no record to take columns from"))
                .hint("List the columns in the settings, or check `records`."));
        }
        let mut problems = Vec::new();
        spec.column_problems(&columns, &format!("streams.{stream}"), &mut problems);
        if !problems.is_empty() {
            return Err(Fault::user(format!("the first page of `{stream}` does not fit: {}", problems.join("; "))));
        }
        let shape = Arc::new(self.shape(spec, &columns));
        let mut inferred = self.inferred.lock().unwrap_or_else(PoisonError::into_inner);
        inferred.retain(|i| i.stream != stream);
        inferred.push(Inferred { stream: stream.to_owned(), columns, shape });
        drop(inferred);
        Ok(Some(self.stream_of(spec)))
    }

    fn read(&self, request: Request) -> BoxStream<'_, Result<Event>> {
        emit::stream(move |out| Box::pin(self.pages(request, out)))
    }
}

/// The value that the first reading begins with.
fn start(spec: &StreamSpec) -> Option<i64> {
    let incremental = spec.incremental.as_ref()?;
    read_mark(incremental.initial.as_deref()?, &Incremental::mark(incremental.param_format()))
}

impl Incremental {
    fn param_format(&self) -> &str {
        self.param_format.as_deref().unwrap_or(&self.format)
    }

    /// A value as the parameter has it.
    fn write(&self, value: i64) -> String {
        let at = DateTime::<Utc>::from_timestamp_micros(value).unwrap_or_default();
        let whole = value % 1_000_000 == 0;
        match self.param_format() {
            "integer" => value.to_string(),
            "rfc3339" => at.to_rfc3339_opts(if whole { SecondsFormat::Secs } else { SecondsFormat::Micros }, true),
            "utc" => at.format(if whole { "%Y-%m-%dT%H:%M:%S" } else { "%Y-%m-%dT%H:%M:%S%.6f" }).to_string(),
            "date" => at.date_naive().to_string(),
            "epoch_seconds" => value.div_euclid(1_000_000).to_string(),
            "epoch_ms" => value.div_euclid(1000).to_string(),
            pattern => at.format(pattern).to_string(),
        }
    }

    /// Where the reading after this value begins.
    fn behind(&self, high: i64) -> i64 {
        let lag = i64::try_from(self.lag_secs).unwrap_or(i64::MAX).saturating_mul(1_000_000);
        high.saturating_sub(lag)
    }
}

/// A value of the field that orders changes.
fn read_mark(text: &str, mark: &Mark) -> Option<i64> {
    match mark {
        Mark::Number => values::int(text),
        Mark::Time(format) => values::instant(text, format),
    }
}

fn utf8(body: &Bytes) -> Result<&str> {
    std::str::from_utf8(body).map_err(|e| Fault::remote(format!("the answer is not UTF-8 at byte {}", e.valid_up_to())))
}

impl Rest {
    fn stream_of(&self, spec: &StreamSpec) -> Stream {
        let dataset = match (&spec.columns, self.known(&spec.name)) {
            (Columns::List(columns), _) => spec.dataset(columns),
            (Columns::Infer, Some((shape, _))) => shape.dataset.clone(),
            (Columns::Infer, None) => spec.dataset(&[]),
        };
        Stream {
            name: spec.name.clone().into(),
            about: spec.about.clone().unwrap_or_else(|| format!("records of `{}`", spec.path)).into(),
            datasets: vec![dataset],
            backfill: spec.incremental.as_ref().is_some_and(|i| i.until_param.is_some()),
            changes: spec.incremental.is_some(),
            objects: false,
        }
    }

    fn known(&self, stream: &str) -> Option<(Arc<Shape>, Vec<ColumnSpec>)> {
        let inferred = self.inferred.lock().unwrap_or_else(PoisonError::into_inner);
        inferred.iter().find(|i| i.stream == stream).map(|i| (i.shape.clone(), i.columns.clone()))
    }

    fn shape(&self, spec: &StreamSpec, columns: &[ColumnSpec]) -> Shape {
        let dataset = spec.dataset(columns);
        let mut fields: Vec<Option<Field>> =
            columns.iter().map(|c| Some(Field { path: c.path(), format: c.format() })).collect();
        if spec.mode() == WriteMode::Snapshot {
            fields.insert(0, None);
        }
        Shape {
            schema: dataset.schema(),
            dataset,
            fields,
            records: settings::path(&spec.records),
            facts: spec.paginator.facts(),
            mark: spec.incremental.as_ref().map(|i| (settings::path(&i.field), Incremental::mark(&i.format))),
            last: spec.paginator.last(),
            constant: self.caller.connection.clone(),
        }
    }

    async fn pages(&self, request: Request, mut out: Emit) -> Result<()> {
        let spec = self
            .streams
            .iter()
            .find(|s| s.name == request.stream)
            .ok_or_else(|| Fault::us(format!("there is no stream `{}`", request.stream)))?;
        if let Some(wanted) = request.only.iter().find(|o| **o != self.caller.connection) {
            return Err(Fault::user(format!("`{wanted}` is no part of `{}`", spec.name))
                .hint("A list of records has no parts; leave `--only` out."));
        }
        let (shape, inferred) = match &spec.columns {
            Columns::List(columns) => (Arc::new(self.shape(spec, columns)), None),
            Columns::Infer => match self.known(&spec.name) {
                Some((shape, columns)) => (shape, Some(columns)),
                None => return Err(Fault::us(format!("the columns of `{}` were not looked for", spec.name))),
            },
        };
        let (mut mark, range) = self.begin(spec, &request)?;
        mark.columns = inferred;
        // A list in one piece has one checkpoint, so it cannot be gone on with in its middle.
        let whole = spec.mode() == WriteMode::Snapshot;
        let Some(first) = mark.next.clone() else { return Ok(()) };
        let mut ahead: VecDeque<(Place, AbortOnDropHandle<Result<Fetched>>)> = VecDeque::new();
        let mut seen: HashSet<u64> = HashSet::new();
        let mut former: Option<u64> = None;
        let mut expected = 1024;
        let mut unmarked = true;
        let mut end: Option<u64> = None;
        ahead.push_back((first.clone(), self.spawn(spec, &shape, &first, range, expected)));
        while let Some((place, task)) = ahead.pop_front() {
            // While this page comes in, those behind it can be asked for already, where their places are known.
            let mut last = ahead.back().map_or(&place, |(place, _)| place).clone();
            while ahead.len() < spec.concurrency {
                let Some(next) = spec.paginator.blind(&last).filter(|next| next.before(end)) else { break };
                last = next.clone();
                ahead.push_back((next.clone(), self.spawn(spec, &shape, &next, range, expected)));
            }
            let fetched = task.await.map_err(|e| Fault::us("a task that fetches pages died").because(e))??;
            let Fetched { page, next, digest } = fetched;
            expected = page.records.max(16);
            end = spec.paginator.end(&page).or(end);
            if page.records > 0 && former.replace(digest) == Some(digest) && !matches!(spec.paginator, Paginator::None)
            {
                return Err(endless(spec, "two pages are the same, byte by byte"));
            }
            match &next {
                Some(next) => {
                    let mut hasher = DefaultHasher::new();
                    (next.clone()).hash_into(&mut hasher);
                    if !seen.insert(hasher.finish()) {
                        return Err(endless(spec, "a page leads back to one that was read before"));
                    }
                    if seen.len() > MOST_PAGES {
                        return Err(endless(spec, "there are more than a million pages"));
                    }
                    if ahead.is_empty() {
                        ahead.push_back((next.clone(), self.spawn(spec, &shape, next, range, expected)));
                    }
                }
                None => ahead.clear(),
            }
            unmarked &= page.mark.is_none() && page.records > 0;
            mark.high = mark.high.max(page.mark);
            mark.next.clone_from(&next);
            for reject in page.rejects {
                out.event(Event::Reject(reject)).await?;
            }
            for (field, count) in page.unknown {
                let text = format!("`{field}` of `{}` is in no column", spec.name);
                out.event(note("unknown_field", &format!("{}.{field}", spec.name), text, count)).await?;
            }
            if page.twice > 0 {
                let text = format!("records of `{}` name a field twice; the first one counts", spec.name);
                out.event(note("field_twice", &spec.name, text, page.twice)).await?;
            }
            if page.batch.num_rows() > 0 {
                let dataset = shape.dataset.name.clone().into();
                out.event(Event::Rows { dataset, batch: page.batch }).await?;
            }
            if next.is_none() {
                if let (true, Some(incremental)) = (unmarked, &spec.incremental)
                    && page.records > 0
                {
                    let text = format!("no record of `{}` has a usable `{}`", spec.name, incremental.field);
                    out.event(note("no_mark", &spec.name, text, 1)).await?;
                }
                let scope = self.caller.connection.clone();
                out.event(Event::Complete { column: settings::CONNECTION, scope, missing: Vec::new() }).await?;
            }
            if !whole || next.is_none() {
                out.event(Event::Checkpoint(Cursor::of(&mark)?)).await?;
            }
        }
        Ok(())
    }

    /// Where a reading begins, and what it asks for.
    fn begin(&self, spec: &StreamSpec, request: &Request) -> Result<(Bookmark, Range)> {
        let fresh = |since: Option<i64>, high: Option<i64>| Bookmark {
            next: Some(spec.paginator.first()),
            since,
            high,
            columns: None,
        };
        let (mut mark, until) = match &request.read {
            Read::Snapshot => (fresh(start(spec), None), None),
            Read::Changes { since: None } => (fresh(start(spec), None), None),
            Read::Changes { since: Some(cursor) } => {
                let old: Bookmark = cursor.read()?;
                let since = match (&old.next, &spec.incremental) {
                    // The former reading did not reach its end, and nothing says that pages come in order: again.
                    (Some(_), _) => old.since,
                    (None, Some(incremental)) => old.high.map(|high| incremental.behind(high)).max(old.since),
                    (None, None) => None,
                };
                (fresh(since.or_else(|| start(spec)), old.high), None)
            }
            Read::Backfill { from, until } => {
                let backfill = spec.incremental.as_ref().is_some_and(|i| i.until_param.is_some());
                if !backfill {
                    return Err(Fault::user(format!("`{}` cannot be read for a range of time", spec.name))
                        .hint("Name the parameter that ends a range as `incremental.until_param`."));
                }
                (fresh(Some(from.timestamp_micros()), None), Some(until.timestamp_micros()))
            }
            Read::Objects { .. } => {
                return Err(Fault::user(format!("`{}` cannot be read one by one", spec.name)));
            }
        };
        if let Some(resume) = &request.resume {
            mark = resume.read()?;
        }
        let range = Range { since: mark.since, until };
        Ok((mark, range))
    }

    fn spawn(
        &self,
        spec: &Arc<StreamSpec>,
        shape: &Arc<Shape>,
        place: &Place,
        range: Range,
        expected: usize,
    ) -> AbortOnDropHandle<Result<Fetched>> {
        let (caller, spec, shape, place) = (self.caller.clone(), spec.clone(), shape.clone(), place.clone());
        AbortOnDropHandle::new(tokio::spawn(async move { caller.page(&spec, &shape, &place, range, expected).await }))
    }
}

fn note(topic: &str, subject: &str, text: String, count: u64) -> Event {
    Event::Note(catalog::Note { topic: topic.to_owned(), subject: subject.to_owned(), text, count })
}

fn endless(spec: &StreamSpec, why: &str) -> Fault {
    Fault::new(Blame::Remote, Retry::Never, format!("the pages of `{}` have no end: {why}", spec.name))
        .hint("Check the paginator's settings; what came so far is stored.")
}

impl Place {
    fn hash_into(&self, hasher: &mut DefaultHasher) {
        match self {
            Place::First => 0_u8.hash(hasher),
            Place::Number(n) | Place::Offset(n) => n.hash(hasher),
            Place::Cursor(text) | Place::Url(text) | Place::After(text) => text.hash(hasher),
        }
    }
}

/// A page that was fetched and read.
struct Fetched {
    page: Page,
    next: Option<Place>,
    digest: u64,
}

impl Caller {
    async fn page(
        &self,
        spec: &StreamSpec,
        shape: &Shape,
        place: &Place,
        range: Range,
        expected: usize,
    ) -> Result<Fetched> {
        let (answer, here) = self.fetch(spec, place, range).await?;
        let safe = SafeUrl(here.clone());
        let text = utf8(&answer.body).map_err(|f| f.at(&safe))?;
        let page = shape.decode(text, expected).map_err(|trouble| explain(trouble, spec, text, &safe))?;
        let next = spec.paginator.next(place, &page, &answer.headers, &here).map_err(|f| f.at(&safe))?;
        // A few bytes are enough to tell pages apart, and hashing all of them would cost as much as reading them.
        let mut hasher = DefaultHasher::new();
        let bytes = text.as_bytes();
        bytes.len().hash(&mut hasher);
        for at in (0..bytes.len()).step_by((bytes.len() / 4096).max(1)) {
            bytes[at].hash(&mut hasher);
        }
        page.last.hash(&mut hasher);
        Ok(Fetched { page, next, digest: hasher.finish() })
    }

    /// Fetches a page. Gives the address that was called, which may hold a secret.
    async fn fetch(&self, spec: &StreamSpec, place: &Place, range: Range) -> Result<(Answer, Url)> {
        let ask = spec.paginator.ask(place)?;
        let (method, url, params) = match ask {
            Ask::Url(mut url) => {
                if url.origin() != self.base.origin() {
                    return Err(Fault::user("the stored address of the next page is on another host")
                        .hint("Begin anew with `--fresh`."));
                }
                if let Some(secret) = self.pass.secret_param() {
                    let kept: Vec<(String, String)> =
                        url.query_pairs().into_owned().filter(|(name, _)| name != secret).collect();
                    url.query_pairs_mut().clear().extend_pairs(kept);
                }
                (Method::GET, url, Vec::new())
            }
            Ask::Params(own) => {
                let url = self
                    .base
                    .join(spec.path.trim_start_matches('/'))
                    .map_err(|e| Fault::user(format!("`{}` cannot follow `base_url`", spec.path)).because(e))?;
                if url.origin() != self.base.origin() {
                    return Err(Fault::user(format!("the path of `{}` leads away from `base_url`", spec.name)));
                }
                let mut params: Vec<(String, Value)> = Vec::new();
                for (name, value) in &spec.params {
                    match value {
                        Value::Array(list) if spec.method == Verb::Get => {
                            params.extend(list.iter().map(|v| (name.clone(), v.clone())));
                        }
                        value => params.push((name.clone(), value.clone())),
                    }
                }
                if let Some(incremental) = &spec.incremental {
                    let named =
                        [(Some(&incremental.param), range.since), (incremental.until_param.as_ref(), range.until)];
                    for (name, value) in named {
                        if let Some((name, value)) = name.zip(value) {
                            params.push((name.clone(), incremental.write(value).into()));
                        }
                    }
                }
                params.extend(own.into_iter().map(|(name, value)| {
                    // A JSON body has numbers where a query has only text.
                    let value = value.parse::<u64>().map_or(Value::from(value), Value::from);
                    (name, value)
                }));
                (if spec.method == Verb::Post { Method::POST } else { Method::GET }, url, params)
            }
        };
        let build = || -> RequestBuilder {
            let request = self.client.request(method.clone(), url.clone()).headers(self.headers.clone());
            if method == Method::POST {
                request.json(&params.iter().cloned().collect::<serde_json::Map<_, _>>())
            } else if params.is_empty() {
                request
            } else {
                let text = |v: &Value| v.as_str().map_or_else(|| v.to_string(), str::to_owned);
                request.query(&params.iter().map(|(name, value)| (name, text(value))).collect::<Vec<_>>())
            }
        };
        let (request, token) = self.pass.sign(&self.client, build(), None).await?;
        let answer = match self.client.call(request).await {
            // A token may have been withdrawn before its time: once more with a new one.
            Err(refusal) if token.is_some() && matches!(refusal.cause, Cause::Status(StatusCode::UNAUTHORIZED, _)) => {
                let (request, _) = self.pass.sign(&self.client, build(), token.as_ref()).await?;
                self.client.call(request).await
            }
            answer => answer,
        };
        match answer {
            Ok(answer) => Ok((answer, url)),
            // Some answer so behind the last page.
            Err(refusal)
                if matches!(refusal.cause, Cause::Status(StatusCode::NOT_FOUND, _))
                    && spec.paginator.blind(place).is_some()
                    && *place != spec.paginator.first() =>
            {
                Ok((Answer { headers: HeaderMap::new(), body: empty(spec) }, url))
            }
            Err(refusal) => Err(refusal.into()),
        }
    }
}

/// An answer without records.
fn empty(spec: &StreamSpec) -> Bytes {
    let body = settings::path(&spec.records).iter().rev().fold(json!([]), |inner, key| json!({ key: inner }));
    body.to_string().into()
}

fn explain(trouble: Trouble, spec: &StreamSpec, text: &str, place: &SafeUrl) -> Fault {
    match trouble {
        Trouble::Bad(_) if text.trim_start().is_empty() => Fault::remote(format!("the answer of `{place}` is empty")),
        Trouble::Bad(_) if text.trim_start().starts_with('<') => Fault::remote(format!(
            "the answer of `{place}` is a web page, not JSON"
        ))
        .hint("Check `base_url` and `path`; a page like that often asks to sign in, or says that the vendor is down."),
        Trouble::Bad(bad) => {
            Fault::remote(format!("the answer of `{place}` is not sound JSON: {} at byte {}", bad.what, bad.at))
        }
        Trouble::Missing => {
            Fault::new(Blame::Remote, Retry::Never, format!("the answer of `{place}` has no `{}`", spec.records))
                .hint(format!("Check `records` of the stream `{}`.", spec.name))
        }
        Trouble::NoList => Fault::new(
            Blame::Remote,
            Retry::Never,
            format!("the answer of `{place}` has neither a list nor an object where the records should be"),
        )
        .hint(format!("Check `records` of the stream `{}`.", spec.name)),
        Trouble::Fault(fault) => fault,
    }
}
