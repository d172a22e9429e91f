//! Near names, for messages.

/// The known names that someone may have meant, nearest first.
pub(crate) fn near<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Vec<&'a str> {
    let name = name.to_lowercase();
    let mut scored: Vec<(f64, &str)> = known
        .into_iter()
        .map(|k| (strsim::jaro_winkler(&name, &k.to_lowercase()), k))
        .filter(|(score, _)| *score > 0.8)
        .collect();
    scored.sort_by(|a, b| b.0.total_cmp(&a.0));
    scored.into_iter().take(3).map(|(_, k)| k).collect()
}

/// A hint for an unknown name: the near ones, or all of them.
pub(crate) fn hint<'a>(name: &str, known: impl IntoIterator<Item = &'a str> + Clone) -> String {
    let near = near(name, known.clone());
    if near.is_empty() {
        let all: Vec<_> = known.into_iter().map(|k| format!("`{k}`")).collect();
        if all.is_empty() { "There is none.".to_owned() } else { format!("Known are {}.", all.join(", ")) }
    } else {
        format!("Did you mean {}?", near.iter().map(|k| format!("`{k}`")).collect::<Vec<_>>().join(" or "))
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_typo_finds_its_word() {
        assert_eq!(super::hint("postgers", ["parquet", "postgres", "memory"]), "Did you mean `postgres`?");
        assert_eq!(super::hint("zzz", ["parquet", "postgres"]), "Known are `parquet`, `postgres`.");
    }
}
