//! Stanzas of `Field: value` lines, the format of Debian's control files, indexes and apt sources.
//! It splits text; the caller interprets the fields.

/// One stanza: fields in the order of the text.
#[derive(Debug, Default, Clone)]
pub(crate) struct Stanza<'a> {
    /// Name and the text up to the next field, continuation lines included as they stand.
    fields: Vec<(&'a str, &'a str)>,
}

impl<'a> Stanza<'a> {
    /// The value of a field; names are compared without case, as the format wants.
    pub(crate) fn get(&self, name: &str) -> Option<&'a str> {
        self.fields.iter().find(|(field, _)| field.eq_ignore_ascii_case(name)).map(|(_, value)| *value)
    }

    /// The text of the first line of a field.
    pub(crate) fn first_line(&self, name: &str) -> Option<&'a str> {
        self.get(name).map(|value| value.lines().next().unwrap_or_default().trim())
    }
}

/// Splits a text at its empty lines. Lines that are neither a field nor a continuation are skipped.
pub(crate) fn stanzas(text: &str) -> impl Iterator<Item = Stanza<'_>> {
    let mut rest = text;
    std::iter::from_fn(move || {
        loop {
            if rest.is_empty() {
                return None;
            }
            let stanza = next_stanza(&mut rest);
            if !stanza.fields.is_empty() {
                return Some(stanza);
            }
        }
    })
}

fn next_stanza<'a>(rest: &mut &'a str) -> Stanza<'a> {
    let mut stanza = Stanza::default();
    // Field that is being read: its name and where its value starts and ends in `text`.
    let mut open: Option<(&'a str, usize, usize)> = None;
    let text = *rest;
    let mut position = 0;
    while position < text.len() {
        let end = text[position..].find('\n').map_or(text.len(), |i| position + i);
        let line = &text[position..end];
        let start = position;
        position = (end + 1).min(text.len());
        if line.trim().is_empty() {
            break;
        }
        if line.starts_with([' ', '\t']) {
            if let Some((_, _, value_end)) = &mut open {
                *value_end = end;
            }
            continue;
        }
        if let Some((name, from, to)) = open.take() {
            stanza.fields.push((name, text[from..to].trim()));
        }
        if let Some((name, _)) = line.split_once(':') {
            open = Some((name.trim(), start + name.len() + 1, end));
        }
    }
    if let Some((name, from, to)) = open {
        stanza.fields.push((name, text[from..to].trim()));
    }
    *rest = &text[position..];
    stanza
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_continuations_and_stanzas() {
        let text =
            "\n\nPackage: a\nDescription: short\n long\n .\n more\nEmpty:\n\n \nPackage: b\r\nnonsense\nversion:1\n";
        let found: Vec<_> = stanzas(text).collect();
        assert_eq!(found.len(), 2);
        assert_eq!(found[0].get("package"), Some("a"));
        assert_eq!(found[0].get("Description"), Some("short\n long\n .\n more"));
        assert_eq!(found[0].first_line("Description"), Some("short"));
        assert_eq!(found[0].get("Empty"), Some(""));
        assert_eq!(found[1].get("Package"), Some("b"));
        assert_eq!(found[1].get("Version"), Some("1"));
        assert_eq!(found[1].get("Absent"), None);
    }

    #[test]
    fn nothing_in_nothing() {
        assert_eq!(stanzas("").count(), 0);
        assert_eq!(stanzas("\n\n\n").count(), 0);
    }
}
