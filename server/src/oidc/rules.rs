//! From the claims of a token to what its bearer may do.
//!
//! ```text
//! groups=build-farm -> executor:build-*
//! repository=acme/* & ref=refs/heads/main -> harness:ci
//! /realm_access/roles=exec-user -> harness:{preferred_username}
//! groups=operators -> admin
//! ```
//!
//! Left of the arrow are conditions that all have to hold: a claim, and a value that it has, or that is
//! among its values if it has several. Right of it are a role and the environments that it is for: all,
//! those that a pattern fits, or those that a claim names. Rules add up; without a rule that fits there
//! is no right at all.

use std::borrow::Cow;

use serde_json::{Map, Value};

use crate::auth::{Environments, Grant, Role};

/// The claims of a token.
pub(super) type Claims = Map<String, Value>;

/// Gives those whose claims fit a role.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    conditions: Vec<Condition>,
    role: Role,
    environments: Wanted,
    text: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Condition {
    claim: Claim,
    value: Pattern,
}

/// Which environments a rule is for.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Wanted {
    All,
    Matching(Pattern),
    NamedBy(Claim),
}

/// Where in a token something is: the name of a claim, or a JSON pointer into the claims.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Claim(String);

/// A text in which `*` stands for any characters, or none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Pattern(String);

impl Rule {
    fn grant(&self, claims: &Claims) -> Option<Grant> {
        let holds = |condition: &Condition| {
            let mut values = condition.claim.values(claims).into_iter();
            values.any(|value| condition.value.fits(&value))
        };
        if !self.conditions.iter().all(holds) {
            return None;
        }
        let environments = match &self.environments {
            Wanted::All => Environments::All,
            Wanted::Matching(pattern) => Environments::Matching(pattern.clone()),
            Wanted::NamedBy(claim) => {
                let names = claim.values(claims).into_iter();
                Environments::Named(names.map(Cow::into_owned).collect())
            }
        };
        Some(Grant {
            role: self.role,
            environments,
        })
    }
}

/// What all rules together give.
pub(super) fn grants(rules: &[Rule], claims: &Claims) -> Vec<Grant> {
    rules.iter().filter_map(|rule| rule.grant(claims)).collect()
}

impl settings::Value for Rule {
    fn parse(text: &str) -> Result<Self, String> {
        let (left, right) = text.rsplit_once("->").ok_or(EXPECTED_RULE)?;
        let conditions = left
            .split(" & ")
            .map(Condition::parse)
            .collect::<Result<_, _>>()?;
        let (role, environments) = match right.split_once(':') {
            None => (right, Wanted::All),
            Some((role, environments)) => (role, Wanted::parse(environments.trim())?),
        };
        Ok(Self {
            conditions,
            role: Role::parse(role.trim()).ok_or(EXPECTED_ROLE)?,
            environments,
            text: text.trim().to_owned(),
        })
    }

    fn show(&self) -> String {
        self.text.clone()
    }
}

impl std::str::FromStr for Rule {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        settings::Value::parse(text)
    }
}

impl Condition {
    fn parse(text: &str) -> Result<Self, &'static str> {
        let (claim, value) = text.split_once('=').ok_or(EXPECTED_RULE)?;
        let value = value.trim();
        if value.is_empty() {
            return Err(EXPECTED_RULE);
        }
        Ok(Self {
            claim: Claim::parse(claim.trim())?,
            value: Pattern(value.to_owned()),
        })
    }
}

impl Wanted {
    fn parse(text: &str) -> Result<Self, &'static str> {
        let claim = text
            .strip_prefix('{')
            .and_then(|rest| rest.strip_suffix('}'));
        match claim {
            Some(claim) => Claim::parse(claim).map(Self::NamedBy),
            None if text.is_empty() => Err(EXPECTED_ENVIRONMENT),
            None => Ok(Self::Matching(Pattern(text.to_owned()))),
        }
    }
}

impl Claim {
    fn parse(text: &str) -> Result<Self, &'static str> {
        if text.is_empty() || text.contains(char::is_whitespace) {
            return Err(EXPECTED_RULE);
        }
        Ok(Self(text.to_owned()))
    }

    /// The values of the claim as texts: one, several, or none.
    fn values<'a>(&self, claims: &'a Claims) -> Vec<Cow<'a, str>> {
        let Some(rest) = self.0.strip_prefix('/') else {
            let value = claims.get(&self.0);
            // OAuth has them as one text with spaces between (RFC 6749, 3.3).
            let is_scope = matches!(self.0.as_str(), "scope" | "scp");
            return match value {
                Some(Value::String(text)) if is_scope => {
                    text.split(' ').map(Cow::Borrowed).collect()
                }
                value => texts(value),
            };
        };
        let (name, below) = match rest.split_once('/') {
            Some((name, below)) => (name, Some(below)),
            None => (rest, None),
        };
        let unescaped = name.replace("~1", "/").replace("~0", "~");
        let value = claims.get(&unescaped);
        texts(match below {
            Some(below) => value.and_then(|value| value.pointer(&format!("/{below}"))),
            None => value,
        })
    }
}

fn texts(value: Option<&Value>) -> Vec<Cow<'_, str>> {
    match value {
        Some(Value::Array(values)) => values.iter().filter_map(text).collect(),
        Some(value) => text(value).into_iter().collect(),
        None => Vec::new(),
    }
}

