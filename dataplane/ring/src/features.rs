//! Which kernel features the io_uring engine uses, and how tests switch single ones off.

use std::fmt;

/// One kernel feature of the io_uring engine; without it the engine does the same work another way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Feature {
    /// `IORING_SETUP_DEFER_TASKRUN` (Linux 6.1): completions are processed only when asked for.
    DeferTaskrun,
    /// `IORING_SETUP_NO_SQARRAY` (Linux 6.6): one indirection less per submission.
    NoSqArray,
    /// Provided-buffer rings (Linux 5.19); without: readiness, then a direct read.
    BufferRing,
    /// Multishot receive (Linux 6.0); without: one-shot receives.
    MultishotRecv,
    /// Multishot accept (Linux 5.19); without: one-shot accepts.
    MultishotAccept,
    /// An accept on a non-blocking listener waits; older kernels answer EAGAIN. Without: readiness,
    /// then a direct accept. Switched off by itself when a kernel gives that answer.
    WaitingAccept,
    /// A registered ring descriptor (Linux 5.18): a cheaper `io_uring_enter`.
    RegisteredRing,
    /// Operations that report only failure (Linux 5.17): small sends are over when they have been
    /// submitted, and need no completion and no wait of their own.
    QuietSend,
}

impl Feature {
    /// All features, with the names that flags and logs use.
    pub const ALL: [(Self, &'static str); 8] = [
        (Self::DeferTaskrun, "defer-taskrun"),
        (Self::NoSqArray, "no-sqarray"),
        (Self::BufferRing, "buffer-ring"),
        (Self::MultishotRecv, "multishot-recv"),
        (Self::MultishotAccept, "multishot-accept"),
        (Self::WaitingAccept, "waiting-accept"),
        (Self::RegisteredRing, "registered-ring"),
        (Self::QuietSend, "quiet-send"),
    ];

    const fn bit(self) -> u16 {
        1 << self as u8
    }
}

/// A set of features.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Features(u16);

/// A name that is no feature's.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown engine feature {name:?}: write -NAME to switch one off, NAME one of {known}")]
pub struct UnknownFeature {
    name: String,
    known: String,
}

impl Features {
    /// Every feature.
    pub const ALL: Self = Self((1 << Feature::ALL.len()) - 1);
    /// No feature: what Linux 5.15 offers.
    pub const NONE: Self = Self(0);

    /// Is the feature in the set?
    #[must_use]
    pub const fn has(self, feature: Feature) -> bool {
        self.0 & feature.bit() != 0
    }

    /// The set without `feature`.
    #[must_use]
    pub const fn without(self, feature: Feature) -> Self {
        Self(self.0 & !feature.bit())
    }

    /// All features but those that `names` switch off, each written `-name`.
    ///
    /// # Errors
    /// [`UnknownFeature`] for a word that is not a feature's name behind a minus sign.
    pub fn all_but<'a>(names: impl IntoIterator<Item = &'a str>) -> Result<Self, UnknownFeature> {
        let mut features = Self::ALL;
        for name in names {
            let known = name
                .strip_prefix('-')
                .and_then(|wanted| Feature::ALL.iter().find(|(_, name)| *name == wanted));
            let Some((feature, _)) = known else {
                let known = Feature::ALL.map(|(_, name)| name).join(", ");
                return Err(UnknownFeature { name: name.to_owned(), known });
            };
            features = features.without(*feature);
        }
        Ok(features)
    }
}

impl fmt::Display for Features {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut separator = "";
        for (feature, name) in Feature::ALL {
            if self.has(feature) {
                write!(f, "{separator}{name}")?;
                separator = ",";
            }
        }
        if separator.is_empty() { f.write_str("none") } else { Ok(()) }
    }
}

impl fmt::Debug for Features {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Features({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_switch_features_off() {
        let features = Features::all_but(["-multishot-recv", "-buffer-ring"]).expect("known");
        assert!(!features.has(Feature::MultishotRecv));
        assert!(!features.has(Feature::BufferRing));
        assert!(features.has(Feature::DeferTaskrun));
        assert_eq!(
            features.to_string(),
            "defer-taskrun,no-sqarray,multishot-accept,waiting-accept,registered-ring,quiet-send"
        );
        assert_eq!(Features::NONE.to_string(), "none");
    }

    #[test]
    fn an_unknown_name_is_refused_with_the_known_ones() {
        for name in ["multishot-recv", "-multishot", ""] {
            let error = Features::all_but([name]).expect_err("not a feature");
            assert!(error.to_string().contains("multishot-recv"), "{error}");
        }
    }
}
