//! Picks key paths out of a TOML document and writes them as a document of their own.
//!
//! Order is kept; comments, spacing and the choice between inline and standard tables are not.

use toml_edit::{Array, ArrayOfTables, DocumentMut, Item, Table, TableLike, Value};

/// The selected keys of `document` as TOML, or `None` if nothing was selected.
///
/// A path that ends in a table gives the whole table. One that leads through tables to a key that is not
/// there gives the tables, empty. One that leads through something else gives that.
pub(crate) fn select(document: &DocumentMut, paths: &[Vec<String>]) -> Option<String> {
    let paths: Vec<&[String]> = paths.iter().map(Vec::as_slice).collect();
    let selected = pick(document.as_table(), &paths);
    (!selected.is_empty()).then(|| DocumentMut::from(selected).to_string())
}

fn pick(table: &dyn TableLike, paths: &[&[String]]) -> Table {
    let mut selected = Table::new();
    for (key, item) in table.iter() {
        let tails: Vec<&[String]> = paths
            .iter()
            .filter_map(|path| path.split_first())
            .filter(|(first, _)| *first == key)
            .map(|(_, tail)| tail)
            .collect();
        if tails.is_empty() {
            continue;
        }
        let item = match item.as_table_like() {
            Some(inner) if tails.iter().all(|tail| !tail.is_empty()) => {
                Item::Table(pick(inner, &tails))
            }
            _ => plain(item),
        };
        selected.insert(key, item);
    }
    without_needless_header(selected)
}

/// The same content in plain form.
fn plain(item: &Item) -> Item {
    if let Some(table) = item.as_table_like() {
        return Item::Table(plain_table(table));
    }
    match item {
        Item::ArrayOfTables(tables) => {
            let tables: ArrayOfTables = tables.iter().map(|table| plain_table(table)).collect();
            Item::ArrayOfTables(tables)
        }
        Item::Value(value) => Item::Value(plain_value(value)),
        Item::Table(_) | Item::None => Item::None,
    }
}

fn plain_table(table: &dyn TableLike) -> Table {
    let mut copy = Table::new();
    for (key, item) in table.iter() {
        copy.insert(key, plain(item));
    }
    without_needless_header(copy)
}

fn plain_value(value: &Value) -> Value {
    match value {
        Value::Array(array) => Value::Array(array.iter().map(plain_value).collect::<Array>()),
        Value::InlineTable(table) => {
            let pairs = table.iter().map(|(key, value)| (key, plain_value(value)));
            Value::InlineTable(pairs.collect())
        }
        value => {
            let mut value = value.clone();
            value.decor_mut().clear();
            value
        }
    }
}

/// A table that holds only tables needs no header of its own.
fn without_needless_header(mut table: Table) -> Table {
    let only_tables = table
        .iter()
        .all(|(_, item)| item.is_table() || item.is_array_of_tables());
    table.set_implicit(!table.is_empty() && only_tables);
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(document: &str, paths: &[&[&str]]) -> Option<String> {
        let paths: Vec<Vec<String>> = paths
            .iter()
            .map(|path| path.iter().map(|key| (*key).to_owned()).collect())
            .collect();
        select(&document.parse().unwrap(), &paths)
    }

    #[test]
    fn selected_keys_keep_their_order_and_lose_their_comments() {
        let document =
            "# top\n[b] # secret\nz = 1 # one\na = [1,\n 2]\n[b.c]\nx = 1\ny = 2\n[a]\nq = 1\n";
        let expected = "[b]\nz = 1\na = [1, 2]\n\n[b.c]\nx = 1\ny = 2\n\n[a]\nq = 1\n";
        assert_eq!(run(document, &[&["b"], &["a"]]).unwrap(), expected);
        let part = run(document, &[&["b", "c", "y"], &["b", "a"], &["b", "a"]]).unwrap();
        assert_eq!(part, "[b]\na = [1, 2]\n\n[b.c]\ny = 2\n");
    }

    #[test]
    fn a_missing_child_leaves_the_header_of_its_table() {
        let document = "[m.first]\nurl = \"u\"\n[t.u]\ny = 1\n";
        assert_eq!(run(document, &[&["m", "none"]]).unwrap(), "[m]\n");
        assert_eq!(
            run(document, &[&["t", "u", "k"], &["t", "n"]]).unwrap(),
            "[t.u]\n"
        );
        assert_eq!(run(document, &[&["none"], &["no", "where"], &[""]]), None);
        assert_eq!(
            run(document, &[&["m"]]).unwrap(),
            "[m.first]\nurl = \"u\"\n"
        );
    }

    #[test]
    fn inline_and_dotted_tables_are_tables() {
        let document = "b = {c = {x = 1, y = 2}, d = 1}\nx.y.z = 1\nx.y.w = 2\n\"q k\".v = 1\n";
        let expected = "[b.c]\ny = 2\n\n[x.y]\nz = 1\n";
        assert_eq!(
            run(document, &[&["b", "c", "y"], &["x", "y", "z"]]).unwrap(),
            expected
        );
        assert_eq!(run(document, &[&["q k"]]).unwrap(), "[\"q k\"]\nv = 1\n");
        assert_eq!(run(document, &[&["x.y"]]), None);
    }

    #[test]
    fn what_is_not_a_table_is_given_whole() {
        let document =
            "a = 5\nd = 1979-05-27T07:32:00Z\nl = [{k = 1}]\n[[arr]]\nz = 1\n[[arr]]\nz = 2\n";
        let expected = "a = 5\n\n[[arr]]\nz = 1\n\n[[arr]]\nz = 2\n";
        assert_eq!(
            run(document, &[&["a", "b"], &["arr", "z"]]).unwrap(),
            expected
        );
        let expected = "d = 1979-05-27T07:32:00Z\nl = [{ k = 1 }]\n";
        assert_eq!(run(document, &[&["d"], &["l"]]).unwrap(), expected);
    }
}
