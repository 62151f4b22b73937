//! Where files may come from, and where the token may go: hosts, schemes, public addresses.
//!
//! A job's answer names its files by link, so whoever answers decides which address this program
//! connects to, from inside the owner's network. Three rules bound that: https only, a host from the
//! owner's list, a public address. Address literals are checked before each request, redirects
//! included; names in the resolver, so that the address that was checked is the one connected to.

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use url::{Host, Position, Url};

use super::job::FileUrl;
use super::words;
use crate::export::Invalid;

/// Why nothing is sent to a place. The words name host and remedy and hold no signature.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Forbidden(String);

/// The API's host: scheme, host and port, and nothing else.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostUrl(Url);

impl HostUrl {
    /// Reads a setting such as `https://platform.kore.ai`. Plain http and addresses that are not
    /// public are for hosts on the owner's own network only.
    ///
    /// # Errors
    /// When it is not a URL, or more than scheme, host and port, or not allowed: says what to write.
    pub fn parse(text: &str, allow_private_network: bool) -> Result<Self, Forbidden> {
        let refuse = |why: &str| {
            // What may be a password is not repeated.
            Err(Forbidden(format!(
                "the host URL {why}; give scheme and host only, such as https://platform.kore.ai"
            )))
        };
        if !text.contains("://") {
            return refuse("has no scheme");
        }
        let url = match Url::parse(text) {
            Ok(url) => url,
            Err(error) => return refuse(&format!("is not a URL ({error})")),
        };
        if !url.username().is_empty() || url.password().is_some() {
            return refuse("has credentials in it");
        }
        if url.query().is_some() {
            return refuse("has a query");
        }
        if url.fragment().is_some() {
            return refuse("has a fragment");
        }
        if url.path() != "/" {
            return refuse("has a path");
        }
        check_scheme(&url, "the host URL", allow_private_network)?;
        check_literal(&url, "the host URL", allow_private_network)?;
        Ok(Self(url))
    }

    /// Host name or address, without the port.
    pub fn host(&self) -> &str {
        self.0.host_str().unwrap_or_default()
    }

    /// The URL of a path on it, which starts with `/`.
    pub(super) fn join(&self, path: &str) -> String {
        format!("{}{path}", &self.0[..Position::BeforePath])
    }
}

impl fmt::Display for HostUrl {
    /// As it was given, without the slash at the end.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0[..Position::BeforePath])
    }
}

/// The hosts that files may come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileHosts(Vec<Pattern>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Pattern {
    /// This host.
    Exact(String),
    /// Any host below this one, such as `.kore.ai`: one more label at least.
    Below(String),
}

/// The domains of the vendor's own file hosts.
const VENDOR: [&str; 2] = [".kore.ai", ".korebots.com"];

impl FileHosts {
    /// What holds where nothing is set: the API's host, `*.kore.ai` and `*.korebots.com`.
    pub fn standard(api: &HostUrl) -> Self {
        let vendor = VENDOR.map(|domain| Pattern::Below(domain.to_owned()));
        let api = Pattern::Exact(api.host().to_owned());
        Self([api].into_iter().chain(vendor).collect())
    }

    /// Reads patterns: a host such as `files.example.com`, or `*.example.com` for every host below
    /// it. No scheme, no port: any port is allowed on a host that is.
    ///
    /// # Errors
    /// When one is neither, or there is none.
    pub fn parse<'a>(patterns: impl IntoIterator<Item = &'a str>) -> Result<Self, Invalid> {
        let expected =
            "host names such as files.example.com or *.example.com, without scheme or port";
        let patterns = patterns.into_iter().map(|text| {
            let invalid = || Invalid::new("file hosts", expected, text);
            let (name, below) = match text.trim().strip_prefix("*.") {
                Some(domain) => (domain, true),
                None => (text.trim(), false),
            };
            // The same parser as for links, so that both are spelled alike (case, punycode).
            let host = Host::parse(name).map_err(|_| invalid())?;
            match (host, below) {
                (Host::Domain(name), _) if name.ends_with('.') || name.contains('*') => {
                    Err(invalid())
                }
                // A whole top-level domain is a slip of the pen.
                (Host::Domain(name), true) if name.contains('.') => {
                    Ok(Pattern::Below(format!(".{name}")))
                }
                (_, true) => Err(invalid()),
                (host, false) => Ok(Pattern::Exact(host.to_string())),
            }
        });
        let patterns = patterns.collect::<Result<Vec<_>, _>>()?;
        if patterns.is_empty() {
            return Err(Invalid::new("file hosts", "at least one host", ""));
        }
        Ok(Self(patterns))
    }

    /// Whether a host, spelled as in a parsed URL, is one of them.
    fn allow(&self, host: &str) -> bool {
        self.0.iter().any(|pattern| match pattern {
            Pattern::Exact(name) => name == host,
            Pattern::Below(domain) => host.len() > domain.len() && host.ends_with(domain.as_str()),
        })
    }

    fn check(&self, host: &str) -> Result<(), Forbidden> {
        if self.allow(host) {
            return Ok(());
        }
        let host = words::fit(host);
        Err(Forbidden(format!(
            "files may not come from the host {host:?}, only from {self}; if it is the vendor's, add \
             it to FileHosts (--file-host)"
        )))
    }
}

