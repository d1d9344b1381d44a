//! What a running task tells those who wait for it. Pure.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// The longest value that a task publishes, in bytes as it is encoded. With the rest of a message it travels inline.
pub(crate) const PUBLISHED_BYTES_MAX: usize = 16 << 10;

/// How much of what a task writes is told at a time, in bytes of each stream; of more, the last.
pub(crate) const PIECE_BYTES_MAX: usize = 4 << 10;

/// How many bytes a byte has that is no UTF-8, once it is replaced.
const REPLACED_BYTES: usize = 3;

/// Where a task writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum OutputStream {
    /// Its standard output.
    Stdout,
    /// Its standard error.
    Stderr,
}

/// A piece of what a running task has written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Piece {
    /// Where.
    pub stream: OutputStream,
    /// How many bytes it has written there by the end of the piece.
    pub until: u64,
    /// The piece; what came before may have been told or not.
    pub text: String,
}

/// The latest that a task has told. What came before is of no interest any more.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct News {
    /// How much of it is done, from 0 to 1.
    pub progress: Option<f64>,
    /// The encoded value that it has published last.
    pub published: Option<Bytes>,
    /// What it has written since the last time: one piece of each stream at most.
    pub written: Vec<Piece>,
}

impl News {
    /// Whether it keeps to its bounds. False only for what a broken or hostile peer sent.
    pub fn is_sound(&self) -> bool {
        self.progress.is_none_or(|done| (0.0..=1.0).contains(&done))
            && self.published.as_ref().is_none_or(|value| value.len() <= PUBLISHED_BYTES_MAX)
            && self.written.len() <= 2
            && self.written.iter().all(|piece| piece.text.len() <= REPLACED_BYTES * PIECE_BYTES_MAX)
    }

    /// Takes in what is newer, but for what it has written.
    pub fn update(&mut self, newer: News) {
        self.progress = newer.progress.or(self.progress);
        self.published = newer.published.or(self.published.take());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_counts_and_bounds_are_kept() {
        let mut news = News { progress: Some(0.5), published: None, written: Vec::new() };
        news.update(News { progress: None, published: Some(Bytes::from_static(b"a")), written: Vec::new() });
        news.update(News { progress: Some(0.75), published: None, written: Vec::new() });
        assert_eq!(news, News { progress: Some(0.75), published: Some(Bytes::from_static(b"a")), written: Vec::new() });
        assert!(news.is_sound());
        for progress in [-0.1, 1.1, f64::NAN, f64::INFINITY] {
            assert!(!News { progress: Some(progress), published: None, written: Vec::new() }.is_sound(), "{progress}");
        }
        let long = Bytes::from(vec![0; PUBLISHED_BYTES_MAX + 1]);
        let piece = |bytes| Piece { stream: OutputStream::Stdout, until: 0, text: "x".repeat(bytes) };
        let written = |written| News { written, ..News::default() };
        assert!(written(vec![piece(PIECE_BYTES_MAX), piece(0)]).is_sound());
        assert!(!written(vec![piece(0), piece(0), piece(0)]).is_sound());
        assert!(!written(vec![piece(REPLACED_BYTES * PIECE_BYTES_MAX + 1)]).is_sound());
        assert!(!News { progress: None, published: Some(long), written: Vec::new() }.is_sound());
    }
}
