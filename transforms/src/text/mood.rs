//! Whether words are glad or cross.

use std::collections::HashMap;
use std::sync::LazyLock;

use super::tokens::{Text, Token};

/// Words by how glad or cross they are, in steps of one from −3 to 3: step, words.
const FEELINGS: &[(f64, &str)] = &[
    (
        3.0,
        "amazing awesome excellent fantastic perfect wonderful incredible outstanding superb delighted thrilled ecstatic best love loved loves adore",
    ),
    (
        2.0,
        "great happy excited beautiful lovely impressed glad appreciate appreciated brilliant enjoy enjoyed favorite gorgeous pleased terrific yay sweet \
           fabulous stunning spotless friendly recommend wow helpful loving welcoming charming",
    ),
    (
        1.0,
        "good nice thanks thank fine ok okay cool works better comfortable convenient clean safe interested interesting like liked easy quick pleasant \
           pretty quiet reasonable sure yes welcome fair affordable spacious bright cozy modern super hope hopefully enough",
    ),
    (
        -1.0,
        "unfortunately sorry expensive pricey small noisy late slow worried worry confused confusing unsure doubt concern concerned issue problem problems \
            hard difficult unclear old dark tight wait waiting stuck missing busy sad tired loud odd weird darn lame ugh unavailable meh",
    ),
    (
        -2.0,
        "bad annoyed annoying disappointed disappointing frustrated frustrating dirty rude broken unacceptable unhappy upset ridiculous useless poor \
            unsafe leak leaking complaint complain hate mess stress stressed fail failed failing sick wrong waste overpriced shady ignored yuck unprofessional \
            unhelpful unreasonable mold roaches cancel refund lied misleading bugs",
    ),
    (
        -3.0,
        "terrible horrible awful worst disgusting scam furious nightmare pathetic angry appalling filthy infested fraud garbage hated hates lawsuit",
    ),
];

/// Words that say more of the next, and those that say less.
const MORE: &[&str] = &[
    "very",
    "really",
    "so",
    "extremely",
    "absolutely",
    "super",
    "totally",
    "incredibly",
    "truly",
    "too",
    "such",
    "completely",
    "most",
    "quite",
];
const LESS: &[&str] = &["slightly", "somewhat", "kinda", "bit", "little", "fairly", "almost", "barely", "hardly"];

static FELT: LazyLock<HashMap<&'static str, f64>> = LazyLock::new(|| {
    FEELINGS.iter().flat_map(|(step, words)| words.split_whitespace().map(move |w| (w, *step))).collect()
});

/// The mood of a text, −1 to 1: the sum of its words' feelings, turned by a denial shortly before, squeezed so that many words
/// do not count without end. Text without a feeling word gives 0.
pub fn sentiment(text: &str) -> f64 {
    squeeze(feeling(&Text::new(text)))
}

fn squeeze(sum: f64) -> f64 {
    sum / (sum * sum + 12.0).sqrt()
}

/// The mood over several messages: each counts by itself, the last ones a little more.
pub(super) fn over(texts: &[Text<'_>]) -> f64 {
    let (mut sum, mut weights) = (0.0, 0.0);
    for (n, text) in texts.iter().enumerate() {
        let felt = squeeze(feeling(text));
        // What carries no feeling says little about the mood.
        let weight = if felt == 0.0 { 0.25 } else { 1.0 + n as f64 / texts.len() as f64 };
        sum += felt * weight;
        weights += weight;
    }
    if weights > 0.0 { (sum / weights).clamp(-1.0, 1.0) } else { 0.0 }
}

fn feeling(text: &Text<'_>) -> f64 {
    let mut sum = 0.0;
    for run in &text.sentences {
        let tokens = &text.tokens[run.clone()];
        let turn = tokens.iter().position(|t| t.is(&["but", "however"]));
        let loud = tokens.iter().rev().take_while(|t| t.is(&["!"])).count().min(3) as f64;
        let mut clause = 0.0;
        for (at, token) in tokens.iter().enumerate() {
            let Some(step) = FELT.get(&*token.word) else { continue };
            // `I would like`, `looking for a nice place`, `a safe area`: wishes, not feelings.
            if wish(tokens, at) {
                continue;
            }
            let mut felt = *step;
            let before = &tokens[at.saturating_sub(3)..at];
            if before.iter().any(|t| t.is(MORE)) {
                felt *= 1.3;
            }
            if before.iter().any(|t| t.is(LESS)) {
                felt *= 0.6;
            }
            let shouted = token.text.len() > 2
                && token.text.chars().all(char::is_uppercase)
                && tokens.iter().any(|t| t.text.chars().any(char::is_lowercase));
            if shouted {
                felt *= 1.25;
            }
            if before.iter().any(|t| {
                t.is(&["not", "no", "never", "without", "hardly", "isn't", "nothing"]) || t.word.ends_with("n't")
            }) {
                felt *= if felt > 0.0 { -0.75 } else { -0.5 };
            }
            clause += match turn {
                Some(but) if at < but => felt * 0.6,
                Some(_) => felt * 1.3,
                None => felt,
            };
        }
        sum += clause * (1.0 + 0.1 * loud);
    }
    sum
}

fn wish(tokens: &[Token<'_>], at: usize) -> bool {
    let token = &tokens[at];
    let before = &tokens[at.saturating_sub(4)..at];
    let hoped = before.iter().any(|t| t.is(&["would", "i'd", "want", "need", "looking", "find", "prefer", "we'd"]));
    (token.is(&["like", "love"]) && hoped)
        || (token.is(&["like"])
            && before
                .last()
                .is_some_and(|t| t.is(&["look", "looks", "something", "sounds", "is", "what", "it", "that's"])))
        || (hoped
            && token.is(&[
                "nice",
                "good",
                "safe",
                "quiet",
                "clean",
                "spacious",
                "modern",
                "bright",
                "affordable",
                "better",
                "small",
                "cozy",
                "friendly",
                "pretty",
                "comfortable",
            ]))
        || (token.is(&["friendly"]) && before.iter().any(|t| t.is(&["pet", "pets", "dog", "cat"])))
        || (token.is(&["pretty", "super"]) && tokens.get(at + 1).is_some_and(|t| FELT.contains_key(&*t.word)))
        || (token.is(&["hard", "old", "late"])
            && tokens.get(at + 1).is_some_and(|t| t.is(&["wood", "june", "july", "august", "may"])))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn glad_words_are_glad_and_denied_ones_are_not() {
        for glad in ["This is great, thank you!", "I love it", "not bad at all", "Perfect, that works"] {
            assert!(sentiment(glad) > 0.1, "{glad}: {}", sentiment(glad));
        }
        for cross in [
            "This is not good",
            "the office was rude and the unit is dirty",
            "Nice kitchen, but the rest is a nightmare",
        ] {
            assert!(sentiment(cross) < -0.1, "{cross}: {}", sentiment(cross));
        }
        for plain in ["", "I would like a nice 2 bedroom", "When is it available?"] {
            assert!(sentiment(plain).abs() < 0.1, "{plain}: {}", sentiment(plain));
        }
        assert!(sentiment(&"amazing ".repeat(5_000)) <= 1.0);
    }
}
