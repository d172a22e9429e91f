//! Message templates: a line `Subject: …`, an empty line, the text; `{{name}}` is put in.

use std::collections::BTreeMap;
use std::path::Path;

use catalog::{Fault, Result};

use crate::names;

/// What a template may put in.
pub const PLACEHOLDERS: &[&str] = &[
    "booking_code",
    "check_in",
    "check_in_time",
    "check_out",
    "check_out_time",
    "due_date",
    "due_time",
    "former_due_date",
    "former_due_time",
    "guest_count",
    "guest_name",
    "nights",
    "note",
    "owner_name",
    "platform",
    "property_name",
    "service_type",
    "staff_name",
];

macro_rules! built_in {
    ($($name:literal),*) => { &[$(($name, include_str!(concat!("../../templates/", $name, ".txt")))),*] };
}

const BUILT_IN: &[(&str, &str)] = built_in![
    "guest_concierge",
    "guest_confirmed",
    "guest_feedback",
    "guest_housekeeping",
    "guest_moved",
    "guest_welcome",
    "guest_withdrawn",
    "owner_arrival",
    "owner_moved",
    "owner_request",
    "owner_summary",
    "owner_withdrawn",
    "staff_moved",
    "staff_task",
    "staff_withdrawn"
];

/// A piece of a template.
#[derive(Debug, Clone)]
enum Piece {
    Text(String),
    Value(&'static str),
}

/// One template, checked.
#[derive(Debug, Clone)]
struct Template {
    subject: Vec<Piece>,
    text: Vec<Piece>,
}

/// Every template by name.
#[derive(Debug, Clone)]
pub struct Templates(BTreeMap<String, Template>);

/// The values of one message, by placeholder. One that is not there is put in as nothing.
pub type Values = BTreeMap<&'static str, String>;

impl Templates {
    /// The built-in templates, and over them those of the folder `templates` beside the pipeline files.
    ///
    /// # Errors
    /// When a file cannot be read or names something that cannot be put in: noticed at the start, not when a guest waits.
    pub fn load(specs: Option<&Path>) -> Result<Self> {
        let mut all = BTreeMap::new();
        for (name, text) in BUILT_IN {
            all.insert((*name).to_owned(), parse(text).map_err(|f| f.at(format!("template `{name}`")))?);
        }
        let folder = specs.map(|specs| specs.join("templates")).filter(|folder| folder.is_dir());
        if let Some(folder) = folder {
            let unreadable = |e: std::io::Error| {
                Fault::user(format!("the templates in `{}` cannot be read", folder.display())).because(e)
            };
            for entry in std::fs::read_dir(&folder).map_err(unreadable)? {
                let path = entry.map_err(unreadable)?.path();
                let Some(name) = path.file_stem().and_then(|s| s.to_str()).map(str::to_owned) else { continue };
                if path.extension().is_none_or(|e| e != "txt") {
                    continue;
                }
                let text = std::fs::read_to_string(&path).map_err(unreadable)?;
                let template = parse(&text).map_err(|f| f.at(format!("template `{}`", path.display())))?;
                all.insert(name, template);
            }
        }
        Ok(Self(all))
    }

    /// Subject and text of a message.
    ///
    /// # Errors
    /// When there is no such template.
    pub fn render(&self, name: &str, values: &Values) -> Result<(String, String)> {
        let template = self.0.get(name).ok_or_else(|| {
            Fault::user(format!("there is no template `{name}`"))
                .hint(names::hint(name, self.0.keys().map(String::as_str)))
        })?;
        Ok((fill(&template.subject, values), fill(&template.text, values)))
    }
}

fn fill(pieces: &[Piece], values: &Values) -> String {
    pieces.iter().fold(String::new(), |mut out, piece| {
        match piece {
            Piece::Text(text) => out.push_str(text),
            // Values come from outside: whatever breaks a line there would pass for the template's own words.
            Piece::Value(name) => {
                let value = values.get(name).map(String::as_str).unwrap_or_default();
                let words = value.split(|c: char| c.is_whitespace() || c.is_control()).filter(|w| !w.is_empty());
                out.push_str(&words.collect::<Vec<_>>().join(" "));
            }
        }
        out
    })
}

fn parse(text: &str) -> Result<Template> {
    let text = text.replace("\r\n", "\n");
    let parts = text.strip_prefix("Subject:").and_then(|rest| rest.split_once("\n\n"));
    let (subject, body) = parts
        .filter(|(subject, _)| !subject.contains('\n'))
        .ok_or_else(|| Fault::user("a template begins with one line `Subject: …` and an empty line"))?;
    Ok(Template { subject: pieces(subject.trim())?, text: pieces(body)? })
}

fn pieces(text: &str) -> Result<Vec<Piece>> {
    let mut out = Vec::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("{{") {
        let (name, behind) = after.split_once("}}").ok_or_else(|| Fault::user("a `{{` is not closed"))?;
        let name = name.trim();
        let known = PLACEHOLDERS.iter().find(|known| **known == name).ok_or_else(|| {
            Fault::user(format!("`{{{{{name}}}}}` cannot be put in"))
                .hint(names::hint(name, PLACEHOLDERS.iter().copied()))
        })?;
        out.push(Piece::Text(before.to_owned()));
        out.push(Piece::Value(known));
        rest = behind;
    }
    out.push(Piece::Text(rest.to_owned()));
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_put_in_is_refused_when_read() {
        assert!(parse("Subject: a\n\n{{guest_name}} {{ nights }}").is_ok());
        assert!(parse("Subject: a\n\n{{gest_name}}").unwrap_err().message.contains("`{{gest_name}}`"));
        for wrong in ["no subject", "Subject: a\nb\n\nc", "Subject: a\n\n{{guest_name"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_value_neither_breaks_a_line_nor_is_a_template() {
        let template = parse("Subject: for {{guest_name}}\n\nDear {{guest_name}},\n").unwrap();
        let values = Values::from([("guest_name", "Ana\r\nBcc: {{note}}".to_owned()), ("note", "secret".to_owned())]);
        assert_eq!(fill(&template.subject, &values), "for Ana Bcc: {{note}}");
        assert_eq!(fill(&template.text, &values), "Dear Ana Bcc: {{note}},\n");
    }

    #[test]
    fn the_built_in_ones_are_sound() {
        assert_eq!(Templates::load(None).unwrap().0.len(), BUILT_IN.len());
    }
}
