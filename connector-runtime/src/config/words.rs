//! Words for messages: what was probably meant, and what is allowed.

/// Help for a word that is none of the allowed ones.
pub(super) fn suggestion(found: &str, words: &[&'static str]) -> String {
    match nearest(found, words.iter().copied()) {
        Some(similar) => format!("did you mean `{similar}`?"),
        None => format!("write {}", or_list(words)),
    }
}

/// The word that was probably meant.
pub(super) fn nearest<'w>(found: &str, words: impl Iterator<Item = &'w str>) -> Option<&'w str> {
    let found = found.to_lowercase();
    let distance = |word: &str| strsim::damerau_levenshtein(&found, word);
    let best = words.min_by_key(|word| distance(word))?;
    let length = found.chars().count().min(best.chars().count());
    (distance(best) <= (length / 3).max(1)).then_some(best)
}

/// `a`, `b` or `c`.
pub(super) fn or_list(words: &[&str]) -> String {
    let quoted: Vec<String> = words.iter().map(|word| format!("`{word}`")).collect();
    match quoted.split_last() {
        Some((last, first)) if !first.is_empty() => format!("{} or {last}", first.join(", ")),
        Some((last, _)) => last.clone(),
        None => String::new(),
    }
}
