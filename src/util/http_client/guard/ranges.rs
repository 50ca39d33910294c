//! The address ranges, after the IANA special-purpose registries (RFC 6890 and what updates it).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Where an address lies.
pub(super) enum AddressClass {
    /// Anywhere in the public network.
    Global,
    /// In a range that callbacks may not reach.
    Blocked(&'static str),
    /// It is a form of this IPv4 address and reaches what that reaches.
    Embeds(Ipv4Addr),
}

/// An IPv4 range: its first address, the length of its prefix, what it is.
type V4 = ([u8; 4], u32, &'static str);
/// An IPv6 range: the same, with the first four groups (none of the prefixes is longer than 64
/// bits).
type V6 = ([u16; 4], u32, &'static str);

const BLOCKED_V4: &[V4] = &[
    ([0, 0, 0, 0], 8, "unspecified"),
    ([10, 0, 0, 0], 8, "private"),
    ([100, 64, 0, 0], 10, "carrier-grade NAT"),
    ([127, 0, 0, 0], 8, "loopback"),
    ([169, 254, 0, 0], 16, "link-local"),
    ([172, 16, 0, 0], 12, "private"),
    ([192, 0, 0, 0], 24, "reserved"),
    ([192, 0, 2, 0], 24, "documentation"),
    ([192, 88, 99, 0], 24, "reserved"),
    ([192, 168, 0, 0], 16, "private"),
    ([198, 18, 0, 0], 15, "benchmarking"),
    ([198, 51, 100, 0], 24, "documentation"),
    ([203, 0, 113, 0], 24, "documentation"),
    ([224, 0, 0, 0], 4, "multicast"),
    ([240, 0, 0, 0], 4, "reserved"),
    // Azure answers its metadata and agents here, in the middle of public space.
    ([168, 63, 129, 16], 32, "cloud metadata"),
];

/// What lies inside `2000::/3`, the global unicast space; everything outside of it is refused
/// anyway.
const BLOCKED_V6: &[V6] = &[
    // Teredo (2001::/32) hides an IPv4 address that its relay picks; with it goes the whole block
    // of protocol assignments.
    ([0x2001, 0, 0, 0], 23, "reserved"),
    ([0x2001, 0xdb8, 0, 0], 32, "documentation"),
    ([0x3fff, 0, 0, 0], 20, "documentation"),
];

/// The names of what lies outside of it.
const OUTSIDE_V6: &[V6] = &[
    ([0xfc00, 0, 0, 0], 7, "private"),
    ([0xfe80, 0, 0, 0], 10, "link-local"),
    ([0xfec0, 0, 0, 0], 10, "private"),
    ([0xff00, 0, 0, 0], 8, "multicast"),
];

/// The addresses at which clouds hand out credentials, for the operator's own URLs.
const METADATA_V4: &[V4] = &[
    ([169, 254, 0, 0], 16, "link-local"),
    ([100, 100, 100, 200], 32, "cloud metadata"),
    ([168, 63, 129, 16], 32, "cloud metadata"),
    ([192, 0, 0, 192], 32, "cloud metadata"),
];

/// Within `fd00:ec2::/32` Amazon has instance metadata (`::254`), credentials of pods (`::23`), DNS
/// and time.
const METADATA_V6: &[V6] =
    &[([0xfe80, 0, 0, 0], 10, "link-local"), ([0xfd00, 0xec2, 0, 0], 32, "cloud metadata")];

/// Google's and Scaleway's are single addresses in ranges that others use.
const METADATA_HOSTS_V6: [Ipv6Addr; 2] =
    [Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254), Ipv6Addr::new(0xfd00, 0x42, 0, 0, 0, 0, 0, 0x42)];

fn range_v4(ip: Ipv4Addr, ranges: &[V4]) -> Option<&'static str> {
    let inside = |(first, prefix, _): &&V4| {
        (ip.to_bits() ^ Ipv4Addr::from(*first).to_bits()).leading_zeros() >= *prefix
    };
    ranges.iter().find(inside).map(|(_, _, name)| *name)
}

fn range_v6(ip: Ipv6Addr, ranges: &[V6]) -> Option<&'static str> {
    let inside = |([a, b, c, d], prefix, _): &&V6| {
        (ip.to_bits() ^ Ipv6Addr::new(*a, *b, *c, *d, 0, 0, 0, 0).to_bits()).leading_zeros() >= *prefix
    };
    ranges.iter().find(inside).map(|(_, _, name)| *name)
}

