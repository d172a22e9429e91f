//! Small XML documents as trees: elements by local name, whatever their namespaces, order and letter case.
//!
//! For answers that fit into memory; feeds are read as streams. Entities other than the five of XML are not known, so a
//! document cannot grow while it is read, and nesting is bounded.

use std::borrow::Cow;
use std::fmt::Write as _;

use quick_xml::escape::{escape, resolve_predefined_entity, unescape};
use quick_xml::events::{BytesStart, Event as Xml};
use quick_xml::reader::Reader;

use crate::{Fault, Result};

/// Elements inside elements that are still read.
const DEEPEST: usize = 64;

/// One element.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Node {
    /// Its local name.
    pub name: String,
    /// Its attributes: local name and value.
    pub attributes: Vec<(String, String)>,
    /// Its own text, all pieces joined.
    pub text: String,
    /// The elements inside it, in order.
    pub children: Vec<Node>,
}

impl Node {
    /// Reads a document whose outermost element has this name.
    ///
    /// # Errors
    /// When it is malformed, cut off, nested too deeply or another document, such as a page for people.
    pub fn parse(body: &[u8], root: &str) -> Result<Self> {
        let unusable = |what: &str| Fault::remote(format!("the XML is {what}"));
        let mut reader = Reader::from_reader(body);
        let mut open: Vec<Node> = vec![Node::default()];
        loop {
            match reader.read_event().map_err(|_| unusable("malformed"))? {
                Xml::Start(start) => {
                    if open.len() > DEEPEST {
                        return Err(unusable("nested too deeply"));
                    }
                    open.push(Node::of(&start));
                }
                Xml::Empty(start) => {
                    let node = Node::of(&start);
                    if let Some(parent) = open.last_mut() {
                        parent.children.push(node);
                    }
                }
                Xml::End(_) => {
                    let done = open.pop().filter(|_| !open.is_empty()).ok_or_else(|| unusable("malformed"))?;
                    if let Some(parent) = open.last_mut() {
                        parent.children.push(done);
                    }
                }
                Xml::Text(text) => push(&mut open, &text),
                Xml::CData(text) => push(&mut open, &text),
                Xml::GeneralRef(name) => {
                    let text = quick_xml::escape::unescape(&format!("&{};", &*name)).unwrap_or_default().into_owned();
                    push(&mut open, &text);
                }
                Xml::DocType(_) => return Err(unusable("an HTML page or has a document type")),
                Xml::Eof => break,
                _ => {}
            }
        }
        match (open.len(), open.pop().and_then(|root| root.children.into_iter().next())) {
            (1, Some(found)) if found.name.eq_ignore_ascii_case(root) => Ok(found),
            (1, _) => Err(unusable("some other document")),
            _ => Err(unusable("cut off")),
        }
    }

    fn of(start: &BytesStart<'_>) -> Self {
        let attributes = start.attributes().flatten().map(|a| {
            let value = quick_xml::escape::unescape(&a.value).unwrap_or_default().into_owned();
            (a.key.local_name().into_inner().to_owned(), value)
        });
        Node { name: start.local_name().into_inner().to_owned(), attributes: attributes.collect(), ..Node::default() }
    }

    /// The first element of that name inside it.
    pub fn child(&self, name: &str) -> Option<&Node> {
        self.children.iter().find(|c| c.name.eq_ignore_ascii_case(name))
    }

    /// The elements of that name inside it.
    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Node> {
        self.children.iter().filter(move |c| c.name.eq_ignore_ascii_case(name))
    }

    /// The text of the first element of that name, if it has any.
    pub fn text_of(&self, name: &str) -> Option<String> {
        self.child(name).map(|c| c.text.trim().to_owned()).filter(|t| !t.is_empty())
    }

    /// The attribute of that name, if it has a value.
    pub fn attribute(&self, name: &str) -> Option<String> {
        let found = self.attributes.iter().find(|(key, _)| key.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.trim().to_owned()).filter(|v| !v.is_empty())
    }
}

fn push(open: &mut [Node], text: &str) {
    if let Some(node) = open.last_mut() {
        node.text.push_str(text);
    }
}

