//! Days of releases that were known when this program was made: results name the version that ran, and
//! whether its project had released a newer stable one by then. Debian keeps a version for years and
//! mends it, so that its programs say an upstream's version that is older than the package.

use super::Found;

/// The last look at what the projects had released.
const KNOWN_ON: &str = "2026-11";

struct Release {
    program: &'static str,
    version: &'static str,
    released: &'static str,
}

/// From the projects' own pages: nginx.org, haproxy.org, envoyproxy.io.
const RELEASES: [Release; 2] = [
    Release { program: "nginx", version: "1.22.1", released: "2022-10-19" },
    Release { program: "haproxy", version: "2.6.12", released: "2023-03-28" },
];

struct Stable {
    program: &'static str,
    version: [u32; 3],
    released: Option<&'static str>,
}

const NEWEST_STABLE: [Stable; 3] = [
    Stable { program: "nginx", version: [1, 30, 4], released: Some("2026-07-15") },
    Stable { program: "haproxy", version: [3, 2, 18], released: Some("2026-05-06") },
    Stable { program: "envoy", version: [1, 40, 0], released: None },
];

/// What is known of a program that says this of its version.
pub fn found(program: &str, said: Option<String>) -> Found {
    let number = said.as_deref().and_then(number_in);
    let text = number.map(|number| number.map(|part| part.to_string()).join("."));
    let release = RELEASES
        .iter()
        .find(|release| release.program == program && Some(release.version) == text.as_deref());
    let newest = NEWEST_STABLE.iter().find(|stable| stable.program == program);
    let newer = newest.filter(|stable| number.is_some_and(|number| number < stable.version));
    Found {
        version: said,
        released: release.map(|release| release.released.to_owned()),
        newer: newer.map(|stable| {
            let version = stable.version.map(|part| part.to_string()).join(".");
            let day = stable.released.map(|day| format!(" of {day}")).unwrap_or_default();
            let own = env!("CARGO_PKG_VERSION");
            format!("{version}{day} is newer (known to lateen-bench {own} in {KNOWN_ON})")
        }),
    }
}

/// The first number of three parts in a text.
fn number_in(text: &str) -> Option<[u32; 3]> {
    text.split(|letter: char| !letter.is_ascii_digit() && letter != '.').find_map(|word| {
        let mut parts = word.split('.').map(|part| part.parse().ok());
        let number = [parts.next()??, parts.next()??, parts.next()??];
        Some(number)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_programs_say() {
        for (said, number) in [
            ("nginx version: nginx/1.22.1", Some([1, 22, 1])),
            (
                "HAProxy version 2.6.12-1+deb12u4 2026/10/17 - https://haproxy.org/",
                Some([2, 6, 12]),
            ),
            ("envoy  version: 9e5580933739/1.40.0/Clean/RELEASE/BoringSSL", Some([1, 40, 0])),
            ("nothing 1.2", None),
        ] {
            assert_eq!(number_in(said), number, "{said}");
        }
    }

    #[test]
    fn an_old_version_gets_a_word() {
        let old = found("nginx", Some("nginx version: nginx/1.22.1".to_owned()));
        assert_eq!(old.released.as_deref(), Some("2022-10-19"));
        assert!(old.newer.is_some_and(|word| word.starts_with("1.30.4 of 2026-07-15")));
        let new = found("nginx", Some("nginx version: nginx/1.32.0".to_owned()));
        assert_eq!((new.released, new.newer), (None, None));
        let unknown = found("envoy", Some("envoy 1/1.40.0/Clean".to_owned()));
        assert_eq!((unknown.released, unknown.newer), (None, None), "nobody said its day");
        assert_eq!(found("unknown", None), Found::default());
    }
}
