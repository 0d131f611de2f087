//! Debian version numbers: their order (Debian Policy 5.6.12) and the relations of dependency
//! fields (7.1). It compares text; it knows nothing about packages.

use std::cmp::Ordering;

/// Orders two versions of the form `[epoch:]upstream[-revision]`.
pub(crate) fn compare(a: &str, b: &str) -> Ordering {
    let (a_epoch, a_upstream, a_revision) = split(a);
    let (b_epoch, b_upstream, b_revision) = split(b);
    compare_part(a_epoch, b_epoch)
        .then_with(|| compare_part(a_upstream, b_upstream))
        .then_with(|| compare_part(a_revision, b_revision))
}

/// The upstream part of a version: no epoch, no Debian revision.
pub(crate) fn upstream(version: &str) -> &str {
    split(version).1
}

/// A relation such as `(>= 2.36)`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Constraint<'a> {
    relation: Relation,
    pub(crate) version: &'a str,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Relation {
    Earlier,
    EarlierOrEqual,
    Equal,
    LaterOrEqual,
    Later,
}

impl<'a> Constraint<'a> {
    /// Reads what stands between the parentheses; `None` when it is not a relation.
    pub(crate) fn parse(text: &'a str) -> Option<Self> {
        let text = text.trim();
        let (relation, version) = [
            ("<<", Relation::Earlier),
            ("<=", Relation::EarlierOrEqual),
            (">=", Relation::LaterOrEqual),
            (">>", Relation::Later),
            ("=", Relation::Equal),
        ]
        .into_iter()
        .find_map(|(spelling, relation)| Some((relation, text.strip_prefix(spelling)?.trim())))?;
        (!version.is_empty()).then_some(Self { relation, version })
    }

    /// Whether `version` is one this relation accepts.
    pub(crate) fn accepts(&self, version: &str) -> bool {
        let order = compare(version, self.version);
        match self.relation {
            Relation::Earlier => order == Ordering::Less,
            Relation::EarlierOrEqual => order != Ordering::Greater,
            Relation::Equal => order == Ordering::Equal,
            Relation::LaterOrEqual => order != Ordering::Less,
            Relation::Later => order == Ordering::Greater,
        }
    }
}

fn split(version: &str) -> (&str, &str, &str) {
    let (epoch, rest) = version.split_once(':').unwrap_or(("0", version));
    let (upstream, revision) = rest.rsplit_once('-').unwrap_or((rest, "0"));
    (epoch, upstream, revision)
}

/// Compares alternating runs of other characters and digits, as the policy describes.
fn compare_part(mut a: &str, mut b: &str) -> Ordering {
    while !a.is_empty() || !b.is_empty() {
        let (a_text, a_rest) = take(a, |c| !c.is_ascii_digit());
        let (b_text, b_rest) = take(b, |c| !c.is_ascii_digit());
        let (a_digits, a_next) = take(a_rest, |c| c.is_ascii_digit());
        let (b_digits, b_next) = take(b_rest, |c| c.is_ascii_digit());
        let order = compare_text(a_text, b_text).then_with(|| compare_number(a_digits, b_digits));
        if order != Ordering::Equal {
            return order;
        }
        (a, b) = (a_next, b_next);
    }
    Ordering::Equal
}

fn take(text: &str, wanted: impl Fn(char) -> bool) -> (&str, &str) {
    text.split_at(text.find(|c| !wanted(c)).unwrap_or(text.len()))
}

/// `~` sorts before the end of the text, letters before everything else.
fn compare_text(a: &str, b: &str) -> Ordering {
    let weight = |c: Option<char>| match c {
        Some('~') => (0, '\0'),
        None => (1, '\0'),
        Some(c) if c.is_ascii_alphabetic() => (2, c),
        Some(c) => (3, c),
    };
    let (mut a, mut b) = (a.chars(), b.chars());
    loop {
        let (x, y) = (a.next(), b.next());
        match weight(x).cmp(&weight(y)) {
            Ordering::Equal if x.is_none() => return Ordering::Equal,
            Ordering::Equal => {}
            order => return order,
        }
    }
}

/// Compares numbers of any length: without leading zeros, the longer one is greater.
fn compare_number(a: &str, b: &str) -> Ordering {
    let (a, b) = (a.trim_start_matches('0'), b.trim_start_matches('0'));
    a.len().cmp(&b.len()).then_with(|| a.cmp(b))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_in_policy_order() {
        // Each list ascends; every pair in it is compared both ways.
        let lists: &[&[&str]] = &[
            &["1.0~~", "1.0~~a", "1.0~", "1.0", "1.0a", "1.0+b"],
            &["1.0~rc1-1", "1.0-1", "1.0-1+b1", "1.0-1+b2", "1.0-1.1", "1.0-2", "1.0.1-1"],
            &["9", "10", "100", "1:1", "1:1.5", "2:0.1"],
            &["1:22.1.8-1~deb13u4", "1:22.1.8-1", "1:22.1.8-1+b1"],
            &["2.36-9+deb12u9", "2.36-9+deb12u10"],
            &["2025.12.24.1+ds-1", "2025.12.24.2"],
            &["99999999999999999999998", "99999999999999999999999", "100000000000000000000000"],
            &["1-2-1", "1-3-1", "1-10-1"],
        ];
        for list in lists {
            for (i, a) in list.iter().enumerate() {
                for (j, b) in list.iter().enumerate() {
                    assert_eq!(compare(a, b), i.cmp(&j), "{a} against {b}");
                }
            }
        }
    }

    #[test]
    fn spellings_of_the_same_version_are_equal() {
        for (a, b) in [("1.0", "0:1.0"), ("1.0", "1.0-0"), ("1.00", "1.0"), ("1.0-01", "1.0-1")] {
            assert_eq!(compare(a, b), Ordering::Equal, "{a} against {b}");
        }
    }

    #[test]
    fn constraints_accept_what_they_say() {
        let accepts =
            |constraint: &str, version: &str| Constraint::parse(constraint).is_some_and(|c| c.accepts(version));
        assert!(accepts(">= 2.36", "2.36-9"));
        assert!(!accepts(">= 2.36", "2.36~rc1"));
        assert!(accepts("= 1:22.1.8-1~deb13u4", "1:22.1.8-1~deb13u4"));
        assert!(!accepts("= 14.2.0-19", "14.2.0-19+b1"));
        assert!(accepts("<< 3", "2.99"));
        assert!(!accepts("<< 3", "3"));
        assert!(accepts("<= 3", "3"));
        assert!(accepts(">> 3", "3.0.1"));
        assert!(!accepts(">> 3", "3"));
        assert_eq!(Constraint::parse("> 3"), None);
        assert_eq!(Constraint::parse(">="), None);
    }

    #[test]
    fn upstream_part() {
        assert_eq!(upstream("1:22.1.8-1~deb13u4"), "22.1.8");
        assert_eq!(upstream("17.11-0+deb13u1"), "17.11");
        assert_eq!(upstream("0.8.0"), "0.8.0");
    }
}