impl fmt::Display for FileHosts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, pattern) in self.0.iter().enumerate() {
            f.write_str(if index == 0 { "" } else { ", " })?;
            match pattern {
                Pattern::Exact(host) => f.write_str(host)?,
                Pattern::Below(domain) => write!(f, "*{domain}")?,
            }
        }
        Ok(())
    }
}

/// The longest link that is asked for; servers take 8 KiB of request line at most.
const LONGEST_LINK: usize = 8 * 1024;

/// The rules for files, together.
#[derive(Debug, Clone)]
pub(super) struct FileRules {
    pub(super) hosts: FileHosts,
    /// Lifts https only and public addresses; the list of hosts still holds.
    pub(super) allow_private_network: bool,
}

impl FileRules {
    /// A link as the vendor gave it, as the URL to ask for.
    pub(super) fn check_link(&self, link: &FileUrl) -> Result<Url, Forbidden> {
        let text = link.expose();
        if text.len() > LONGEST_LINK {
            let length = text.len();
            return Err(Forbidden(format!(
                "a file's link has {length} bytes, which no server takes"
            )));
        }
        let url = Url::parse(text)
            .map_err(|error| Forbidden(format!("a file's link is not a URL ({error})")))?;
        self.check(&url)?;
        // The query is a signature: what goes out must be what came in.
        let sent = &url[Position::BeforePath..Position::AfterQuery];
        let given = text
            .split_once("://")
            .and_then(|(_, rest)| rest.find(['/', '?', '#', '\\']).map(|at| &rest[at..]));
        if given != Some(sent) {
            return Err(Forbidden(format!(
                "a file's link at {:?} has characters that cannot be sent byte for byte",
                words::fit(url.host_str().unwrap_or_default())
            )));
        }
        Ok(url)
    }

    /// Where a redirect from `from` leads.
    pub(super) fn check_redirect(&self, from: &Url, location: &str) -> Result<Url, Forbidden> {
        let url = from
            .join(location)
            .map_err(|error| Forbidden(format!("a file's redirect is not a URL ({error})")))?;
        self.check(&url)?;
        if from.scheme() == "https" && url.scheme() != "https" {
            return Err(Forbidden(format!(
                "a file's redirect leads from https to http, at {:?}",
                words::fit(url.host_str().unwrap_or_default())
            )));
        }
        Ok(url)
    }

    fn check(&self, url: &Url) -> Result<(), Forbidden> {
        check_scheme(url, "a file's link", self.allow_private_network)?;
        if !url.username().is_empty() || url.password().is_some() {
            return Err(Forbidden("a file's link has credentials in it".to_owned()));
        }
        self.hosts.check(url.host_str().unwrap_or_default())?;
        check_literal(url, "a file's link", self.allow_private_network)
    }
}

fn check_scheme(url: &Url, what: &str, allow_private_network: bool) -> Result<(), Forbidden> {
    match url.scheme() {
        "https" => Ok(()),
        "http" if allow_private_network => Ok(()),
        "http" => Err(Forbidden(format!(
            "{what} is plain http, at {:?}; use https, or allow private networks \
             (AllowPrivateNetwork, --allow-private-network) for a host of your own",
            words::fit(url.host_str().unwrap_or_default())
        ))),
        other => Err(Forbidden(format!("{what} must be https; got {other:?}"))),
    }
}

