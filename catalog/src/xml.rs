//! Small XML documents as trees: elements by local name, whatever their namespaces, order and letter case.
//!
//! For answers that fit into memory; feeds are read as streams. Entities other than the five of XML are not known, so a
//! document cannot grow while it is read, and nesting is bounded.

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
    fn what_is_no_such_document_is_refused() {
        let deep = format!("<r>{}", "<a>".repeat(100));
        for bad in ["", "<r>", "<r></a>", "<other/>", "<!DOCTYPE html><r/>", "{}", deep.as_str()] {
            assert!(Node::parse(bad.as_bytes(), "r").is_err(), "{bad}");
        }
    }
}
