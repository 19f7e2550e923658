//! Who may say, by the PROXY protocol, whom a connection is from, and who is told.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

/// The addresses that begin with the same bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct AddressRange {
    /// One of them, its other bits 0. Not an IPv4 address that is written as IPv6.
    pub address: IpAddr,
    /// How many bits; at most as many as the address has.
    pub prefix_bits: u8,
}

impl AddressRange {
    /// Whether an address is one of them. An IPv4 address is the same however it is written.
    pub fn contains(&self, address: IpAddr) -> bool {
        let (of_range, bits) = bits_of(self.address);
        let (other, other_bits) = bits_of(address.to_canonical());
        bits == other_bits && of_range == other & mask(bits, self.prefix_bits)
    }

    /// Whether it is as the model wants it.
    pub fn is_whole(&self) -> bool {
        let (address, bits) = bits_of(self.address);
        self.prefix_bits <= bits
            && address == address & mask(bits, self.prefix_bits)
            && self.address == self.address.to_canonical()
    }

    /// The range that begins with so many bits of any address, if it has as many.
    pub fn around(address: IpAddr, prefix_bits: u8) -> Option<Self> {
        let (value, bits) = bits_of(address);
        let value = (prefix_bits <= bits).then(|| value & mask(bits, prefix_bits))?;
        let address = match address {
            IpAddr::V4(_) => IpAddr::from((value as u32).to_be_bytes()),
            IpAddr::V6(_) => IpAddr::from(value.to_be_bytes()),
        };
        Some(Self { address, prefix_bits })
    }
}

fn bits_of(address: IpAddr) -> (u128, u8) {
    match address {
        IpAddr::V4(ip) => (u128::from(u32::from(ip)), 32),
        IpAddr::V6(ip) => (u128::from(ip), 128),
    }
}

/// The first `prefix_bits` of `bits`.
fn mask(bits: u8, prefix_bits: u8) -> u128 {
    let all = u128::MAX >> (128 - bits);
    all & !all.checked_shr(prefix_bits.into()).unwrap_or(0)
}

/// A version of the PROXY protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum ProxyVersion {
    /// A line of text.
    V1,
    /// Bytes.
    V2,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_has_what_begins_with_its_bits() {
        let range = |text: &str, bits| AddressRange::around(text.parse().expect("an IP"), bits);
        let has = |text: &str, bits, other: &str| {
            let range = range(text, bits).expect("it has as many bits");
            assert!(range.is_whole());
            range.contains(other.parse().expect("an IP"))
        };
        assert!(has("10.1.2.3", 8, "10.255.0.1"));
        assert!(!has("10.1.2.3", 8, "11.1.2.3"));
        assert!(has("10.1.2.3", 8, "::ffff:10.9.9.9"));
        assert!(has("10.1.2.3", 32, "10.1.2.3") && !has("10.1.2.3", 32, "10.1.2.2"));
        assert!(has("0.0.0.0", 0, "255.1.1.1") && !has("0.0.0.0", 0, "::1"));
        assert!(has("2001:db8::1", 32, "2001:db8:ffff::"));
        assert!(has("::", 0, "2001:db8:ffff::") && !has("::", 0, "10.0.0.1"));
        assert!(has("::1", 128, "::1") && !has("::1", 128, "::2"));
        assert_eq!(range("10.0.0.1", 33), None);
        let with_rest = AddressRange { address: [10, 0, 0, 1].into(), prefix_bits: 8 };
        assert!(!with_rest.is_whole());
    }
}
