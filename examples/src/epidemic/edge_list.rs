//! Networks from files: edge lists, as public collections of networks have them.

use std::{
    collections::HashMap,
    io::{self, BufRead, Read},
};

use super::{EDGES_MAX, NODES_MAX, Network};

/// The longest line that is read, in bytes: far more than two integers and a comment need, and a file without line ends must
/// not become one string.
const LINE_BYTES_MAX: u64 = 4096;

/// A file that is not an edge list: which, where, and why.
#[derive(Debug, thiserror::Error)]
#[error("{file}:{line}: {problem}")]
pub struct EdgeListError {
    /// The file.
    pub file: String,
    /// The line, from 1.
    pub line: u64,
    /// What is wrong with it.
    pub problem: Problem,
}

/// What can be wrong with a line of an edge list.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Problem {
    /// It could not be read.
    #[error("cannot be read: {0}")]
    Unreadable(#[from] io::Error),
    /// It is no text.
    #[error("is not UTF-8 text")]
    NotText,
    /// It does not end.
    #[error("is longer than {LINE_BYTES_MAX} bytes: this is hardly an edge list")]
    TooLong,
    /// It has more or fewer than two fields.
    #[error("expected two node numbers separated by white space, found {0}")]
    Fields(usize),
    /// A field is no node number.
    #[error("{0:?} is not a node number (a whole number from 0 to {max})", max = u64::MAX)]
    NotANumber(String),
    /// The network is too large.
    #[error("more than {EDGES_MAX} edges or {NODES_MAX} nodes are not supported")]
    TooLarge,
    /// The file ended without an edge.
    #[error("the file ends without a single edge")]
    Empty,
}

/// Reads a network from an edge list: two node numbers a line, separated by white space; `#` starts a comment.
///
/// Any `u64` is a node number; nodes are renumbered in the order in which they appear. An edge that appears again, in either
/// direction, is the same edge, and an edge from a node to itself is none.
///
/// # Errors
/// The first line that is wrong, with `file` as the name of what was read.
///
/// ```
/// use engineroom_examples::epidemic::read_edge_list;
///
/// let network = read_edge_list("# a triangle\n10 20\n20 30\n30 10\n".as_bytes(), "triangle.txt")?;
/// assert_eq!((network.nodes(), network.edges()), (3, 3));
/// # Ok::<(), engineroom_examples::epidemic::EdgeListError>(())
/// ```
pub fn read_edge_list(mut reader: impl BufRead, file: &str) -> Result<Network, EdgeListError> {
    let mut nodes = Labels::default();
    let mut edges = Vec::new();
    let mut line = Vec::new();
    for number in 1.. {
        let wrong = |problem: Problem| EdgeListError { file: file.into(), line: number, problem };
        line.clear();
        let length = (&mut reader).take(LINE_BYTES_MAX + 1).read_until(b'\n', &mut line).map_err(|e| wrong(e.into()))?;
        if length == 0 {
            if edges.is_empty() {
                return Err(wrong(Problem::Empty));
            }
            break;
        }
        let Some((a, b)) = parse(&line).map_err(wrong)? else { continue };
        if edges.len() == EDGES_MAX {
            return Err(wrong(Problem::TooLarge));
        }
        let (a, b) = (nodes.number(a).map_err(wrong)?, nodes.number(b).map_err(wrong)?);
        edges.push((a.min(b), a.max(b)));
    }
    edges.retain(|(a, b)| a != b);
    edges.sort_unstable();
    edges.dedup();
    Ok(Network::from_edges(nodes.count(), &edges))
}

/// The two node numbers on a line, or `None` when it is blank or a comment.
fn parse(line: &[u8]) -> Result<Option<(u64, u64)>, Problem> {
    if line.len() as u64 > LINE_BYTES_MAX {
        return Err(Problem::TooLong);
    }
    let text = str::from_utf8(line).map_err(|_| Problem::NotText)?;
    let content = text.split('#').next().unwrap_or_default();
    let mut fields = content.split_whitespace();
    match (fields.next(), fields.next(), fields.count()) {
        (None, ..) => Ok(None),
        (Some(a), Some(b), 0) => Ok(Some((node(a)?, node(b)?))),
        (_, None, _) => Err(Problem::Fields(1)),
        (_, _, more) => Err(Problem::Fields(2 + more)),
    }
}

fn node(field: &str) -> Result<u64, Problem> {
    field.parse().map_err(|_| Problem::NotANumber(field.into()))
}

/// The nodes' own numbers and ours, which have no gaps.
#[derive(Default)]
struct Labels {
    numbers: HashMap<u64, u32>,
}

impl Labels {
    fn number(&mut self, label: u64) -> Result<u32, Problem> {
        let next = self.count();
        let number = *self.numbers.entry(label).or_insert(next);
        if number >= NODES_MAX { Err(Problem::TooLarge) } else { Ok(number) }
    }

    fn count(&self) -> u32 {
        // `number` lets no more than NODES_MAX + 1 in, and each line adds two at most.
        self.numbers.len() as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Network, EdgeListError> {
        read_edge_list(text.as_bytes(), "net.txt")
    }

    #[test]
    fn edge_lists_are_read_as_simple_networks() -> Result<(), EdgeListError> {
        for (text, nodes, edges) in [
            ("0 1", 2, 1),
            ("0 1\n", 2, 1),
            ("# head\n\n0\t1\r\n  1   2  # tail\n", 3, 2),
            ("7 18446744073709551615\n18446744073709551615 7\n7 18446744073709551615\n", 2, 1),
            ("1 1\n1 2\n3 3\n", 3, 1),
        ] {
            let network = read(text)?;
            assert_eq!((network.nodes(), network.edges()), (nodes, edges), "{text:?}");
        }
        Ok(())
    }

    #[test]
    fn errors_name_the_file_the_line_and_the_fault() {
        let long = format!("0 1\n{}", "0".repeat(5000));
        for (text, error) in [
            ("", "net.txt:1: the file ends without"),
            ("# nothing\n", "net.txt:2: the file ends without"),
            ("0 1\n2\n", "net.txt:2: expected two node numbers separated by white space, found 1"),
            ("0 1 0.5\n", "net.txt:1: expected two node numbers separated by white space, found 3"),
            ("0 1\n\n0 -1\n", "net.txt:3: \"-1\" is not a node number"),
            ("a b\n", "net.txt:1: \"a\" is not a node number"),
            ("0 18446744073709551616\n", "net.txt:1: \"18446744073709551616\" is not a node number"),
            (&long, "net.txt:2: is longer than 4096 bytes"),
        ] {
            let found = read(text).expect_err(text).to_string();
            assert!(found.starts_with(error), "{found}");
        }
        let found = read_edge_list(&b"0 1\n\xff 2\n"[..], "net.txt").expect_err("not text").to_string();
        assert_eq!(found, "net.txt:2: is not UTF-8 text");
    }
}
