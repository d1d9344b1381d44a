//! Networks as they travel to engines.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::{EDGES_MAX, NODES_MAX, Network};

/// A network as bytes: for each node the number of its neighbours with a higher number, and how far each is from the one
/// before, as variable-length integers of seven bits a byte.
///
/// An edge takes one or two bytes instead of the eight that it has in memory. A clone shares the bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PackedNetwork(Bytes);

/// Bytes that are not a packed network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the bytes are not those of a packed network: {0}")]
pub struct PackedNetworkError(&'static str);

impl PackedNetwork {
    /// Packs a network.
    pub fn new(network: &Network) -> Self {
        let mut out = Vec::with_capacity(network.nodes() as usize + 2 * network.edges());
        let mut higher = Vec::new();
        write(&mut out, network.nodes());
        for node in 0..network.nodes() {
            higher.clear();
            higher.extend(network.neighbours(node).iter().filter(|&&other| other > node));
            higher.sort_unstable();
            // A node has fewer neighbours than there are nodes.
            write(&mut out, higher.len() as u32);
            let mut before = node;
            for &other in &higher {
                write(&mut out, other - before);
                before = other;
            }
        }
        Self(out.into())
    }

    /// The network again. Its memory is bounded by the bytes: a node and an edge each take at least one.
    ///
    /// # Errors
    /// When the bytes are not what [`PackedNetwork::new`] makes.
    pub fn unpack(&self) -> Result<Network, PackedNetworkError> {
        let mut input = &self.0[..];
        let nodes = read(&mut input)?;
        if nodes > NODES_MAX || nodes as usize > input.len() || input.len() > EDGES_MAX {
            return Err(PackedNetworkError("its size is not that of its nodes and edges"));
        }
        let mut edges = Vec::with_capacity(input.len() - nodes as usize);
        for node in 0..nodes {
            let mut other = node;
            for _ in 0..read(&mut input)? {
                let distance = read(&mut input)?;
                other = match other.checked_add(distance) {
                    Some(other) if other < nodes && distance > 0 => other,
                    _ => return Err(PackedNetworkError("an edge leads nowhere")),
                };
                edges.push((node, other));
            }
        }
        if !input.is_empty() {
            return Err(PackedNetworkError("there is more after its end"));
        }
        Ok(Network::from_edges(nodes, &edges))
    }

    /// How many bytes it takes.
    pub fn bytes(&self) -> usize {
        self.0.len()
    }
}

fn write(out: &mut Vec<u8>, mut value: u32) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn read(input: &mut &[u8]) -> Result<u32, PackedNetworkError> {
    let mut value = 0_u64;
    // Five bytes of seven bits hold a `u32`.
    for shift in [0, 7, 14, 21, 28] {
        let (&byte, rest) = input.split_first().ok_or(PackedNetworkError("they end too early"))?;
        *input = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return u32::try_from(value).map_err(|_| PackedNetworkError("a number is too large"));
        }
    }
    Err(PackedNetworkError("a number does not end"))
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;

    use super::*;
    use crate::epidemic::erdos_renyi;

    /// Every edge once, sorted.
    fn edges(network: &Network) -> Vec<(u32, u32)> {
        let from = |node| network.neighbours(node).iter().map(move |&other| (node, other));
        let mut edges: Vec<_> = (0..network.nodes()).flat_map(from).filter(|(a, b)| a < b).collect();
        edges.sort_unstable();
        edges
    }

    #[test]
    fn networks_come_back_as_packed() -> Result<(), Box<dyn std::error::Error>> {
        let random = erdos_renyi(3000, 5.0, &mut ChaCha8Rng::seed_from_u64(2));
        for network in
            [Network::from_edges(0, &[]), Network::from_edges(3, &[]), Network::from_edges(300, &[(299, 0), (7, 8)]), random]
        {
            let packed = PackedNetwork::new(&network);
            let travelled: PackedNetwork = rmp_serde::from_slice(&rmp_serde::to_vec(&packed)?)?;
            let unpacked = travelled.unpack()?;
            assert_eq!((unpacked.nodes(), edges(&unpacked)), (network.nodes(), edges(&network)));
        }
        Ok(())
    }

    #[test]
    fn other_bytes_are_refused_and_never_panic() {
        for bytes in [&[][..], &[1], &[2, 1, 2, 0], &[2, 1, 0, 0], &[2, 0, 0, 0], &[0xff; 6], &[0xff, 0xff, 0xff, 0xff, 0x0f, 0]]
        {
            assert!(PackedNetwork(Bytes::copy_from_slice(bytes)).unpack().is_err(), "{bytes:?}");
        }
        let good = PackedNetwork::new(&erdos_renyi(200, 3.0, &mut ChaCha8Rng::seed_from_u64(4)));
        for length in 0..good.bytes() {
            assert!(PackedNetwork(good.0.slice(..length)).unpack().is_err(), "cut after {length} bytes");
        }
    }
}