/// A document written anew: without the elements and attributes whose local name `drops` names, with all inside of them,
/// and with its texts and values as `text` gives them back, which is told in which element or attribute they stand. Comments and instructions go too. `None` when it is not whole
/// and well-formed, or has a document type. It may be nested without end.
pub fn without(
    document: &str,
    drops: impl Fn(&str) -> bool,
    text: impl Fn(&str, &str) -> Option<String>,
) -> Option<String> {
    let mut reader = Reader::from_str(document);
    reader.config_mut().expand_empty_elements = true;
    let mut out = String::with_capacity(document.len());
    // Pieces of one text are looked at together: a reference may stand amid it.
    let mut said = String::new();
    let mut open: Vec<String> = Vec::new();
    let (mut dropped, mut seen, mut hollow) = (0_usize, false, false);
    loop {
        let event = reader.read_event().ok()?;
        match &event {
            Xml::Text(piece) => said.push_str(piece),
            Xml::CData(piece) => said.push_str(piece),
            Xml::GeneralRef(name) => match resolve_predefined_entity(name) {
                Some(resolved) => said.push_str(resolved),
                None => said.push(name.resolve_char_ref().ok().flatten()?),
            },
            _ if said.is_empty() => {}
            _ => {
                let said = std::mem::take(&mut said);
                match open.last() {
                    None if !said.trim().is_empty() => return None,
                    Some(name) if dropped == 0 && !hollow => {
                        out.push_str(&escape(text(name, &said).unwrap_or(said)));
                    }
                    _ => {}
                }
            }
        }
        match event {
            Xml::Start(element) => {
                let name = element.local_name().into_inner();
                // The outermost element stays as a name: a document that is all secret is still that document.
                let outermost = open.is_empty();
                if outermost && std::mem::replace(&mut seen, true) {
                    return None;
                }
                hollow |= outermost && drops(name);
                if !outermost && (dropped > 0 || hollow || drops(name)) {
                    dropped += 1;
                    continue;
                }
                open.push(name.to_owned());
                out.push('<');
                out.push_str(element.name().into_inner());
                for attribute in element.attributes() {
                    let attribute = attribute.ok()?;
                    let name = attribute.key.local_name().into_inner();
                    if !hollow && !drops(name) {
                        let value = unescape(&attribute.value).ok()?;
                        let value = text(name, &value).map_or(value, Cow::Owned);
                        _ = write!(out, " {}=\"{}\"", attribute.key.into_inner(), escape(&*value));
                    }
                }
                out.push('>');
            }
            Xml::End(_) if dropped > 0 => dropped -= 1,
            Xml::End(element) => {
                open.pop()?;
                _ = write!(out, "</{}>", element.name().into_inner());
            }
            Xml::Decl(said) => _ = write!(out, "<?{}?>", &*said),
            Xml::DocType(_) => return None,
            Xml::Eof => return (seen && open.is_empty() && dropped == 0).then_some(out),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_prefixes_and_pieces_of_text_do_not_matter() {
        let text = b"<m:Root xmlns:m='u'><A x:b=' 1 '>a&amp;<![CDATA[<b>]]>&#33;</A><a/><Deep><A>2</A></Deep></m:Root>";
        let root = Node::parse(text, "root").unwrap();
        assert_eq!(root.text_of("a").as_deref(), Some("a&<b>!"));
        assert_eq!(root.child("A").unwrap().attribute("B").as_deref(), Some("1"));
        assert_eq!(root.all("a").count(), 2);
    }

    #[test]
    fn what_is_dropped_leaves_the_rest_as_it_was() {
        let without = |document: &str| {
            let short =
                |name: &str, text: &str| (name != "id" && text.contains("4111")).then(|| text.replace("4111", "-"));
            super::without(document, |name| name.starts_with("card"), short)
        };
        for (document, rest) in [
            ("<a/>", Some("<a></a>")),
            (
                "<?xml version='1.0'?> <n:a xmlns:n='u' n:card='1' b='&lt;4111'>x &amp; y<n:card><a>1</a></n:card><b/></n:a>",
                Some(r#"<?xml version='1.0'?><n:a xmlns:n="u" b="&lt;-">x &amp; y<b></b></n:a>"#),
            ),
            ("<a>4<!-- 4111 -->1<![CDATA[1<]]>&#49;<cards/>4111</a>", Some("<a>411&lt;1-</a>")),
            ("<card n='1'>1<b>2</b></card>", Some("<card></card>")),
            ("<a>41&#49;1<id x='4111'>4111</id></a>", Some("<a>-<id x=\"-\">4111</id></a>")),
            ("<a>", None),
            ("<a><card></a>", None),
            ("<a/><b/>", None),
            ("<card/>x", None),
            ("x", None),
            ("", None),
            ("<a>&x;</a>", None),
            ("<!DOCTYPE a><a/>", None),
        ] {
            assert_eq!(without(document).as_deref(), rest, "{document}");
        }
        let deep = format!("{}{}", "<a>".repeat(100_000), "</a>".repeat(100_000));
        assert_eq!(without(&deep).as_deref(), Some(deep.as_str()));
    }

    #[test]
    fn what_is_no_such_document_is_refused() {
        let deep = format!("<r>{}", "<a>".repeat(100));
        for bad in ["", "<r>", "<r></a>", "<other/>", "<!DOCTYPE html><r/>", "{}", deep.as_str()] {
            assert!(Node::parse(bad.as_bytes(), "r").is_err(), "{bad}");
        }
    }
}
