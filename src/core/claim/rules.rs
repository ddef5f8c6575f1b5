//! The rules that tests can switch off one at a time, to see that the search of `tests/claim_search` notices.
//!
//! `rule!(Name, kept, off: broken)` is `kept`: what is behind `off:` is compiled into the library's own tests only.

/// The expression that keeps a rule; in tests, with that rule switched off, the one that breaks it.
macro_rules! rule {
    ($rule:ident, $kept:expr, off: $broken:expr) => {{
        #[cfg(test)]
        let it = if $crate::core::claim::rules::off($crate::core::claim::rules::Rule::$rule) { $broken } else { $kept };
        #[cfg(not(test))]
        let it = $kept;
        it
    }};
}
pub(crate) use rule;

#[cfg(test)]
pub(crate) use list::{Rule, every_rule, off, without};
#[cfg(test)]
#[path = "../../../tests/claim_search/rules.rs"]
mod list;
