//! `propflow enrich`: what conversations of a file say about the renter.

use std::fs::File;
use std::io::{BufRead, BufReader, BufWriter, Write};
use std::path::PathBuf;
use std::time::Instant;

use catalog::{Fault, Result};
use chrono::{DateTime, NaiveDateTime, Utc};
use chrono_tz::Tz;
use clap::Args;
use serde_json::{Map, Value, json};
use transforms::text::{Conversation, Embedded, Message, Role};

use crate::cli::wrote;
use crate::show::thousands;

/// What to read, and where it goes.
#[derive(Debug, Clone, Args)]
pub struct Options {
    /// JSON lines. A line is a conversation with `messages` or `turns` (texts, or objects with `role` and `text`), with
    /// `user_turns` (texts of the renter); or one turn with `utterance` and `context` (what was said before it), where lines of the
    /// same `dialogue` that follow each other are one conversation
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Where the readings go; without it to standard output
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// The day (and time) of messages without one: days such as "next Friday" are resolved against it
    #[arg(long, value_name = "TIME", value_parser = instant)]
    at: Option<DateTime<Utc>>,
    /// Where the renters look at a calendar, as `America/Chicago`
    #[arg(long, value_name = "ZONE")]
    time_zone: Option<Tz>,
    /// Country of phone numbers without a country code
    #[arg(long, default_value = "US")]
    region: String,
}

/// The longest line that is read.
const LONGEST_LINE: usize = 16 << 20;

fn instant(text: &str) -> Result<DateTime<Utc>, String> {
    let day = || text.parse::<chrono::NaiveDate>().map(|d| d.and_time(chrono::NaiveTime::MIN).and_utc());
    text.parse().or_else(|_| day()).map_err(|_| "it is no day and no time".to_owned())
}

/// Reads the file, conversation by conversation.
pub fn run(options: &Options, quiet: bool, out: &mut dyn Write) -> Result<()> {
    let place = options.file.display().to_string();
    let file = File::open(&options.file).map_err(|e| Fault::user(format!("`{place}` cannot be opened")).because(e))?;
    let mut lines = BufReader::new(file);
    let mut kept;
    let to: &mut dyn Write = match &options.out {
        Some(path) => {
            let made = File::create(path)
                .map_err(|e| Fault::user(format!("`{}` cannot be written", path.display())).because(e))?;
            kept = BufWriter::new(made);
            &mut kept
        }
        None => out,
    };
    let mut reader =
        Reader { embedded: Embedded::new(&options.region), options, to, open: None, conversations: 0, messages: 0 };
    let began = Instant::now();
    let mut line = Vec::new();
    for number in 1.. {
        line.clear();
        let read = std::io::Read::take(&mut lines, LONGEST_LINE as u64 + 1).read_until(b'\n', &mut line);
        let wrong = |what: &str| Fault::user(format!("{place}: line {number} {what}"));
        if read.map_err(|e| Fault::user(format!("`{place}` cannot be read")).because(e))? == 0 {
            break;
        }
        if line.len() > LONGEST_LINE {
            return Err(wrong("is longer than 16 MiB"));
        }
        if line.trim_ascii().is_empty() {
            continue;
        }
        let row: Map<String, Value> =
            serde_json::from_slice(&line).map_err(|e| wrong("is no JSON object").because(e))?;
        reader.row(row, number).map_err(|f| f.at(format!("{place}: line {number}")))?;
    }
    reader.close()?;
    let (conversations, messages) = (reader.conversations, reader.messages);
    wrote(reader.to.flush())?;
    if !quiet {
        let secs = began.elapsed().as_secs_f64().max(1e-6);
        let rate = (messages as f64 / secs) as u64;
        let mut err = std::io::stderr().lock();
        wrote(writeln!(
            err,
            "{} conversations, {} messages, {} a second",
            thousands(conversations),
            thousands(messages),
            thousands(rate)
        ))?;
    }
    Ok(())
}