/// Checks an address that stands in the URL itself; a name is left to the resolver. The parser has
/// turned decimal, octal, hexadecimal and short forms into plain addresses.
fn check_literal(url: &Url, what: &str, allow_private_network: bool) -> Result<(), Forbidden> {
    let address = match url.host() {
        Some(Host::Ipv4(address)) => IpAddr::V4(address),
        Some(Host::Ipv6(address)) => IpAddr::V6(address),
        Some(Host::Domain(_)) => return Ok(()),
        None => return Err(Forbidden(format!("{what} has no host"))),
    };
    if allow_private_network || is_public(address) {
        return Ok(());
    }
    Err(not_public(what, address))
}

fn not_public(what: &str, address: IpAddr) -> Forbidden {
    Forbidden(format!(
        "{what} leads to {address}, which is not a public address; allow private networks \
         (AllowPrivateNetwork, --allow-private-network) if it is on your own"
    ))
}

/// Whether an address is one host on the public internet.
fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_public_v4(address),
        IpAddr::V6(address) => is_public_v6(address),
    }
}

/// The special-purpose registry of IANA for v4, multicast and the reserved classes, and Azure's metadata
/// address, which lies among the public ones. (Those of the other clouds are link-local, shared or
/// unique local.)
const SPECIAL_V4: [([u8; 4], u32); 18] = [
    ([0, 0, 0, 0], 8),        // this network
    ([10, 0, 0, 0], 8),       // private
    ([100, 64, 0, 0], 10),    // shared by a provider's customers
    ([127, 0, 0, 0], 8),      // loopback
    ([168, 63, 129, 16], 32), // Azure's wire server
    ([169, 254, 0, 0], 16),   // link-local, metadata
    ([172, 16, 0, 0], 12),    // private
    ([192, 0, 0, 0], 24),     // protocol assignments
    ([192, 0, 2, 0], 24),     // documentation
    ([192, 31, 196, 0], 24),  // AS112
    ([192, 52, 193, 0], 24),  // AMT
    ([192, 88, 99, 0], 24),   // 6to4 relays
    ([192, 168, 0, 0], 16),   // private
    ([192, 175, 48, 0], 24),  // AS112
    ([198, 18, 0, 0], 15),    // benchmarks
    ([198, 51, 100, 0], 24),  // documentation
    ([203, 0, 113, 0], 24),   // documentation
    ([224, 0, 0, 0], 3),      // multicast, reserved, broadcast
];

fn is_public_v4(address: Ipv4Addr) -> bool {
    let address = address.to_bits();
    !SPECIAL_V4.iter().any(|(start, bits)| {
        let start = u32::from_be_bytes(*start);
        (address ^ start) >> (32 - bits) == 0
    })
}

/// The parts of `2000::/3` that are not ordinary public addresses.
const SPECIAL_V6: [(Ipv6Addr, u32); 5] = [
    (Ipv6Addr::new(0x2001, 0, 0, 0, 0, 0, 0, 0), 23), // protocol assignments, Teredo, ORCHID
    (Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0), 32), // documentation
    (Ipv6Addr::new(0x2002, 0, 0, 0, 0, 0, 0, 0), 16), // 6to4
    (Ipv6Addr::new(0x2620, 0x4f, 0x8000, 0, 0, 0, 0, 0), 48), // AS112
    (Ipv6Addr::new(0x3fff, 0, 0, 0, 0, 0, 0, 0), 20), // documentation
];

fn within(address: Ipv6Addr, start: Ipv6Addr, bits: u32) -> bool {
    (address.to_bits() ^ start.to_bits()) >> (128 - bits) == 0
}

fn is_public_v6(address: Ipv6Addr) -> bool {
    // Two ways of writing a v4 address lead to that address and nowhere else: mapped ones, and NAT64
    // with the well-known prefix, which is how a v6-only subnet reaches a v4-only host.
    let nat64 = Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, 0, 0);
    if let Some(v4) = address.to_ipv4_mapped() {
        return is_public_v4(v4);
    }
    if within(address, nat64, 96) {
        #[expect(
            clippy::cast_possible_truncation,
            reason = "the low 32 bits are the address"
        )]
        return is_public_v4(Ipv4Addr::from_bits(address.to_bits() as u32));
    }
    // Only 2000::/3 is handed out: loopback, v4-compatible, local NAT64, unique local, link- and
    // site-local, multicast and whatever comes are all outside it.
    within(address, Ipv6Addr::new(0x2000, 0, 0, 0, 0, 0, 0, 0), 3)
        && !SPECIAL_V6
            .iter()
            .any(|(start, bits)| within(address, *start, *bits))
}

