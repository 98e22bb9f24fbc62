//! `Algorithm`: the signature algorithms of tokens.

/// An algorithm that a token may ask for. Microsoft's calling SDK accepts these two and no other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Algorithm {
    /// RSASSA-PKCS1-v1_5 with SHA-256 (RFC 7518 section 3.3).
    Rs256,
    /// RSASSA-PSS with SHA-256, MGF1 with SHA-256 and a salt of 32 bytes (RFC 7518 section 3.5).
    Ps256,
}

impl Algorithm {
    /// Parses `alg`. Names compare exactly (RFC 7515 section 4.1.1).
    pub(crate) fn parse(text: &str) -> Option<Self> {
        [Self::Rs256, Self::Ps256].into_iter().find(|algorithm| algorithm.name() == text)
    }

    /// Returns the name as `alg` spells it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Rs256 => "RS256",
            Self::Ps256 => "PS256",
        }
    }
}
