//! The reader that needs nothing outside.

use async_trait::async_trait;
use catalog::Result;

use super::tokens::Text;
use super::{Conversation, Enricher, Enrichment, Reading, Role, Sentiment, mood, pattern, summary, topics, wishes};

/// Reads by rules. The same conversation gives the same reading, on every machine.
#[derive(Debug, Clone)]
pub struct Embedded {
    region: String,
}

impl Default for Embedded {
    fn default() -> Self {
        Self { region: "US".to_owned() }
    }
}

impl Embedded {
    /// A reader for phones without a country code of this country.
    pub fn new(region: &str) -> Self {
        Self { region: region.to_owned() }
    }

    /// Reads a conversation at once.
    pub fn read(&self, conversation: &Conversation) -> Enrichment {
        let pattern = pattern(conversation);
        let own = conversation.messages.iter().filter(|m| m.role == Role::Renter);
        let texts: Vec<Text<'_>> = own.map(|m| Text::new(&m.text)).collect();
        let key_topics = topics::over(texts.iter());
        let sentiment_analysis = Sentiment::of(mood::over(&texts));
        let preferences_extracted = wishes::read(conversation, &self.region);
        let conversation_summary = summary::write(&preferences_extracted, &key_topics, &sentiment_analysis, &pattern);
        let reading = Reading { conversation_summary, key_topics, sentiment_analysis, preferences_extracted };
        Enrichment { reading, pattern, reader: "embedded".to_owned(), fallback: None }
    }
}

#[async_trait]
impl Enricher for Embedded {
    async fn enrich(&self, conversation: &Conversation) -> Result<Enrichment> {
        Ok(self.read(conversation))
    }
}
