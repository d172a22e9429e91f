//! How a conversation went.

use chrono::Timelike;

use super::tokens::Text;
use super::wishes::asks;
use super::{Conversation, Pattern, Role};

/// Counts messages, turns, questions and times.
pub fn pattern(conversation: &Conversation) -> Pattern {
    let mut p = Pattern { messages: conversation.messages.len(), ..Pattern::default() };
    let (mut words, mut waits, mut answers) = (0_usize, Vec::new(), Vec::new());
    let mut former: Option<&super::Message> = None;
    for message in &conversation.messages {
        if former.is_none_or(|f| f.role != message.role) {
            p.turns += 1;
            if let Some((before, at)) = former.and_then(|f| f.at).zip(message.at) {
                let secs = (at - before).num_seconds().max(0);
                if message.role == Role::Renter { waits.push(secs) } else { answers.push(secs) }
            }
        }
        if message.role == Role::Renter {
            let text = Text::new(&message.text);
            p.renter_messages += 1;
            words += text.tokens.iter().filter(|t| t.wordy() || t.number.is_some()).count();
            p.questions += text.sentences.iter().filter(|run| asks(&text, (*run).clone())).count();
            if let Some(at) = message.at {
                let hour = conversation.zone.map_or_else(|| at.hour(), |zone| at.with_timezone(&zone).hour());
                *p.hours.entry(hour).or_default() += 1;
            }
        }
        former = Some(message);
    }
    if p.renter_messages > 0 {
        p.words_per_message = (words as f64 / p.renter_messages as f64 * 10.0).round() / 10.0;
    }
    let times = || conversation.messages.iter().filter_map(|m| m.at);
    p.span_secs = times().min().zip(times().max()).map(|(first, last)| (last - first).num_seconds());
    p.renter_reply_secs = median(waits);
    p.agent_reply_secs = median(answers);
    p.awaits_answer = former.is_some_and(|m| m.role == Role::Renter);
    p
}

fn median(mut secs: Vec<i64>) -> Option<i64> {
    secs.sort_unstable();
    secs.get(secs.len() / 2).copied()
}
