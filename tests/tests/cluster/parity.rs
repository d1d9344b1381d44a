//! The table of what is there names tests that are there.

use std::{fs, path::Path};

/// The tests that a text names, as file and function: all of the form `file::function` in backquotes.
fn named(text: &str) -> Vec<(&str, &str)> {
    let quoted = text.split('`').skip(1).step_by(2);
    let is_name = |name: &str| name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_');
    quoted.filter_map(|code| code.split_once("::")).filter(|(file, test)| is_name(file) && is_name(test)).collect()
}

#[test]
fn every_test_that_the_table_of_parity_names_is_there() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let table = fs::read_to_string(root.join("../docs/parity.md")).unwrap();
    let tests = named(&table);
    assert!(tests.len() > 40, "{}", tests.len());
    for (file, test) in tests {
        let path = root.join(format!("tests/cluster/{file}.rs"));
        let source = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        assert!(source.contains(&format!("#[test]\nfn {test}()")), "{file}.rs has no test {test}");
    }
}
