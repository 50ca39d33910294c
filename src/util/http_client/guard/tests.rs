use super::*;

fn callback(allow: &[&str]) -> Trust {
    Trust::Callback { allow: allow.iter().map(|net| net.parse().unwrap()).collect() }
}

/// Judges a URL, or an address wherever it may have come from.
fn judge(text: &str, trust: &Trust) -> Result<(), Blocked> {
    match text.parse::<IpAddr>() {
        Ok(ip) => check_address(ip, trust),
        Err(_) => check_url(&text.parse().unwrap_or_else(|error| panic!("{text}: {error}")), trust),
    }
}

const REFUSED_V4: &[&str] = &[
    "0.0.0.0",
    "0.1.2.3",
    "10.0.0.1",
    "10.255.255.255",
    "100.64.0.0",
    "100.127.255.255",
    "100.100.100.200",
    "127.0.0.1",
    "127.255.255.254",
    "168.63.129.16",
    "169.254.0.1",
    "169.254.169.254",
    "172.16.0.1",
    "172.31.255.255",
    "192.0.0.1",
    "192.0.0.192",
    "192.0.2.1",
    "192.88.99.1",
    "192.168.0.1",
    "192.168.255.255",
    "198.18.0.1",
    "198.19.255.255",
    "198.51.100.7",
    "203.0.113.7",
    "224.0.0.1",
    "239.255.255.255",
    "240.0.0.1",
    "255.255.255.255",
];

const REFUSED_V6: &[&str] = &[
    "::",
    "::1",
    "::2",
    "::7f00:1",
    "::8.8.8.8",
    "::ffff:127.0.0.1",
    "::ffff:10.0.0.1",
    "::ffff:169.254.169.254",
    "::ffff:0:127.0.0.1",
    "64:ff9b::127.0.0.1",
    "64:ff9b::a00:1",
    "64:ff9b:1::1",
    "64:ff9b:1::8.8.8.8",
    "100::1",
    "100:0:0:1::1",
    "2001::1",
    "2001:0:808:808::1",
    "2001:2::1",
    "2001:10::1",
    "2001:db8::1",
    "2002:7f00:1::",
    "2002:a00:1::1",
    "2002:c0a8:101::1",
    "2002:a9fe:a9fe::",
    "3fff::1",
    "3fff:fff::1",
    "4000::1",
    "5f00::1",
    "fc00::1",
    "fd00::1",
    "fd00:ec2::254",
    "fd20:ce::254",
    "fdff::1",
    "fe80::1",
    "fe80::5efe:808:808",
    "febf::1",
    "fec0::1",
    "feff::1",
    "ff02::1",
    "ff0e::1",
    "2600::5efe:10.0.0.1",
    "2600::200:5efe:127.0.0.1",
];

const REFUSED_URLS: &[&str] = &[
    "http://127.0.0.1/",
    "http://127.0.0.1.:80/",
    "http://127.1/",
    "http://2130706433/",
    "http://0x7f000001/",
    "http://0x7f.0.0.1/",
    "http://0177.0.0.1/",
    "http://0/",
    "http://①②⑦.0.0.1/",
    "http://%31%32%37.0.0.1/",
    "http://017700000001/",
    "http://127.0.1/",
    "http://0x7f.1/",
    "http://0x7f.0x0.0x0.0x1/",
    "http://0300.0250.0.1/",
    "http://3232235521/",
    "http://10.1/",
    "http://172.1048577/",
    "http://0xa9.254.0xa9fe/",
    "http://169.254.169.254./latest/meta-data/",
    "http://[::127.0.0.1]/",
    "http://[::7f00:1]/",
    "http://[2002:7f00:1::]/",
    "http://[64:ff9b::7f00:1]/",
    "http://[64:ff9b:1::a9fe:a9fe]/",
    "http://[2001:0:53aa:64c:0:0:80ff:fffe]/",
    "http://example.com@127.0.0.1/",
    "http://127.0.0.1:80@10.0.0.1/",
    "http://127.0.0.1#@example.com/",
    "http://127.0.0.1?@example.com/",
    "http://127.0.0.1\\@example.com/",
    "http://example.com:x@10.0.0.1/",
    "http://127。0。0。1/",
    "https://[::1]/",
    "https://[::ffff:127.0.0.1]/",
    "http://[::ffff:7f00:1]:8080/",
    "http://[0:0:0:0:0:0:0:1]/",
    "http://[fe80::1]/",
    "http://localhost/",
    "http://LOCALHOST:9000/",
    "http://localhost./",
    "http://app.localhost/",
    "http://app.localhost./",
    "http://a.b.LocalHost/",
    "http:/\\127.0.0.1/",
    "http:127.0.0.1",
    "http://user@example.com/",
    "http://user:pass@example.com/",
    "http://:pass@example.com/",
    "ftp://example.com/",
    "file:///etc/passwd",
    "gopher://example.com/",
    "unix:/run/x.sock",
    "data:text/plain,x",
];

/// What is no URL at all, so that nobody gets to judge it.
const UNREADABLE: &[&str] = &[
    "http://[fe80::1%25eth0]/",
    "http://[fe80::1%eth0]/",
    "http://[::1%25lo]/",
    "http://127.0.0.1%00.example.com/",
    "http://256.0.0.1/",
    "http://0x100000000/",
    "http://1.2.3.4.5.6/",
    "http://[127.0.0.1]/",
    "http://127.0.0.1:99999/",
    "http://exa mple.com/",
    "http:///",
];