/// What a name's lookup gives.
pub type Answers = Pin<Box<dyn Future<Output = io::Result<Vec<SocketAddr>>> + Send>>;

/// How names become addresses.
pub type Lookup = Arc<dyn Fn(String) -> Answers + Send + Sync>;

/// The system's own.
pub(super) fn system_lookup() -> Lookup {
    Arc::new(|name| {
        Box::pin(async move { Ok(tokio::net::lookup_host((name, 0)).await?.collect()) })
    })
}

/// A resolver that gives no connection an address that the rules forbid. The client connects to what
/// this returns and asks no second time, so that an answer cannot change between check and use.
pub(super) struct GuardedResolver {
    pub(super) lookup: Lookup,
    /// What is connected to, in words for the error.
    pub(super) what: &'static str,
    /// Checked here once more; `None` for the API's one host.
    pub(super) hosts: Option<FileHosts>,
    pub(super) allow_private_network: bool,
}

impl Resolve for GuardedResolver {
    fn resolve(&self, name: Name) -> Resolving {
        let name = name.as_str().to_owned();
        let allowed = self
            .hosts
            .as_ref()
            .map_or(Ok(()), |hosts| hosts.check(&name));
        let (what, allow_private_network) = (self.what, self.allow_private_network);
        let answers = (self.lookup)(name);
        Box::pin(async move {
            allowed?;
            let answers = answers.await?;
            // One private address among public ones is an attack or a mistake: none is used.
            let private = answers
                .iter()
                .map(SocketAddr::ip)
                .find(|ip| !is_public(*ip));
            match private {
                Some(address) if !allow_private_network => Err(not_public(what, address).into()),
                _ => Ok(Box::new(answers.into_iter()) as Addrs),
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hyper::http::Uri;

    const API: &str = "https://platform.kore.ai";

    fn rules(allow_private_network: bool) -> FileRules {
        let api = HostUrl::parse(API, false).unwrap();
        FileRules {
            hosts: FileHosts::standard(&api),
            allow_private_network,
        }
    }

    #[test]
    fn a_host_url_is_scheme_and_host_and_nothing_else() {
        for (given, kept) in [
            ("https://platform.kore.ai", "https://platform.kore.ai"),
            ("HTTPS://Platform.Kore.AI/", "https://platform.kore.ai"),
            (
                "https://kore.example.com:8443",
                "https://kore.example.com:8443",
            ),
            ("https://platform.kore.ai:443", "https://platform.kore.ai"),
        ] {
            let url = HostUrl::parse(given, false).unwrap();
            assert_eq!(url.to_string(), kept);
            assert_eq!(url.join("/api"), format!("{kept}/api"));
        }
        for (given, why) in [
            (
                "platform.kore.ai",
                "has no scheme; give scheme and host only, such as https://",
            ),
            ("", "has no scheme"),
            ("https://", "is not a URL"),
            ("https://platform.kore.ai/api", "has a path"),
            ("https://platform.kore.ai?x=1", "has a query"),
            ("https://platform.kore.ai/#x", "has a fragment"),
            ("https://me:word@platform.kore.ai", "has credentials in it"),
            ("ftp://platform.kore.ai", "must be https; got \"ftp\""),
            (
                "http://platform.kore.ai",
                "is plain http, at \"platform.kore.ai\"; use https",
            ),
            (
                "https://127.0.0.1",
                "leads to 127.0.0.1, which is not a public address",
            ),
            ("https://[::1]:8443", "leads to ::1"),
            ("https://2130706433", "leads to 127.0.0.1"),
        ] {
            let error = HostUrl::parse(given, false).unwrap_err().to_string();
            assert!(error.contains(why), "{given}: {error}");
            assert!(!error.contains("word"), "{error}");
        }
        for own in [
            "http://127.0.0.1:9000",
            "https://10.1.2.3",
            "http://kore.internal",
        ] {
            assert!(HostUrl::parse(own, true).is_ok(), "{own}");
        }
        assert!(HostUrl::parse("http://127.0.0.1/x", true).is_err());
    }

    #[test]
    fn file_hosts_are_exact_names_or_everything_below_one() {
        let hosts = FileHosts::parse(["Files.Example.com", " *.kore.ai", "10.0.0.7", "[::1]"]);
        let hosts = hosts.unwrap();
        assert_eq!(
            hosts.to_string(),
            "files.example.com, *.kore.ai, 10.0.0.7, [::1]"
        );
        for (host, allowed) in [
            ("files.example.com", true),
            ("x.files.example.com", false),
            ("a.kore.ai", true),
            ("a.b.kore.ai", true),
            ("kore.ai", false),
            (".kore.ai", false),
            ("evilkore.ai", false),
            ("kore.ai.evil.com", false),
            ("a.kore.ai.", false),
            ("10.0.0.7", true),
            ("[::1]", true),
            ("", false),
        ] {
            assert_eq!(hosts.allow(host), allowed, "{host}");
        }
        for bad in [
            "*",
            "*.ai",
            "*.*.kore.ai",
            "a*.kore.ai",
            "https://kore.ai",
            "kore.ai:443",
            "kore.ai/x",
            "*.10.0.0.7",
            "kore.ai.",
            "",
        ] {
            let error = FileHosts::parse([bad]).unwrap_err().to_string();
            assert!(
                error.starts_with("file hosts must be host names"),
                "{bad}: {error}"
            );
        }
        assert!(FileHosts::parse([]).is_err());
    }

    #[test]
    fn only_addresses_of_the_public_internet_are_public() {
        for public in [
            "8.8.8.8",
            "9.255.255.255",
            "11.0.0.0",
            "100.63.255.255",
            "100.128.0.0",
            "126.255.255.255",
            "128.0.0.0",
            "168.63.129.17",
            "169.253.255.255",
            "169.255.0.0",
            "172.15.255.255",
            "172.32.0.0",
            "192.0.1.0",
            "192.167.255.255",
            "192.169.0.0",
            "198.17.255.255",
            "198.20.0.0",
            "223.255.255.255",
            "2600:1f18::1",
            "2a00:1450:4001::1",
            "2001:200::1",
            "2001:4860:4860::8888",
            "3ffe:ffff::1",
            "::ffff:8.8.8.8",
            "64:ff9b::808:808",
        ] {
            assert!(is_public(public.parse().unwrap()), "{public}");
        }
        for special in [
            "0.0.0.0",
            "0.255.255.255",
            "10.0.0.1",
            "10.255.255.255",
            "100.64.0.1",
            "100.100.100.200",
            "127.0.0.1",
            "127.255.255.254",
            "168.63.129.16",
            "169.254.169.254",
            "169.254.170.2",
            "172.16.0.1",
            "172.31.255.255",
            "192.0.0.192",
            "192.0.2.1",
            "192.31.196.1",
            "192.52.193.1",
            "192.88.99.1",
            "192.168.0.1",
            "192.175.48.1",
            "198.18.0.1",
            "198.19.255.255",
            "198.51.100.1",
            "203.0.113.1",
            "224.0.0.1",
            "239.255.255.255",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::127.0.0.1",
            "::8.8.8.8",
            "::ffff:127.0.0.1",
            "::ffff:10.0.0.1",
            "::ffff:0:127.0.0.1",
            "64:ff9b::7f00:1",
            "64:ff9b::a9fe:a9fe",
            "64:ff9b:1::808:808",
            "100::1",
            "2001::1",
            "2001:0:4136:e378::",
            "2001:2::1",
            "2001:10::1",
            "2001:20::1",
            "2001:db8::1",
            "2002:7f00:1::",
            "2002:808:808::",
            "2620:4f:8000::1",
            "3fff::1",
            "4000::1",
            "5f00::1",
            "fc00::1",
            "fd00:ec2::254",
            "fe80::1",
            "fec0::1",
            "ff02::1",
        ] {
            assert!(!is_public(special.parse().unwrap()), "{special}");
        }
    }

    #[test]
    fn hostile_links_are_refused_and_no_signature_is_repeated() {
        let (strict, lenient) = (rules(false), rules(true));
        // Each with what refuses it, and whether a private network lifts that.
        for (link, why, lifted) in [
            ("http://files.kore.ai/f", "is plain http", true),
            ("ftp://files.kore.ai/f", "must be https", false),
            ("file:///etc/passwd", "must be https", false),
            ("data:text/plain,x", "must be https", false),
            ("//files.kore.ai/f", "is not a URL", false),
            ("", "is not a URL", false),
            (
                "https://evil.example/f",
                "may not come from the host \"evil.example\"",
                false,
            ),
            ("https://kore.ai/f", "may not come from", false),
            ("https://evilkore.ai/f", "may not come from", false),
            (
                "https://files.kore.ai.evil.example/f",
                "may not come from",
                false,
            ),
            ("https://files.kore.ai./f", "may not come from", false),
            ("https://files.kore.ai@evil.example/f", "credentials", false),
            ("https://user:pw@files.kore.ai/f", "credentials", false),
            (
                "https://evil.example\\@files.kore.ai/f",
                "may not come from",
                false,
            ),
            (
                "https://evil.example#@files.kore.ai/f",
                "may not come from",
                false,
            ),
            (
                "https://evil.example?@files.kore.ai/f",
                "may not come from",
                false,
            ),
            (
                "https://evil.example%2f@files.kore.ai/f",
                "credentials",
                false,
            ),
            (
                "https://evil.example%2ffiles.kore.ai/f",
                "is not a URL",
                false,
            ),
            ("https://127.0.0.1/f", "\"127.0.0.1\"", false),
            ("https://2130706433/f", "\"127.0.0.1\"", false),
            ("https://0177.0.0.1/f", "\"127.0.0.1\"", false),
            ("https://0x7f.1/f", "\"127.0.0.1\"", false),
            ("https://0x7f000001/f", "\"127.0.0.1\"", false),
            ("https://127.1/f", "\"127.0.0.1\"", false),
            ("https://%31%32%37.0.0.1/f", "\"127.0.0.1\"", false),
            ("https://①②⑦.0.0.1/f", "\"127.0.0.1\"", false),
            (
                "https://169.254.169.254/latest/meta-data",
                "\"169.254.169.254\"",
                false,
            ),
            ("https://[::1]/f", "\"[::1]\"", false),
            ("https://[::ffff:127.0.0.1]/f", "\"[::ffff:7f00:1]\"", false),
            ("https://[64:ff9b::7f00:1]/f", "may not come from", false),
            ("https://files.kоre.ai/f", "\"files.xn--kre-sed.ai\"", false), // a Cyrillic о
            (
                "https://files。evil。example/f",
                "\"files.evil.example\"",
                false,
            ),
            ("https://localhost/f", "may not come from", false),
            ("https://files.kore.ai:99999/f", "is not a URL", false),
            ("https://files.kore.ai/a b", "byte for byte", false),
            ("https://files.kore.ai/a/../b", "byte for byte", false),
            ("https://files.kore.ai/a/%2e%2e/b", "byte for byte", false),
            ("https://files.kore.ai\\f", "byte for byte", false),
            ("https://files.kore.ai/f\n?s=1", "byte for byte", false),
            ("https://files.kore.ai/f#x", "byte for byte", false),
            ("https://files.kore.ai", "byte for byte", false),
            (" https://files.kore.ai/f ", "byte for byte", false),
        ] {
            let allowed = lenient.check_link(&FileUrl::new(link)).is_ok();
            assert_eq!(allowed, lifted, "{link} with private networks allowed");
            let signed = FileUrl::new(format!("{link}?s=Ik9nanpJ$$"));
            let error = strict.check_link(&signed).unwrap_err().to_string();
            assert!(!error.contains("Ik9"), "{error}");
            let error = strict
                .check_link(&FileUrl::new(link))
                .unwrap_err()
                .to_string();
            assert!(error.contains(why), "{link}: {error}");
        }
    }

    #[test]
    fn an_address_that_is_listed_must_still_be_public() {
        let hosts = || FileHosts::parse(["127.0.0.1", "[::1]", "8.8.8.8"]).unwrap();
        let strict = FileRules {
            hosts: hosts(),
            allow_private_network: false,
        };
        let lenient = FileRules {
            hosts: hosts(),
            allow_private_network: true,
        };
        for (link, public) in [
            ("https://127.0.0.1/f", false),
            ("https://0x7f.1/f", false),
            ("https://[::1]/f", false),
            ("https://8.8.8.8/f", true),
        ] {
            assert_eq!(
                strict.check_link(&FileUrl::new(link)).is_ok(),
                public,
                "{link}"
            );
            assert!(lenient.check_link(&FileUrl::new(link)).is_ok(), "{link}");
        }
    }

    #[test]
    fn links_go_out_byte_for_byte() {
        for link in [
            "https://qa1-uxo.kore.ai:443/api/getMediaStream/findly/f-1.json?n=7691453184&s=Ik9nanpJIg$$",
            "https://staging-xo.korebots.com/f.json?n=1&s=Ik9%24%24&e=1700000000000",
            "https://platform.kore.ai:8443/a//b;c=1/%7Euser?x=a+b&y=%2F%2f|^`[]{}~!*()",
            "https://FILES.kore.ai/f?",
        ] {
            let url = rules(false).check_link(&FileUrl::new(link)).unwrap();
            let path = link.splitn(4, '/').nth(3).unwrap();
            assert!(url.as_str().ends_with(&format!("/{path}")), "{link}: {url}");
            // The request line is made from this type: it, too, has to keep every byte.
            let uri: Uri = url.as_str().parse().unwrap();
            assert_eq!(uri.path_and_query().unwrap().as_str(), format!("/{path}"));
        }
    }

    #[test]
    fn redirects_obey_the_same_rules() {
        let from = Url::parse("https://files.kore.ai/a/f?s=1").unwrap();
        for (location, leads) in [
            ("/b?s=2", Some("https://files.kore.ai/b?s=2")),
            ("g", Some("https://files.kore.ai/a/g")),
            (
                "//other.kore.ai/f?x=$$",
                Some("https://other.kore.ai/f?x=$$"),
            ),
            (
                "https://cdn.korebots.com:444/f",
                Some("https://cdn.korebots.com:444/f"),
            ),
            ("http://files.kore.ai/f", None),
            ("//evil.example/f", None),
            ("https://127.0.0.1/f", None),
            ("//2130706433/f", None),
            ("https://me@files.kore.ai/f", None),
            ("\\\\evil.example/f", None),
            ("javascript:alert(1)", None),
        ] {
            let url = rules(false).check_redirect(&from, location).ok();
            assert_eq!(url.as_ref().map(Url::as_str), leads, "{location}");
        }
        let downgrade = rules(true).check_redirect(&from, "http://files.kore.ai/f");
        assert!(
            downgrade
                .unwrap_err()
                .to_string()
                .contains("from https to http")
        );
    }

    async fn resolve(answers: &[&str], allow_private_network: bool) -> Result<usize, String> {
        let answers: Vec<SocketAddr> = answers
            .iter()
            .map(|ip| SocketAddr::new(ip.parse().unwrap(), 0))
            .collect();
        let resolver = GuardedResolver {
            lookup: Arc::new(move |_| {
                let answers = answers.clone();
                Box::pin(async move { Ok(answers) })
            }),
            what: "a file's link",
            hosts: Some(rules(false).hosts),
            allow_private_network,
        };
        let answer = resolver.resolve("files.kore.ai".parse().unwrap()).await;
        answer
            .map(Iterator::count)
            .map_err(|error| error.to_string())
    }

    #[tokio::test]
    async fn names_resolve_to_public_addresses_or_not_at_all() {
        assert_eq!(resolve(&["8.8.8.8", "2600:1f18::1"], false).await, Ok(2));
        for answers in [
            &["127.0.0.1"][..],
            &["8.8.8.8", "10.0.0.1"],
            &["169.254.169.254", "8.8.8.8"],
            &["8.8.8.8", "::1"],
            &["::ffff:127.0.0.1"],
        ] {
            let error = resolve(answers, false).await.unwrap_err();
            assert!(
                error.contains("not a public address"),
                "{answers:?}: {error}"
            );
            assert_eq!(resolve(answers, true).await, Ok(answers.len()));
        }
    }

    #[tokio::test]
    async fn the_resolver_knows_the_list_of_hosts() {
        let resolver = GuardedResolver {
            lookup: Arc::new(|_| Box::pin(async { Ok(vec![]) })),
            what: "a file's link",
            hosts: Some(rules(false).hosts),
            allow_private_network: true,
        };
        let answer = resolver.resolve("evil.example".parse().unwrap()).await;
        let error = answer.map(Iterator::count).unwrap_err();
        assert!(error.downcast_ref::<Forbidden>().is_some(), "{error}");
    }
}
