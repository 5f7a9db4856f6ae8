use proptest::prelude::*;

use super::*;

fn text(value: &str) -> Yaml {
    Yaml::Text(value.to_owned())
}

fn list(items: impl IntoIterator<Item = Yaml>) -> Yaml {
    Yaml::List(items.into_iter().collect())
}

fn map<const N: usize>(members: [(&str, Yaml); N]) -> Yaml {
    Yaml::Map(
        members
            .into_iter()
            .map(|(key, value)| (key.to_owned(), value))
            .collect(),
    )
}

#[test]
fn scalars_of_all_kinds() {
    let table = [
        ("plain", "a: some words # comment", "some words"),
        (
            "with a colon",
            "a: Use this: when needed",
            "Use this: when needed",
        ),
        ("url", "a: https://x/y#z", "https://x/y#z"),
        ("over lines", "a: one\n  two\n\n  three", "one two\nthree"),
        (
            "double",
            r#"a: "tab\t \u00e9 \"q\" # no comment" # c"#,
            "tab\t é \"q\" # no comment",
        ),
        ("double over lines", "a: \"one\n  two\"", "one two"),
        ("single", "a: 'it''s: [x]'", "it's: [x]"),
        (
            "literal",
            "a: |\n  one\n    two\n\n  three\n\n",
            "one\n  two\n\nthree\n",
        ),
        ("literal stripped", "a: |-\n  one\n  two\n", "one\ntwo"),
        ("literal kept", "a: |+\n  one\n\n", "one\n\n"),
        (
            "literal with given indentation",
            "a: |2-\n   one\n  two",
            " one\ntwo",
        ),
        (
            "folded",
            "a: >\n  one\n  two\n\n  three\n",
            "one two\nthree\n",
        ),
        (
            "folded with a list",
            "a: >-\n  one\n    - x\n    - y\n  two",
            "one\n  - x\n  - y\ntwo",
        ),
        ("hash in a literal", "a: |\n  # one\n", "# one\n"),
    ];
    for (name, source, expected) in table {
        assert_eq!(
            Yaml::parse(source),
            Ok(map([("a", text(expected))])),
            "{name}"
        );
    }
}

#[test]
fn mappings_and_sequences_nest() {
    let source = "
# comment
interface:
  display_name: \"One\"   # shown
dependencies:
  tools:
    - type: mcp
      value: foo
      nested:
        deep: x

    - type: env_var
      value: BAR
    -
      type: late
policy:
  products:
  - codex
  - 'chat gpt'
empty:
null: ~
flow: [a, \"b, c\", {k: v, n: [1, 2], e: }, ]
over: [
  a,
  b
]x
";
    let source = source.replace("]x", "  ]");
    let tool = |kind, value| map([("type", text(kind)), ("value", text(value))]);
    let mut first = tool("mcp", "foo");
    if let Yaml::Map(members) = &mut first {
        members.push(("nested".to_owned(), map([("deep", text("x"))])));
    }
    let tools = list([first, tool("env_var", "BAR"), map([("type", text("late"))])]);
    let numbers = list([text("1"), text("2")]);
    let inline = map([("k", text("v")), ("n", numbers), ("e", Yaml::Null)]);
    let expected = map([
        ("interface", map([("display_name", text("One"))])),
        ("dependencies", map([("tools", tools)])),
        (
            "policy",
            map([("products", list([text("codex"), text("chat gpt")]))]),
        ),
        ("empty", Yaml::Null),
        ("null", Yaml::Null),
        ("flow", list([text("a"), text("b, c"), inline])),
        ("over", list([text("a"), text("b")])),
    ]);
    assert_eq!(Yaml::parse(&source), Ok(expected));
    assert_eq!(
        Yaml::parse("- - a\n  - b\n- c"),
        Ok(list([list([text("a"), text("b")]), text("c")]))
    );
    assert_eq!(Yaml::parse("\"a b\": 'c'"), Ok(map([("a b", text("c"))])));
    assert_eq!(Yaml::parse(" \n# only a comment\n"), Ok(Yaml::Null));
}

#[test]
fn what_is_broken_or_too_large_is_refused() {
    let deep = "[".repeat(100) + &"]".repeat(100);
    let long = format!("a: [{}]", "x,".repeat(YAML_NODES + 1));
    let huge = format!("a: {}", "x".repeat(YAML_BYTES));
    let deep_block = "- ".repeat(100) + "x";
    for source in [
        "a: [x",
        "a: \"x",
        "a: {x: 1",
        "a: [x] y",
        "a: *alias",
        "a: 1\na: 2",
        "a:\n  b: 1\n c: 2",
        "a: 1\n- b",
        "a: \"\\q\"",
        "a: \"\\ud800\"",
        "a: |x\n  b",
        &deep,
        &deep_block,
        &long,
        &huge,
    ] {
        assert!(Yaml::parse(source).is_err(), "{source:?}");
    }
}

#[test]
fn aliases_are_copies_and_cannot_multiply() {
    let source = "a: &x {k: v}\nb: *x\nc: !!str 5";
    let inner = || map([("k", text("v"))]);
    let expected = map([("a", inner()), ("b", inner()), ("c", text("5"))]);
    assert_eq!(Yaml::parse(source), Ok(expected));
    let mut bomb = "l0: &l0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for level in 1..12 {
        let items = vec![format!("*l{}", level - 1); 10].join(", ");
        bomb.push_str(&format!("l{level}: &l{level} [{items}]\n"));
    }
    assert_eq!(Yaml::parse(&bomb), Err(YamlError::TooLarge));
}

proptest! {
    #[test]
    fn no_text_makes_it_panic(source in "[-a-b:|>\"'\\[\\]{}#,&\\\\ \nxu0é]{0,60}") {
        let _ = Yaml::parse(&source);
    }
}
