//! Room for one long message that comes piece by piece.

use std::io;

use bytes::Bytes;

use crate::memory::Room as Mapped;

/// Rooms of at least so many bytes are mapped of their own, in large pages, and used again; see [`crate::memory`]. Two large
/// pages, so that rounding up to them costs less than the message has.
const MAPPED_BYTES_MIN: usize = 4 << 20;

/// A buffer of the length that was announced. A long one is address space only, until bytes come to stand there: so memory
/// grows with what has arrived, not with what was announced.
#[derive(Debug)]
pub struct LongBuffer {
    room: Room,
    bytes: usize,
    filled: usize,
}

#[derive(Debug)]
enum Room {
    Allocated(Vec<u8>),
    Mapped(Mapped),
}

impl LongBuffer {
    /// Room for so many bytes.
    ///
    /// # Errors
    /// When the system has no address space for them.
    pub fn new(bytes: usize) -> io::Result<Self> {
        let room = if bytes < MAPPED_BYTES_MIN { Room::Allocated(vec![0; bytes]) } else { Room::Mapped(Mapped::of(bytes)?) };
        Ok(Self { room, bytes, filled: 0 })
    }

    /// What has come.
    pub fn filled(&self) -> &[u8] {
        let room = match &self.room {
            Room::Allocated(room) => room.as_slice(),
            Room::Mapped(room) => room,
        };
        &room[..self.filled]
    }

    /// How many bytes have not come.
    pub fn missing(&self) -> usize {
        self.bytes - self.filled
    }

    /// Takes in as many of these bytes as there is room for, and gives back the others.
    pub fn push<'a>(&mut self, bytes: &'a [u8]) -> &'a [u8] {
        let (taken, others) = bytes.split_at(bytes.len().min(self.missing()));
        self.spare()[..taken.len()].copy_from_slice(taken);
        self.filled += taken.len();
        others
    }

    /// Where the next bytes belong, for who reads them there; see [`advance`](Self::advance).
    pub fn spare(&mut self) -> &mut [u8] {
        let unfilled = self.filled..self.bytes;
        let room = match &mut self.room {
            Room::Allocated(room) => room.as_mut_slice(),
            Room::Mapped(room) => room,
        };
        &mut room[unfilled]
    }

    /// So many bytes have been written to the front of [`spare`](Self::spare).
    pub fn advance(&mut self, bytes: usize) {
        self.filled += bytes.min(self.missing());
    }

    /// What has come, without a copy.
    pub fn freeze(self) -> Bytes {
        let all = match self.room {
            Room::Allocated(room) => Bytes::from(room),
            Room::Mapped(room) => Bytes::from_owner(room),
        };
        all.slice(..self.filled)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_come_back_as_they_came_and_none_beyond_the_end() {
        for bytes in [0, 1, 1000, MAPPED_BYTES_MIN - 1, MAPPED_BYTES_MIN, MAPPED_BYTES_MIN + 1] {
            let sent: Vec<u8> = (0..bytes + 3).map(|at| (at % 251) as u8).collect();
            let mut buffer = LongBuffer::new(bytes).unwrap();
            let mut others = &sent[..];
            while buffer.missing() > 0 {
                let (piece, _) = others.split_at(others.len().min(300_000));
                let left = buffer.push(piece).len();
                others = &others[piece.len() - left..];
            }
            assert_eq!(others.len(), 3);
            assert_eq!(buffer.push(others), others);
            assert!(buffer.spare().is_empty());
            buffer.advance(1);
            assert!(buffer.filled() == &sent[..bytes]);
            assert!(buffer.freeze() == sent[..bytes]);
        }
    }

    #[test]
    fn what_has_not_come_is_not_there() {
        for bytes in [10, MAPPED_BYTES_MIN] {
            let mut buffer = LongBuffer::new(bytes).unwrap();
            buffer.push(b"abc");
            buffer.spare()[0] = b'd';
            buffer.advance(1);
            assert_eq!(buffer.missing(), bytes - 4);
            assert_eq!(buffer.freeze(), &b"abcd"[..]);
        }
    }
}