fn text(value: &Value) -> Option<Cow<'_, str>> {
    match value {
        Value::String(text) => Some(Cow::Borrowed(text)),
        Value::Bool(_) | Value::Number(_) => Some(Cow::Owned(value.to_string())),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

impl Pattern {
    /// Whether all of `text` is as the pattern says.
    pub(crate) fn fits(&self, text: &str) -> bool {
        let Some((first, rest)) = self.0.split_once('*') else {
            return self.0 == text;
        };
        let Some(mut left) = text.strip_prefix(first) else {
            return false;
        };
        let mut parts: Vec<&str> = rest.split('*').collect();
        let last = parts.pop().unwrap_or_default();
        // The leftmost place for each part leaves the most for those after it.
        for part in parts {
            let Some(at) = left.find(part) else {
                return false;
            };
            left = left.get(at + part.len()..).unwrap_or_default();
        }
        left.ends_with(last)
    }
}

const EXPECTED_RULE: &str =
    "expected CLAIM=VALUE -> ROLE[:ENVIRONMENT], for example groups=ci -> executor:build-*";
const EXPECTED_ROLE: &str = "expected one of the roles executor, harness, admin after the arrow";
const EXPECTED_ENVIRONMENT: &str =
    "expected an environment, a pattern with *, or {CLAIM} after the colon";

#[cfg(test)]
mod tests {
    use relay_proto::ids::EnvironmentId;
    use serde_json::json;
    use settings::Value as _;

    use super::*;

    /// What the rules give those with these claims in these environments.
    fn given(rules: &[&str], claims: &Value, environment: &str) -> Vec<Role> {
        let rules: Vec<Rule> = rules
            .iter()
            .map(|rule| Rule::parse(rule).unwrap())
            .collect();
        let environment = EnvironmentId::new(environment).unwrap();
        grants(&rules, claims.as_object().unwrap())
            .into_iter()
            .filter(|grant| grant.environments.include(&environment))
            .map(|grant| grant.role)
            .collect()
    }

    #[test]
    fn claim_fits_by_its_value_or_one_of_its_values() {
        let claims = json!({
            "sub": "alice", "groups": ["dev", "ops"], "verified": true, "level": 3,
            "scope": "openid exec:connect", "https://acme.test/team": "red",
            "realm_access": { "roles": ["user"] }, "a/b": { "c~d": "x" },
        });
        for (condition, fits) in [
            ("sub=alice", true),
            ("sub=alic", false),
            ("sub=ALICE", false),
            ("sub = alice", true),
            ("groups=ops", true),
            ("groups=dev,ops", false),
            ("verified=true", true),
            ("level=3", true),
            ("scope=exec:connect", true),
            ("scope=openid", true),
            ("scope=exec", false),
            ("https://acme.test/team=red", true),
            ("/realm_access/roles=user", true),
            ("/realm_access/roles=admin", false),
            ("/a~1b/c~0d=x", true),
            ("/sub=alice", true),
            ("realm_access=user", false),
            ("none=*", false),
            ("sub=*", true),
            ("sub=alice & groups=dev", true),
            ("sub=alice & groups=none", false),
        ] {
            let rule = format!("{condition} -> admin");
            let expected: &[Role] = if fits { &[Role::Admin] } else { &[] };
            assert_eq!(given(&[&rule], &claims, "env"), expected, "{rule}");
        }
    }

    #[test]
    fn environments_are_all_or_fit_a_pattern_or_are_named_by_a_claim() {
        let claims = json!({ "sub": "alice", "boxes": ["a", "b*"] });
        for (environments, environment, fits) in [
            ("", "anything", true),
            (":ci", "ci", true),
            (":ci", "ci2", false),
            (": ci-* ", "ci-7", true),
            (":ci-*", "ci", false),
            (":{sub}", "alice", true),
            (":{sub}", "bob", false),
            (":{boxes}", "a", true),
            // What a token says is no pattern.
            (":{boxes}", "bx", false),
            (":{boxes}", "b*", true),
            (":{none}", "alice", false),
        ] {
            let rule = format!("sub=alice -> harness{environments}");
            let expected: &[Role] = if fits { &[Role::Harness] } else { &[] };
            let given = given(&[&rule], &claims, environment);
            assert_eq!(given, expected, "{rule} {environment}");
        }
    }

    #[test]
    fn rules_add_up() {
        let rules = [
            "sub=a -> executor:x",
            "groups=g -> harness",
            "sub=b -> admin",
        ];
        let claims = json!({ "sub": "a", "groups": ["g"] });
        assert_eq!(given(&rules, &claims, "x"), [Role::Executor, Role::Harness]);
        assert_eq!(given(&rules, &claims, "y"), [Role::Harness]);
        assert_eq!(given(&rules, &json!({}), "x"), []);
    }

    #[test]
    fn stars_stand_for_any_characters() {
        for (pattern, text, fits) in [
            ("*", "", true),
            ("a*", "a", true),
            ("a*b", "ab", true),
            ("a*b", "a", false),
            ("ab*ab", "ab", false),
            ("*b*", "abc", true),
            ("a*b*c", "aXbXbc", true),
            ("a*b*c", "acb", false),
            ("**", "x", true),
            ("é*", "éa", true),
        ] {
            assert_eq!(
                Pattern(pattern.to_owned()).fits(text),
                fits,
                "{pattern} {text}"
            );
        }
    }

    #[test]
    fn unusable_rules_are_refused_without_being_repeated() {
        for text in [
            "",
            "secret",
            "secret -> admin",
            "sub= -> admin",
            "=secret -> admin",
            "sub=secret -> owner",
            "sub=secret -> executor:",
            "sub=secret -> executor:{}",
            "sub=secret & -> admin",
            "my sub=secret -> admin",
        ] {
            let problem = Rule::parse(text).unwrap_err();
            assert!(problem.starts_with("expected "), "{text}: {problem}");
            assert!(!problem.contains("secret"), "{problem}");
        }
        let text = "sub=a & groups=* -> executor:ci-*";
        assert_eq!(Rule::parse(text).unwrap().show(), text);
    }
}
