//! Blocks of IP addresses.

use std::net::{IpAddr, Ipv4Addr};

/// Addresses with a common prefix (`10.0.0.0/8`), or one address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct AddressBlock {
    /// Both families in one order: IPv4 as the IPv6 addresses that it maps to.
    first: u128,
    prefix_bits: u8,
    is_ipv4: bool,
}

/// Bits before the IPv4 part of a mapped address.
const MAPPED_BITS: u8 = 96;

impl AddressBlock {
    /// Reads `10.0.0.0/8` or `10.1.2.3`; bits behind the prefix count as zero.
    pub fn parse(text: &str) -> Option<Self> {
        let (address, bits) = match text.split_once('/') {
            Some((address, bits)) => (address, Some(bits.parse::<u8>().ok()?)),
            None => (text, None),
        };
        let (number, offset, width, is_ipv4) = match address.parse::<IpAddr>().ok()? {
            IpAddr::V4(address) => (mapped(address), MAPPED_BITS, 32, true),
            IpAddr::V6(address) => (u128::from(address), 0, 128, false),
        };
        let bits = bits.unwrap_or(width);
        if bits > width {
            return None;
        }
        let prefix_bits = offset + bits;
        Some(Self {
            first: number & mask(prefix_bits),
            prefix_bits,
            is_ipv4,
        })
    }

    /// Whether the address is one of them. An IPv4 address that came mapped into IPv6 counts as
    /// IPv4.
    #[inline]
    pub fn contains(&self, address: IpAddr) -> bool {
        let (number, is_ipv4) = match address.to_canonical() {
            IpAddr::V4(address) => (mapped(address), true),
            IpAddr::V6(address) => (u128::from(address), false),
        };
        is_ipv4 == self.is_ipv4 && number & mask(self.prefix_bits) == self.first
    }

    /// The first address, in the order of [`address_number`].
    pub(super) fn first(&self) -> u128 {
        self.first
    }

    /// How many bits of [`address_number`] the addresses have in common.
    pub(super) fn prefix_bits(&self) -> u8 {
        self.prefix_bits
    }

    /// Whether the number lies between the first and the last, whatever the family.
    pub(super) fn covers(&self, number: u128) -> bool {
        number & mask(self.prefix_bits) == self.first
    }
}

/// An address as a number; IPv4 as the IPv6 address that it maps to.
pub(super) fn address_number(address: IpAddr) -> u128 {
    match address.to_canonical() {
        IpAddr::V4(address) => mapped(address),
        IpAddr::V6(address) => u128::from(address),
    }
}

fn mapped(address: Ipv4Addr) -> u128 {
    u128::from(address.to_ipv6_mapped())
}

fn mask(bits: u8) -> u128 {
    match bits {
        0 => 0,
        bits => u128::MAX << (128 - u32::from(bits)),
    }
}