struct Reader<'a> {
    embedded: Embedded,
    options: &'a Options,
    to: &'a mut dyn Write,
    /// A conversation whose turns come line by line.
    open: Option<(Value, Conversation)>,
    conversations: u64,
    messages: u64,
}

impl Reader<'_> {
    fn row(&mut self, mut row: Map<String, Value>, number: usize) -> Result<()> {
        let id = ["id", "dialogue", "dialogue_id", "conversation_id"]
            .iter()
            .find_map(|k| row.get(*k))
            .cloned()
            .unwrap_or(json!(number));
        if let Some(said) = row.get("utterance").and_then(Value::as_str) {
            if self.open.as_ref().is_some_and(|(open, _)| *open != id) {
                self.close()?;
            }
            let zone = self.options.time_zone;
            let (_, open) = self.open.get_or_insert_with(|| (id, Conversation { zone, ..Conversation::default() }));
            let at = self.options.at;
            if let Some(context) = row.get("context").and_then(Value::as_str) {
                open.messages.push(Message { role: Role::Agent, at, text: context.to_owned() });
            }
            open.messages.push(Message { role: Role::Renter, at, text: said.to_owned() });
            return Ok(());
        }
        self.close()?;
        let Some((list, only)) =
            ["messages", "turns", "user_turns"].iter().find_map(|k| Some((row.remove(*k)?, *k == "user_turns")))
        else {
            return Err(Fault::user("there is no `messages`, `turns`, `user_turns` or `utterance`"));
        };
        let Value::Array(list) = list else { return Err(Fault::user("the messages are no list")) };
        let mut conversation = Conversation { zone: self.options.time_zone, ..Conversation::default() };
        for (n, item) in list.iter().enumerate() {
            conversation.messages.push(self.message(item, n, only)?);
        }
        self.put(id, &conversation)
    }

    fn message(&self, item: &Value, n: usize, only: bool) -> Result<Message> {
        let word = |keys: &[&str]| keys.iter().find_map(|k| item.get(*k)?.as_str());
        // Texts without a role take turns, the renter first.
        let turn = if only || n.is_multiple_of(2) { Role::Renter } else { Role::Agent };
        if let Some(text) = item.as_str() {
            return Ok(Message { role: turn, at: self.options.at, text: text.to_owned() });
        }
        let text = word(&["text", "message", "content", "utterance"])
            .ok_or_else(|| Fault::user(format!("message {n} has no `text`")))?;
        let role = match word(&["role", "sender", "speaker", "from", "direction"]).map(str::to_lowercase).as_deref() {
            Some("user" | "renter" | "customer" | "prospect" | "guest" | "in" | "lead" | "client") => Role::Renter,
            Some("agent" | "assistant" | "bot" | "chatbot" | "system" | "staff" | "out" | "office") => Role::Agent,
            Some(_) => {
                return Err(Fault::user(format!("the role of message {n} is none that is known"))
                    .hint("Use `user` or `agent`."));
            }
            None => turn,
        };
        let at = match word(&["at", "timestamp", "time"]) {
            Some(time) => Some(
                instant(time)
                    .or_else(|_| time.parse::<NaiveDateTime>().map(|t| t.and_utc()))
                    .map_err(|_| Fault::user(format!("the time of message {n} is none")))?,
            ),
            None => self.options.at,
        };
        Ok(Message { role, at, text: text.to_owned() })
    }

    fn close(&mut self) -> Result<()> {
        match self.open.take() {
            Some((id, conversation)) => self.put(id, &conversation),
            None => Ok(()),
        }
    }

    fn put(&mut self, id: Value, conversation: &Conversation) -> Result<()> {
        let e = self.embedded.read(conversation);
        self.conversations += 1;
        self.messages += conversation.messages.len() as u64;
        let line = json!({
            "id": id,
            "conversation_summary": e.reading.conversation_summary,
            "key_topics": e.reading.key_topics,
            "sentiment_analysis": e.reading.sentiment_analysis,
            "interaction_patterns": e.pattern,
            "preferences_extracted": e.reading.preferences_extracted,
        });
        wrote(writeln!(self.to, "{line}"))
    }
}
