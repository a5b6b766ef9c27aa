//! Signals by the names that SSH gives them, and by their numbers on Linux.

use russh::Sig;

/// Names (without `SIG`) and numbers: those of RFC 4254, and the others that people send.
const SIGNALS: [(&str, i32); 18] = [
    ("HUP", 1),
    ("INT", 2),
    ("QUIT", 3),
    ("ILL", 4),
    ("TRAP", 5),
    ("ABRT", 6),
    ("BUS", 7),
    ("FPE", 8),
    ("KILL", 9),
    ("USR1", 10),
    ("SEGV", 11),
    ("USR2", 12),
    ("PIPE", 13),
    ("ALRM", 14),
    ("TERM", 15),
    ("CONT", 18),
    ("STOP", 19),
    ("TSTP", 20),
];

/// The number of a signal that a client names.
pub(super) fn number(signal: &Sig) -> Option<i32> {
    let wanted = match signal {
        Sig::ABRT => "ABRT",
        Sig::ALRM => "ALRM",
        Sig::FPE => "FPE",
        Sig::HUP => "HUP",
        Sig::ILL => "ILL",
        Sig::INT => "INT",
        Sig::KILL => "KILL",
        Sig::PIPE => "PIPE",
        Sig::QUIT => "QUIT",
        Sig::SEGV => "SEGV",
        Sig::TERM => "TERM",
        Sig::USR1 => "USR1",
        Sig::Custom(name) => name,
    };
    SIGNALS.iter().find(|(name, _)| *name == wanted).map(|(_, number)| *number)
}

/// What a client is told of a signal that ended a program; for one without a name what OpenSSH's server says.
pub(super) fn named(number: i32) -> Sig {
    let name = SIGNALS.iter().find(|(_, known)| *known == number).map_or("SIG@openssh.com", |(name, _)| name);
    Sig::Custom(name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signal_is_the_same_by_name_and_by_number() {
        for (_, number) in SIGNALS {
            assert_eq!(super::number(&named(number)), Some(number));
        }
        assert_eq!(number(&Sig::TERM), Some(15));
    }

    #[test]
    fn an_unknown_signal_is_none() {
        assert_eq!(number(&Sig::Custom("NOSUCH".into())), None);
        assert!(matches!(named(40), Sig::Custom(name) if name == "SIG@openssh.com"));
    }
}