/// The range that keeps an IPv4 address from callbacks.
pub(super) fn not_global_v4(ip: Ipv4Addr) -> Option<&'static str> {
    range_v4(ip, BLOCKED_V4)
}

/// Where an address lies, seen from a callback.
pub(super) fn not_global(ip: IpAddr) -> AddressClass {
    let ip = match ip {
        IpAddr::V4(ip) => return not_global_v4(ip).map_or(AddressClass::Global, AddressClass::Blocked),
        IpAddr::V6(ip) => ip,
    };
    match ip {
        Ipv6Addr::LOCALHOST => return AddressClass::Blocked("loopback"),
        Ipv6Addr::UNSPECIFIED => return AddressClass::Blocked("unspecified"),
        _ => {}
    }
    // Link-local and private space come first: an ISATAP interface id may stand in them.
    if let Some(range) = range_v6(ip, OUTSIDE_V6).or_else(|| range_v6(ip, BLOCKED_V6)) {
        return AddressClass::Blocked(range);
    }
    if let Some(inner) = embedded(ip) {
        return AddressClass::Embeds(inner);
    }
    // Default-deny: discard-only, SRv6, local NAT64, IPv4-compatible and whatever is not assigned
    // yet.
    if ip.segments()[0] & 0xe000 == 0x2000 { AddressClass::Global } else { AddressClass::Blocked("reserved") }
}

/// The IPv4 address that an IPv6 address is a form of.
fn embedded(ip: Ipv6Addr) -> Option<Ipv4Addr> {
    let groups = ip.segments();
    let at = |first: usize| {
        let ([a, b], [c, d]) = (groups[first].to_be_bytes(), groups[first + 1].to_be_bytes());
        Some(Ipv4Addr::new(a, b, c, d))
    };
    match groups {
        // 6to4 2002::/16 (RFC 3056 2).
        [0x2002, ..] => at(1),
        // Mapped ::ffff:0:0/96 (RFC 4291 2.5.5.2), translated ::ffff:0:0:0/96 (RFC 2765 2.1), NAT64
        // 64:ff9b::/96 (RFC 6052 2.1) and ISATAP interface ids (RFC 5214 6.1).
        [0, 0, 0, 0, 0, 0xffff, ..]
        | [0, 0, 0, 0, 0xffff, 0, ..]
        | [0x64, 0xff9b, 0, 0, 0, 0, ..]
        | [.., 0 | 0x200, 0x5efe, _, _] => at(6),
        _ => None,
    }
}

/// The range that keeps an address from the operator's own names: link-local or cloud metadata.
pub(super) fn metadata(ip: IpAddr) -> Option<&'static str> {
    match ip {
        IpAddr::V4(ip) => range_v4(ip, METADATA_V4),
        IpAddr::V6(ip) if METADATA_HOSTS_V6.contains(&ip) => Some("cloud metadata"),
        IpAddr::V6(ip) => range_v6(ip, METADATA_V6)
            .or_else(|| forms(ip).into_iter().find_map(|inner| range_v4(inner, METADATA_V4))),
    }
}

/// Every IPv4 address that an IPv6 address may stand for, the forms among them that callbacks
/// cannot use at all.
fn forms(ip: Ipv6Addr) -> Vec<Ipv4Addr> {
    let groups = ip.segments();
    let last = Ipv4Addr::from_bits(u32::from(groups[6]) << 16 | u32::from(groups[7]));
    let mut forms: Vec<Ipv4Addr> = embedded(ip).into_iter().collect();
    match groups {
        // Compatible ::/96 (RFC 4291 2.5.5.1).
        [0, 0, 0, 0, 0, 0, ..] => forms.push(last),
        // Local NAT64 64:ff9b:1::/48 (RFC 8215) with the address where RFC 6052 2.2 has it for a
        // prefix of 48 bits, or at the end as for one of 96.
        [0x64, 0xff9b, 1, high, low, next, ..] => {
            let [_, c] = low.to_be_bytes();
            let [d, _] = next.to_be_bytes();
            let [a, b] = high.to_be_bytes();
            forms.extend([last, Ipv4Addr::new(a, b, c, d)]);
        }
        // Teredo 2001::/32: the client's address, its bits turned over (RFC 4380 4).
        [0x2001, 0, ..] => forms.push(Ipv4Addr::from_bits(!last.to_bits())),
        _ => {}
    }
    forms
}