const TAKEN: &[&str] = &[
    "1.1.1.1",
    "8.8.8.8",
    "9.255.255.255",
    "11.0.0.0",
    "100.63.255.255",
    "100.128.0.0",
    "126.255.255.255",
    "128.0.0.1",
    "168.63.129.17",
    "169.253.255.255",
    "172.15.255.255",
    "172.32.0.0",
    "192.0.1.1",
    "192.167.255.255",
    "198.17.255.255",
    "198.20.0.0",
    "223.255.255.255",
    "2606:4700::1111",
    "2001:4860:4860::8888",
    "2a00::1",
    "2001:200::1",
    "::ffff:8.8.8.8",
    "64:ff9b::8.8.8.8",
    "2002:808:808::1",
    "3ffe::1",
    "2600::5efe:8.8.8.8",
    "https://example.com/hook?x=1",
    "http://8.8.8.8:8080/",
    "http://[2606:4700::1111]/",
    "http://localhost.example.com/",
    "http://notlocalhost/",
];

#[test]
fn a_callback_reaches_public_addresses_alone() {
    let trust = callback(&[]);
    let refused = [REFUSED_V4, REFUSED_V6, REFUSED_URLS].concat();
    assert!(refused.len() >= 120 && TAKEN.len() >= 30, "{} and {}", refused.len(), TAKEN.len());
    for text in UNREADABLE {
        assert!(Url::parse(text).is_err(), "{text} should be no URL");
    }
    for text in refused {
        assert!(judge(text, &trust).is_err(), "{text} should be refused");
    }
    for text in TAKEN {
        assert_eq!(judge(text, &trust), Ok(()), "{text}");
    }
    for text in REFUSED_V6 {
        assert!(judge(&format!("https://[{text}]/"), &trust).is_err(), "[{text}] should be refused");
    }
}

#[test]
fn an_allowed_range_opens_itself_and_its_ipv6_forms() {
    let trust = callback(&["10.0.0.0/8", "fd12::/16"]);
    for text in ["10.1.2.3", "::ffff:10.1.2.3", "64:ff9b::10.1.2.3", "2002:a01:203::1", "fd12::1"] {
        assert_eq!(judge(text, &trust), Ok(()), "{text}");
    }
    for text in
        ["127.0.0.1", "11.0.0.1.nip.localhost", "192.168.0.1", "::ffff:127.0.0.1", "fd13::1", "::10.1.2.3"]
    {
        let text = if text.ends_with("localhost") { format!("http://{text}/") } else { text.to_owned() };
        assert!(judge(&text, &trust).is_err(), "{text} should be refused");
    }
    assert_eq!(judge("http://10.1.2.3/", &trust), Ok(()));
}

#[test]
fn the_operator_is_kept_from_metadata_unless_the_literal_is_written_down() {
    for text in [
        "169.254.169.254",
        "169.254.0.1",
        "fe80::1",
        "fd00:ec2::254",
        "fd00:ec2::23",
        "fd00:ec2:0:1::253",
        "fd00:42::42",
        "fd20:ce::254",
        "100.100.100.200",
        "168.63.129.16",
        "192.0.0.192",
        "::ffff:169.254.169.254",
        "64:ff9b::a9fe:a9fe",
        "64:ff9b:1::a9fe:a9fe",
        "64:ff9b:1:a9fe:a9:fe00::",
        "::169.254.169.254",
        "2001:0:53aa:64c:0:0:5601:5601",
        "2002:a9fe:a9fe::",
    ] {
        assert!(judge(text, &Trust::Operator).is_err(), "{text} should be refused");
    }
    for text in [
        "127.0.0.1",
        "10.0.0.1",
        "192.168.1.1",
        "::1",
        "fd00::1",
        "fd00:42::43",
        "fd00:ec3::254",
        "8.8.8.8",
        "http://127.0.0.1:9000/",
        "http://localhost/",
        "http://user:pass@10.0.0.1/",
        "http://169.254.169.254/",
        "http://[fe80::1]/",
    ] {
        assert_eq!(judge(text, &Trust::Operator), Ok(()), "{text}");
    }
    judge("ftp://10.0.0.1/", &Trust::Operator).unwrap_err();
}

#[test]
fn one_bad_address_spoils_the_name() {
    let public: SocketAddr = "8.8.8.8:0".parse().unwrap();
    let private: SocketAddr = "10.0.0.1:0".parse().unwrap();
    all_within(vec![public], &callback(&[])).unwrap();
    let mixed = all_within(vec![public, private], &callback(&[]));
    assert!(matches!(mixed, Err(ResolveError::Blocked(Blocked::Address("private")))), "{mixed:?}");
    let found = all_within(vec![], &Trust::Operator);
    assert!(matches!(&found, Err(ResolveError::NoAddress)), "{found:?}");
}

#[tokio::test]
async fn localhost_is_loopback_without_a_lookup() {
    let system = &NameSource::System;
    for name in ["localhost", "LOCALHOST.", "x.localhost"] {
        assert!(lookup(name, &callback(&[]), system).await.is_err(), "{name}");
        let open = lookup(name, &callback(&["127.0.0.0/8"]), system).await.unwrap();
        assert_eq!(open, ["127.0.0.1:0".parse().unwrap()], "{name}");
    }
}
